"""
Endpoints that an operator has taken out of service, for the whole fleet.

A drain is a fact on the board, `drains/<upstream>`, without an end: it holds until somebody ends it, also
for instances that start later, and for an endpoint that goes away and returns. Without a store it holds for
this instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Board

DRAINED = b"drained"


class FleetDrains:
    """Who is drained; *on_change* is called with an address and whether it is now."""

    def __init__(self, upstream: str, board: Board | None, on_change: Callable[[str, bool], None]) -> None:
        self._room = f"drains/{upstream}"
        self._board = board
        self._on_change = on_change
        self._copy: Mapping[str, bytes] = {}

    def join(self) -> None:
        """Hear of drains from now on."""
        if self._board is not None:
            self._copy = self._board.watch(self._room, self._changed)

    def __contains__(self, address: str) -> bool:
        return address in self._copy

    async def tell(self, address: str, *, drained: bool) -> bool:
        """Tell the fleet; return False if it could not be told, and the decision is this instance's alone."""
        if self._board is None:
            return False
        try:
            if drained:
                await self._board.put(self._room, address, DRAINED)
            else:
                await self._board.remove(self._room, address)
        except StoreFault:
            return False
        return True

    def _changed(self, address: str, value: bytes | None) -> None:
        self._on_change(address, value is not None)
