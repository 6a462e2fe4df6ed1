"""
What a request would meet at one limit, if it came now: told without spending anything.

Pure, and the same for every algorithm. The Lua twin is `stores/scripts/limits/look.lua`; `tests/agreement`
holds both to the same numbers.

A refusal begins a block where a limit has `block_for`; looking begins none. So a prospect tells the wait as
it is while nobody asks, and for how long a block that holds already goes on.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core.limits import NEVER, Decision


class Prospect(NamedTuple):
    """
    What a request would meet at one limit.

    Attributes:
        limit: The most that passes at once.
        remaining: What is left now, with nothing spent; 0 while a block holds.
        retry_after_us: 0 if it would pass; else when it will, if nothing more is spent; NEVER if it cannot.
        reset_us: When the whole limit is free again, if nothing more is spent; NEVER if it never is.
        blocked_us: For how long a block holds that a refusal has begun; 0 if none does.
        at_us: The moment of looking on the store's clock; below 0 if this instance tells it alone.
    """

    limit: int
    remaining: int
    retry_after_us: int
    reset_us: int
    blocked_us: int = 0
    at_us: int = 0

    @property
    def passes(self) -> bool:
        """Whether the request would pass this limit."""
        return self.retry_after_us == 0


def prospect_of(looked: Decision, asked: Decision, blocked_us: int) -> Prospect:
    """
    Join what an algorithm says to a cost of 0 and to the cost that is meant, and a block that holds.

    *asked* may be *looked* where the cost is 0.
    """
    _, limit, remaining, _, reset_us, at_us = looked
    retry_us = asked.retry_after_us
    if blocked_us:
        remaining, reset_us = 0, max(reset_us, blocked_us)
        if asked is not looked and retry_us != NEVER:
            retry_us = max(retry_us, blocked_us)
    return Prospect(limit, remaining, retry_us, reset_us, blocked_us, at_us)
