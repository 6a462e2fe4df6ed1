"""
One endpoint of an upstream: its connections and what is counted about it.

It dials, keeps one connection alive, opens more when streams run out, and closes those again that nobody
needs. Whether it may take calls is not decided here (`core/endpoints.py`), nor is which one gets them
(`core/balancing/`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.backoff import Backoff, wait_us
from silence_gateway.core.balancing.slow_start import FULL
from silence_gateway.core.breaker import Breaker, BreakerPolicy
from silence_gateway.core.endpoints import Link, Standing, Verdict
from silence_gateway.core.fleet_facts import HoldFact
from silence_gateway.core.health import Health
from silence_gateway.errors import GatewayError
from silence_gateway.upstreams.dialing import Connection, Connector
from silence_gateway.upstreams.settings import EndpointSettings, PoolSettings

# The first wait is short because most endpoints that go away are being restarted; the cap keeps recovery
# of one that was away for long within seconds, and a refused connection costs next to nothing.
RECONNECT = Backoff(first_us=100_000, cap_us=5_000_000, floor_us=20_000)

STABLE_S = 10.0
"""A connection that lived this long clears the count of failed attempts; one that flaps does not."""
GOODBYE_STABLE_S = 0.5
"""Servers end connections of a certain age, a second or more, in good order; only doing so at once is odd."""

MAX_ERROR_TEXT = 300

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Endpoint:
    """
    One address, its connections, and its counts.

    *on_change* is called after anything that may change its standing, *on_room* when a call that waits
    may find room, *on_lost* with the reason when the last connection broke, *on_connected* when the first
    one stands.

    Attributes:
        active: Not draining and not removed.
        removed: On its way out for good.
        leaving: Somebody waits for the end of its last call.
        in_flight: Calls begun and not ended.
        streaming: Streams among them; these may rightly be silent for hours.
        penalty: Failures not yet forgotten; this, `share` and `rtt_s` are as `core.balancing.Candidate` says.
        heard_s: When it last answered a unary call, or owed no answer; monotonic seconds.
        ready_s: When it last began to take calls, monotonic seconds.
        codes: Calls ended, by gRPC code.
        connections: Those that take calls.
        retiring: Those that only finish what they have.
        verdict: What it is good for, as last worked out.
        since_us: Since when, in microseconds since the Unix epoch.
        down: Whether it was announced as down.
        ejected: Whether it is left alone, as an outlier; *ejections* counts how often it was.
        vouched: Whether its health was found out by another instance.
        hold: What an operator said about its breaker; None leaves that to itself.
    """

    __slots__ = (
        "_attempt", "_clock", "_closed", "_connected_s", "_connector", "_current", "_dials", "_idle",
        "_limit", "_on_change", "_on_connected", "_on_lost", "_on_room", "_pool", "_rng", "_spawn",
        "active", "address", "breaker", "codes", "connections", "down", "ejected", "ejections", "health",
        "heard_s", "hold", "in_flight", "last_error", "leaving", "link", "penalty", "priority", "ready_s",
        "removed", "retiring", "rtt_s", "share", "since_us", "streaming", "verdict", "vouched", "weight",
        "zone",
    )  # fmt: skip

    def __init__(
        self,
        settings: EndpointSettings,
        pool: PoolSettings,
        policy: BreakerPolicy,
        *,
        connector: Connector,
        clock: Clock,
        rng: Random,
        spawn: Spawn,
        on_change: Callable[[], None],
        on_room: Callable[[], None],
        on_lost: Callable[[Endpoint, str], None],
        on_connected: Callable[[Endpoint], None],
    ) -> None:
        self.address = settings.address
        self.update(settings)
        self.breaker = Breaker(policy, round(clock.monotonic_s() * 1e6))
        self.health = Health.UNKNOWN
        self.link = Link.CONNECTING
        self.active = True
        self.removed = False
        self.leaving = False
        self.verdict = Verdict.WAITING
        self.down = False
        self.ejected = False
        self.ejections = 0
        self.vouched = False
        self.hold: HoldFact | None = None
        self.since_us = clock.now_us()
        self.last_error = ""
        self.in_flight = 0
        self.streaming = 0
        self.penalty = 0
        self.rtt_s = 0.0
        self.heard_s = self.ready_s = clock.monotonic_s()
        self.codes = [0] * 17
        self.connections: list[Connection] = []
        self.retiring: list[Connection] = []
        self._current: Connection | None = None
        self._pool = pool
        self._limit = pool.max_streams
        self._connector = connector
        self._clock = clock
        self._rng = rng
        self._spawn = spawn
        self._on_change = on_change
        self._on_room = on_room
        self._on_lost = on_lost
        self._on_connected = on_connected
        self._attempt = 0
        self._dials = 0
        self._connected_s = 0.0
        self._idle: set[int] = set()
        self._closed = False

    @property
    def standing(self) -> Standing:
        """Everything that decides whether it may take calls."""
        return Standing(
            active=self.active,
            link=self.link,
            health=self.health,
            breaker=self.breaker.state,
            probing=self.breaker.probing,
            priority=self.priority,
            zone=self.zone,
            weight=self.weight,
            ejected=self.ejected,
            vouched=self.vouched,
        )

    @property
    def streams(self) -> int:
        """Calls in flight on all its connections, as these count them."""
        return sum(connection.open_streams for connection in (*self.connections, *self.retiring))

    def counted(self, now_us: int) -> tuple[int, int]:
        """Return the calls in the breaker's window, and how many of them failed."""
        return self.breaker.counted(now_us)

    def update(self, settings: EndpointSettings) -> None:
        """Be what *settings* say of this address from the pool's next `reconsider` on."""
        self.weight = settings.weight
        self.priority = settings.priority
        self.zone = settings.zone
        self.share = settings.weight * FULL

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._dial()

    def with_room(self) -> Connection | None:
        """Return a connection that takes a call now; if there is none, see to it that there will be."""
        current = self._current
        if current is not None and current.accepting:
            streams = current.open_streams  # a property: 0.1 us a look
            if streams < current.max_streams and streams < self._limit:
                return current
        return self._search()

    def any_connection(self) -> Connection | None:
        """Return a connection that takes calls, full or not, without opening one."""
        return next((connection for connection in self.connections if connection.accepting), None)

    def trim(self) -> None:
        """Close further connections that had no call now and at the last trim."""
        idle = {id(connection) for connection in self.connections[1:] if connection.open_streams == 0}
        for connection in [one for one in self.connections if id(one) in idle & self._idle]:
            self.connections.remove(connection)
            if self._current is connection:
                self._current = None
            self._spawn(connection.close())
        self._idle = idle

    async def close(self) -> None:
        """End every connection at once and dial no more. Cancelling it may leave some open."""
        self._closed = True
        self._current = None
        connections = [*self.connections, *self.retiring]
        self.connections, self.retiring = [], []
        for connection in connections:
            await connection.close(graceful=False)

    def _search(self) -> Connection | None:
        # Full first: calls of one tick that share a connection share its write.
        for connection in tuple(self.connections):
            if not connection.accepting:
                self._retire(connection, "")
            elif connection.open_streams < min(connection.max_streams, self._limit):
                self._current = connection
                return connection
        if self.connections and not self._dials and len(self.connections) < self._pool.max_connections:
            self._dial()
        return None

    def _dial(self) -> None:
        if not self._closed and not self._dials:
            self._dials += 1
            self._spawn(self._connect())

    async def _connect(self) -> None:
        """Dial until a connection stands; a further one is tried once, and again when asked for again."""
        try:
            while not self._closed:
                if self._attempt:
                    await self._clock.sleep(wait_us(RECONNECT, self._attempt - 1, self._rng.random()) / 1e6)
                if await self._connect_once() or self.connections:
                    return
        finally:
            self._dials -= 1

    async def _connect_once(self) -> bool:
        lost: list[str] = []
        connection: Connection | None = None

        def on_lost(reason: str) -> None:
            # Before the connector has returned there is nothing to retire yet.
            if connection is None:
                lost.append(reason)
            else:
                self._retire(connection, reason)

        try:
            connection = await self._connector(self.address, on_lost=on_lost, on_capacity=self._on_room)
        except (GatewayError, OSError, ValueError) as error:
            self._note(str(error) or type(error).__name__)
            self._attempt += 1
            if not self.connections:
                self.link = Link.BROKEN
                self._on_change()
            return False
        if self._closed:
            await connection.close(graceful=False)
            return True
        self.connections.append(connection)
        if lost:
            self._retire(connection, lost[0])
            return bool(self.connections)
        first = len(self.connections) == 1
        self._current = connection
        if first:
            self._connected_s = self._clock.monotonic_s()
            self.link = Link.CONNECTED
            self._on_change()
            self._on_connected(self)
        else:
            self._attempt = 0
            self._on_change()
        return True

    def _retire(self, connection: Connection, reason: str) -> None:
        self.retiring = [one for one in self.retiring if one.open_streams and one is not connection]
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self._current = None
        if connection.open_streams:
            self.retiring.append(connection)
        if self._closed or self.connections:
            return
        if reason:
            self._note(reason)
        stable_s = STABLE_S if reason else GOODBYE_STABLE_S
        lived_s = self._clock.monotonic_s() - self._connected_s
        self._attempt = 0 if lived_s >= stable_s else self._attempt + 1
        # A first wait is too short to turn calls away for; later ones are not.
        self.link = Link.CONNECTING if self._attempt <= 1 else Link.BROKEN
        self._dial()
        self._on_lost(self, reason)
        self._on_change()

    def _note(self, error: str) -> None:
        self.last_error = error[:MAX_ERROR_TEXT]
