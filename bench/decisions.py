"""Part d: limit decisions per second of one process at 8, 64 and 512 callers, all on one real Valkey."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from machine import HERE, PYTHON, TESTED_CORE, abba, median_ratio, valkey

CALLERS = (8, 64, 512)
KEYS = 1000
CONNECTIONS = 600  # both peers take a connection per call in flight, and their default of 100 fails at 512
Decide = Callable[[str], Awaitable[object]]


async def paced(decide: Decide, callers: int, seconds: float) -> float:
    """Keep *callers* deciding for *seconds*, each on one key after the other; return decisions per second."""

    async def caller(number: int, until: float) -> int:
        count = 0
        while time.monotonic() < until:
            await decide(f"user-{(number * 7919 + count) % KEYS}")
            count += 1
        return count

    await asyncio.gather(*(caller(n, time.monotonic() + 0.3) for n in range(callers)))
    started = time.monotonic()
    counts = await asyncio.gather(*(caller(n, started + seconds) for n in range(callers)))
    return sum(counts) / (time.monotonic() - started)


async def silence(port: int, callers: int, seconds: float) -> float:
    """Measure our exact sliding window, through the library door and with its fallback in place."""
    from silence_gateway.limiting.rate_limiter import RateLimiter
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.valkey import ValkeyStore

    # The peers wait as long as it takes; so do we here, instead of deciding locally when the machine stalls.
    settings = StoreSettings(url=f"valkey://127.0.0.1:{port}/0", deadline_s=5.0, silence_s=10.0)
    store = ValkeyStore(settings, f"bench-{time.time_ns()}")
    await store.start()
    limiter = RateLimiter(store, fleet=store.fleet)
    rate = await paced(limiter.limit("bench", "100/minute").try_acquire, callers, seconds)
    await store.stop()
    if limiter.engine.falling_back.local_decisions:
        raise SystemExit("some decisions were made without the store: the measurement is void")
    return rate


async def limits(port: int, callers: int, seconds: float) -> float:
    """Measure the moving window of `limits`: exact, in Lua, on a sorted list."""
    from limits import parse
    from limits.aio import storage, strategies

    store = storage.RedisStorage(
        f"async+redis://127.0.0.1:{port}", implementation="redispy", max_connections=CONNECTIONS
    )
    strategy = strategies.MovingWindowRateLimiter(store)
    rate = parse("100/minute")
    return await paced(lambda key: strategy.hit(rate, "limits", key), callers, seconds)


async def throttled(port: int, callers: int, seconds: float) -> float:
    """Measure the token bucket of throttled-py, which has no exact window."""
    from throttled.asyncio import Throttled, rate_limiter, store

    limiter = Throttled(
        using="token_bucket",
        quota=rate_limiter.per_min(100),
        store=store.RedisStore(
            server=f"redis://127.0.0.1:{port}/0",
            options={"CONNECTION_POOL_KWARGS": {"max_connections": CONNECTIONS}},
        ),
    )
    return await paced(limiter.limit, callers, seconds)


WORK = {"silence": silence, "limits": limits, "throttled-py": throttled}


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part d and return its results."""
    names = list(WORK)
    runs: dict[str, list[dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for callers in CALLERS:
        of: dict[str, list[float]] = {name: [] for name in names}
        for _, name in abba(names, rounds):
            with valkey() as port:  # a fresh one each time: nobody pays for another's keys
                done = subprocess.run(
                    ["taskset", "-c", str(TESTED_CORE), PYTHON, str(HERE / "decisions.py"),
                     name, str(port), str(callers), str(seconds)],
                    stdout=subprocess.PIPE, check=True,
                )  # fmt: skip
            rate = json.loads(done.stdout)
            of[name].append(rate)
            runs.setdefault(f"{name}, {callers} callers", []).append({"decisions_per_second": rate})
            print(f"  {name:20} {callers:4} callers {rate:9.0f} decisions/s", file=sys.stderr)
        for peer in names[1:]:
            ratios[f"silence / {peer} ({callers} callers)"] = median_ratio(of["silence"], of[peer])
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    import uvloop

    _, which, target, count, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(WORK[which](int(target), int(count), float(duration)))))
