"""WebSocket sessions: who may connect, and what clients may do in each namespace."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from silence_gateway.app.config.kinds import Flag, Kind, Secret, Text, duration, size, whole
from silence_gateway.app.config.matching import PATH
from silence_gateway.app.config.quantities import did_you_mean, quoted
from silence_gateway.app.config.section import Section

ORIGIN_FORM = re.compile(
    r"(?:https?|[a-z][a-z0-9+.-]{0,30})://(?:[a-z0-9_.-]{1,253}|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
)
ANY_ORIGIN = "*"


def parse_origin(text: str) -> str:
    """
    Check one origin of a web page: scheme, host and port, nothing more.

    Raises:
        ValueError: If it is none.
    """
    lowered = text.lower()
    if text == ANY_ORIGIN or ORIGIN_FORM.fullmatch(lowered):
        return lowered
    trimmed = re.match(ORIGIN_FORM, lowered)
    hint = (
        trimmed[0] if trimmed else f"https://{lowered}" if ORIGIN_FORM.fullmatch(f"https://{lowered}") else ""
    )
    raise ValueError(f"{quoted(text)} is not an origin: write https://app.example.com{did_you_mean(hint)}")


ORIGIN = Kind("origin", parse_origin, str, {"type": "string"}, ("https://app.example.com",))


class TokensConfig(Section):
    """How connection tokens (JWT) are verified."""

    hmac_secret: Secret = Field(default=None, description="Secret that HS256 tokens are signed with.")
    audience: Text | None = Field(default=None, description="Audience that a token must name; absent: any.")
    issuer: Text | None = Field(default=None, description="Issuer that a token must name; absent: any.")


class SessionsConfig(Section):
    """Bounds of sessions in the store."""

    ttl_s: Annotated[float, duration("10s", "720h")] = Field(
        default=86_400.0,
        alias="ttl",
        description="How long a session is kept in the store without a sign of life.",
    )


class NamespaceConfig(Section):
    """What clients may do in the channels of one namespace."""

    publish: Flag = Field(default=False, description="Whether clients may publish.")
    presence: Flag = Field(default=True, description="Whether clients may ask who is in a channel.")
    join_leave: Flag = Field(default=False, description="Whether clients are told who comes and goes.")
    max_subscriptions: Annotated[int, whole(1, 100_000)] = Field(
        default=128, description="Most channels of this namespace that one session may be in."
    )


class RealtimeConfig(Section):
    """WebSocket sessions that speak the Centrifuge protocol; absent: none are served."""

    path: Annotated[str, PATH] = Field(
        default="/connection/websocket", description="Path that clients connect to."
    )
    origins: tuple[Annotated[str, ORIGIN], ...] = Field(
        default=(),
        description="Origins of web pages that may connect; empty: the same origin only. Programs send none.",
    )
    tokens: TokensConfig | None = Field(default=None, description="How connection tokens are verified.")
    anonymous: Flag = Field(default=False, description="Whether clients may connect without a token.")
    ping_s: Annotated[float, duration("1s", "1h")] = Field(
        default=25.0, alias="ping", description="Time between pings to a quiet client."
    )
    queue_bytes: Annotated[int, size("4KiB", "8MiB")] = Field(
        default=1024 * 1024,
        alias="queue",
        description="Most bytes waiting for one slow client; beyond, it is closed (3008).",
    )
    sessions: SessionsConfig = Field(default=SessionsConfig(), description="Bounds of sessions in the store.")
    namespaces: dict[str, NamespaceConfig] = Field(
        default={"": NamespaceConfig()},
        description="Rules by namespace, the part of a channel's name before ':'; \"\" is for others.",
    )
    api_key: Secret = Field(
        default=None, description="Key of the server API (X-API-Key); absent: the API is off."
    )
