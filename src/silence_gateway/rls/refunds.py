"""
Hits given back at one instance, told to the others, which remember counters as over their limit.

Counters travel as digests: their keys may hold addresses or secrets. A message may be lost, and whoever
missed any forgets everything, which costs one question to the store per counter.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from silence_gateway.clock import Clock
from silence_gateway.core.rls_over_limit import DIGEST_BYTES, CounterId, OverLimitCache, digest_of
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Bus, Subscription

CHANNEL = "rls/forget"
MAX_UNTOLD = 4_096
EVERYTHING = bytes(DIGEST_BYTES)
"""Told instead of the counters when they are too many."""

RETRY_S = 1.0


class Refunds:
    """
    Tells the fleet of counters that may be under their limit again, and hears of the fleet's.

    Args:
        remembered: What this instance remembers.
        bus: How instances talk.
        clock: The only clock.
    """

    def __init__(self, remembered: OverLimitCache, bus: Bus, clock: Clock) -> None:
        self.remembered = remembered
        self.bus = bus
        self.clock = clock
        self.subscription: Subscription | None = None
        self.untold: dict[bytes, None] = {}
        self.telling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Hear of the others; the store has been started."""
        self.subscription = self.bus.subscribe(CHANNEL, self.on_message, self.remembered.clear)

    async def stop(self) -> None:
        """Hear no more, and tell what was not told yet; the store is still there."""
        if self.subscription is not None:
            self.subscription.close()
            self.subscription = None
        if self.telling is not None:
            self.telling.cancel()
            await asyncio.gather(self.telling, return_exceptions=True)
            self.telling = None  # one that was not begun yet does not say so itself
        if self.untold:
            # What they do not hear now they find out when the window ends.
            with suppress(StoreFault):
                await self.bus.publish(CHANNEL, b"".join(self.untold))
            self.untold.clear()

    def tell(self, counter: CounterId) -> None:
        """Tell the others that *counter* may be under its limit again; never waits."""
        if EVERYTHING not in self.untold:
            self.untold[digest_of(counter)] = None
        if len(self.untold) > MAX_UNTOLD:
            self.untold = {EVERYTHING: None}
        if self.telling is None:
            self.telling = asyncio.get_running_loop().create_task(self.tell_all())

    async def tell_all(self) -> None:
        """Tell what is untold, as often as it takes; others that miss it forget everything."""
        try:
            while self.untold:
                told, self.untold = self.untold, {}
                try:
                    await self.bus.publish(CHANNEL, b"".join(told))
                except BaseException as exc:
                    self.untold = told | self.untold
                    if not isinstance(exc, StoreFault):
                        raise
                    await self.clock.sleep(RETRY_S)
        finally:
            self.telling = None

    def on_message(self, payload: bytes) -> None:
        """Another instance, or this one, gave hits back."""
        for at in range(0, len(payload) - DIGEST_BYTES + 1, DIGEST_BYTES):
            digest = payload[at : at + DIGEST_BYTES]
            if digest == EVERYTHING:
                self.remembered.clear()
            else:
                self.remembered.forget_digest(digest)
