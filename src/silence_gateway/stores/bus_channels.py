"""The channels that somebody here listens to, and what the server has been asked and has confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Channel:
    """One channel of the bus that somebody here listens to."""

    __slots__ = ("answered", "asked", "interrupted", "key", "subscriptions", "waiters", "wanted_at_server")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.subscriptions: dict[ChannelSubscription, None] = {}
        self.waiters: list[asyncio.Future[None]] = []
        self.interrupted = False  # was confirmed once, and lost: its listeners have missed something
        self.wanted_at_server = False
        self.asked = 0
        self.answered = 0

    @property
    def ready(self) -> bool:
        """Whether the server has confirmed the last thing it was asked, and that was to subscribe."""
        return self.wanted_at_server and self.asked == self.answered


class ChannelSubscription:
    """One interest in one channel."""

    __slots__ = ("channel", "on_gap", "on_message", "touch")

    def __init__(
        self,
        touch: Callable[[Channel], None],
        channel: Channel,
        on_message: Callable[[bytes], None],
        on_gap: Callable[[], None] | None,
    ) -> None:
        self.touch = touch
        self.channel = channel
        self.on_message: Callable[[bytes], None] | None = on_message
        self.on_gap = on_gap

    def close(self) -> None:
        """Hear no more; harmless when closed."""
        if self.on_message is None:
            return
        self.on_message = self.on_gap = None
        self.channel.subscriptions.pop(self, None)
        self.touch(self.channel)
