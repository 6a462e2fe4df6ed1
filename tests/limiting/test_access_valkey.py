"""Access lists of two instances that share a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.events import Event
from silence_gateway.limiting.access import AccessLists
from silence_gateway.limiting.access_entry import ROOMS, AccessChanged, Verdict, WantedEntry
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

pytestmark = pytest.mark.valkey


async def with_two(url: str, work: Callable[[AccessLists, AccessLists, list[Event]], object]) -> None:
    """Run *work* with the lists of two started instances and everything that both tell."""
    fleet = fresh_fleet()
    stores = [ValkeyStore(url, fleet), ValkeyStore(url, fleet)]
    told: list[Event] = []
    both = [AccessLists(store.board, SystemClock(), observer=told.append) for store in stores]
    for store, lists in zip(stores, both, strict=True):
        await store.start()
        lists.start()
    try:
        await eventually(lambda: any(lists.duty.ours for lists in both), "one tells the audit")
        result = work(both[0], both[1], told)
        assert asyncio.iscoroutine(result)
        await result
    finally:
        for store, lists in zip(stores, both, strict=True):
            await lists.stop()
            await store.stop()


async def within_a_second(holds: Callable[[], bool]) -> None:
    started_s = time.monotonic()
    await eventually(holds, "a change reaches the other instance")
    assert time.monotonic() - started_s < 1


def test_a_change_holds_everywhere_in_under_a_second() -> None:
    async def work(here: AccessLists, there: AccessLists, _told: list[Event]) -> None:
        for number, ip in enumerate(["203.0.113.7", "2001:db8::7"]):
            network = ("203.0.113.0/24", "2001:db8::/48")[number]
            await here.add("deny", network, reason="scraping", ttl_s=3600)
            await within_a_second(lambda ip=ip: there.verdict(ip) is Verdict.DENY)  # type: ignore[misc]
            await there.add("allow", ip)
            await within_a_second(lambda ip=ip: here.verdict(ip) is Verdict.ALLOW)  # type: ignore[misc]
            await there.remove("deny", network)
            await there.remove("allow", ip)
            await within_a_second(lambda ip=ip: here.verdict(ip) is Verdict.NONE)  # type: ignore[misc]

    with valkey_server() as server:
        asyncio.run(with_two(server.url, work))


def test_many_changes_reach_the_others_and_lie_in_all_rooms() -> None:
    async def work(here: AccessLists, there: AccessLists, told: list[Event]) -> None:
        many = [WantedEntry(cidr=f"10.0.{n // 250}.{n % 250}", reason="bulk") for n in range(2000)]
        await here.add_many("deny", many, by="ops")
        await within_a_second(lambda: len(there.values) == 2000)
        assert there.verdict("10.0.7.249") is Verdict.DENY
        assert len(told) == 2000
        board = here.board
        assert all(len(board.watch(room)) > 30 for room in ROOMS)

    with valkey_server() as server:
        asyncio.run(with_two(server.url, work))


def test_an_end_is_told_once() -> None:
    async def work(here: AccessLists, there: AccessLists, told: list[Event]) -> None:
        await here.add("deny", "203.0.113.7", ttl_s=0.3, reason="scraping", by="ops")
        await eventually(
            lambda: "ended" in [getattr(event, "change", "") for event in told], "the end is told"
        )
        await eventually(lambda: not here.values and not there.values, "it ends everywhere")
        assert told[1:] == [
            AccessChanged(
                change="ended", list="deny", network="203.0.113.7/32", reason="scraping", by="ops", ttl_s=0.3
            )
        ]

    with valkey_server() as server:
        asyncio.run(with_two(server.url, work))
