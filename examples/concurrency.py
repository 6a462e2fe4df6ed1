"""Three reports at once per customer, and tokens that are paid for when it is known how many it took."""

import asyncio
import sys

from silence_gateway import RateLimited, RateLimiter


async def main(store: str = "memory://") -> None:
    async with RateLimiter(store, fleet="shop") as limiter:
        reports = limiter.concurrency("reports", 3, ttl_s=30)  # a crashed program's place is free after 30 s
        tokens = limiter.limit("tokens", "1000/hour", algorithm="sliding_counter")

        async def report(number: int) -> None:
            async with reports.hold("acme", wait=True, timeout_s=10) as place:
                print(f"report {number} begins, {place.remaining} more may")
                reserved = await tokens.acquire("acme", 50)  # about as many as it will take
                await asyncio.sleep(0.05)
                await tokens.charge("acme", 30, reserved)  # it took more; give_back if it took less

        await asyncio.gather(*(report(number) for number in range(6)))
        async with reports.hold("acme"), reports.hold("acme"), reports.hold("acme"):
            try:
                async with reports.hold("acme"):
                    print("never printed")
            except RateLimited:
                print("three at once, and no more")
        print(f"{(await tokens.peek('acme')).remaining} of 1000 tokens are left")


asyncio.run(main(*sys.argv[1:]))
