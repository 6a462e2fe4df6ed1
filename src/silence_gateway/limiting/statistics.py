"""
What limits have decided, as plain integers that are read when asked for.

Counting one decision costs 0.2 us. Top clients are kept in a bounded table: when it is full, the less
busy half is dropped, so a flood of new keys costs a sort per few hundred of them and never memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from silence_gateway.stores.limit_contract import LimitCounts

MAX_TOP = 512
"""Keys counted per limit and flush. A key that makes 1 in 256 requests is never dropped."""

SHOWN_CHARS = 128


class LimitStatistics:
    """
    What one limit of this process has decided.

    Attributes:
        allowed: Requests it let pass.
        denied: Requests it refused.
        shadow_denied: Requests it would have refused, were it enforced.
        near: Requests it let pass with less than a tenth of the limit left.
        top: Requests by key since the last flush.
    """

    __slots__ = ("allowed", "denied", "flushed", "hides_keys", "near", "shadow_denied", "top")

    def __init__(self, *, hides_keys: bool = False) -> None:
        self.allowed = 0
        self.denied = 0
        self.shadow_denied = 0
        self.near = 0
        self.top: dict[str, int] = {}
        self.hides_keys = hides_keys
        self.flushed = (0, 0, 0)

    def hit(self, key: str) -> None:
        """Count a request for *key*."""
        top = self.top
        if key in top:
            top[key] += 1
        else:
            if len(top) >= MAX_TOP:
                self.top = top = busiest(top, MAX_TOP // 2)
            top[key] = 1

    def since_flush(self, top: int) -> LimitCounts:
        """Return what is new since `mark_flushed`, with the *top* busiest keys, shown as they may be seen."""
        allowed, denied, shadow_denied = self.flushed
        return LimitCounts(
            allowed=self.allowed - allowed,
            denied=self.denied - denied,
            shadow_denied=self.shadow_denied - shadow_denied,
            top={self.shown(key): count for key, count in busiest(self.top, top).items()},
        )

    def mark_flushed(self) -> None:
        """Begin anew."""
        self.flushed = (self.allowed, self.denied, self.shadow_denied)
        self.top = {}

    def shown(self, key: str) -> str:
        """Return a key as statistics may show it: short, printable, and hashed if it may be a secret."""
        if self.hides_keys:
            return "#" + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        plain = key if key.isprintable() else key.encode("unicode_escape").decode()
        return plain if len(plain) <= SHOWN_CHARS else plain[:SHOWN_CHARS] + "..."


def busiest(top: Mapping[str, int], at_most: int) -> dict[str, int]:
    """Return the *at_most* keys with the highest counts, most first."""
    return dict(sorted(top.items(), key=lambda item: -item[1])[:at_most])


def merged(first: LimitCounts, second: LimitCounts, top: int) -> LimitCounts:
    """Add two counts of one limit."""
    keys = dict(first.top)
    for key, count in second.top.items():
        keys[key] = keys.get(key, 0) + count
    return LimitCounts(
        allowed=first.allowed + second.allowed,
        denied=first.denied + second.denied,
        shadow_denied=first.shadow_denied + second.shadow_denied,
        top=busiest(keys, top),
    )
