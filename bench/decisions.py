"""
Part d: limit decisions per second of one process at 8, 64 and 512 callers, all on one real Valkey.

10,000 keys, and a limit that nearly every request is within: a benchmark of refusals would flatter who
remembers them. Part i (`local_decisions.py`) does the same without a store.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from machine import HERE, PYTHON, TESTED_CORE, abba, median_ratio, valkey

CALLERS = (8, 64, 512)
KEYS = 10_000
RATE = "1000/minute"
# With leases the keys are few and busy, as those are that a lease is for; `limits` is asked about the same.
HOT_KEYS = 10
HOT_RATE = "10000000/minute"
LEASE = 1000
CONNECTIONS = 600  # both peers take a connection per call in flight, and their default of 100 fails at 512
FLEXIBLE = HERE / "peers" / "node"
Decide = Callable[[str], Awaitable[object]]


async def paced(decide: Decide, callers: int, seconds: float, keys: int = KEYS) -> float:
    """Keep *callers* deciding for *seconds*, each on one key after the other; return decisions per second."""
    names = [f"user-{number}" for number in range(keys)]

    async def caller(number: int, until: float) -> int:
        at, count = number * 7919 % keys, 0
        while time.monotonic() < until:
            # The clock is not looked at for every decision: nothing but deciding is to be measured.
            for _ in range(8):
                await decide(names[at])
                at = at + 1 if at + 1 < keys else 0
            count += 8
        return count

    await asyncio.gather(*(caller(n, time.monotonic() + 0.5) for n in range(callers)))
    started = time.monotonic()
    counts = await asyncio.gather(*(caller(n, started + seconds) for n in range(callers)))
    return sum(counts) / (time.monotonic() - started)


async def silence(port: int, callers: int, seconds: float, *, lease: int = 0) -> float:
    """Measure our exact sliding window, through the library door and with its fallback in place."""
    from silence_gateway.limiting.rate_limiter import RateLimiter
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.valkey import ValkeyStore

    # The peers wait as long as it takes; so do we here, instead of deciding locally when the machine stalls.
    settings = StoreSettings(url=f"valkey://127.0.0.1:{port}/0", deadline_s=5.0, silence_s=10.0)
    store = ValkeyStore(settings, f"bench-{time.time_ns()}")
    await store.start()
    limiter = RateLimiter(store, fleet=store.fleet)
    if lease:
        limit = limiter.limit("bench", HOT_RATE, lease=lease, algorithm="sliding_counter")
    else:
        limit = limiter.limit("bench", RATE)
    keys = HOT_KEYS if lease else KEYS
    rate = await paced(limit.try_acquire, callers, seconds, keys)
    full = [n for n in range(0, keys, 100) if not (await limit.peek(f"user-{n}")).remaining]
    await store.stop()
    if limiter.engine.falling_back.local_decisions:
        raise SystemExit("some decisions were made without the store: the measurement is void")
    if full:
        raise SystemExit(
            f"{len(full)} of {keys // 100} keys looked at are full: refusals void the measurement"
        )
    return rate


async def leases(port: int, callers: int, seconds: float) -> float:
    """Measure our limit with leases, on busy keys."""
    return await silence(port, callers, seconds, lease=LEASE)


async def limits(port: int, callers: int, seconds: float, *, hot: bool = False) -> float:
    """Measure the moving window of `limits`: exact, in Lua, on a list."""
    from limits import parse
    from limits.aio import storage, strategies

    store = storage.RedisStorage(
        f"async+redis://127.0.0.1:{port}", implementation="redispy", max_connections=CONNECTIONS
    )
    strategy: strategies.RateLimiter
    if hot:
        strategy = strategies.SlidingWindowCounterRateLimiter(store)
    else:
        strategy = strategies.MovingWindowRateLimiter(store)
    rate = parse(HOT_RATE if hot else RATE)
    return await paced(
        lambda key: strategy.hit(rate, "limits", key), callers, seconds, HOT_KEYS if hot else KEYS
    )


async def limits_hot(port: int, callers: int, seconds: float) -> float:
    """Measure the sliding counter of `limits` on the same busy keys."""
    return await limits(port, callers, seconds, hot=True)


async def throttled(port: int, callers: int, seconds: float) -> float:
    """Measure the token bucket of throttled-py, which has no exact window."""
    from throttled.asyncio import Throttled, rate_limiter, store

    limiter = Throttled(
        using="token_bucket",
        quota=rate_limiter.per_min(1000),
        store=store.RedisStore(
            server=f"redis://127.0.0.1:{port}/0",
            options={"CONNECTION_POOL_KWARGS": {"max_connections": CONNECTIONS}},
        ),
    )
    return await paced(limiter.limit, callers, seconds)


WORK = {
    "silence": silence,
    "limits": limits,
    "throttled-py": throttled,
    "silence, leases": leases,
    "limits, busy keys": limits_hot,
}
NODE = "rate-limiter-flexible"
NODE_PIPELINED = "rate-limiter-flexible, auto-pipelining"


def command(name: str, port: int, callers: int, seconds: float) -> list[str]:
    """Return what measures *name*."""
    numbers = [str(port), str(callers), str(seconds)]
    if name in (NODE, NODE_PIPELINED):
        pipelined = ["pipelined"] if name == NODE_PIPELINED else []
        return ["node", str(FLEXIBLE / "flexible.mjs"), *numbers, str(KEYS), *pipelined]
    return [PYTHON, str(HERE / "decisions.py"), name, *numbers]


def programs() -> list[str]:
    """Return what can be measured here, and say loudly what cannot."""
    names = list(WORK)
    if shutil.which("node") and (FLEXIBLE / "node_modules" / "rate-limiter-flexible").is_dir():
        names[3:3] = [NODE, NODE_PIPELINED]
    else:
        print(f"  NOT MEASURED: {NODE} (needs node and npm)", file=sys.stderr)
    return names


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part d and return its results."""
    names = programs()
    runs: dict[str, list[dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for callers in CALLERS:
        of: dict[str, list[float]] = {name: [] for name in names}
        for _, name in abba(names, rounds):
            with valkey() as port:  # a fresh one each time: nobody pays for another's keys
                done = subprocess.run(
                    ["taskset", "-c", str(TESTED_CORE), *command(name, port, callers, seconds)],
                    stdout=subprocess.PIPE,
                    check=True,
                )
            rate = json.loads(done.stdout)
            of[name].append(rate)
            runs.setdefault(f"{name}, {callers} callers", []).append({"decisions_per_second": rate})
            print(f"  {name:22} {callers:4} callers {rate:9.0f} decisions/s", file=sys.stderr)
        for peer in ("limits", "throttled-py", NODE, NODE_PIPELINED):
            if peer in of:
                ratios[f"silence / {peer} ({callers} callers)"] = median_ratio(of["silence"], of[peer])
        if "silence, leases" not in of:
            continue
        ratios[f"silence, leases / limits, busy keys ({callers} callers)"] = median_ratio(
            of["silence, leases"], of["limits, busy keys"]
        )
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    import uvloop

    _, which, target, count, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(WORK[which](int(target), int(count), float(duration)))))
