"""
A refusal with what was decided, for whoever tells the caller.

A program that uses the library knows no header lines; the middleware that its refusals reach does, and
writes them from this in whatever form it was told to.
"""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.core.limits import NEVER, Decision, LimitRule
from silence_gateway.errors import RateLimited


class LimitRefused(RateLimited):
    """
    What `acquire`, `acquire_all` and `hold` raise.

    Args:
        limits: Names of the limits that refused.
        retry_after_us: Microseconds until the same can succeed; NEVER if it never can.
        decided: Every limit that was asked, with what it said.

    Attributes:
        decided: As given.
    """

    def __init__(
        self, limits: Sequence[str], retry_after_us: int, decided: Sequence[tuple[LimitRule, Decision]]
    ) -> None:
        super().__init__(limits, None if retry_after_us == NEVER else retry_after_us / 1_000_000)
        self.retry_after_us = retry_after_us
        self.decided = tuple(decided)


def refused_by(rule: LimitRule, decision: Decision) -> LimitRefused:
    """Return the refusal of one limit."""
    return LimitRefused((rule.name,), decision.retry_after_us, [(rule, decision)])
