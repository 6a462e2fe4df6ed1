"""
One endpoint of an upstream: its connections and what is counted about it.

It dials, keeps connections alive, opens more when streams run out, and renews and closes them as
`core/connection_upkeep.py` says; how long it waits before it dials again is `redials.py`. Whether it may
take calls is not decided here (`core/endpoints.py`), nor is which one gets them (`core/balancing/`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.balancing.slow_start import FULL
from silence_gateway.core.breaker import Breaker, BreakerPolicy, State
from silence_gateway.core.durations import BUCKETS
from silence_gateway.core.endpoints import Link, Standing, Verdict
from silence_gateway.core.fleet_facts import HoldFact
from silence_gateway.core.health import Health
from silence_gateway.core.operator_words import DrainFact
from silence_gateway.errors import GatewayError
from silence_gateway.upstreams.dialing import Connection, Connector, Listening, opened_by
from silence_gateway.upstreams.line_ages import LineAges
from silence_gateway.upstreams.record import BreakerHistory, EndpointRecord
from silence_gateway.upstreams.redials import Redials
from silence_gateway.upstreams.settings import EndpointSettings, PoolSettings

WARM_UP_S = 1.0
"""How long an endpoint with one connection may be kept from calls until the others stand as well."""

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Endpoint:
    """
    One address, its connections, and its counts.

    *on_change* is called after anything that may change its standing, *on_room* when a call that waits
    may find room, *on_lost* with the reason when the last connection broke, *on_unreachable* when the first
    dial after that failed, *on_connected* when the first one stands.

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
        statuses: Those of them that ended with an HTTP answer, by its `counted_status`.
        durations: Unary calls that were answered, or not until their deadline, by bucket of
            `core.durations`, timed from when they got their place here.
        connections: Those that take calls.
        current: The one of them that took a call last, or None.
        retiring: Those that only finish what they have.
        verdict: What it is good for, as last worked out.
        since_us: Since when, in microseconds since the Unix epoch.
        down: Whether it was announced as down.
        vetoed: Whether it was announced as out of reach here alone.
        ejected: Whether it is left alone, as an outlier; *ejections* counts how often it was.
        vouched: Whether another instance has found it well since it was last within reach here.
        silent: How many of its connections owe answers and have gone quiet.
        drain: What an operator said who drained it in the whole fleet; None if nobody did.
        hold: What an operator said about its breaker; None leaves that to itself.
        history: What its breaker did.
        record: What is written down about it for people to read.
    """

    __slots__ = (
        "_ages", "_clock", "_closed", "_connected_s", "_connector", "_dials", "_limit", "_on_change",
        "_on_connected", "_on_lost", "_on_room", "_on_unreachable", "_pool", "_redials", "_spawn", "active",
        "address", "breaker", "codes", "connections", "current", "down", "drain", "durations", "ejected",
        "ejections", "health", "heard_s", "history", "hold", "in_flight", "leaving", "link", "penalty",
        "priority", "ready_s", "record", "removed", "retiring", "rtt_s", "share", "silent", "since_us",
        "statuses", "streaming", "verdict", "vetoed", "vouched", "weight", "zone",
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
        on_unreachable: Callable[[], None],
        on_connected: Callable[[Endpoint], None],
    ) -> None:
        self.address = settings.address
        self.update(settings)
        self.breaker = Breaker(policy, round(clock.monotonic_s() * 1e6))
        self.health = Health.UNKNOWN
        self.link = Link.CONNECTING
        self.active = True
        self.removed = self.leaving = self.down = self.ejected = self.vouched = self.vetoed = False
        self.verdict = Verdict.WAITING
        self.drain: DrainFact | None = None
        self.hold: HoldFact | None = None
        self.since_us = clock.now_us()
        self.history = BreakerHistory()
        self.record = EndpointRecord(self.since_us, clock.monotonic_s())
        self.in_flight = self.streaming = self.silent = self.penalty = self.ejections = 0
        self.rtt_s = 0.0
        self.heard_s = self.ready_s = clock.monotonic_s()
        self.codes = [0] * 17
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.durations = [0] * BUCKETS
        self.connections: list[Connection] = []
        self.retiring: list[Connection] = []
        self.current: Connection | None = None
        self._pool = pool
        self._limit = pool.max_streams
        self._connector = connector
        self._clock = clock
        self._spawn = spawn
        self._on_change = on_change
        self._on_room = on_room
        self._on_lost = on_lost
        self._on_unreachable = on_unreachable
        self._on_connected = on_connected
        self._redials = Redials(rng)
        self._dials = 0
        self._connected_s = 0.0
        self._ages = LineAges(pool, clock, rng)
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
            silent=self.silent > 0,
        )

    @property
    def streams(self) -> int:
        """Calls in flight on all its connections, as these count them."""
        return sum(connection.open_streams for connection in self._open)

    @property
    def last_error(self) -> str:
        """What last went wrong with a connection, a call or a check; empty if nothing did."""
        mishap = self.record.mishap
        return "" if mishap is None else mishap.text

    @last_error.setter
    def last_error(self, text: str) -> None:
        self.record.went_wrong(text, self._clock.now_us())

    @property
    def bytes_in(self) -> int:
        """Bytes received on all its connections, ever."""
        return self.record.bytes_in + sum(one.statistics.bytes_in for one in self._open)

    @property
    def bytes_out(self) -> int:
        """Bytes sent on all its connections, ever."""
        return self.record.bytes_out + sum(one.statistics.bytes_out for one in self._open)

    @property
    def connects(self) -> int:
        """Connections made to it, ever; of HTTP every socket."""
        return self.record.connects + sum(map(opened_by, self._open))

    @property
    def _open(self) -> tuple[Connection, ...]:
        return (*self.connections, *self.retiring)

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
        current = self.current
        if current is not None and current.accepting:
            streams = current.open_streams  # a property: 0.1 us a look
            if streams < current.max_streams and streams < self._limit:
                return current
        return self._search()

    def any_connection(self) -> Connection | None:
        """Return a connection that takes calls, full or not, without opening one."""
        return next((connection for connection in self.connections if connection.accepting), None)

    def tend(self) -> None:
        """Close, renew and open connections as their age and use want it; call it once a second."""
        if self._closed:
            return
        self._let_go()
        self._warmed()
        if self.link is Link.IDLE and not self._may_rest:
            self._dial()
        plan = self._ages.look(self.connections, sum(self.codes), self.in_flight)
        closing = [self.connections[index] for index in plan.close]
        renewed = None
        if plan.renew is not None and len(self.retiring) < self._pool.max_connections:
            renewed = self.connections[plan.renew]
        if len(closing) == len(self.connections) and (self._dials or not self._may_rest):
            closing = []
        for connection in closing:
            self._part_with(connection)
        if closing and not self.connections:
            # The call that wakes it shall not wait for what went wrong before it stood.
            self._redials.forget()
            self.link = Link.IDLE
            self._on_change()
        elif (renewed is not None or plan.missing) and not self.removed:
            self._dial(renewed)

    async def close(self) -> None:
        """End every connection at once and dial no more. Cancelling it may leave some open."""
        self._closed = True
        self.current = None
        connections = self._open
        self.connections, self.retiring = [], []
        for connection in connections:
            self._count_out(connection)
            await connection.close(graceful=False)

    @property
    def _may_rest(self) -> bool:
        """Whether nothing that needs a connection waits to be found out about it."""
        in_question = self.health in (Health.UNHEALTHY, Health.DOUBTED)
        return not in_question and self.breaker.state in (State.CLOSED, State.HELD_CLOSED)

    def _search(self) -> Connection | None:
        # Full first: calls of one tick that share a connection share its write.
        for connection in tuple(self.connections):
            if not connection.accepting:
                self._retire(connection, "")
            elif connection.open_streams < min(connection.max_streams, self._limit):
                self.current = connection
                return connection
        further = bool(self.connections) and len(self.connections) < self._pool.max_connections
        if further or self.link is Link.IDLE:
            self._dial()
        return None

    def _dial(self, renewed: Connection | None = None) -> None:
        if not self._closed and not self._dials:
            self._dials += 1
            self._spawn(self._connect(renewed))

    async def _connect(self, renewed: Connection | None) -> None:
        """Dial until there are enough connections; a further one is tried once each time it is asked for."""
        try:
            while not self._closed:
                wait_s = self._redials.wait_s(further=bool(self.connections))
                if wait_s:
                    await self._clock.sleep(wait_s)
                stands = await self._connect_once()
                if renewed is not None and self.connections:
                    if not stands:
                        self._ages.postpone(renewed)
                    elif renewed in self.connections:
                        self._part_with(renewed)
                if self.connections and (not stands or len(self.connections) >= self._pool.min_connections):
                    return
        finally:
            self._dials -= 1
            if not self._closed:
                self._warmed(enough=True)

    async def _connect_once(self) -> bool:
        """Dial once; return whether what was dialled stands."""
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
            self.last_error = str(error) or type(error).__name__
            self._redials.failed(further=bool(self.connections))
            # Of an attempt more nothing follows: a thousand endpoints that are away must not have the pool
            # look at all of them for each of their attempts.
            if not self.connections and self.link is not Link.BROKEN:
                self.link = Link.BROKEN
                self.vouched = False
                self._on_unreachable()
                self._on_change()
            return False
        if self._closed:
            await connection.close(graceful=False)
            return False
        self.connections.append(connection)
        if isinstance(connection, Listening):
            connection.watch_silence(self._heard_silence)
        self._ages.begin(connection)
        if lost:
            self._retire(connection, lost[0])
            return False
        self.current = connection
        self._redials.stands()
        if len(self.connections) == 1:
            self._connected_s = self._clock.monotonic_s()
        if self.link is Link.CONNECTED:
            self._on_change()
        else:
            self._warmed()
        return True

    def _warmed(self, *, enough: bool = False) -> None:
        """Take calls if as many connections stand as are wanted, or waiting took too long, or *enough*."""
        if not self.connections or self.link is Link.CONNECTED:
            return
        waited_s = self._clock.monotonic_s() - self._connected_s
        if enough or waited_s >= WARM_UP_S or len(self.connections) >= self._pool.min_connections:
            self.link = Link.CONNECTED
            self._on_change()
            self._on_connected(self)

    def _part_with(self, connection: Connection) -> None:
        """Give *connection* no more calls, and close it when those it has are over."""
        self.connections.remove(connection)
        self._ages.forget(connection)
        if self.current is connection:
            self.current = None
        if connection.open_streams:
            self.retiring.append(connection)
        else:
            self._count_out(connection)
        self._spawn(connection.close(graceful=True))

    def _retire(self, connection: Connection, reason: str) -> None:
        self._let_go(connection)
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self._ages.forget(connection)
        self.current = None
        if connection.open_streams:
            self.retiring.append(connection)
        else:
            self._count_out(connection)
        if self._closed or self.connections:
            return
        if reason:
            self.last_error = reason
        self._redials.lost(self._clock.monotonic_s() - self._connected_s, goodbye=not reason)
        self.link = Link.CONNECTING if self._redials.soon else Link.BROKEN
        self.vouched = False
        self._dial()
        self._on_lost(self, reason)
        self._on_change()

    def _heard_silence(self, begins: bool) -> None:
        self.silent += 1 if begins else -1
        self._on_change()

    def _let_go(self, lost: Connection | None = None) -> None:
        """Forget those connections without new calls whose last call is over, and *lost* if it is one."""
        for one in [one for one in self.retiring if not one.open_streams or one is lost]:
            self.retiring.remove(one)
            self._count_out(one)

    def _count_out(self, connection: Connection) -> None:
        """Take over what a connection has counted, so that totals never go down."""
        self.record.connects += opened_by(connection)
        self.record.bytes_in += connection.statistics.bytes_in
        self.record.bytes_out += connection.statistics.bytes_out
