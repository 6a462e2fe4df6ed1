"""A token means the same to an HTTP request and to a WebSocket session."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from silence_gateway.errors import Unauthenticated
from silence_gateway.layers.authenticate import JwtSettings, TokenReader
from silence_gateway.realtime.settings import TokenSettings
from silence_gateway.realtime.tokens import HmacTokens, TokenExpired, TokenInvalid
from silence_gateway.testing.clock import FakeClock

SECRET = "a secret of at least thirty-two bytes"
NOW_S = 1_700_000_000
CLOCK = FakeClock(NOW_S * 1_000_000)
HTTP = TokenReader(JwtSettings(hmac_secret=SECRET, audience="app", issuer="us"), CLOCK)
WEBSOCKET = HmacTokens(TokenSettings(hmac_secret=SECRET, audience="app", issuer="us"), CLOCK)
GOOD = {"sub": "ann", "exp": NOW_S + 60, "aud": "app", "iss": "us"}


def signed(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def at_http(token: str) -> str:
    try:
        verified = HTTP.read(b"Bearer " + token.encode())
    except Unauthenticated as exc:
        return str(exc)
    assert verified is not None
    return f"user {verified.user}"


def at_websocket(token: str) -> str:
    try:
        return f"user {WEBSOCKET.verify(token).user}"
    except (TokenInvalid, TokenExpired) as exc:
        return str(exc)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed(GOOD), id="good"),
        pytest.param(signed(GOOD | {"aud": ["x", "app"]}), id="one-of-many-audiences"),
        pytest.param(signed(GOOD | {"sub": "\u00fc\u2603"}), id="any-script"),
        pytest.param(signed(GOOD | {"nbf": NOW_S - 10, "iat": NOW_S + 10}), id="clocks-differ"),
        pytest.param("a.b.c", id="garbage"),
        pytest.param("x" * 9000, id="huge"),
        pytest.param(signed(GOOD, "another secret of thirty-two bytes.."), id="forged"),
        pytest.param(signed(GOOD, SECRET * 2, "HS512"), id="other-algorithm"),
        pytest.param(jwt.encode(GOOD, "", algorithm="none"), id="no-algorithm"),
        pytest.param(signed(GOOD | {"aud": "other"}), id="other-audience"),
        pytest.param(signed(GOOD | {"iss": "them"}), id="other-issuer"),
        pytest.param(signed({key: GOOD[key] for key in ("sub", "exp", "iss")}), id="no-audience"),
        pytest.param(signed(GOOD | {"exp": NOW_S - 60}), id="expired"),
        pytest.param(signed(GOOD | {"nbf": NOW_S + 60}), id="not-yet"),
        pytest.param(signed(GOOD | {"exp": True}), id="odd-time"),
    ],
)
def test_both_doors_give_one_answer(token: str) -> None:
    assert at_http(token) == at_websocket(token)


def test_what_they_ask_for_beyond_that_is_their_own() -> None:
    """A session may be anonymous and without an end; a request's token may not."""
    for missing in ("sub", "exp"):
        token = signed({key: value for key, value in GOOD.items() if key != missing})

        assert at_http(token).startswith("the token lacks exp or sub")
        assert at_websocket(token).startswith("user")
