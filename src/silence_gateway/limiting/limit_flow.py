"""
One limit's statistics on their way from the request path to those who ask.

`limiting/statistics.py` counts; a flow looks at what was counted, in slices that hold up the event loop for
less than half a millisecond each, and remembers what has gone where. Nothing here awaits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b

from silence_gateway.limiting.recent import RecentUse, busiest
from silence_gateway.limiting.statistics import LimitStatistics
from silence_gateway.stores.limit_stats_contract import NOTHING, LimitUse, NewUse, Tops

SLICE_KEYS = 128
"""Keys hashed at a stretch, which takes 0.2 ms; sending them and finding the busiest takes as long again.
Also the most clients of one script call."""

SENT_TOP = 20
"""Busiest keys of a page that are counted by name, and as many of those refused most. A key that makes a
twentieth of the requests of a page is always among them."""


class LimitFlow:
    """
    What became of the counts of one limit.

    Attributes:
        statistics: What the request path counts.
        recent: The last minute and hour of this process.
        since_us: When the totals of this process began: its start or the last reset.
        generation: Which reset of the fleet's statistics is the last one known; 0 if none is.
        seen: Counts that are in *recent* already.
        sent: Counts that were handed to the store already.
        base: Counts at *since_us*.
    """

    __slots__ = ("base", "generation", "recent", "seen", "sent", "since_us", "statistics")

    def __init__(self, statistics: LimitStatistics, now_us: int) -> None:
        self.statistics = statistics
        self.recent = RecentUse()
        self.since_us = now_us
        self.generation = 0
        self.seen = self.sent = self.base = NOTHING

    def slices(self, now_s: float) -> Iterator[NewUse]:
        """
        Look at what has gathered, and return it piece by piece; each piece is made when it is asked for.

        The pieces hold no counts of decisions: those go by `unsent`.
        """
        # A reset on the way puts another one in its place; what is looked at here is older.
        recent = self.recent
        counts = self.statistics.counts()
        recent.add(NewUse(counts=counts.since(self.seen)), now_s)
        self.seen = counts
        for page in self.statistics.take():
            keys = list(page.requests)
            new = NewUse(requests=self.top_of(page.requests), refused=self.top_of(page.refused))
            for start in range(0, len(keys), SLICE_KEYS):
                new = replace(new, clients=[hash_of(key) for key in keys[start : start + SLICE_KEYS]])
                recent.add(new, now_s)
                yield new
                new = NewUse()

    def top_of(self, counted: Mapping[str, int]) -> dict[str, int]:
        """Return the busiest keys of a page, as they may be shown."""
        shown: dict[str, int] = {}
        for key, count in busiest(counted, SENT_TOP).items():
            name = self.statistics.shown(key)
            shown[name] = shown.get(name, 0) + count
        return shown

    def unsent(self) -> NewUse:
        """Return the counts that no store was given yet, and take them for given from now on."""
        counts = self.statistics.counts()
        new = NewUse(counts=counts.since(self.sent))
        self.sent = counts
        return new

    def use(self, now_s: float, top: Tops) -> LimitUse:
        """Return how this process alone used the limit."""
        return LimitUse(
            counts=self.statistics.counts().since(self.base),
            since_us=self.since_us,
            windows={name: self.recent.use(name, now_s, top) for name in self.recent.slots},
        )

    def forget(self, generation: int, now_us: int) -> None:
        """Begin anew, as the fleet did with *generation*; what the request path counts goes on."""
        self.statistics.take()
        self.recent = RecentUse()
        self.seen = self.sent = self.base = self.statistics.counts()
        self.since_us = now_us
        self.generation = generation


def hash_of(key: str) -> bytes:
    """Return 64 bits that stand for a key among the clients; 1 us."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
