"""
Part k: 100 concurrent callers in 4 processes on one key of one Valkey admit exactly N, over 1,000 windows.

The callers ask as fast as they can, so demand is far above the limit all the time. Every decision carries
the moment at which the store made it, on the store's own clock; the windows are drawn from those moments,
never from a clock of ours.

What is checked:
* fixed_window: between two window boundaries, never more than N; and exactly N in every whole window.
* sliding_window: in every window of that length, wherever it begins, never more than N (every run of N + 1
  admissions one after the other must span at least a window); and exactly N in every window that begins
  with the first admission after the one before it.
Any decision made without the store makes the run void.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from machine import HERE, PYTHON, valkey

LIMIT = 20
WINDOW_US = 50_000
WINDOWS = 1_000
PROCESSES = 4
CALLERS = 25  # in each process


async def ask(port: int, fleet: str, algorithm: str, seconds: float) -> list[int]:
    """Ask from one process; return the store's time of every admission."""
    from silence_gateway.limiting.rate_limiter import RateLimiter
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.valkey import ValkeyStore

    settings = StoreSettings(url=f"valkey://127.0.0.1:{port}/0", deadline_s=5.0, silence_s=10.0)
    store = ValkeyStore(settings, fleet)
    await store.start()
    limiter = RateLimiter(store, fleet=fleet)
    limit = limiter.limit("exact", f"{LIMIT}/{WINDOW_US // 1000}ms", algorithm=algorithm)
    admitted: list[int] = []
    end_s = time.monotonic() + seconds

    async def caller() -> None:
        while time.monotonic() < end_s:
            decision = await limit.try_acquire("one")
            if decision.allowed:
                admitted.append(decision.at_us)
            else:
                # Refused here from memory: the store is asked again when it may say yes, and not before.
                await asyncio.sleep(min(decision.retry_after_us, 2_000) / 1_000_000)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await limiter.stop()
    await store.stop()
    if limiter.engine.falling_back.local_decisions:
        raise SystemExit("some decisions were made without the store: the run is void")
    return admitted


def check_fixed(times: Sequence[int], limit: int, window_us: int) -> dict[str, float]:
    """Count admissions between the boundaries; the first and the last window were not asked in whole."""
    counts = Counter(at_us // window_us for at_us in times)
    first, last = min(counts), max(counts)
    whole = [counts.get(number, 0) for number in range(first + 1, last)]
    return {
        "windows": len(whole),
        "exactly_n": sum(count == limit for count in whole),
        "above_n": sum(count > limit for count in counts.values()),
    }


def check_sliding(times: Sequence[int], limit: int, window_us: int) -> dict[str, float]:
    """
    Look at every window that ends with an admission: no other can hold more.

    A use at t counts until just before t + window, so N + 1 admissions may not lie closer than a window.
    """
    ordered = sorted(times)
    above = sum(late - early < window_us for early, late in zip(ordered, ordered[limit:], strict=False))
    windows = exact = 0
    begin = 0
    while ordered[begin] + window_us <= ordered[-1]:
        end = bisect_left(ordered, ordered[begin] + window_us, begin)
        windows += 1
        exact += end - begin == limit
        begin = end
    return {"windows": windows, "exactly_n": exact, "above_n": above}


CHECKS = {"fixed_window": check_fixed, "sliding_window": check_sliding}


def run(algorithm: str, windows: int) -> dict[str, float]:
    """Ask from all processes at once and check what was admitted together."""
    # Windows that begin with an admission follow each other with a little between them.
    seconds = (1.05 * windows + 2) * WINDOW_US / 1_000_000
    with valkey() as port:
        fleet = f"exact-{time.time_ns()}"
        args = [PYTHON, str(HERE / "exactness.py"), str(port), fleet, algorithm, str(seconds)]
        askers = [subprocess.Popen(args, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
        outputs = [asker.communicate()[0] for asker in askers]
    if any(asker.returncode for asker in askers):
        raise SystemExit(f"{algorithm}: a process failed")
    times = [at_us for output in outputs for at_us in json.loads(output)]
    return CHECKS[algorithm](times, LIMIT, WINDOW_US)


def measure(rounds: int, seconds: float, windows: int = WINDOWS) -> dict[str, object]:
    """Run part k and return its results; it takes a minute per algorithm and needs no rounds."""
    del rounds, seconds
    runs = {}
    ratios = {}
    for algorithm in CHECKS:
        figures = run(algorithm, windows)
        print(f"  {algorithm:16} {figures}", file=sys.stderr)
        if figures["above_n"]:
            raise SystemExit(f"{algorithm} admitted too much: {figures}")
        runs[algorithm] = [figures]
        ratios[f"{algorithm}: windows with exactly N"] = figures["exactly_n"] / figures["windows"]
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    import uvloop

    if len(sys.argv) == 5:
        _, target, name, how, duration = sys.argv
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(ask(int(target), name, how, float(duration)))))
    else:
        measure(1, 0, int(sys.argv[1]) if len(sys.argv) > 1 else WINDOWS)
