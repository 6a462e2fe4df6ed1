"""The rules of the rate limit service on the admin listener."""

from __future__ import annotations

import asyncio

from tests.rls.asking import Asked

from silence_gateway.admin.contracts import Readiness
from silence_gateway.admin.handler import AdminHandler
from silence_gateway.admin.local import LocalInstance
from silence_gateway.admin.rls import serve_rls
from silence_gateway.core.http import Request, Response

RULES = "{domain: shop, descriptors: [{key: addr, rate_limit: {unit: minute, requests_per_unit: 2}}]}"


def ask(target: str, *, serves: bool = True, token: str = "") -> Response:
    instance = LocalInstance(lambda: Readiness("ready"), list)
    if serves:
        serve_rls(instance, Asked(RULES).service)
    return asyncio.run(AdminHandler(instance, token)(Request("GET", target, {b"host": b"localhost"})))


def test_the_rules_are_where_people_look_for_them() -> None:
    answer = ask("/rlconfig")

    assert dict(answer.headers)[b"content-type"] == b"text/plain; charset=utf-8"
    assert (
        answer.body == b"shop.addr: unit=MINUTE requests_per_unit=2, shadow_mode: false, quota_mode: false\n"
    )


def test_the_api_has_them_in_the_form_of_a_file() -> None:
    assert b'"requests_per_unit": 2' in ask("/api/v1/rls/rules").body
    assert ask("/api/v1/rls/rules?form=text").status == 200
    assert ask("/api/v1/rls/rules?form=poem").status == 400


def test_without_the_service_there_are_none() -> None:
    assert ask("/rlconfig", serves=False).status == 404


def test_a_token_guards_them() -> None:
    assert ask("/rlconfig", token="t").status == 401
