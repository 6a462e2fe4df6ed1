"""Ten logins a minute per user, counted together by every program that uses the same store."""

import asyncio
import sys

from silence_gateway import RateLimited, RateLimiter


async def main(store: str = "memory://") -> None:
    async with RateLimiter(store, fleet="shop") as limiter:
        login = limiter.limit("login", "10/minute")
        try:
            for _ in range(11):
                decision = await login.acquire("alice")
                print(f"welcome, {decision.remaining} of {decision.limit} left")
        except RateLimited as refused:
            print(f"try again in {refused.retry_after_s:.0f} s")


asyncio.run(main(*sys.argv[1:]))
