"""
Which counters are over their limit until their window ends, so that nobody has to ask the store again.

A count in a fixed window only grows, unless hits are given back: what was over stays over. The count itself
is remembered, not just that it was over, so that a limit raised meanwhile, or one that the caller brings,
is answered rightly. Times are integer microseconds of a clock that never steps back. Nothing here awaits.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple, TypeAlias

CounterId: TypeAlias = tuple[str, int, str]
"""Name, window in microseconds, and key of a counter."""

DIGEST_BYTES = 16


class Known(NamedTuple):
    """
    What is remembered of one counter.

    Attributes:
        hits: Its count.
        ends_us: When its window ends.
        digest: Its name to other instances.
    """

    hits: int
    ends_us: int
    digest: bytes


class OverLimitCache:
    """
    The last counts of up to *size* counters that were over their limit; none with 0.

    Attributes:
        generation: Grows with everything that is forgotten. A count asked for before that may be from before
            it too, so it is remembered only if this has not changed since.
    """

    __slots__ = ("by_digest", "counts", "generation", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.generation = 0
        self.counts: dict[CounterId, Known] = {}
        self.by_digest: dict[bytes, CounterId] = {}

    def find(self, counter: CounterId, limit: int, now_us: int) -> int:
        """Return in how many microseconds the window of *counter* ends, if it is over *limit*; else 0."""
        found = self.counts.get(counter)
        if found is None:
            return 0
        if found.ends_us <= now_us:
            self.drop(counter)
            return 0
        return found.ends_us - now_us if found.hits > limit else 0

    def remember(self, counter: CounterId, count: int, ends_us: int, generation: int) -> None:
        """Remember that *counter* had *count* when this cache was in *generation*."""
        if not self.size or generation != self.generation:
            return
        # Into the last place: the first one is the one remembered for longest.
        self.drop(counter)
        if len(self.counts) >= self.size:
            self.drop(next(iter(self.counts)))
        digest = digest_of(counter)
        self.counts[counter] = Known(count, ends_us, digest)
        self.by_digest[digest] = counter

    def drop(self, counter: CounterId) -> None:
        """Make room; what is being asked just now may still be remembered."""
        known = self.counts.pop(counter, None)
        if known is not None:
            del self.by_digest[known.digest]

    def forget(self, counter: CounterId) -> None:
        """Drop what is known of *counter*: hits were given back, here or at another instance."""
        self.generation += 1
        self.drop(counter)

    def forget_digest(self, digest: bytes) -> None:
        """Do what `forget` does, for the counter that another instance calls *digest*."""
        self.generation += 1
        counter = self.by_digest.get(digest)
        if counter is not None:
            self.drop(counter)

    def clear(self) -> None:
        """Drop everything: hits may have been given back unheard."""
        self.generation += 1
        self.counts.clear()
        self.by_digest.clear()


def digest_of(counter: CounterId) -> bytes:
    """Name *counter* to other instances without saying it: its key may hold an address or a secret."""
    name, window_us, key = counter
    text = f"{len(name)}\0{name}\0{window_us}\0{key}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
