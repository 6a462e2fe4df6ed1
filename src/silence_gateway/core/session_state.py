"""
Where a conversation stands, and what may follow: the whole life of a session in one table.

`core/session.py` is the only file that moves a session; its tests hold every move against this table.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a conversation stands."""

    NEW = "new"
    VERIFYING = "verifying"
    REFUSED = "refused"
    CONNECTED = "connected"
    CLOSED = "closed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.VERIFYING, State.CLOSED}),
    State.VERIFYING: frozenset({State.CONNECTED, State.REFUSED, State.CLOSED}),
    State.REFUSED: frozenset({State.CLOSED}),
    State.CONNECTED: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
