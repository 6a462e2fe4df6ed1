"""What one call has spent under one limit, and what of it turns out to be too much or too little."""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.core.limits import Ask, Change, Decision
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limiter import settlement


class Spent:
    """
    What a call has spent under one limit.

    Attributes:
        decision: What the limit said: how much is left, and until when.
    """

    __slots__ = ("ask", "cost", "decision", "real")

    def __init__(self, ask: Ask, decision: Decision, cost: Cost | None = None) -> None:
        self.ask = ask
        self.decision = decision
        self.cost = cost
        self.real: int | None = None

    def settle(self, cost: int) -> None:
        """
        Say what the call has really cost: the difference is charged or given back when it is over.

        A charge may go beyond the limit; then the next calls wait. Said twice, the last word counts.

        Raises:
            ValueError: The cost is below 0, or what is held is a place and not uses.
        """
        if cost < 0:
            raise ValueError("a cost is at least 0")
        if self.ask.rule.kind == "c":
            raise ValueError(f"limit {self.ask.rule.name}: it gives places, which are released by themselves")
        self.real = cost

    def changes(self, told: Sequence[tuple[bytes, bytes]]) -> list[Change]:
        """Return what settles it, by what the app said or else by the headers of its answer."""
        real = self.real
        if real is None and self.cost is not None:
            real = self.cost.of_answer(told)
        return [] if real is None else settlement(self.ask, self.decision, real)
