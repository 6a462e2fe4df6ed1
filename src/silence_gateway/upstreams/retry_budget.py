"""
The retry budget of one upstream: counted here, told to the others, decided without asking anybody.

Calls cost nothing here: how many there were is asked when somebody wants to repeat one. While this instance
repeats calls it tells the fleet once a second how many, through the board; who repeats nothing tells
nothing, which only leaves the others less to spend. Without a store each instance has its own budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from silence_gateway.core.retry_budget import Recent, Totals, added, affordable, read, written
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.retry_settings import BUDGET_TICKS
from silence_gateway.upstreams.settings import UpstreamSettings

TOLD_FOR_TICKS = 3
"""How many ticks a told count stays: one more than may be missed before an instance is taken for gone."""


class RetryBudget:
    """
    What this instance may still repeat.

    Attributes:
        repeats: Repeats made, ever.
        refused: Repeats that the budget did not allow, ever.
        malformed: Values on the board that were refused.
        untold: Counts that the store did not take.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        calls: Callable[[], int],
        board: Board | None = None,
        instance: str = "",
    ) -> None:
        """
        Make a budget.

        Args:
            settings: Of the upstream. The room on the board is `repeats/<its name>`.
            calls: Tells how many calls have ended, ever.
            board: What the fleet shares; None if there is none.
            instance: How this one signs; must be unique in the fleet.
        """
        self.repeats = self.refused = self.malformed = self.untold = 0
        self._policy = settings.retry.budget_policy()
        self._calls = calls
        self._recent = Recent(BUDGET_TICKS)
        self._room = f"repeats/{settings.name}"
        self._board = board
        self._instance = instance
        self._copy: Mapping[str, bytes] = {}
        self._told: dict[str, Totals] = {}
        self._others = Totals(0, 0)
        self._telling = False

    def join(self) -> None:
        """Hear what the others repeat from now on."""
        if self._board is not None:
            self._board.watch(self._room, self._changed)

    def affordable(self) -> bool:
        """Return whether one more repeat fits; asking spends nothing."""
        own = self._recent.within(Totals(self._calls(), self.repeats))
        return affordable(self._policy, own, self._others, 1 + len(self._told))

    def spend(self) -> bool:
        """Return whether one more repeat fits; if so it is paid for, else counted as refused."""
        if self.affordable():
            self.repeats += 1
            return True
        self.refused += 1
        return False

    async def tick(self, tick_s: float) -> None:
        """Go on to the next tick of *tick_s* seconds, and tell the others what there is to tell."""
        totals = Totals(self._calls(), self.repeats)
        self._recent.tick(totals)
        own = self._recent.within(totals)
        if self._board is None or not (own.repeats or self._telling):
            return
        # The last word is a zero: until then others count on what was told before.
        self._telling = own.repeats > 0
        try:
            await self._board.put(self._room, self._instance, written(own), TOLD_FOR_TICKS * tick_s)
        except StoreFault:
            self.untold += 1

    def _changed(self, name: str, value: bytes | None) -> None:
        if name == self._instance:
            return
        self._told.pop(name, None)
        if value is not None:
            try:
                self._told[name] = read(value)
            except ValueError:
                self.malformed += 1
        self._others = added(self._told.values())
