"""What a circuit breaker can guard: one endpoint, or an upstream as a whole."""

from __future__ import annotations

from typing import Protocol

from silence_gateway.core.breaker import Breaker
from silence_gateway.core.endpoints import Link
from silence_gateway.core.fleet_facts import HoldFact
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.record import BreakerHistory

WHOLE = "*"
"""Where an address is asked for, the upstream as a whole; no endpoint can have this address."""


class Guarded(Protocol):
    """
    Something with a breaker.

    Attributes:
        breaker: Its breaker; only `breakers.py` and who tells it of moves change it.
        hold: What an operator said about it; None leaves it to itself.
        history: What the breaker did.
        last_error: What last went wrong; empty if nothing did.
    """

    breaker: Breaker
    hold: HoldFact | None
    history: BreakerHistory
    last_error: str

    @property
    def address(self) -> str:
        """Where it is; `WHOLE` for an upstream."""

    @property
    def removed(self) -> bool:
        """Whether it is on its way out for good."""

    @property
    def link(self) -> Link:
        """How its connections stand."""

    def any_connection(self) -> Connection | None:
        """Return a connection that takes calls, without opening one."""

    def counted(self, now_us: int) -> tuple[int, int]:
        """Return the calls in the breaker's window, and how many of them speak against it."""
