"""Where a call has been offered to already: what to mind when it is offered again."""

from __future__ import annotations

from collections.abc import Callable

from silence_gateway.core.shedding import Importance
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.steering import Steering

FIRST_PAUSE_S = 0.002
"""A call turned away waits about this long, then twice as long, and so on."""


class Tried:
    """
    Where a call has been offered to already, and by which connection; and where it belongs, if that was said.

    Attributes:
        key: See `steering.Steering`.
        importance: Likewise.
        attempts: How often, without the first refusal.
        before: Attempts of a call that may run twice that were begun before this one.
        paid: Offers after a refusal that were paid for.
        refusals: How often an endpoint that is there turned it away.
        pause_s: How long to wait before it is offered again to one that did.
    """

    __slots__ = (
        "attempts", "before", "connections", "importance", "key", "paid", "pause_s", "refusals", "refusing",
    )  # fmt: skip

    def __init__(self, steering: Steering | None = None) -> None:
        self.key = None if steering is None else steering.key
        self.importance = Importance.NORMAL if steering is None else steering.importance
        self.attempts = self.before = self.paid = 0
        self.connections: dict[Endpoint, Connection] = {}
        self.refusals = 0
        self.refusing: set[Endpoint] = set()
        self.pause_s = 0.0

    def avoid(self, endpoint: Endpoint, connection: Connection) -> None:
        """Offer the call to *endpoint* again only if there is nobody else."""
        self.connections[endpoint] = connection
        self.refusing.add(endpoint)

    def refused(
        self, endpoint: Endpoint, draw: Callable[[], float], attempts: int, pay: Callable[[], bool]
    ) -> bool:
        """
        Take note that *endpoint* turned the call away; return whether it may be offered again, after a pause.

        Once it may in any case (gRFC A6, "transparent retries"). After that each further offer is one of
        *attempts* and must be paid for: a server that turns calls away has enough of them.

        *draw* gives numbers in [0, 1): calls turned away together do not come back together.
        """
        if self.refusals:
            self.attempts += 1
            if self.attempts + self.before >= attempts or not pay():
                return False
            self.paid += 1
        self.pause_s = FIRST_PAUSE_S * 2**self.refusals * (0.5 + draw())
        self.refusals += 1
        self.refusing.add(endpoint)
        return True

    def missed(self, endpoint: Endpoint, attempts: int) -> bool:
        """Take note that the call never left for *endpoint*; return whether *attempts* allow another one."""
        self.attempts += 1
        self.refusing.discard(endpoint)
        return self.attempts < attempts

    def left(self, ring: tuple[Endpoint, ...], spare: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """
        Return whom else the call may be offered to: those of *ring*, or else of *spare*.

        Endpoints that had it already only come into question when there is nobody else, and when it was
        their connection that went away: a goodbye of a connection is not the endpoint's last word. Those
        that turned it away do so once the pause is over.
        """
        tried = self.connections
        for candidates in (ring, spare):
            others = tuple(endpoint for endpoint in candidates if endpoint not in tried)
            if others:
                return others
        return tuple(
            endpoint
            for endpoint in (*ring, *spare)
            if not tried[endpoint].accepting or (endpoint in self.refusing and not self.pause_s)
        )
