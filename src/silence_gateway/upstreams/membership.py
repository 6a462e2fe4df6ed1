"""
Which of an upstream's endpoints this instance connects to: all of them, or a subset of a large fleet.

A subset is chosen anew whenever an address comes or goes; how little then changes is the point of
`core/balancing/subsets.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from silence_gateway.core.balancing.subsets import subset
from silence_gateway.upstreams.settings import EndpointSettings


class Membership:
    """
    Every address known, and those in use.

    Attributes:
        known: All of them, by address.
        used: The addresses that this instance connects to.
    """

    def __init__(self, size: int, instance: str) -> None:
        """Make an empty one; *size* is the most per priority and zone, 0 for no bound."""
        self.known: dict[str, EndpointSettings] = {}
        self.used: frozenset[str] = frozenset()
        self._size = size
        self._instance = instance

    def add(self, *settings: EndpointSettings) -> tuple[list[EndpointSettings], list[str]]:
        """Take note of addresses; return whom to connect to, and which addresses to leave."""
        self.known.update((one.address, one) for one in settings)
        return self._changed()

    def replace(self, settings: Iterable[EndpointSettings]) -> tuple[list[EndpointSettings], list[str]]:
        """Know *settings* and nobody else from now on; return as `add` does."""
        self.known = {one.address: one for one in settings}
        return self._changed()

    def remove(self, address: str) -> tuple[list[EndpointSettings], list[str]]:
        """
        Forget *address*; return as `add` does.

        Raises:
            KeyError: If it is not known.
        """
        del self.known[address]
        return self._changed()

    def _changed(self) -> tuple[list[EndpointSettings], list[str]]:
        groups: dict[tuple[int, str], list[str]] = {}
        for one in self.known.values():
            groups.setdefault((one.priority, one.zone), []).append(one.address)
        used = frozenset(
            address
            for addresses in groups.values()
            for address in (subset(addresses, self._instance, self._size) if self._size else addresses)
        )
        before, self.used = self.used, used
        return (
            [one for address, one in self.known.items() if address in used and address not in before],
            sorted(before - used),
        )
