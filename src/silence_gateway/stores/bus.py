"""
The bus over Valkey pub/sub: one subscribed connection, which looks after itself.

What may not happen here: a silent gap. No client library notices a subscribed connection that is
acknowledged by TCP and forwards nothing, so this one listens for its own heartbeat: a message to a
channel of its own, published the way every message is, on another connection. Two of those that were
published and not heard mean that the connection is dead.

Nothing is ever published on the subscribed connection: a server bug (valkey#4253) could tear a push in
two and shift every later reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from silence_gateway.clock import Clock, Timer
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores import keys
from silence_gateway.stores.bus_channels import Channel, ChannelSubscription
from silence_gateway.stores.calls import fail
from silence_gateway.stores.client import ReplyError, StoreRefused, Wire, pack

PROBE_S = 3.0
# After an outage it is worth knowing sooner whether the old connection still lives.
PROBE_AFTER_OUTAGE_S = 0.25
SILENT_PROBES = 2
RETRY_FIRST_S = 0.05
RETRY_LAST_S = 0.5
CHANNELS_PER_COMMAND = 500
READY_DEADLINE_S = 1.0
MAX_PAYLOAD_BYTES = 1024 * 1024


class Caller(Protocol):
    """The general lane, as the bus knows it."""

    @property
    def refusal(self) -> Callable[[], StoreFault] | None:
        """What every call fails with; None while calls may go."""

    def call(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """Send a command."""


class ValkeyBus:
    """
    The `Bus` of one `ValkeyStore`.

    Args:
        open_wire: Connects the subscriber, or raises StoreRefused.
        turn: Returns when it may.
        general: Where publications go: never on the subscribed connection.
        spread: Whether they may go to another server than the one that is listened to, as in a cluster:
            how many have heard one is then not known.

    Plain counters: `published`, `received`, `interruptions`, `restarts` (by the liveness probe).
    """

    def __init__(
        self,
        open_wire: Callable[[], Awaitable[Wire]],
        turn: Callable[[], Awaitable[None]],
        general: Caller,
        clock: Clock,
        draw: Callable[[], float],
        *,
        fleet: str,
        instance_id: str,
        spread: bool = False,
    ) -> None:
        self.spread = spread
        self.open_wire = open_wire
        self.turn = turn
        self.general = general
        self.clock = clock
        self.draw = draw
        self.fleet = fleet
        self.channels: dict[bytes, Channel] = {}
        self.touched: dict[Channel, None] = {}
        self.wire: Wire | None = None
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        self.lost = asyncio.Event()
        self.found = asyncio.Event()
        self.timer: Timer | None = None
        self.silent_probes = 0
        self.heard = False
        self.published = self.received = self.interruptions = self.restarts = 0
        self.own = f"alive/{instance_id}"
        self.subscribe(self.own, lambda _payload: None)

    # -- the contract ---------------------------------------------------------------------------------

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        """Send *payload*; messages of one loop tick leave in one write, in order."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a bus message has at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
        self.published += 1
        return self.general.call(b"PUBLISH", keys.bus_channel(self.fleet, channel), payload)

    def subscribe(
        self, channel: str, on_message: Callable[[bytes], None], on_gap: Callable[[], None] | None = None
    ) -> ChannelSubscription:
        """Call *on_message* for every payload from about now on; *on_gap* after each interruption."""
        key = keys.bus_channel(self.fleet, channel)
        entry = self.channels.get(key)
        if entry is None:
            entry = self.channels[key] = Channel(key)
        subscription = ChannelSubscription(self.touch, entry, on_message, on_gap)
        entry.subscriptions[subscription] = None
        self.touch(entry)
        return subscription

    async def ready(self, channel: str) -> None:
        """Wait until the server has confirmed *channel*."""
        entry = self.channels.get(keys.bus_channel(self.fleet, channel))
        if entry is not None and entry.ready:
            return
        if entry is None or self.general.refusal is not None or self.stopping:
            raise StoreUnavailable(
                f"channel {channel!r} is not subscribed: the store is away, or nobody asked"
            )
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry.waiters.append(waiter)
        timer = self.clock.call_later(
            READY_DEADLINE_S,
            lambda: fail(
                waiter, StoreUnavailable(f"channel {channel!r} was not confirmed in {READY_DEADLINE_S} s")
            ),
        )
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in entry.waiters:
                entry.waiters.remove(waiter)

    # -- what the server should know ------------------------------------------------------------------

    def touch(self, channel: Channel) -> None:
        """Tell the server about *channel* at the end of this loop tick, if anything has changed by then."""
        if self.wire is None:
            if not channel.subscriptions:
                self.channels.pop(channel.key, None)
            return
        if not self.touched:
            asyncio.get_running_loop().call_soon(self.flush)
        self.touched[channel] = None

    def flush(self) -> None:
        """Bring the server's list of channels up to date, in one write."""
        touched, self.touched = list(self.touched), {}
        for channel in touched:
            if (
                not channel.subscriptions
                and not channel.wanted_at_server
                and channel.asked == channel.answered
            ):
                self.channels.pop(channel.key, None)
        if self.wire is None:
            return
        self.ask(b"SUBSCRIBE", [one for one in touched if one.subscriptions and not one.wanted_at_server])
        self.ask(b"UNSUBSCRIBE", [one for one in touched if not one.subscriptions and one.wanted_at_server])

    def ask(self, verb: bytes, channels: list[Channel]) -> None:
        """Send one verb for *channels*, in commands of bounded size."""
        if not channels or self.wire is None:
            return
        parts: list[bytes] = []
        for at in range(0, len(channels), CHANNELS_PER_COMMAND):
            chunk = channels[at : at + CHANNELS_PER_COMMAND]
            parts.append(pack((verb, *(channel.key for channel in chunk))))
            for channel in chunk:
                channel.asked += 1
                channel.wanted_at_server = verb == b"SUBSCRIBE"
        self.wire.write(b"".join(parts))

    # -- what the server says -------------------------------------------------------------------------

    def on_reply(self, reply: Any) -> None:
        """A message, a confirmation, or something is wrong."""
        if type(reply) is list and len(reply) == 3:
            kind, key, value = reply
            channel = self.channels.get(key)
            if kind == b"message":
                self.heard = True
                if channel is not None:
                    self.received += 1
                    for subscription in list(channel.subscriptions):
                        if subscription.on_message is not None:
                            call(subscription.on_message, value)
                return
            if kind in (b"subscribe", b"unsubscribe"):
                if channel is not None:
                    self.on_confirmed(channel)
                return
        assert self.wire is not None
        text = str(reply) if isinstance(reply, ReplyError) else "it sent what no subscriber expects"
        self.wire.close(f"the subscribed connection is of no use: {text[:200]}")

    def on_confirmed(self, channel: Channel) -> None:
        """The server did what it was asked for *channel*."""
        channel.answered += 1
        if channel.asked != channel.answered:
            return
        if not channel.wanted_at_server:
            if not channel.subscriptions:
                self.channels.pop(channel.key, None)
            return
        if channel.interrupted:
            channel.interrupted = False
            for subscription in list(channel.subscriptions):
                if subscription.on_gap is not None:
                    call(subscription.on_gap)
        for waiter in channel.waiters:
            if not waiter.done():
                waiter.set_result(None)
        channel.waiters.clear()

    # -- staying connected ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        self.task = asyncio.get_running_loop().create_task(self.supervise())

    async def supervise(self) -> None:
        """Connect, subscribe to everything, wait until it breaks, and again."""
        attempt = 0
        while not self.stopping:
            if self.general.refusal is not None:
                # The store is known to be away: it says when it is back.
                await self.wait_for_store(RETRY_LAST_S)
                continue
            try:
                await self.turn()
                wire = await self.open_wire()
            except StoreRefused:
                # The store's own breaker tells the operator; here there is only a wait to choose.
                upper_s = min(RETRY_LAST_S, RETRY_FIRST_S * 2**attempt)
                attempt = min(attempt + 1, 10)
                await self.clock.sleep(upper_s * (0.5 + self.draw() / 2))
                continue
            attempt = 0
            self.lost.clear()
            self.wire = wire
            wire.on_reply, wire.on_lost = self.on_reply, self.on_lost
            for channel in self.channels.values():
                channel.asked = channel.answered = 0
                channel.wanted_at_server = False
            self.ask(b"SUBSCRIBE", [channel for channel in self.channels.values() if channel.subscriptions])
            self.silent_probes = 0
            self.probe_in(PROBE_S)
            await self.lost.wait()
            self.interruptions += 1
            # A server that accepts and hangs up at once must not be dialled in a tight loop.
            await self.clock.sleep(RETRY_FIRST_S * self.draw())

    def on_lost(self, _reason: str) -> None:
        """The connection broke: nothing is subscribed until the next one."""
        self.wire = None
        for channel in list(self.channels.values()):
            channel.interrupted = channel.interrupted or channel.ready
            channel.wanted_at_server = False
            if not channel.subscriptions:
                del self.channels[channel.key]
        self.lost.set()

    async def wait_for_store(self, longest_s: float) -> None:
        """Return when the store is back, or after a while."""
        self.found.clear()
        timer = self.clock.call_later(longest_s, self.found.set)
        try:
            await self.found.wait()
        finally:
            timer.cancel()

    def leave(self, reason: str) -> None:
        """Close the connection and make another: this one leads to where nothing is heard any more."""
        if self.wire is not None:
            self.wire.close(reason)

    def on_store_found(self) -> None:
        """The store is back after an outage: make sure that this connection is, too."""
        self.found.set()
        if self.wire is not None:
            self.silent_probes = SILENT_PROBES - 1
            self.probe()
            self.probe_in(PROBE_AFTER_OUTAGE_S)

    def probe_in(self, delay_s: float) -> None:
        """Look in *delay_s* whether anything was heard since now."""
        if self.timer is not None:
            self.timer.cancel()
        self.heard = False
        self.timer = self.clock.call_later(delay_s, self.on_timer)

    def on_timer(self) -> None:
        """An interval has passed: was there any sign of life?"""
        self.timer = None
        if self.wire is None or self.stopping:
            return
        if self.heard:
            self.silent_probes = 0
        elif self.silent_probes >= SILENT_PROBES:
            self.restarts += 1
            self.wire.close("subscribed, and deaf to our own messages")
            return
        self.probe()
        self.probe_in(PROBE_S)

    def probe(self) -> None:
        """Publish to ourselves; a probe that could not be published proves nothing about hearing."""
        wire = self.wire
        if wire is None:
            return
        key = keys.bus_channel(self.fleet, self.own)
        own = self.channels.get(key)
        outcome = self.general.call(b"PUBLISH", key, b"")

        def on_published(done: asyncio.Future[Any]) -> None:
            if done.cancelled() or done.exception() is not None:
                return
            self.silent_probes += 1
            nobody_heard = done.result() == 0 and not self.spread
            if nobody_heard and self.wire is wire and own is not None and own.ready:
                self.restarts += 1
                wire.close("the server has forgotten our subscriptions")

        outcome.add_done_callback(on_published)

    async def stop(self) -> None:
        """Close the connection; nobody hears anything any more."""
        self.stopping = True
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.wire is not None:
            self.wire.close("this store was stopped")
        for channel in self.channels.values():
            fail_all(channel.waiters, StoreUnavailable("this store was stopped"))


def fail_all(waiters: Iterable[asyncio.Future[None]], error: StoreFault) -> None:
    """Fail everybody who waits."""
    for waiter in waiters:
        fail(waiter, error)


def call(callback: Callable[..., None], *args: bytes) -> None:
    """Call a listener; its mistake is reported and takes no other listener down."""
    try:
        callback(*args)
    except Exception as exc:  # noqa: BLE001 - reported, not swallowed
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a listener of the bus failed", "exception": exc}
        )
