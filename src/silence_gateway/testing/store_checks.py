"""
What every store must keep, as functions that anyone can run against a store of their own.

`check_board` and `check_bus` are given a way to make stores that share one truth and a way to let time
pass for all of them. Each promise is one function with one message; none may look inside a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from silence_gateway.stores.contracts import Store

MakeStore: TypeAlias = Callable[[], Awaitable[Store]]
"""Returns a started store; every call gives another instance of the same, at first empty, fleet."""

PassTime: TypeAlias = Callable[[float], Awaitable[None]]
"""Lets that many seconds pass, for the stores and for what they share."""

PATIENCE_S = 5.0


async def eventually(holds: Callable[[], bool], promise: str) -> None:
    """
    Wait until *holds* returns true.

    Raises:
        AssertionError: It did not within `PATIENCE_S`; the message is *promise*.
    """
    loop = asyncio.get_running_loop()
    end_s = loop.time() + PATIENCE_S
    while not holds():
        assert loop.time() < end_s, promise
        await asyncio.sleep(0.002)


async def check_board(make_store: MakeStore, pass_time: PassTime) -> None:
    """
    Check any `Board` against the contract.

    Raises:
        AssertionError: If a promise is broken; the message names it.
    """
    one, two = await make_store(), await make_store()
    try:
        await check_values_reach_all(one, two)
        await check_values_run_out(one, two, pass_time)
        await check_late_watchers_see_what_is_there(one, two)
        await check_leases_are_exclusive(one, two, pass_time)
    finally:
        await one.stop()
        await two.stop()


async def check_values_reach_all(one: Store, two: Store) -> None:
    """What one instance writes or removes, every watching instance sees."""
    heard: list[tuple[str, bytes | None]] = []
    seen_by_two = two.board.watch("reach", lambda name, value: heard.append((name, value)))
    seen_by_one = one.board.watch("reach")

    await one.board.put("reach", "a", b"1")
    assert seen_by_one.get("a") == b"1", "a writer reads its own write as soon as put returns"
    await eventually(lambda: seen_by_two.get("a") == b"1", "a value reaches the other instance")
    await two.board.put("reach", "a", b"2")
    await eventually(lambda: seen_by_one.get("a") == b"2", "the last write wins everywhere")
    await one.board.put("reach", "bytes \r\n\0 {}", bytes(range(256)))
    await eventually(
        lambda: seen_by_two.get("bytes \r\n\0 {}") == bytes(range(256)), "names and values are any bytes"
    )
    await one.board.remove("reach", "a")
    await one.board.remove("reach", "never there")
    await eventually(lambda: "a" not in seen_by_two, "a removal reaches the other instance")
    of_a = [value for name, value in heard if name == "a"]
    assert of_a == [b"1", b"2", None], f"each change of a value is told once, in order: {of_a}"


async def check_values_run_out(one: Store, two: Store, pass_time: PassTime) -> None:
    """A value with a time to live disappears everywhere, and not early; rewriting it renews it."""
    heard: list[tuple[str, bytes | None]] = []
    ended: list[tuple[str, bool]] = []
    seen = two.board.watch(
        "ttl",
        lambda name, value: heard.append((name, value)),
        lambda name: ended.append((name, name in seen)),
    )

    await one.board.put("ttl", "short", b"x", ttl_s=0.4)
    await one.board.put("ttl", "kept", b"y")
    await eventually(lambda: "short" in seen and "kept" in seen, "values with and without TTL arrive")
    await pass_time(0.2)
    assert "short" in seen, "a value lives as long as its time to live"
    await one.board.put("ttl", "short", b"x", ttl_s=0.4)
    await pass_time(0.25)
    assert "short" in seen, "writing a value again renews its time to live"
    await pass_time(0.5)
    await eventually(lambda: "short" not in seen, "a value runs out after its time to live")
    assert ("short", None) in heard, "a watcher hears that a value ran out"
    assert seen.get("kept") == b"y", "a value without a time to live stays"
    await one.board.remove("ttl", "kept")
    await eventually(lambda: "kept" not in seen, "a value is removed")
    assert ended == [("short", True)], f"what ran out is told as that, once, before it is gone: {ended}"


async def check_late_watchers_see_what_is_there(one: Store, two: Store) -> None:
    """Watching starts with what the room holds already."""
    await one.board.put("late", "a", b"1", ttl_s=60)
    heard: dict[str, bytes | None] = {}
    seen = two.board.watch("late", heard.__setitem__)
    await two.board.known("late")
    assert seen.get("a") == b"1", "what is known is what was written before"
    await eventually(lambda: seen.get("a") == b"1", "a late watcher sees what was written before")
    await eventually(lambda: heard.get("a") == b"1", "a late watcher is told what was written before")
    again: dict[str, bytes | None] = {}
    two.board.watch("late", again.__setitem__)
    await eventually(lambda: again.get("a") == b"1", "a second watcher is told what is known already")


async def check_leases_are_exclusive(one: Store, two: Store, pass_time: PassTime) -> None:
    """One leader at a time, and a larger fencing number with every change."""
    first = await one.board.lead("jobs", "sweep", 0.5)
    assert first > 0, "a free lease is given"
    assert await two.board.lead("jobs", "sweep", 0.5) == 0, "a held lease is refused"
    assert await two.board.lead("jobs", "other", 0.5) > 0, "leases are independent"
    assert await one.board.lead("jobs", "sweep", 0.5) == first, "renewing keeps the fencing number"
    await pass_time(0.7)
    second = await two.board.lead("jobs", "sweep", 0.5)
    assert second > first, "a lease that ran out goes to the next, with a larger number"
    assert await one.board.lead("jobs", "sweep", 0.5) == 0, "the old holder is refused"
    assert await two.board.lead("jobs", "sweep", 60) == second, "a lease may be made longer"
    assert await two.board.lead("jobs", "sweep", 0.001) == second, "and shorter"
    await pass_time(0.1)
    assert await one.board.lead("jobs", "sweep", 0.5) > second, "and has ended then"


async def check_bus(make_store: MakeStore) -> None:
    """
    Check any `Bus` against the contract.

    Raises:
        AssertionError: If a promise is broken; the message names it.
    """
    one, two = await make_store(), await make_store()
    try:
        await check_messages_reach_all(one, two)
        await check_closed_subscriptions_are_silent(one, two)
    finally:
        await one.stop()
        await two.stop()


async def check_messages_reach_all(one: Store, two: Store) -> None:
    """Every subscriber hears every message of its channel, in the order one publisher sent them."""
    here: list[bytes] = []
    there: list[bytes] = []
    elsewhere: list[bytes] = []
    one.bus.subscribe("news", here.append)
    two.bus.subscribe("news", there.append)
    two.bus.subscribe("other", elsewhere.append)
    for store, channel in ((one, "news"), (two, "news"), (two, "other")):
        await store.bus.ready(channel)

    sent = [b"%d" % number for number in range(200)]
    await asyncio.gather(*(one.bus.publish("news", payload) for payload in sent))
    await one.bus.publish("news", bytes(range(256)))
    await eventually(lambda: len(there) == 201, f"all messages arrive, got {len(there)}")
    await eventually(lambda: len(here) == 201, "the publisher's own instance hears them too")
    assert there[:200] == sent, "messages of one publisher arrive in order"
    assert there[200] == bytes(range(256)), "a payload is any bytes"
    assert elsewhere == [], "a channel hears nothing of other channels"


async def check_closed_subscriptions_are_silent(one: Store, two: Store) -> None:
    """Closing ends one interest and leaves the others of the same channel alone."""
    left: list[bytes] = []
    stays: list[bytes] = []
    closing = two.bus.subscribe("leave", left.append)
    two.bus.subscribe("leave", stays.append)
    await two.bus.ready("leave")
    await one.bus.publish("leave", b"1")
    await eventually(lambda: stays == [b"1"] and left == [b"1"], "two interests in one channel both hear")
    closing.close()
    closing.close()
    await one.bus.publish("leave", b"2")
    await eventually(lambda: stays == [b"1", b"2"], "the other interest goes on")
    assert left == [b"1"], "a closed subscription hears nothing"
    again: list[bytes] = []
    two.bus.subscribe("leave", again.append)
    await two.bus.ready("leave")
    await one.bus.publish("leave", b"3")
    await eventually(lambda: again == [b"3"], "a channel can be subscribed again")
