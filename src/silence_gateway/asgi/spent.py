"""What one call has spent under one limit, and what of it turns out to be too much or too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from silence_gateway.core.limits import Ask, Change, Decision, LimitRule
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limiter import settlement


class Spent:
    """
    What a call has spent under one limit.

    Attributes:
        decision: What the limit said: how much is left, and until when.
        counts: Whether it spent anything: not where the call is exempt, or its key is free by exception.
    """

    __slots__ = ("ask", "cost", "counts", "decision", "done", "on_settle", "real")

    def __init__(
        self, ask: Ask, decision: Decision, cost: Cost | None = None, *, counts: bool = True
    ) -> None:
        self.ask = ask
        self.decision = decision
        self.cost = cost
        self.counts = counts
        self.real: int | None = None
        self.on_settle: Callable[[Spent], None] | None = None
        self.done = False

    def settle(self, cost: int) -> None:
        """
        Say what the call has really cost: the difference is charged or given back.

        That is done when it is over; at once if its answer has begun or its WebSocket is open, because then
        it may last for days. A charge may go beyond the limit; then the next calls wait.

        Raises:
            ValueError: The cost is below 0, it is settled already, or what is held is a place and not uses.
        """
        if self.done:
            raise ValueError(f"limit {self.ask.rule.name}: this is settled already")
        if cost < 0:
            raise ValueError("a cost is at least 0")
        if self.ask.rule.kind == "c":
            raise ValueError(f"limit {self.ask.rule.name}: it gives places, which are released by themselves")
        self.real = cost
        if self.on_settle is not None:
            self.on_settle(self)

    def changes(self, told: Sequence[tuple[bytes, bytes]]) -> list[Change]:
        """Settle it by what the app said, or else by the headers of its answer; returns what does that."""
        if self.done:
            return []
        self.done = True
        real = self.real
        if real is None and self.cost is not None:
            real = self.cost.of_answer(told)
        return [] if real is None or not self.counts else settlement(self.ask, self.decision, real)


def nothing_spent(rule: LimitRule) -> Spent:
    """Return what stands for a call that a limit does not count."""
    return Spent(Ask(rule, "", 0), Decision(True, rule.capacity, rule.capacity, 0, 0), counts=False)
