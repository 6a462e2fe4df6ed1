"""Which tokens are good, at either door."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.signed_tokens import (
    MAX_TOKEN_BYTES,
    TokenRefused,
    TokenRules,
    VerifiedToken,
    read_claims,
    verify,
)

SECRET = "a secret of at least thirty-two bytes"
NOW_US = 1_700_000_000_000_000
NOW_S = NOW_US // 1_000_000
PLAIN = TokenRules(secret=SECRET)
STRICT = TokenRules(secret=SECRET, audience="app", issuer="us", leeway_s=5, ends=True, names=True)
GOOD = {"sub": "ann", "exp": NOW_S + 60, "aud": ["x", "app"], "iss": "us", "tenant": "acme"}


def token(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def test_a_good_token_says_who_until_when_and_what_else() -> None:
    for text in (token(GOOD), token(GOOD).encode()):
        assert verify(STRICT, text, NOW_US) == VerifiedToken("ann", NOW_US + 65_000_000, GOOD)
    assert verify(PLAIN, token({}), NOW_US) == VerifiedToken("", 0, {})


def test_a_short_secret_works_and_an_empty_one_believes_nothing() -> None:
    with pytest.warns(UserWarning, match="below the minimum recommended length"):
        short = token({"sub": "ann"}, "short")

    assert verify(TokenRules(secret="short"), short, NOW_US).user == "ann"
    with pytest.raises(TokenRefused, match="no hmac_secret is set"):
        verify(TokenRules(secret=""), token({}), NOW_US)
    assert SECRET not in repr(PLAIN)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a JSON Web Token"),
        ("a.b.c", "not a JSON Web Token"),
        ("x" * (MAX_TOKEN_BYTES + 1), "longer than"),
        (token(GOOD, "another secret of thirty-two bytes"), "signature is wrong"),
        (token(GOOD, SECRET * 2, "HS512"), "not accepted here"),
        (jwt.encode(GOOD, "", algorithm="none"), "not accepted here"),
        (token(GOOD | {"aud": "other"}), "another audience"),
        (token(GOOD | {"iss": "them"}), "another issuer"),
        *((token(without(name)), "lacks") for name in ("exp", "sub", "aud", "iss")),
        (token(GOOD | {"sub": ""}), "1 to 255 characters"),
        (token(GOOD | {"sub": "x" * 256}), "1 to 255 characters"),
        (token(GOOD | {"sub": "a\tb"}), "can be printed"),
        (token(GOOD | {"nbf": NOW_S + 6}), "not valid yet"),
        (token(GOOD | {"exp": NOW_S - 5}), "expired"),
    ],
)
def test_a_bad_token_is_refused_with_a_reason_that_quotes_nothing(text: str, reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason) as caught:
        verify(STRICT, text, NOW_US)

    assert caught.value.expired is (reason == "expired")
    assert "ann" not in caught.value.reason


def test_a_token_that_nests_too_deep_is_refused() -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    nested = base64.urlsafe_b64encode(b"[" * 3000 + b"]" * 3000).rstrip(b"=")

    with pytest.raises(TokenRefused):
        verify(PLAIN, head + b"." + nested + b".x", NOW_US)


@pytest.mark.parametrize(
    ("exp_s", "nbf_s", "leeway_s", "says"),
    [
        (1, 0, 0, ""),
        (0, 0, 0, "expired"),
        (-4, 0, 5, ""),
        (-5, 0, 5, "expired"),
        (9, 1, 0, "not valid yet"),
        (9, 5, 5, ""),
        (9, 6, 5, "not valid yet"),
    ],
)
def test_a_token_has_its_time(exp_s: int, nbf_s: int, leeway_s: int, says: str) -> None:
    rules = TokenRules(secret=SECRET, leeway_s=leeway_s)
    claims = {"sub": "ann", "exp": NOW_S + exp_s, "nbf": NOW_S + nbf_s}
    if says:
        with pytest.raises(TokenRefused, match=says):
            read_claims(rules, claims, NOW_US)
    else:
        assert read_claims(rules, claims, NOW_US).ends_us == NOW_US + (exp_s + leeway_s) * 1_000_000


@pytest.mark.parametrize("value", [True, "soon", -1, 1e13, float("nan"), float("inf"), 10**400, [1], None])
@pytest.mark.parametrize("name", ["exp", "nbf"])
def test_a_time_that_is_no_time_is_not_believed(name: str, value: object) -> None:
    with pytest.raises(TokenRefused, match=f"{name} is not a number of seconds"):
        read_claims(PLAIN, {"sub": "ann", name: value}, NOW_US)


@pytest.mark.parametrize("sub", [7, None, ["ann"], {"a": 1}, True])
def test_a_user_that_is_no_text_is_not_believed(sub: object) -> None:
    with pytest.raises(TokenRefused, match="0 to 255 characters"):
        read_claims(PLAIN, {"sub": sub}, NOW_US)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_nobody_gets_in_without_the_secret(junk: bytes, cut: int) -> None:
    good = token(GOOD).encode()
    for text in (junk, good[:cut] + junk + good[cut + 1 :]):
        try:
            verified = verify(STRICT, text, NOW_US)
        except TokenRefused:
            continue
        assert verified.claims == GOOD


@given(st.dictionaries(st.text(max_size=10), st.none() | st.booleans() | st.integers() | st.text()))
def test_whatever_is_signed_is_read_or_refused(claims: dict[str, Any]) -> None:
    try:
        verified = verify(PLAIN, token(json.loads(json.dumps(claims))), NOW_US)
    except TokenRefused:
        return
    assert verified.claims == claims
