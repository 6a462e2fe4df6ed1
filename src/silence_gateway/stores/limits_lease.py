"""
What one instance holds of one key: uses that the store has counted already.

Data and small rules only; when to take more and when to give back is decided in `limits_leasing.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from silence_gateway.core.limits import Change, Decision, LimitRule, Op

HOLD_S = 1.0
"""How long uses may be held; of a short window never more than a tenth."""


class Lease:
    """What this instance holds of one key, and who waits for more."""

    __slots__ = (
        "at_us",
        "due_s",
        "held",
        "key",
        "left",
        "reset_us",
        "rule",
        "seen_s",
        "size",
        "taking",
        "waiting",
    )

    def __init__(self, rule: LimitRule, key: str) -> None:
        self.rule = rule
        self.key = key
        self.size = 1  # how many to take at a time
        self.held = 0
        self.at_us = 0  # when what is held was taken, on the store's clock
        self.due_s = 0.0  # when what is held must be given back
        self.seen_s = 0.0  # when somebody wanted more than is held
        self.left = 0  # what the store had left when it was asked last
        self.reset_us = 0
        self.taking = False
        self.waiting: list[tuple[int, asyncio.Future[Decision]]] = []

    def spend(self, cost: int) -> Decision:
        """Spend from what is held, which is enough."""
        self.held -= cost
        return Decision(True, self.rule.capacity, self.left + self.held, 0, self.reset_us, self.at_us)

    def serve(self) -> int:
        """Answer those who wait and for whom enough is held; returns what they spent."""
        spent = 0
        short = []
        for cost, future in self.waiting:
            if future.done():
                continue
            if self.held < cost:
                short.append((cost, future))
                continue
            spent += cost
            future.set_result(self.spend(cost))
        self.waiting = short
        return spent


def let_go(leases: Sequence[Lease]) -> list[Change]:
    """Stop holding what *leases* hold; returns the changes that give it back."""
    changes = []
    for lease in leases:
        held, lease.held = lease.held, 0
        changes.append(Change(Op.GIVE_BACK, lease.rule, lease.key, held, lease.at_us))
    return changes


def hold_s(rule: LimitRule) -> float:
    """Return how long uses of a limit may be held, in seconds."""
    return min(HOLD_S, rule.window_us / 10_000_000)
