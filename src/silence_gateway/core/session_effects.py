"""
What a session wants done: plain values, carried out in order by `realtime/connection.py`.

Those with a command id are answered by `Session.on_verified`, `on_attached`, `on_answer` or
`on_failed` with that id; the others need no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from silence_gateway.core.centrifuge_codes import CloseCode


@dataclass(frozen=True, slots=True)
class Send:
    """Send these encoded replies or pushes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket."""

    why: CloseCode


@dataclass(frozen=True, slots=True)
class Verify:
    """Check a token (empty: there is none) of a connect or refresh command."""

    command_id: int
    token: str
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class Attach:
    """Make sure that publications of *channel* reach this instance."""

    command_id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Join:
    """From now on send this client every publication of *channel*."""

    channel: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Send nothing of *channel* any more; *joined* is False if it was only being attached."""

    channel: str
    joined: bool


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish *body*, an encoded publication, to *channel*."""

    command_id: int
    channel: str
    body: bytes


@dataclass(frozen=True, slots=True)
class AskPresence:
    """Say who is in *channel*, fleet-wide."""

    command_id: int
    channel: str


@dataclass(frozen=True, slots=True)
class AskPresenceStats:
    """Say how many are in *channel*, fleet-wide."""

    command_id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Connected:
    """The client is known: write its session down."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The client showed a new token: write its new expiry down."""


Effect: TypeAlias = (
    "Send | Close | Verify | Attach | Join | Leave | Publish | AskPresence | AskPresenceStats"
    " | Connected | Refreshed"
)
