"""
What the whole fleet has counted about its limits, in Valkey or Redis.

Two keys and two per limit, all in one slot of a cluster, written by every instance every few
seconds and read by the admin API. Busiest keys are kept for the present and the last period of ten
minutes, so that "top" means recent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from silence_gateway.stores.contracts import ScriptRunner
from silence_gateway.stores.keys import key
from silence_gateway.stores.limit_contract import LimitCounts
from silence_gateway.stores.limits_valkey import read_script

ADD = read_script("limit_totals_add")
READ = read_script("limit_totals_read")
SWEEP = read_script("limit_totals_sweep")

MAX_TOP = 100
"""Busiest keys kept per limit and period."""

PERIOD_S = 600
TTL_MS = 30 * 86_400_000
"""How long counts outlive the last instance of a fleet."""

MAX_LIMITS_PER_CALL = 32
"""Adding one limit with 20 busy keys takes the server about 40 us."""


class ValkeyLimitTotals:
    """The `LimitTotals` of a fleet."""

    def __init__(self, scripts: ScriptRunner, fleet: str) -> None:
        self.scripts = scripts
        self.base = key(fleet, "limit-totals")
        self.counts = b"%b:{all}:counts" % self.base
        self.seen = b"%b:{all}:seen" % self.base

    async def add(self, counts: Mapping[str, LimitCounts]) -> None:
        """Add what was counted since the last time."""
        names = list(counts)
        for start in range(0, len(names), MAX_LIMITS_PER_CALL):
            some = names[start : start + MAX_LIMITS_PER_CALL]
            args: list[bytes | int] = [MAX_TOP, PERIOD_S, TTL_MS]
            for name in some:
                one = counts[name]
                args += (name.encode(), one.allowed, one.denied, one.shadow_denied, len(one.top))
                for text, count in one.top.items():
                    args += (text.encode("utf-8", "backslashreplace"), count)
            await self.scripts.run(ADD, [self.counts, self.seen, *self.tops(some)], args)

    async def read(self, names: Sequence[str]) -> Mapping[str, LimitCounts]:
        """Return the fleet's counts of each limit named."""
        found: dict[str, LimitCounts] = {}
        for start in range(0, len(names), MAX_LIMITS_PER_CALL):
            some = names[start : start + MAX_LIMITS_PER_CALL]
            asked: list[bytes | int] = [MAX_TOP, *(name.encode() for name in some)]
            answer = await self.scripts.run(READ, [self.counts, *self.tops(some)], asked)
            for name, (totals, even, odd) in zip(some, answer, strict=True):
                top: dict[str, int] = {}
                for text, count in (*pairs(even), *pairs(odd)):
                    top[text] = top.get(text, 0) + count
                allowed, denied, shadow_denied = (int(total or 0) for total in totals)
                found[name] = LimitCounts(
                    allowed=allowed,
                    denied=denied,
                    shadow_denied=shadow_denied,
                    top=dict(sorted(top.items(), key=lambda item: -item[1])),
                )
        return found

    async def sweep(self, unseen_s: float, at_most: int) -> Sequence[str]:
        """Forget limits that no instance has shown for *unseen_s* seconds, *at_most* of them."""
        names = await self.scripts.run(
            SWEEP, [self.counts, self.seen], [round(unseen_s * 1_000_000), at_most]
        )
        return [name.decode() for name in names]

    def tops(self, names: Sequence[str]) -> list[bytes]:
        """Return where the busiest keys of each limit are."""
        return [
            b"%b:{all}:top:%b:%b" % (self.base, name.encode(), half)
            for name in names
            for half in (b"0", b"1")
        ]


def pairs(flat: Sequence[bytes]) -> list[tuple[str, int]]:
    """Read what WITHSCORES returned."""
    return [
        (text.decode(errors="replace"), int(float(count)))
        for text, count in zip(flat[::2], flat[1::2], strict=True)
    ]
