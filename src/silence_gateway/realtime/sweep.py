"""
Removes what a killed instance left in the store: its sessions, its users' entries, its presence.

An instance is given up when it has not spoken for `instance_ttl_s`. One instance sweeps at a time (a
lease on the board); two would do no harm. An instance that was only asleep learns it at its next beat
and writes everything again. What was left is gone at most twice `instance_ttl_s` after a kill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from silence_gateway.stores.contracts import Board
from silence_gateway.stores.session_contract import SessionRecord, SessionStore

# Sessions removed in one go, so that a large dead instance does not hold up the store.
PAGE = 256

OnSwept: TypeAlias = Callable[[SessionRecord], None]
"""Called for every session removed."""


async def sweep(store: SessionStore, board: Board, lease_s: float, on_swept: OnSwept) -> int:
    """
    Remove the sessions of dead instances if this instance leads; return how many.

    Raises:
        StoreUnavailable: Some may be left, for the next time.
    """
    if not await board.lead("realtime", "sweep", lease_s):
        return 0
    swept = 0
    for instance in await store.instances():
        if not instance.alive:
            swept += await sweep_instance(store, instance.id, on_swept)
    return swept


async def sweep_instance(store: SessionStore, instance: str, on_swept: OnSwept) -> int:
    """
    Remove every session of *instance*, then the instance itself; return how many sessions there were.

    Raises:
        StoreUnavailable: Some may be left, for the next time.
    """
    swept = 0
    cursor = ""
    while True:
        page = await store.list_by_instance(instance, cursor, PAGE)
        channels: dict[str, list[str]] = {}
        for record in page.sessions:
            for channel in record.channels:
                channels.setdefault(channel, []).append(record.id)
        # Presence first: what stops half-way still has the records that say what is left.
        await asyncio.gather(*(store.leave(channel, ids) for channel, ids in channels.items()))
        await store.remove(page.sessions)
        for record in page.sessions:
            on_swept(record)
        swept += len(page.sessions)
        cursor = page.cursor
        if not cursor:
            break
    await store.forget_instance(instance)
    return swept
