"""
When a call is late, learned from recent ones: of its method where there are enough, else of the upstream.

Durations are those of calls that had an answer, to the first message of a stream; hedged ones count with what
they took in the end. Only calls that may run twice are counted by method, about 0.4 us each, and only while a
quantile is asked for. Memory is bounded: a method not called for a window is forgotten, and beyond
`MAX_METHODS` at once the upstream speaks for the rest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from silence_gateway.core.hedging import quantile_s
from silence_gateway.core.histogram import BOUNDS_S

MAX_METHODS = 256
"""Of one upstream at once, about 2 KB each."""

LEAST_HEDGE_S = 0.001
"""A quantile below this says that nothing is late; it must not double every call."""


class _Window:
    """Durations that were counted since, and those of some ticks ago."""

    __slots__ = ("counts", "marks")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.marks: deque[list[int]] = deque()

    def tick(self, kept: int, counts: Sequence[int]) -> list[int]:
        """Return what was counted within the last *kept* ticks, up to *counts*."""
        oldest = self.marks[0] if self.marks else [0] * len(counts)
        self.marks.append(list(counts))
        while len(self.marks) > kept:
            self.marks.popleft()
        return [now - then for now, then in zip(counts, oldest, strict=True)]


class HedgeDelays:
    """What is late, as the *share* of recent calls that took less."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._upstream = _Window()
        self._methods: dict[bytes, _Window] = {}
        self._after_s: float | None = None
        self._after_by_method_s: dict[bytes, float] = {}

    def after_s(self, method: bytes) -> float | None:
        """Return after how long a call of *method* is late, in seconds; None if that is not known."""
        return self._after_by_method_s.get(method, self._after_s)

    def took(self, method: bytes, elapsed_s: float) -> None:
        """Count a call that had an answer."""
        window = self._methods.get(method)
        if window is None:
            if len(self._methods) >= MAX_METHODS:
                return
            window = self._methods[method] = _Window()
        window.counts[bisect_left(BOUNDS_S, elapsed_s)] += 1

    def tick(self, kept: int, upstream_counts: Sequence[int]) -> None:
        """Learn from the last *kept* ticks; *upstream_counts* are of all calls of the upstream, ever."""
        self._after_s = self._late_s(self._upstream.tick(kept, upstream_counts))
        self._after_by_method_s.clear()
        for method, window in list(self._methods.items()):
            recent = window.tick(kept, window.counts)
            if not any(recent):
                del self._methods[method]
                continue
            late_s = self._late_s(recent)
            if late_s is not None:
                self._after_by_method_s[method] = late_s

    def _late_s(self, counts: Sequence[int]) -> float | None:
        late_s = quantile_s(counts, self._share)
        return None if late_s is None else max(LEAST_HEDGE_S, late_s)
