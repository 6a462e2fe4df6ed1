"""Who calls."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.http import Request, Response
from silence_gateway.errors import Unauthenticated
from silence_gateway.layers.authenticate import (
    LEEWAY_S,
    MAX_REMEMBERED,
    JwtSettings,
    Mode,
    TokenReader,
    authenticate,
)
from silence_gateway.testing.clock import FakeClock

SECRET = "a secret of thirty-two bytes....."
NOW_S = 1_700_000_000
SETTINGS = JwtSettings(hmac_secret=SECRET)


def token(claims: dict[str, Any] | None = None, secret: str = SECRET, algorithm: str = "HS256") -> bytes:
    body = {"sub": "ann", "exp": NOW_S + 60} | (claims or {})
    present = {name: value for name, value in body.items() if value is not None}
    return b"Bearer " + jwt.encode(present, secret, algorithm=algorithm).encode()


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> bytes:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    return b"Bearer " + b".".join([*parts, b""])


async def answer(_request: Request) -> Response:
    return Response(200)


def call(authorization: bytes | None, *, required: bool = True, mode: Mode | None = None) -> Request:
    settings = JwtSettings(hmac_secret=SECRET, required=required)
    headers = {} if authorization is None else {b"authorization": authorization}
    request = Request("GET", "/", headers)

    async def scenario() -> None:
        await authenticate(settings, FakeClock(NOW_S * 1_000_000), mode_of=lambda _request: mode)(answer)(
            request
        )

    asyncio.run(scenario())
    return request


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
def test_a_good_token_names_the_user(scheme: bytes) -> None:
    assert call(scheme + token().partition(b" ")[2]).user == "ann"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (token(secret="another secret of thirty-two bytes"), "signature is wrong"),
        (token({"exp": NOW_S - 60}), "expired"),
        (token({"exp": None}), "lacks exp"),
        (token({"sub": None}), "lacks exp or sub"),
        (token({"nbf": NOW_S + 60}), "not valid yet"),
        (token({"exp": True}), "exp is not a number"),
        (token({"exp": 10**400}), "cannot be verified|exp is not a number"),
        (token({"exp": float("inf")}), "exp is not a number|not a JSON Web Token"),
        (token({"nbf": "soon"}), "nbf is not a number"),
        (token({"sub": "x" * 300}), "1 to 256 characters"),
        (token({"sub": ""}), "1 to 256 characters"),
        (token(algorithm="HS512", secret=SECRET * 2), "not accepted here"),
        (unsigned({"alg": "none", "typ": "JWT"}, {"sub": "ann", "exp": NOW_S + 60}), "not accepted here"),
        (b"Bearer ", "not a JSON Web Token"),
        (b"Bearer a.b.c", "not a JSON Web Token"),
        (b"Bearer \xff\xff", "not a JSON Web Token"),
        (b"Bearer " + b"x" * 9000, "longer than"),
    ],
)
def test_a_bad_token_is_refused_with_a_reason_also_where_none_is_needed(
    authorization: bytes, reason: str
) -> None:
    for required in (True, False):
        with pytest.raises(Unauthenticated, match=reason):
            call(authorization, required=required)


def test_a_deeply_nested_token_is_refused() -> None:
    nested = b"[" * 3000 + b"]" * 3000
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    with pytest.raises(Unauthenticated):
        call(b"Bearer " + head + b"." + base64.urlsafe_b64encode(nested).rstrip(b"=") + b".x")


@pytest.mark.parametrize(
    ("required", "mode", "refused"),
    [
        (True, None, True),
        (False, None, False),
        (False, "required", True),
        (True, "optional", False),
        (True, "none", False),
    ],
)
@pytest.mark.parametrize("authorization", [None, b"Basic YTpi"])
def test_a_missing_token_is_refused_where_one_is_needed(
    authorization: bytes | None, required: bool, mode: Mode | None, refused: bool
) -> None:
    if refused:
        with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
            call(authorization, required=required, mode=mode)
    else:
        assert call(authorization, required=required, mode=mode).user == ""


def test_where_no_token_is_wanted_a_bad_one_does_not_matter() -> None:
    assert call(b"Bearer junk", mode="none").user == ""


def test_a_refusal_says_how_to_come_back() -> None:
    request = Request("GET", "/", {})

    async def scenario() -> None:
        with pytest.raises(Unauthenticated):
            await authenticate(SETTINGS, FakeClock())(answer)(request)

    asyncio.run(scenario())

    assert request.extra_headers == [(b"WWW-Authenticate", b"Bearer")]


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "shop", "iss": "us"}, None),
        ({"aud": ["x", "shop"], "iss": "us"}, None),
        ({"aud": "other", "iss": "us"}, "another audience"),
        ({"aud": "shop", "iss": "them"}, "another issuer"),
        ({"iss": "us"}, "lacks"),
        ({"aud": "shop"}, "lacks"),
    ],
)
def test_audience_and_issuer_are_checked_when_configured(claims: dict[str, Any], reason: str | None) -> None:
    settings = JwtSettings(hmac_secret=SECRET, audience="shop", issuer="us")
    reader = TokenReader(settings, FakeClock(NOW_S * 1_000_000))
    if reason is None:
        assert reader.user_of(token(claims)) == "ann"
    else:
        with pytest.raises(Unauthenticated, match=reason):
            reader.user_of(token(claims))


def test_an_audience_nobody_asked_for_does_not_matter() -> None:
    assert TokenReader(SETTINGS, FakeClock(NOW_S * 1_000_000)).user_of(token({"aud": "shop"})) == "ann"


def test_a_remembered_token_still_ends() -> None:
    clock = FakeClock(NOW_S * 1_000_000)
    reader = TokenReader(SETTINGS, clock)
    assert reader.user_of(token()) == reader.user_of(token()) == "ann"

    clock.step_wall(60 + LEEWAY_S)

    with pytest.raises(Unauthenticated, match="expired"):
        reader.user_of(token())
    assert not reader.remembered


def test_what_is_remembered_of_tokens_is_bounded() -> None:
    reader = TokenReader(SETTINGS, FakeClock(NOW_S * 1_000_000))
    reader.remembered = {b"%d" % number: ("u", 0.0) for number in range(MAX_REMEMBERED)}

    reader.user_of(token())

    assert len(reader.remembered) <= MAX_REMEMBERED


@given(st.binary(max_size=100))
def test_any_header_is_a_user_or_a_refusal(value: bytes) -> None:
    reader = TokenReader(SETTINGS, FakeClock(NOW_S * 1_000_000))
    for header in (value, b"Bearer " + value, token() + value[:3]):
        with contextlib.suppress(Unauthenticated):
            assert reader.user_of(header) in ("", "ann")


def test_settings_that_accept_what_anybody_can_make_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 32 bytes"):
        JwtSettings(hmac_secret="short")
    with pytest.raises(ValueError, match="only be HS256"):
        JwtSettings(hmac_secret=SECRET, algorithms=("none",))
    with pytest.raises(ValueError, match="only be HS256"):
        JwtSettings(hmac_secret=SECRET, algorithms=())
    assert SECRET not in repr(SETTINGS)
