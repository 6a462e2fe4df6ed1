"""
Part i: limit decisions per second in memory, in one process, where nobody waits for anything.

Both libraries have a door for code that is async and one for code that is not; each is compared with its
own kind. The keys and the limit are those of part d.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable

from decisions import KEYS, RATE, paced
from machine import HERE, PYTHON, TESTED_CORE, abba, median_ratio

CALLERS = (1, 64, 512)
Decide = Callable[[str], object]


def in_turn(decide: Decide, seconds: float) -> float:
    """Decide for *seconds* on one key after the other; return decisions per second."""
    names = [f"user-{number}" for number in range(KEYS)]
    part = KEYS // 10

    def rounds(until: float) -> int:
        count = 0
        while time.monotonic() < until:
            at = count % KEYS
            for name in names[at : at + part]:
                decide(name)
            count += part
        return count

    rounds(time.monotonic() + 0.5)
    started = time.monotonic()
    return rounds(started + seconds) / (time.monotonic() - started)


async def silence(callers: int, seconds: float) -> float:
    """Measure our exact sliding window through the door for async code."""
    from silence_gateway import RateLimiter

    return await paced(RateLimiter().limit("bench", RATE).try_acquire, callers, seconds)


async def limits(callers: int, seconds: float) -> float:
    """Measure the moving window of `limits` for async code."""
    from limits import parse
    from limits.aio import storage, strategies

    strategy = strategies.MovingWindowRateLimiter(storage.MemoryStorage())
    rate = parse(RATE)
    return await paced(lambda key: strategy.hit(rate, "limits", key), callers, seconds)


async def silence_sync(_callers: int, seconds: float) -> float:
    """Measure our exact sliding window through the door for code that is not async."""
    from silence_gateway import RateLimiter

    return in_turn(RateLimiter().limit("bench", RATE).try_acquire_now, seconds)


async def limits_sync(_callers: int, seconds: float) -> float:
    """Measure the moving window of `limits` for code that is not async."""
    from limits import parse, storage, strategies

    strategy = strategies.MovingWindowRateLimiter(storage.MemoryStorage())
    rate = parse(RATE)
    return in_turn(lambda key: strategy.hit(rate, "limits", key), seconds)


WORK = {
    "silence": silence,
    "limits": limits,
    "silence, not async": silence_sync,
    "limits, not async": limits_sync,
}
PAIRS = (("silence", "limits"), ("silence, not async", "limits, not async"))


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part i and return its results."""
    runs: dict[str, list[dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for names, callers in [(PAIRS[1], 1), *((PAIRS[0], callers) for callers in CALLERS)]:
        of: dict[str, list[float]] = {name: [] for name in names}
        where = "" if names is PAIRS[1] else f" ({callers} caller{'s' if callers > 1 else ''})"
        for _, name in abba(names, rounds):
            done = subprocess.run(
                ["taskset", "-c", str(TESTED_CORE), PYTHON, str(HERE / "local_decisions.py"),
                 name, str(callers), str(seconds)],
                stdout=subprocess.PIPE, check=True,
            )  # fmt: skip
            rate = json.loads(done.stdout)
            of[name].append(rate)
            runs.setdefault(f"{name}{where}", []).append({"decisions_per_second": rate})
            print(f"  {name:20} {callers:4} callers {rate:9.0f} decisions/s", file=sys.stderr)
        ours, theirs = names
        ratios[f"{ours} / {theirs}{where}"] = median_ratio(of[ours], of[theirs])
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    import uvloop

    _, which, count, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(WORK[which](int(count), float(duration)))))
