"""
Statistics of the fleet's limits in Valkey or Redis.

All keys of one limit carry its name as their hash tag, so each call stays in one slot of a cluster and limits
spread over it. A window is a ring of slots on the server's clock (`scripts/limit_stats_add.lua`); everything
ends by itself. Adding one key takes the server 0.04 ms; 20 busy, 20 refused and 128 keys in all, 0.3 ms.
Reading takes it 0.1 ms, and up to 0.4 ms more per list of top keys. A limit whose every slot is full has
240 KB: 14 HyperLogLogs of 12 KB each, and 28 lists of 100 addresses; one of 200 clients has 40 KB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from silence_gateway.stores import keys
from silence_gateway.stores.board import read_script
from silence_gateway.stores.contracts import Script, ScriptRunner
from silence_gateway.stores.limit_stats_contract import (
    MAX_TOP,
    SLOT_S,
    SLOTS,
    LimitCounts,
    LimitUse,
    NewUse,
    Tops,
    WindowName,
    WindowUse,
)

ADD: Script = read_script("limit_stats_add")
READ: Script = read_script("limit_stats_read")
TOP: Script = read_script("limit_stats_top")
RESET: Script = read_script("limit_stats_reset")
SHOW: Script = read_script("limit_index_show")
SWEEP: Script = read_script("limit_index_sweep")

RING = SLOTS + 1
"""Places of a ring: a slot ends one slot before its place is needed again."""

KINDS = ("counts", "clients", "requests", "refused")

TTL_MS = 30 * 86_400_000
"""How long totals and the index outlive the last instance that counted."""

NAMES_PER_CALL = 500
MAX_REMEMBERED = 1000
"""Limits whose keys are remembered: 65 of them, 6 KB and 60 us."""


class ValkeyLimitStats:
    """The `LimitStats` of a fleet."""

    def __init__(self, scripts: ScriptRunner, fleet: str) -> None:
        self.scripts = scripts
        self.fleet = fleet
        self.index = keys.limit_index(fleet)
        self.remembered: dict[str, list[bytes]] = {}

    async def add(self, name: str, new: NewUse, generation: int) -> int:
        """Add what was counted in *generation*; returns the one in force."""
        args: list[bytes | int] = [generation, RING, MAX_TOP, TTL_MS, len(SLOT_S), *SLOT_S.values()]
        args += new.counts
        for counted in (new.requests, new.refused):
            args.append(len(counted))
            for text, count in counted.items():
                args += (text.encode("utf-8", "backslashreplace"), count)
        args += new.clients
        return int(await self.scripts.run(ADD, self.keys_of(name), args))

    async def read(self, name: str, top: Tops) -> LimitUse:
        """Return how a limit is used; each list of top keys is a call of its own, so that none is long."""
        args = [RING, len(SLOT_S)]
        calls = [self.scripts.run(READ, self.keys_of(name), args)]
        calls += [
            self.scripts.run(TOP, self.ring_of(name, window, by), [min(wanted, MAX_TOP)])
            for (window, by), wanted in top.items()
        ]
        (totals, *windows), *lists = await asyncio.gather(*calls)
        since_us, *counts = (int(total or 0) for total in totals)
        tops = {place: pairs(read) for place, read in zip(top, lists, strict=True)}
        return LimitUse(
            counts=LimitCounts(*counts),
            since_us=since_us,
            windows={
                window: WindowUse(
                    counts=LimitCounts(*read[:4]),
                    unique_clients=read[4],
                    requests=tops.get((window, "requests"), {}),
                    refused=tops.get((window, "refused"), {}),
                )
                for window, read in zip(SLOT_S, windows, strict=True)
            },
        )

    async def reset(self, name: str) -> int:
        """Begin a limit's statistics anew; returns the new generation."""
        return int(await self.scripts.run(RESET, self.keys_of(name), [TTL_MS]))

    async def show(self, names: Sequence[str]) -> None:
        """Say that an instance has these limits."""
        for start in range(0, len(names), NAMES_PER_CALL):
            some = [name.encode() for name in names[start : start + NAMES_PER_CALL]]
            await self.scripts.run(SHOW, [self.index], [TTL_MS, *some])

    async def sweep(self, unseen_s: float, at_most: int) -> Sequence[str]:
        """Forget limits that no instance has shown for *unseen_s* seconds, *at_most* of them."""
        found = await self.scripts.run(SWEEP, [self.index], [round(unseen_s * 1_000_000), at_most])
        names = [name.decode() for name in found]
        await asyncio.gather(*(self.scripts.run(RESET, self.keys_of(name), [0]) for name in names))
        return names

    def keys_of(self, name: str) -> list[bytes]:
        """Return every key of a limit, as the scripts want them."""
        found = self.remembered.get(name)
        if found is None:
            if len(self.remembered) >= MAX_REMEMBERED:
                self.remembered.clear()
            found = self.remembered[name] = [
                keys.limit_stats(self.fleet, name, "totals"),
                *(
                    keys.limit_stats(self.fleet, name, f"{window}:{place}:{kind}")
                    for window in SLOT_S
                    for kind in KINDS
                    for place in range(RING)
                ),
            ]
        return found

    def ring_of(self, name: str, window: WindowName, kind: str) -> list[bytes]:
        """Return the keys of one kind in one window."""
        first = 1 + (list(SLOT_S).index(window) * len(KINDS) + KINDS.index(kind)) * RING
        return self.keys_of(name)[first : first + RING]


def pairs(flat: Sequence[bytes]) -> dict[str, int]:
    """Read keys and scores in turn."""
    return {
        text.decode(errors="replace"): int(float(count))
        for text, count in zip(flat[::2], flat[1::2], strict=True)
    }
