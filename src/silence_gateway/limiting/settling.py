"""Costs that are known afterwards, charged or given back in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from silence_gateway.core.limits import Change
from silence_gateway.errors import StoreFault
from silence_gateway.limiting.decider import Decider


class Settling:
    """
    Settles what requests have cost, after their answers.

    Attributes:
        lost: Changes that the store did not confirm; what was reserved counts instead.
    """

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.background: set[asyncio.Task[None]] = set()
        self.lost = 0

    def send(self, changes: Sequence[Change]) -> None:
        """Hand *changes* to the store; returns at once."""
        task = asyncio.get_running_loop().create_task(self.settle(changes))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def settle(self, changes: Sequence[Change]) -> None:
        """Hand *changes* to the store; what it does not hear is counted."""
        decider = self.decider
        # Refusals that are not remembered need not be forgotten either: that saves a word to the fleet.
        forgotten = all(change.rule.name in decider.undoable for change in changes)
        try:
            await (decider.adjust(changes) if forgotten else decider.undo(changes))
        except StoreFault:
            self.lost += len(changes)

    async def stop(self) -> None:
        """Wait until all is settled."""
        while self.background:
            await asyncio.gather(*self.background)
