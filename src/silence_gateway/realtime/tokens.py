"""
Connection tokens: JSON Web Tokens signed with HS256, checked by PyJWT.

The algorithm comes from our settings, never from the token. Keys fetched from a JWKS URL would be one
more implementation of `Verifier`.
"""

from __future__ import annotations

from typing import Any, Protocol

import jwt

from silence_gateway.clock import Clock
from silence_gateway.core import centrifuge as wire
from silence_gateway.core.session_rules import Identity
from silence_gateway.realtime.settings import TokenSettings

# What others see as conn_info travels with every publication of the client: keep it small.
MAX_INFO_BYTES = 1024
MAX_TOKEN_BYTES = 8 * 1024
MAX_USER_BYTES = 255


class TokenInvalid(Exception):
    """This token was not made for us, or not by those we trust."""


class TokenExpired(Exception):
    """This token was good once."""


class Verifier(Protocol):
    """Says who a token belongs to."""

    def verify(self, token: str) -> Identity:
        """
        Return whom *token* speaks for.

        Raises:
            TokenInvalid: It cannot be believed.
            TokenExpired: It could have been believed before.
        """


class HmacTokens:
    """A `Verifier` with one shared secret."""

    def __init__(self, settings: TokenSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        # HMAC fills a short key up with zeros itself (RFC 2104 section 2); doing it here spares every
        # single token PyJWT's warning about what the hub has already told the operator at its start.
        self.key = settings.hmac_secret.encode().ljust(32, b"\0")

    def verify(self, token: str) -> Identity:
        """
        Return whom *token* speaks for.

        Raises:
            TokenInvalid: Wrong signature, algorithm, audience, issuer or shape; or no secret is set.
            TokenExpired: `exp` has passed.
        """
        if not self.settings.hmac_secret:
            raise TokenInvalid("tokens.hmac_secret is not set, so no token is believed")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenInvalid(f"a token of {len(token)} characters")
        try:
            claims = jwt.decode(
                token,
                self.key,
                algorithms=["HS256"],
                audience=self.settings.audience or None,
                issuer=self.settings.issuer or None,
                # The times are checked below, on our own clock.
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": bool(self.settings.audience),
                    "verify_sub": False,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as exc:
            raise TokenInvalid(str(exc)) from exc
        return self.identity(claims)

    def identity(self, claims: dict[str, Any]) -> Identity:
        """
        Return who *claims* speak of, now.

        Raises:
            TokenInvalid: A claim is not what it must be, or the token is not good yet.
            TokenExpired: `exp` has passed.
        """
        user = claims.get("sub", "")
        if not isinstance(user, str) or len(user) > MAX_USER_BYTES or (user and not user.isprintable()):
            raise TokenInvalid("sub must be a short, printable string")
        now_us = self.clock.now_us()
        if seconds(claims, "nbf") * 1_000_000 > now_us:
            raise TokenInvalid("not good yet (nbf)")
        ttl_us = 0
        if "exp" in claims:
            ttl_us = round(seconds(claims, "exp") * 1_000_000) - now_us
            if ttl_us <= 0:
                raise TokenExpired("expired")
        return Identity(user=user, authenticated=True, ttl_us=ttl_us, info=info_of(claims))


def seconds(claims: dict[str, Any], name: str) -> float:
    """
    Return a time claim, 0 if it is absent.

    Raises:
        TokenInvalid: It is not a number of seconds that a calendar knows.
    """
    value = claims.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise TokenInvalid(f"{name} must be seconds since 1970")
    return float(value)


def info_of(claims: dict[str, Any]) -> bytes:
    """
    Return the claim `info` as JSON, empty if it is absent.

    Raises:
        TokenInvalid: It is too big to travel with every publication.
    """
    if claims.get("info") is None:
        return b""
    try:
        info = wire.encode_json(claims["info"])
    except wire.BadFrame as exc:
        raise TokenInvalid(str(exc)) from exc
    if len(info) > MAX_INFO_BYTES:
        raise TokenInvalid(f"info is {len(info)} bytes; {MAX_INFO_BYTES} are allowed")
    return info
