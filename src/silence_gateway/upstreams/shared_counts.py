"""
Counts of calls that instances tell each other, about each endpoint.

One kind is what breakers have in their windows, another what outliers are judged by. What others tell is
their latest word, and counts for as long as its window lasts.
"""

from __future__ import annotations

from collections.abc import Callable

from silence_gateway.clock import Clock
from silence_gateway.core.fleet_facts import CountsFact, read_counts, written_counts

MAX_COUNTING = 1000
"""Instances whose counts of one endpoint are remembered."""

Write = Callable[[str, bytes, float], None]
"""Puts a value on the board under a name, for so many seconds."""


class SharedCounts:
    """Counts of one *kind*, signed by *instance*."""

    def __init__(self, kind: str, instance: str, clock: Clock, write: Write) -> None:
        self._kind = kind
        self._instance = instance
        self._clock = clock
        self._write = write
        self._heard: dict[str, dict[str, tuple[CountsFact, float]]] = {}
        self._told: dict[str, tuple[int, int, int]] = {}

    def tell(
        self, address: str, counted: tuple[int, int], *, term: int, window_s: float, anyway: bool = False
    ) -> None:
        """
        Tell what we counted, calls and failures, if it changed and anybody sees failures.

        Args:
            address: Whom the calls went to.
            counted: Calls and failures.
            term: Counts of different terms are not added.
            window_s: How long they are worth anything.
            anyway: Whether to tell them although nothing changed and nobody sees failures there.
        """
        calls, failures = counted
        now = (calls, failures, term)
        told = self._told.get(address, (0, 0, 0))
        worth_it = failures or told[1] or self.of_others(address, term, window_s)[1]
        if not anyway and (now == told or not worth_it):
            return
        self._told[address] = now
        fact = CountsFact(calls=calls, failures=failures, term=term, by=self._instance)
        at_us = self._clock.now_us() if anyway else 0
        self._write(f"{self._kind}/{address}/{self._instance}", written_counts(fact, at_us), window_s)

    def hear(self, address: str, by: str, value: bytes) -> bool:
        """
        Take note of what the instance *by* counted; return whether that is another one.

        Raises:
            ValueError: If *value* is no such fact.
        """
        fact = read_counts(value)
        if by == self._instance:
            return False
        counts = self._heard.setdefault(address, {})
        # Instances come and go, so the one silent for longest is forgotten first.
        counts.pop(by, None)
        counts[by] = (fact, self._clock.monotonic_s())
        if len(counts) > MAX_COUNTING:
            del counts[next(iter(counts))]
        return True

    def of_others(self, address: str, term: int, window_s: float) -> tuple[int, int]:
        """Return the calls and failures that the other instances told of, in the last *window_s* seconds."""
        oldest_s = self._clock.monotonic_s() - window_s
        facts = [
            fact
            for fact, at_s in self._heard.get(address, {}).values()
            if fact.term == term and at_s >= oldest_s
        ]
        return sum(fact.calls for fact in facts), sum(fact.failures for fact in facts)

    def forget(self, address: str) -> None:
        """Drop what is remembered about an endpoint."""
        self._heard.pop(address, None)
        self._told.pop(address, None)
