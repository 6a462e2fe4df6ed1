"""
What parts d, i and j measure: one process that decides about limits as fast as it can.

Run by decisions.py: deciders.py NAME PORT CALLERS SECONDS; prints decisions per second.

All programs share one loop, and those that are compared one set of keys and one limit. The keys are made
beforehand, the time is looked at by a timer, and the loop itself costs 0.1 us per decision. Nobody is
refused: the limit is above what a key is asked for in the whole run, and a run in which it was not is void.
A refusal is cheaper than an admission, because it writes nothing, so a benchmark that refuses measures
something else.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

LEASE = 100
WARM_UP_S = 1.0
CONNECTIONS = 600  # peers take a connection per call in flight, and their default of 100 fails at 512
TURN = 64
"""Decisions that a caller makes before it lets others run, where nothing makes it wait."""


@dataclass(frozen=True)
class Load:
    """
    What is asked for.

    Attributes:
        keys: Whom, one after the other.
        limit: How much each may have in an hour; never reached.
    """

    keys: Sequence[str]
    limit: int

    @property
    def rate(self) -> str:
        """The limit as text."""
        return f"{self.limit}/hour"

    def check(self, decisions: int) -> None:
        """Make sure that nobody can have been refused: keys are asked for equally often, in turns."""
        if decisions > 0.95 * len(self.keys) * self.limit:
            raise SystemExit(
                f"{decisions} decisions are more than {len(self.keys)} keys allow: raise the limit"
            )


MANY = Load([f"user-{number:05}" for number in range(10_000)], 20_000)
HOT = Load(MANY.keys[:100], 1_000_000)
"""What leases are for: few keys, each asked for hundreds of times a second."""

Decide = Callable[[str], Awaitable[object]]
DecideNow = Callable[[str], object]


def keys_of(load: Load, number: int, callers: int) -> cycle[str]:
    """Return the keys of one caller, for ever: all of them, and each caller begins elsewhere."""
    begin = number * len(load.keys) // callers
    return cycle(chain(islice(load.keys, begin, None), islice(load.keys, begin)))


async def paced(decide: Decide, callers: int, seconds: float, *, load: Load = MANY, turn: int = 1) -> float:
    """
    Keep *callers* deciding, each on one key after the other; return decisions per second.

    With a *turn*, a caller steps back after so many decisions, for deciding without a store never waits.
    """
    done = 0
    running = True

    async def caller(number: int) -> None:
        nonlocal done
        keys = keys_of(load, number, callers)
        while running:
            for key in islice(keys, turn):
                await decide(key)
            done += turn
            if turn > 1:
                await asyncio.sleep(0)

    tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
    await asyncio.sleep(WARM_UP_S)
    before, started = done, time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (done - before) / (time.perf_counter() - started)
    running = False
    await asyncio.gather(*tasks)
    load.check(done)
    return rate


def paced_now(decide: DecideNow, seconds: float) -> float:
    """Do the same through a door that needs no event loop, where callers make no difference."""
    keys = keys_of(MANY, 0, 1)
    done = before = 0
    started = 0.0
    end = time.perf_counter() + WARM_UP_S
    for measured in (False, True):
        if measured:
            before, started = done, time.perf_counter()
            end = started + seconds
        while time.perf_counter() < end:
            for key in islice(keys, TURN):
                decide(key)
            done += TURN
    rate = (done - before) / (time.perf_counter() - started)
    MANY.check(done)
    return rate


async def ours(port: int, callers: int, seconds: float, *, lease: int = 0, load: Load = MANY) -> float:
    """Measure our exact sliding window, through the library door and with its fallback in place."""
    from silence_gateway.limiting.rate_limiter import RateLimiter
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.valkey import ValkeyStore

    # The peers wait as long as it takes; so do we here, instead of deciding locally when the machine stalls.
    settings = StoreSettings(url=f"valkey://127.0.0.1:{port}/0", deadline_s=5.0, silence_s=10.0)
    store = ValkeyStore(settings, f"bench-{time.time_ns()}")
    await store.start()
    limiter = RateLimiter(store, fleet=store.fleet)
    limit = limiter.limit("bench", load.rate, lease=lease)
    await limit.try_acquire(load.keys[0])  # the scripts are loaded
    rate = await paced(limit.try_acquire, callers, seconds, load=load, turn=TURN if lease else 1)
    await limiter.stop()
    await store.stop()
    if limiter.engine.falling_back.local_decisions:
        raise SystemExit("some decisions were made without the store: the measurement is void")
    return rate


async def silence(port: int, callers: int, seconds: float) -> float:
    """Decide every use in the store."""
    return await ours(port, callers, seconds)


async def silence_leased(port: int, callers: int, seconds: float) -> float:
    """Take uses from the store several at a time."""
    return await ours(port, callers, seconds, lease=LEASE, load=HOT)


async def silence_memory(_port: int, callers: int, seconds: float) -> float:
    """Decide in this process."""
    from silence_gateway.limiting.rate_limiter import RateLimiter

    async with RateLimiter("memory://") as limiter:
        return await paced(limiter.limit("bench", MANY.rate).try_acquire, callers, seconds, turn=TURN)


async def silence_memory_now(_port: int, _callers: int, seconds: float) -> float:
    """Decide in this process, without waiting."""
    from silence_gateway.limiting.rate_limiter import RateLimiter

    async with RateLimiter("memory://") as limiter:
        return paced_now(limiter.limit("bench", MANY.rate).try_acquire_now, seconds)


async def limits(
    port: int, callers: int, seconds: float, *, load: Load = MANY, implementation: str = "valkey"
) -> float:
    """
    Measure the moving window of `limits`: exact, in Lua, on a list.

    Over valkey-py, which is up to 1.7 times as fast here as its default, redis-py; with coredis 6 it does not
    work.
    """
    from limits import parse
    from limits.aio import storage, strategies

    store = storage.RedisStorage(
        f"async+redis://127.0.0.1:{port}", implementation=implementation, max_connections=CONNECTIONS
    )
    strategy = strategies.MovingWindowRateLimiter(store)
    rate = parse(load.rate)
    await strategy.hit(rate, "limits", load.keys[0])
    return await paced(lambda key: strategy.hit(rate, "limits", key), callers, seconds, load=load)


async def limits_redis_py(port: int, callers: int, seconds: float) -> float:
    """Measure the same over redis-py, which is what it takes unless told otherwise."""
    return await limits(port, callers, seconds, implementation="redispy")


async def limits_hot(port: int, callers: int, seconds: float) -> float:
    """Measure the same on few keys."""
    return await limits(port, callers, seconds, load=HOT)


async def limits_memory(_port: int, callers: int, seconds: float) -> float:
    """Measure the moving window of `limits` in this process."""
    from limits import parse
    from limits.aio import storage, strategies

    strategy = strategies.MovingWindowRateLimiter(storage.MemoryStorage())
    rate = parse(MANY.rate)
    return await paced(lambda key: strategy.hit(rate, "limits", key), callers, seconds, turn=TURN)


async def limits_memory_now(_port: int, _callers: int, seconds: float) -> float:
    """Measure the same, of its classes that need no event loop."""
    from limits import parse, storage, strategies

    strategy = strategies.MovingWindowRateLimiter(storage.MemoryStorage())
    rate = parse(MANY.rate)
    return paced_now(lambda key: strategy.hit(rate, "limits", key), seconds)


async def throttled(port: int, callers: int, seconds: float) -> float:
    """
    Measure the token bucket of throttled-py, which has no exact window.

    Its sliding counter is as fast, its GCRA slower, and its fixed window no script at all.
    """
    from throttled.asyncio import Throttled, rate_limiter, store

    limiter = Throttled(
        using="token_bucket",
        quota=rate_limiter.per_hour(MANY.limit),
        store=store.RedisStore(
            server=f"redis://127.0.0.1:{port}/0",
            options={"CONNECTION_POOL_KWARGS": {"max_connections": CONNECTIONS}},
        ),
    )
    await limiter.limit(MANY.keys[0])
    return await paced(limiter.limit, callers, seconds)


WORK = {
    "silence": silence,
    "silence, leased": silence_leased,
    "silence, memory": silence_memory,
    "silence, memory, no loop": silence_memory_now,
    "limits": limits,
    "limits, redis-py": limits_redis_py,
    "limits, hot keys": limits_hot,
    "limits, memory": limits_memory,
    "limits, memory, no loop": limits_memory_now,
    "throttled-py": throttled,
}


if __name__ == "__main__":
    import uvloop

    _, which, target, count, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(WORK[which](int(target), int(count), float(duration)))))
