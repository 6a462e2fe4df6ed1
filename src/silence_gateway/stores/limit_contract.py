"""
What the limiter may ask of a store, and what it may rely on.

`MemoryLimitStore` (the core plus dicts; the reference), `ValkeyLimitStore` (the fleet) and
`FallingBackLimitStore` (the second while it answers, the first while it does not) keep these promises;
`testing.limit_checks` proves it for any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule
from silence_gateway.core.prospect import Prospect


class LimitStore(Protocol):
    """
    Memory for limits.

    The store owns the clock that its limits are measured by, because the instances that share it do
    not share one. A key may be forgotten once nothing that it spent matters any more.
    """

    def reaches(self, rule: LimitRule, key: str) -> bool:
        """Whether whoever counts *key* answers, as far as is known: parts of a store may be away."""

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision] | None:
        """Decide as `decide` does if nobody has to be waited for; None if `decide` must be asked."""

    def decide(self, asks: Sequence[Ask]) -> Awaitable[Sequence[Decision]]:
        """
        Decide about one request: *asks* are its limits, each with another counter and key.

        Either every limit allows it and every cost is spent, or nothing is spent. Limits that would
        allow what another refused say what is left with nothing spent. A shadow limit has no vote; it
        spends when it allows and the others do. No two requests ever both get the last use. A cost of
        0 asks what is left and always passes. Cancelling the caller may leave the cost spent.

        Raises:
            StoreUnavailable: No answer in time; the cost may have been spent.
        """

    def look(self, asks: Sequence[Ask]) -> Awaitable[Sequence[Prospect]]:
        """
        Tell what each of *asks* would meet, each by itself; nothing is spent, and no block begins.

        Raises:
            StoreUnavailable: No answer in time.
        """

    def adjust(self, changes: Sequence[Change]) -> Awaitable[Sequence[Changed]]:
        """
        Change what keys have spent, whatever their limits say; each change by itself.

        Raises:
            StoreUnavailable: No answer in time; some changes may have been made.
        """

    def reset(self, rule: LimitRule, key: str) -> Awaitable[bool]:
        """
        Forget what *key* has spent, and that it is blocked; returns whether there was anything.

        Raises:
            StoreUnavailable: No answer in time; it may be forgotten.
        """
