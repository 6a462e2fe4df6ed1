"""
JSON Web Tokens signed with HS256: which are good, whom they speak for, and until when.

Both doors, HTTP requests and WebSocket sessions, ask here, so that a token means the same at both. Which
signature is accepted is ours to say, never the token's. What a refused caller is told never quotes the
token, nor the text of the library that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jwt

ALGORITHMS = ["HS256"]

MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: an HS256 key of fewer bytes than its hash can be guessed."""

MAX_TOKEN_BYTES = 8192
"""A longer token is refused unread; a whole header section is 16 KiB by default."""

MAX_USER_CHARS = 255
MAX_SECONDS = 1e12
"""No calendar reaches further; and microseconds of it are still counted exactly."""


class TokenRefused(Exception):
    """
    A token that is not believed.

    Attributes:
        reason: Why, for its sender.
        expired: It was good once.
    """

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expired = expired


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """
    Which tokens are good.

    Attributes:
        secret: What they are signed with; one that is empty believes no token.
        audience: What `aud` must be or contain; None asks nothing.
        issuer: What `iss` must be; None asks nothing.
        leeway_s: By how much the issuer's clock may differ from ours, in seconds.
        ends: Whether a token without an end (`exp`) is refused.
        names: Whether a token without a user (`sub`) is refused.
    """

    secret: str = field(repr=False)
    audience: str | None = None
    issuer: str | None = None
    leeway_s: float = 0.0
    ends: bool = False
    names: bool = False


class VerifiedToken(NamedTuple):
    """
    What a good token says.

    Attributes:
        user: Whom it speaks for (`sub`); empty if for nobody in particular.
        ends_us: When it ends, the leeway included, in microseconds since the epoch; 0 for never.
        claims: Everything that it says.
    """

    user: str
    ends_us: int
    claims: Mapping[str, Any]


def verify(rules: TokenRules, token: bytes | str, now_us: int) -> VerifiedToken:
    """
    Return what a good token says.

    Args:
        rules: Which are good.
        token: The token alone, without the word in front of it in a header.
        now_us: Microseconds since the epoch.

    Raises:
        TokenRefused: It is no good.
    """
    if not rules.secret:
        raise TokenRefused("no hmac_secret is set, so no token is believed")
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    required = [claim for claim, asked in (("exp", rules.ends), ("sub", rules.names)) if asked]
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            # HMAC fills a short key up with zeros itself (RFC 2104 section 2); doing it here spares every
            # token a warning about what the operator was told when the configuration was read.
            rules.secret.encode().ljust(MIN_SECRET_BYTES, b"\0"),
            algorithms=ALGORITHMS,
            audience=rules.audience,
            issuer=rules.issuer,
            options={
                "require": required,
                # Checked below: times on the caller's clock, the subject by our own rule.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_sub": False,
                "verify_aud": rules.audience is not None,
            },
        )
    except (jwt.PyJWTError, ValueError, RecursionError) as exc:
        raise TokenRefused(REASONS.get(type(exc), "the token cannot be verified")) from None
    return read_claims(rules, claims, now_us)


def read_claims(rules: TokenRules, claims: Mapping[str, Any], now_us: int) -> VerifiedToken:
    """
    Return what the claims of a token with a good signature mean now.

    Raises:
        TokenRefused: One is not what it must be, or it is not the token's time.
    """
    leeway_us = round(rules.leeway_s * 1_000_000)
    ends_us = 0
    if "exp" in claims:
        ends_us = moment_us(claims, "exp") + leeway_us
        if now_us >= ends_us:
            raise TokenRefused("the token has expired", expired=True)
    if "nbf" in claims and now_us < moment_us(claims, "nbf") - leeway_us:
        raise TokenRefused("the token is not valid yet")
    user = claims.get("sub", "")
    fits = isinstance(user, str) and len(user) <= MAX_USER_CHARS and (not user or user.isprintable())
    if not fits or (rules.names and not user):
        least = 1 if rules.names else 0
        raise TokenRefused(
            f"the token's subject is not a text of {least} to {MAX_USER_CHARS} characters that can be printed"
        )
    return VerifiedToken(user, ends_us, claims)


def moment_us(claims: Mapping[str, Any], name: str) -> int:
    """
    Return a moment among the claims, in microseconds since the epoch.

    Raises:
        TokenRefused: It is not a number of seconds that a calendar knows.
    """
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_SECONDS:
        raise TokenRefused(f"the token's {name} is not a number of seconds since 1970")
    return round(value * 1_000_000)


REASONS: dict[type[BaseException], str] = {
    jwt.InvalidSignatureError: "the token's signature is wrong",
    jwt.InvalidAlgorithmError: "the token is signed in a way that is not accepted here",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is from another issuer",
    jwt.MissingRequiredClaimError: "the token lacks exp or sub, or aud or iss where they are asked for",
    jwt.DecodeError: "the token is not a JSON Web Token",
}
"""What a refused caller may know."""
