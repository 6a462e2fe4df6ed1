"""
A process that asks one limit as fast as it can, for tests of what several of them admit together.

Run: asker.py URL FLEET ALGORITHM RATE CALLERS SECONDS; prints the store's time of every admission, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore

LOOK_EVERY_S = 0.002


async def ask(url: str, fleet: str, algorithm: str, rate: str, callers: int, seconds: float) -> list[int]:
    """Ask from that many callers for so long."""
    # A deadline that a busy machine keeps: what is decided without the store has no part in this.
    store = ValkeyStore(StoreSettings(url=url, deadline_s=5.0, silence_s=10.0), fleet)
    await store.start()
    limiter = RateLimiter(store, fleet=fleet)
    limit = limiter.limit("exact", rate, algorithm=algorithm)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    admitted: list[int] = []

    async def caller() -> None:
        while loop.time() < end_s:
            decision = await limit.try_acquire("one")
            if decision.allowed:
                admitted.append(decision.at_us)
            else:
                await asyncio.sleep(LOOK_EVERY_S)

    await asyncio.gather(*(caller() for _ in range(callers)))
    await limiter.stop()
    await store.stop()
    if limiter.engine.falling_back.local_decisions:
        raise SystemExit("some decisions were made without the store")
    return admitted


if __name__ == "__main__":
    _, address, name, how, often, count, duration = sys.argv
    print(json.dumps(asyncio.run(ask(address, name, how, often, int(count), float(duration)))))
