"""Which tokens are believed, and for how long."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from silence_gateway.realtime.settings import TokenSettings
from silence_gateway.realtime.tokens import HmacTokens, TokenExpired, TokenInvalid
from silence_gateway.testing.clock import FakeClock

SECRET = "a secret of at least thirty-two bytes"
OTHER = "another secret of thirty-two bytes or so"
CLOCK = FakeClock()
NOW = CLOCK.now_us() // 1_000_000
STRICT = HmacTokens(TokenSettings(hmac_secret=SECRET, audience="app", issuer="us"), CLOCK)
PLAIN = HmacTokens(TokenSettings(hmac_secret=SECRET), CLOCK)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_a_good_token_says_who_for_how_long_and_what_others_see() -> None:
    identity = PLAIN.verify(token(sub="ann", exp=NOW + 60, iat=NOW, info={"n": "ü"}))

    assert identity.user == "ann"
    assert identity.authenticated
    assert identity.ttl_us == 60_000_000
    assert identity.info == '{"n":"ü"}'.encode()


def test_a_token_without_end_or_user_is_good_for_ever_and_anonymous() -> None:
    identity = PLAIN.verify(token())

    assert (identity.user, identity.ttl_us, identity.info) == ("", 0, b"")


def test_audience_and_issuer_are_asked_for_when_set() -> None:
    assert STRICT.verify(token(sub="ann", aud=["app", "x"], iss="us")).user == "ann"
    assert PLAIN.verify(token(sub="ann", aud="anything", iss="anyone")).user == "ann"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="garbage"),
        pytest.param("x" * 10_000, id="huge"),
        pytest.param(token(OTHER, sub="ann", aud="app", iss="us"), id="forged"),
        pytest.param(token(sub="ann", aud="other", iss="us"), id="other-audience"),
        pytest.param(token(sub="ann", iss="us"), id="no-audience"),
        pytest.param(token(sub="ann", aud="app"), id="no-issuer"),
        pytest.param(token(sub="ann", aud="app", iss="them"), id="other-issuer"),
        pytest.param(token(SECRET * 2, "HS512", sub="ann", aud="app", iss="us"), id="other-algorithm"),
        pytest.param(jwt.encode({"sub": "ann"}, "", algorithm="none"), id="no-algorithm"),
        pytest.param(token(aud="app", iss="us", sub="x" * 300), id="long-user"),
        pytest.param(token(aud="app", iss="us", sub="a\nb"), id="odd-user"),
        pytest.param(token(aud="app", iss="us", sub="a", nbf=NOW + 60), id="not-yet"),
        pytest.param(token(aud="app", iss="us", sub="a", info="x" * 2000), id="big-info"),
    ],
)
def test_any_other_token_is_not_believed(bad: str) -> None:
    with pytest.raises(TokenInvalid):
        STRICT.verify(bad)


@pytest.mark.parametrize("exp", [NOW, NOW - 1, 0])
def test_a_token_whose_time_is_over_is_expired(exp: int) -> None:
    with pytest.raises(TokenExpired):
        PLAIN.verify(token(sub="ann", exp=exp))


def test_without_a_secret_no_token_is_believed() -> None:
    with pytest.raises(TokenInvalid, match="hmac_secret"):
        HmacTokens(TokenSettings(), CLOCK).verify(token(sub="ann"))
