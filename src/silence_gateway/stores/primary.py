"""
Where the primary is, when sentinels know it.

It is asked for before a connection is made, unless it was known a moment ago; every ten seconds, because
a primary that was replaced may still answer those who stay with it; and four times a second while the
primary is away, because nothing but its successor will end that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from silence_gateway.clock import Clock
from silence_gateway.stores.client import StoreRefused
from silence_gateway.stores.url import Node

# So long a first answer is good for all lanes that connect together.
FRESH_S = 0.05
LOOK_EVERY_S = 10.0
LOOK_WHEN_AWAY_S = 0.25
# But if that has not helped so many times, nobody is about to take over.
IMPATIENT_LOOKS = 20
LOOK_WHEN_LONG_AWAY_S = 1.0


class PrimaryFinder:
    """
    The primary of one service.

    Args:
        find: Asks the sentinels, or raises StoreRefused.
        on_replaced: Called when the sentinels name another primary than the one in use.

    Attributes:
        node: The last one found.
        replaced: How often it was another.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Node]],
        clock: Clock,
        draw: Callable[[], float],
        on_replaced: Callable[[Node], None],
    ) -> None:
        self.find = find
        self.clock = clock
        self.draw = draw
        self.on_replaced = on_replaced
        self.node: Node | None = None
        self.found_s = 0.0
        self.replaced = 0
        self.away = False
        self.in_vain = 0
        self.wake = asyncio.Event()
        self.asking: asyncio.Task[Node] | None = None
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look whether the primary is still the one in use."""
        self.task = asyncio.get_running_loop().create_task(self.keep_looking())

    async def stop(self) -> None:
        """Look no more."""
        tasks = [task for task in (self.task, self.asking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def set_away(self, away: bool) -> None:
        """The primary does not answer, or does again."""
        if away and not self.away:
            self.wake.set()
        self.away = away

    async def current(self) -> Node:
        """
        Return the primary; whoever asks at the same moment shares one question.

        Raises:
            StoreRefused: No sentinel knows it.
        """
        if self.node is not None and self.clock.monotonic_s() - self.found_s < FRESH_S:
            return self.node
        if self.asking is None:
            self.asking = asyncio.get_running_loop().create_task(self.ask())
            self.asking.add_done_callback(self.asked)
        return await asyncio.shield(self.asking)

    async def ask(self) -> Node:
        """Ask once."""
        node = await self.find()
        before, self.node = self.node, node
        self.found_s = self.clock.monotonic_s()
        if before is not None and before != node:
            self.replaced += 1
            self.on_replaced(node)
        return node

    def asked(self, task: asyncio.Task[Node]) -> None:
        """The question is answered, or nobody waits for it any more."""
        self.asking = None
        if not task.cancelled():
            task.exception()

    async def keep_looking(self) -> None:
        """Ask now and then; a question without an answer changes nothing."""
        while True:
            await self.until_worth_asking()
            with contextlib.suppress(StoreRefused):
                await self.current()

    async def until_worth_asking(self) -> None:
        """Return when it is time to ask again; at once, but for a moment, when the primary goes away."""
        self.wake.clear()
        self.in_vain = self.in_vain + 1 if self.away else 0
        if self.away:
            mean_s = LOOK_WHEN_AWAY_S if self.in_vain <= IMPATIENT_LOOKS else LOOK_WHEN_LONG_AWAY_S
        else:
            mean_s = LOOK_EVERY_S
        timer = self.clock.call_later(mean_s * (0.75 + self.draw() / 2), self.wake.set)
        try:
            await self.wake.wait()
        finally:
            timer.cancel()
