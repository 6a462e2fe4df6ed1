"""
Connection tokens: JSON Web Tokens signed with HS256, believed as everywhere else in the gateway.

What is read here beyond that is what a session needs: how long it may last, and what others see of it.
Keys fetched from a JWKS URL would be one more implementation of `Verifier`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from silence_gateway.clock import Clock
from silence_gateway.core import centrifuge as wire
from silence_gateway.core.session_rules import Identity
from silence_gateway.core.signed_tokens import TokenRefused, TokenRules, verify
from silence_gateway.realtime.settings import TokenSettings

# What others see as conn_info travels with every publication of the client: keep it small.
MAX_INFO_BYTES = 1024


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
        # A session ends with its token, and is told when that is: there is no leeway to give.
        self.rules = TokenRules(
            secret=settings.hmac_secret,
            audience=settings.audience or None,
            issuer=settings.issuer or None,
        )
        self.clock = clock

    def verify(self, token: str) -> Identity:
        """
        Return whom *token* speaks for.

        Raises:
            TokenInvalid: Wrong signature, algorithm, audience, issuer or shape; or no secret is set.
            TokenExpired: `exp` has passed.
        """
        now_us = self.clock.now_us()
        try:
            verified = verify(self.rules, token, now_us)
        except TokenRefused as exc:
            raise (TokenExpired if exc.expired else TokenInvalid)(exc.reason) from exc
        ttl_us = verified.ends_us - now_us if verified.ends_us else 0
        return Identity(user=verified.user, authenticated=True, ttl_us=ttl_us, info=info_of(verified.claims))


def info_of(claims: Mapping[str, Any]) -> bytes:
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
