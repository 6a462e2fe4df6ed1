"""
Where endpoints come from when they are not written down: what a source promises, and several joined.

Whatever a source says replaces what it said before; the pool adds who is new and lets who is gone finish
its calls. A source that learns nothing says nothing, so that a resolver or a store that is away takes no
endpoint away. Only its first word comes in any case: calls wait for that where there is nobody yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from silence_gateway.upstreams.settings import MAX_ENDPOINTS, EndpointSettings

Use: TypeAlias = Callable[[Sequence[EndpointSettings]], None]


class Source(Protocol):
    """Somebody who knows the endpoints of a service."""

    @property
    def problem(self) -> str:
        """What keeps it from learning anything now, for a person to read; empty if nothing does."""

    async def follow(self, use: Use) -> None:
        """
        Call *use* with all endpoints whenever they are known anew, until cancelled.

        The first time as soon as it has looked, even if it found nobody.
        """

    def hurry(self) -> None:
        """Look again soon: an endpoint has gone away or does not let us in, and what is known may be old."""


class Joined:
    """
    The endpoints of an upstream: those written down, and what each source said last.

    Of more than an upstream may have, those that are here already stay: resolvers turn their records round
    with every answer, and whoever took the first ones would connect anew to all of them each time.

    Attributes:
        sources: Who is asked.
        left_out: Endpoints beyond the most that an upstream may have.
    """

    def __init__(self, written: Sequence[EndpointSettings], use: Use, sources: Sequence[Source] = ()) -> None:
        self.sources = tuple(sources)
        self.left_out = 0
        self._said: dict[int, Sequence[EndpointSettings]] = {-1: written}
        self._use = use
        self._kept: frozenset[str] = frozenset()

    def problems(self) -> tuple[str, ...]:
        """Return what keeps sources from telling, and all of it from being used; for a person to read."""
        found = [source.problem for source in self.sources if source.problem]
        if self.left_out:
            found.append(f"{self.left_out} endpoints are left out: an upstream has {MAX_ENDPOINTS} at most")
        return tuple(found)

    @property
    def expecting(self) -> bool:
        """Whether one of them has yet to say its first word."""
        return len(self._said) <= len(self.sources)

    def hurry(self) -> None:
        """Have all of them look again soon."""
        for source in self.sources:
            source.hurry()

    def hear(self, source: int, endpoints: Sequence[EndpointSettings]) -> None:
        """Take what *source* says; of two who name an address, the one written first counts."""
        self._said[source] = endpoints
        found: dict[str, EndpointSettings] = {}
        for number in sorted(self._said):
            for endpoint in self._said[number]:
                found.setdefault(endpoint.address, endpoint)
        kept = list(found.values())
        if len(kept) > MAX_ENDPOINTS:
            kept.sort(key=self._newcomer)
            del kept[MAX_ENDPOINTS:]
        self.left_out = len(found) - len(kept)
        self._kept = frozenset(endpoint.address for endpoint in kept)
        self._use(kept)

    def _newcomer(self, endpoint: EndpointSettings) -> bool:
        return endpoint.address not in self._kept
