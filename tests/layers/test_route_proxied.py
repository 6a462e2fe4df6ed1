"""Which requests go to an HTTP upstream: of methods and routes, the most specific path counts."""

from __future__ import annotations

import asyncio

import pytest
from tests.layers.test_route import PROTO

from silence_gateway.core.http import BodyRule, Request, Response
from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.shedding import Importance
from silence_gateway.errors import MethodNotAllowed, NotFound
from silence_gateway.layers.route import (
    FixedRoute,
    Matched,
    RouteMap,
    RouteRule,
    RouteSwitch,
    body_rule_of,
    find_route,
    serve_found,
)
from silence_gateway.testing import FakeClock
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import FixedSource
from silence_gateway.transcoding.service import TranscodedService

Asked = list[tuple[str, str, float | None, bool | None]]


class Named:
    """An HTTP upstream that notes what it is asked."""

    def __init__(self, upstream: str, asked: Asked) -> None:
        self.upstream = upstream
        self.body_rule = BodyRule(7, 3)
        self.asked = asked

    async def answer(
        self,
        request: Request,
        deadline_s: float | None,
        repeatable: bool | None,
        rewrite: PathRewrite | None,
    ) -> Response:
        target = request.target if rewrite is None else rewrite.of(request.target)
        self.asked.append((self.upstream, target, deadline_s, repeatable))
        return Response(200, [], self.upstream.encode())


async def switch_of(*rules: RouteRule, asked: Asked | None = None) -> RouteSwitch:
    caller = LocalCaller({b"/shop.Shop/Get": lambda message: message}, {})
    service = TranscodedService(
        "shop", caller, FixedSource(compile_protos({"shop.proto": PROTO})), clock=FakeClock()
    )
    await service.load()

    async def own(_request: Request) -> Response:
        return Response(200, [], b"own")

    proxies = {name: Named(name, [] if asked is None else asked) for name in ("web", "old")}
    return RouteSwitch(RouteMap.build([service], {"/own": FixedRoute(own, ("GET",))}, rules, proxies))


def served_by(method: str, target: str, *rules: RouteRule) -> str:
    """Return who serves a request: an HTTP upstream, `shop`, `own` or the name of the error."""

    async def scenario() -> str:
        switch = await switch_of(*rules)
        request = Request(method, target, {})
        try:
            answer = await find_route(switch)(serve_found(switch, {}, FakeClock()))(request)
        except (NotFound, MethodNotAllowed) as error:
            return type(error).__name__
        if isinstance(request.matched, Matched) and request.matched.binding is not None:
            return "shop"
        return answer.body.decode()

    return asyncio.run(scenario())


ALL = RouteRule(path="/**", upstream="web")
ITEMS = RouteRule(path="/v1/items/**", upstream="old")
SAME = RouteRule(path="/v1/items/*", methods=("GET",), upstream="old")
LATE = RouteRule(path="/v1/**", timeout_s=3.0)
OURS = RouteRule(path="/v1/**", upstream="shop")


@pytest.mark.parametrize(
    ("method", "target", "rules", "who"),
    [
        pytest.param("GET", "/v1/items/7", (ALL,), "shop", id="a-method-is-more-specific-than-all-paths"),
        pytest.param("GET", "/v1/items/7", (ALL, ITEMS), "shop", id="and-than-all-below"),
        pytest.param("GET", "/v1/items/7/parts", (ALL, ITEMS), "old", id="below-it-is-not-its"),
        pytest.param("POST", "/v1/items/7", (ALL,), "web", id="another-http-method-is-not-its"),
        pytest.param("GET", "/v1/items/7", (ALL, SAME), "old", id="the-same-path-is-the-route-s"),
        pytest.param("POST", "/shop.Shop/Get", (ALL,), "shop", id="by-name"),
        pytest.param("GET", "/v1/else", (ALL, LATE), "web", id="a-rule-without-upstream-changes-no-upstream"),
        pytest.param("GET", "/v1/else", (ALL, OURS), "NotFound", id="a-rule-for-grpc-keeps-its-paths"),
        pytest.param("GET", "/own", (ALL,), "own", id="the-gateway-s-own-paths"),
        pytest.param("GET", "/", (ITEMS,), "NotFound", id="nobody"),
        pytest.param("POST", "/v1/items/7", (SAME,), "MethodNotAllowed", id="not-this-method"),
    ],
)
def test_the_most_specific_path_counts(
    method: str, target: str, rules: tuple[RouteRule, ...], who: str
) -> None:
    assert served_by(method, target, *rules) == who


def test_a_more_specific_rule_says_how_a_request_is_treated_whoever_serves_it() -> None:
    asked: Asked = []

    async def scenario() -> Request:
        strict = RouteRule(
            path="/admin/**", auth="required", timeout_s=3.0, idempotent=True, importance=Importance.HIGH
        )
        switch = await switch_of(ALL, strict, asked=asked)
        request = Request("GET", "/admin/x", {})
        await find_route(switch)(serve_found(switch, {}, FakeClock()))(request)
        return request

    request = asyncio.run(scenario())
    assert asked == [("web", "/admin/x", 3.0, True)]
    assert request.route == "/**"
    assert request.importance is Importance.HIGH
    assert isinstance(request.matched, Matched)
    assert request.matched.rule is not None
    assert request.matched.rule.auth == "required"


def test_the_way_to_the_service_is_that_of_its_own_route_whatever_a_more_specific_rule_says() -> None:
    asked: Asked = []

    async def scenario() -> None:
        way = RouteRule(
            path="/legacy/**", upstream="web", rewrite=PathRewrite.between("/legacy/**", "/"), timeout_s=9.0
        )
        strict = RouteRule(path="/legacy/admin/**", auth="required", timeout_s=3.0)
        switch = await switch_of(way, strict, asked=asked)
        for target in ("/legacy/admin/x?y", "/legacy/x"):
            await find_route(switch)(serve_found(switch, {}, FakeClock()))(Request("GET", target, {}))

    asyncio.run(scenario())
    assert asked == [("web", "/admin/x?y", 3.0, None), ("web", "/x", 9.0, None)]


@pytest.mark.parametrize(
    ("method", "target", "in_pieces"),
    [
        ("POST", "/any", True),
        ("POST", "/shop.Shop/Get", False),
        ("POST", "/own", False),
        ("POST", "/ours/x", False),
        ("POST", "/bad%zz", False),
    ],
)
def test_only_bodies_for_http_upstreams_are_handed_on_in_pieces(
    method: str, target: str, in_pieces: bool
) -> None:
    async def scenario() -> BodyRule | None:
        ours = RouteRule(path="/ours/**", upstream="shop")
        return body_rule_of(await switch_of(ALL, ours))(Request(method, target, {}))

    assert asyncio.run(scenario()) == (BodyRule(7, 3) if in_pieces else None)


def test_without_rules_no_body_is() -> None:
    async def scenario() -> BodyRule | None:
        return body_rule_of(await switch_of())(Request("POST", "/any", {}))

    assert asyncio.run(scenario()) is None
