"""What a program says to the limiter that is of the wrong type."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest

from silence_gateway.limiting.limit import Limit
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.clock import FakeClock

WRONG_ASKS = [
    ("k", 1.5, "a cost is an int, not float"),
    ("k", "1", "a cost is an int, not str"),
    ("k", None, "a cost is an int, not None"),
    (b"k", 1, "a key is a str, not bytes"),
    (None, 1, "a key is a str, not None"),
    (5, 1, "a key is a str, not int"),
]

Asking = Callable[[RateLimiter, Limit, Any, Any], Any]


async def change(limit: Limit, op: str, key: Any, cost: Any) -> None:
    await getattr(limit, op)(key, cost, await limit.peek())


ASKINGS: dict[str, Asking] = {
    "try_acquire": lambda _, limit, key, cost: limit.try_acquire(key, cost),
    "acquire": lambda _, limit, key, cost: limit.acquire(key, cost),
    "acquire and wait": lambda _, limit, key, cost: limit.acquire(key, cost, wait=True),
    "by name": lambda limiter, _, key, cost: limiter.acquire("a", key, cost),
    "try_acquire_all": lambda limiter, limit, key, cost: limiter.try_acquire_all([(limit, key, cost)]),
    "acquire_all": lambda limiter, limit, key, cost: limiter.acquire_all([(limit, key, cost)]),
    "charge": lambda _, limit, key, cost: change(limit, "charge", key, cost),
    "give_back": lambda _, limit, key, cost: change(limit, "give_back", key, cost),
}


@pytest.mark.parametrize(("key", "cost", "hint"), WRONG_ASKS)
@pytest.mark.parametrize("how", ASKINGS)
def test_a_key_is_a_text_and_a_cost_a_whole_number(how: str, key: Any, cost: Any, hint: str) -> None:
    async def scenario() -> None:
        limiter = RateLimiter(clock=FakeClock())
        limit = limiter.limit("a", "3/minute")
        with pytest.raises(TypeError, match=hint):
            await ASKINGS[how](limiter, limit, key, cost)
        assert limiter.engine.decider.here is not None
        assert limiter.engine.decider.here.keys_kept() == 0, "nothing was counted"

    asyncio.run(scenario())


@pytest.mark.parametrize(("key", "cost", "hint"), WRONG_ASKS)
@pytest.mark.parametrize("store", ["memory://", "a server"])
def test_so_it_is_without_an_event_loop(store: str, key: Any, cost: Any, hint: str) -> None:
    limiter = RateLimiter("memory://" if store == "memory://" else ValkeyStore("valkey://127.0.0.1:1/0", "f"))

    with pytest.raises(TypeError, match=hint):
        limiter.limit("a", "3/minute").try_acquire_now(key, cost)


@pytest.mark.parametrize(("key", "hint"), [(b"k", "not bytes"), (None, "not None"), (5, "not int")])
def test_whoever_looks_holds_or_forgets_names_a_key(key: Any, hint: str) -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        limit, places = limiter.limit("a", "3/minute"), limiter.concurrency("places", 1)
        with pytest.raises(TypeError, match=f"a key is a str, {hint}"):
            await limit.peek(key)
        with pytest.raises(TypeError, match=f"a key is a str, {hint}"):
            await limit.reset(key)
        with pytest.raises(TypeError, match=f"a key is a str, {hint}"):
            places.hold(key)

    asyncio.run(scenario())


def test_what_is_corrected_was_decided() -> None:
    async def scenario() -> None:
        limit = RateLimiter().limit("a", "3/minute")
        wrong: Any = None
        for correct in (limit.charge, limit.give_back):
            with pytest.raises(TypeError, match="after is the Decision that acquire returned, not None"):
                await correct("k", 1, wrong)

    asyncio.run(scenario())


def test_what_is_asked_together_are_limits() -> None:
    async def scenario() -> None:
        wrong: Any = "a"
        with pytest.raises(TypeError, match=r"a limit is what limiter\.limit\(\.\.\.\) returned, not str"):
            await RateLimiter().acquire_all([(wrong, "k", 1)])

    asyncio.run(scenario())


def test_words_of_an_enumeration_and_truths_go_as_what_they_are() -> None:
    class Whom(StrEnum):
        ANN = "ann"

    async def scenario() -> None:
        limit = RateLimiter().limit("a", "3/minute")
        assert (await limit.try_acquire(Whom.ANN, True)).remaining == 2
        assert (await limit.try_acquire("ann")).remaining == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"name": 5}, "a name is a str, not int"),
        ({"rate": 5}, "a rate is a str, as in '100/minute', not int"),
        ({"rate": None}, "a rate is a str, as in '100/minute', not None"),
        ({"burst": "5"}, "a burst is an int or None, not str"),
        ({"block_for_s": "5s"}, "block_for_s is a number of seconds, not str"),
        ({"lease": 1.5}, "a lease is an int, not float"),
    ],
)
def test_a_declaration_says_which_value_is_of_the_wrong_type(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        RateLimiter().limit(**({"name": "a", "rate": "3/minute"} | values))


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"name": None}, "a name is a str, not None"),
        ({"most": "3"}, "most is an int, not str"),
        ({"ttl_s": None}, "ttl_s is a number of seconds, not None"),
    ],
)
def test_so_does_one_of_places(values: dict[str, Any], hint: str) -> None:
    said: dict[str, Any] = {"name": "a", "most": 3}
    with pytest.raises(TypeError, match=hint):
        RateLimiter().concurrency(**(said | values))
