"""Who calls."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from hashlib import sha256
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.api_keys import ApiKey, KeyRing
from silence_gateway.core.http import NO_CLAIMS, Request, Response
from silence_gateway.core.signed_tokens import VerifiedToken
from silence_gateway.errors import Unauthenticated
from silence_gateway.layers.authenticate import (
    LEEWAY_S,
    MAX_REMEMBERED,
    ApiKeys,
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


def user_of(reader: TokenReader, authorization: bytes) -> str:
    verified = reader.read(authorization)
    return "" if verified is None else verified.user


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
        (token({"sub": "x" * 300}), "1 to 255 characters"),
        (token({"sub": ""}), "1 to 255 characters"),
        (token({"sub": "a\nb"}), "can be printed"),
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
        with pytest.raises(Unauthenticated) as caught:
            await authenticate(SETTINGS, FakeClock())(answer)(request)
        assert caught.value.challenge == "Bearer"

    asyncio.run(scenario())


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
        assert user_of(reader, token(claims)) == "ann"
    else:
        with pytest.raises(Unauthenticated, match=reason):
            reader.read(token(claims))


def test_an_audience_nobody_asked_for_does_not_matter() -> None:
    assert user_of(TokenReader(SETTINGS, FakeClock(NOW_S * 1_000_000)), token({"aud": "shop"})) == "ann"


def test_a_remembered_token_still_ends() -> None:
    clock = FakeClock(NOW_S * 1_000_000)
    reader = TokenReader(SETTINGS, clock)
    assert user_of(reader, token()) == user_of(reader, token()) == "ann"

    clock.step_wall(60 + LEEWAY_S)

    with pytest.raises(Unauthenticated, match="expired"):
        reader.read(token())
    assert not reader.remembered


def test_what_is_remembered_of_tokens_is_bounded() -> None:
    reader = TokenReader(SETTINGS, FakeClock(NOW_S * 1_000_000))
    reader.remembered = {b"%d" % number: VerifiedToken("u", 0, {}) for number in range(MAX_REMEMBERED)}

    reader.read(token())

    assert len(reader.remembered) <= MAX_REMEMBERED


@given(st.binary(max_size=100))
def test_any_header_is_a_user_or_a_refusal(value: bytes) -> None:
    reader = TokenReader(SETTINGS, FakeClock(NOW_S * 1_000_000))
    for header in (value, b"Bearer " + value, token() + value[:3]):
        with contextlib.suppress(Unauthenticated):
            assert user_of(reader, header) in ("", "ann")


def test_settings_that_accept_what_anybody_can_make_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 32 bytes"):
        JwtSettings(hmac_secret="short")
    with pytest.raises(ValueError, match="only be HS256"):
        JwtSettings(hmac_secret=SECRET, algorithms=("none",))
    with pytest.raises(ValueError, match="only be HS256"):
        JwtSettings(hmac_secret=SECRET, algorithms=())
    assert SECRET not in repr(SETTINGS)


PARTNER, GUEST, OLD = (
    b"partner-key-of-enough-letters",
    b"guest-key-of-enough-letters",
    b"an-old-key-of-letters",
)
RING = KeyRing(
    [
        ApiKey(id="partner", digest=sha256(PARTNER).digest(), user="bob"),
        ApiKey(id="guest", digest=sha256(GUEST).digest(), until_us=(NOW_S + 60) * 1_000_000),
        ApiKey(id="old", digest=sha256(OLD).digest(), until_us=NOW_S * 1_000_000),
    ]
)


def call_with(
    headers: dict[bytes, bytes],
    tokens: JwtSettings | None = None,
    *,
    required: bool = True,
    mode: Mode | None = None,
) -> Request:
    request = Request("GET", "/", headers)
    keys = ApiKeys("X-API-Key", required=required, ring=RING)
    layer = authenticate(tokens, FakeClock(NOW_S * 1_000_000), keys=keys, mode_of=lambda _request: mode)

    async def scenario() -> None:
        await layer(answer)(request)

    asyncio.run(scenario())
    return request


@pytest.mark.parametrize(("key", "api_key", "user"), [(PARTNER, "partner", "bob"), (GUEST, "guest", "")])
def test_a_good_key_is_enough(key: bytes, api_key: str, user: str) -> None:
    for tokens in (None, SETTINGS):
        request = call_with({b"x-api-key": key}, tokens)

        assert (request.api_key, request.user) == (api_key, user)
        assert request.claims is NO_CLAIMS


@pytest.mark.parametrize("key", [b"", b"x", PARTNER[:-1], PARTNER + b", " + PARTNER, OLD, b"y" * 5000])
def test_a_wrong_or_ended_key_is_refused_also_where_none_is_needed_or_a_good_token_is_there(
    key: bytes,
) -> None:
    for required in (True, False):
        with pytest.raises(Unauthenticated, match="the key in X-API-Key is wrong or has ended") as caught:
            call_with({b"x-api-key": key, b"authorization": token()}, SETTINGS, required=required)
        assert caught.value.challenge == 'ApiKey header="X-API-Key"'


def test_with_both_the_token_says_who_and_the_key_which_program() -> None:
    request = call_with({b"x-api-key": PARTNER, b"authorization": token({"tenant": "acme"})}, SETTINGS)

    assert (request.api_key, request.user, request.claims["tenant"]) == ("partner", "ann", "acme")


def test_a_bad_token_is_refused_beside_a_good_key() -> None:
    with pytest.raises(Unauthenticated, match="not a JSON Web Token"):
        call_with({b"x-api-key": PARTNER, b"authorization": b"Bearer junk"}, SETTINGS)


def test_without_tokens_configured_an_authorization_header_means_nothing() -> None:
    assert call_with({b"x-api-key": PARTNER, b"authorization": b"Bearer junk"}).user == "bob"


@pytest.mark.parametrize(
    ("tokens", "required", "mode", "refused"),
    [
        (None, True, None, True),
        (None, False, None, False),
        (None, False, "required", True),
        (None, True, "optional", False),
        (SETTINGS, False, None, True),
        (JwtSettings(hmac_secret=SECRET, required=False), True, None, True),
        (JwtSettings(hmac_secret=SECRET, required=False), False, None, False),
    ],
)
def test_proof_is_needed_where_any_of_both_says_so(
    tokens: JwtSettings | None, required: bool, mode: Mode | None, refused: bool
) -> None:
    if not refused:
        assert call_with({}, tokens, required=required, mode=mode).api_key == ""
        return
    with pytest.raises(Unauthenticated, match="an API key, X-API-Key: <key>") as caught:
        call_with({}, tokens, required=required, mode=mode)
    bearer = "" if tokens is None else "Bearer, "
    assert caught.value.challenge == bearer + 'ApiKey header="X-API-Key"'


def test_where_no_proof_is_wanted_a_wrong_key_does_not_matter() -> None:
    assert call_with({b"x-api-key": b"junk"}, mode="none").api_key == ""


def test_keys_that_are_replaced_hold_from_then_on() -> None:
    keys = ApiKeys("X-API-Key", ring=RING)
    assert keys.key_of(PARTNER, 0).id == "partner"

    keys.ring = KeyRing()

    with pytest.raises(Unauthenticated):
        keys.key_of(PARTNER, 0)
