"""
What every `WindowCounters` must keep, as a function that anyone can run against counters of their own.

Each promise is one function with one message; none may look inside the counters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from silence_gateway.stores.window_contract import Tally, WindowCount, WindowCounters

PassTime = Callable[[float], Awaitable[None]]

LONG_US = 365 * 86_400 * 1_000_000
"""A window that does not end while a check runs, but on one day in a year."""

SHORT_S = 0.25
SHORT_US = 250_000


async def check_window_counters(counters: WindowCounters, pass_time: PassTime) -> None:
    """
    Check any `WindowCounters`, at first empty, against the contract.

    Args:
        counters: What to check.
        pass_time: Lets that many seconds pass for the counters.

    Raises:
        AssertionError: If a promise is broken; the message names it.
    """
    await check_adding(counters)
    await check_asking(counters)
    await check_giving_back(counters)
    await check_order(counters)
    await check_counters_stay_apart(counters)
    await check_concurrent_callers(counters)
    await check_large_numbers(counters)
    await check_windows(counters, pass_time)


async def add(counters: WindowCounters, key: str, hits: int, window_us: int = LONG_US) -> Tally:
    """Add to one counter."""
    [tally] = await counters.add([WindowCount("checks", window_us, key, hits)])
    return tally


async def check_adding(counters: WindowCounters) -> None:
    """Hits add up, beyond any limit."""
    counted = [(await add(counters, "adding", hits)).after for hits in (1, 2, 1_000_000)]
    assert counted == [1, 3, 1_000_003], "hits add up"


async def check_asking(counters: WindowCounters) -> None:
    """No hits change nothing."""
    assert (await add(counters, "asking", 0)).after == 0, "a counter that was never used is 0"
    await add(counters, "asking", 3)
    assert (await add(counters, "asking", 0)).after == 3, "asking says the count"
    assert (await add(counters, "asking", 0)).after == 3, "asking changes nothing"


async def check_giving_back(counters: WindowCounters) -> None:
    """Hits given back are gone, and a count never falls below 0."""
    assert (await add(counters, "back", -5)).after == 0, "nothing can be taken from nothing"
    await add(counters, "back", 5)
    assert (await add(counters, "back", -2)).after == 3, "hits given back are gone"
    assert (await add(counters, "back", -9)).after == 0, "a count does not fall below 0"
    assert (await add(counters, "back", 1)).after == 1, "what was given back too much is not remembered"


async def check_order(counters: WindowCounters) -> None:
    """Several counts of one call are added in their order, the same counter twice if asked."""
    hits = (("order-a", 2), ("order-b", 1), ("order-a", 0), ("order-a", 3), ("order-b", -1))
    tallies = await counters.add([WindowCount("checks", LONG_US, key, number) for key, number in hits])
    assert [tally.after for tally in tallies] == [2, 1, 2, 5, 0], "counts are added in their order"
    assert list(await counters.add([])) == [], "no counts, no tallies"


async def check_counters_stay_apart(counters: WindowCounters) -> None:
    """Name, window and key tell counters apart, whatever characters are in them."""
    names = ["a", "a:b", "a/b", "{a}", "", "ä", "a%2C", "*"]
    together = [
        WindowCount(name, window_us, key, 1)
        for name in names
        for window_us in (LONG_US, SHORT_US * 10**9)
        for key in names
    ]
    tallies = await counters.add(together)
    assert {tally.after for tally in tallies} == {1}, "no two counters are the same"


async def check_concurrent_callers(counters: WindowCounters) -> None:
    """No hit is lost, and no two callers see the same count."""
    tallies = await asyncio.gather(*(add(counters, "busy", 1) for _ in range(50)))
    assert sorted(tally.after for tally in tallies) == list(range(1, 51)), "each caller sees its own count"


async def check_large_numbers(counters: WindowCounters) -> None:
    """The largest numbers are exact."""
    await add(counters, "large", 1 << 32)
    assert (await add(counters, "large", (1 << 32) - 1)).after == (1 << 33) - 1, "large sums are exact"
    assert (await add(counters, "large", -(1 << 32))).after == (1 << 32) - 1, "large differences are exact"


async def check_windows(counters: WindowCounters, pass_time: PassTime) -> None:
    """A window ends when it said it would, and the next one begins at 0."""
    first = await add(counters, "window", 7, SHORT_US)
    assert 0 < first.reset_us <= SHORT_US, "a window ends within its length"
    await pass_time(first.reset_us / 1_000_000)
    second = await add(counters, "window", 1, SHORT_US)
    assert second.after == 1, "the next window begins at 0"
    assert 0 < second.reset_us <= SHORT_US, "and ends within its length"
    await pass_time(second.reset_us / 1_000_000)
    assert (await add(counters, "window", -1, SHORT_US)).after == 0, "nothing is taken from a window before"
