"""
How old and how quiet the connections to one endpoint are: what `core/connection_upkeep.py` decides by.

It looks when it is asked to and remembers what it saw, so that calls pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random

from silence_gateway.clock import Clock
from silence_gateway.core.connection_upkeep import AGE_JITTER, LineState, Upkeep, UpkeepRules, upkeep
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.settings import PoolSettings

RENEWAL_PAUSE_S = 10.0
"""How long an old connection goes on when the one that should take its place could not be opened."""


class _Line:
    __slots__ = ("due_s", "quiet_since_s")

    def __init__(self, now_s: float, due_s: float) -> None:
        self.quiet_since_s = now_s
        self.due_s = due_s


class LineAges:
    """Remembers since when each connection has been there, and since when it has been quiet."""

    __slots__ = ("_calls", "_clock", "_lines", "_pool", "_quiet_since_s", "_rng", "_rules")

    def __init__(self, pool: PoolSettings, clock: Clock, rng: Random) -> None:
        self._pool = pool
        self._rules = UpkeepRules(min_connections=pool.min_connections, idle_timeout_s=pool.idle_timeout_s)
        self._clock = clock
        self._rng = rng
        self._lines: dict[Connection, _Line] = {}
        self._calls = 0
        self._quiet_since_s = clock.monotonic_s()

    def begin(self, connection: Connection) -> None:
        """Remember *connection*, which stands since now."""
        now_s, age_s = self._clock.monotonic_s(), self._pool.max_connection_age_s
        due_s = inf
        if age_s is not None:
            due_s = now_s + age_s * (1 - AGE_JITTER + 2 * AGE_JITTER * self._rng.random())
        self._lines[connection] = _Line(now_s, due_s)

    def forget(self, connection: Connection) -> None:
        """Remember *connection* no more; harmless if it is not known."""
        self._lines.pop(connection, None)

    def postpone(self, connection: Connection) -> None:
        """Let *connection* go on for a while, since nothing could take its place."""
        line = self._lines.get(connection)
        if line is not None:
            line.due_s = self._clock.monotonic_s() + RENEWAL_PAUSE_S

    def look(self, connections: Sequence[Connection], calls: int, in_flight: int) -> Upkeep:
        """
        Return what to do about *connections*.

        Args:
            connections: Those that take calls; every one has begun.
            calls: Calls of the endpoint that have ended since ever.
            in_flight: Its calls that have not.
        """
        now_s = self._clock.monotonic_s()
        if in_flight or calls != self._calls:
            self._calls, self._quiet_since_s = calls, now_s
        if not connections:
            return Upkeep()
        states: list[LineState] = []
        for connection in connections:
            line, busy = self._lines[connection], connection.open_streams > 0
            if busy:
                line.quiet_since_s = now_s
            states.append(
                LineState(busy=busy, quiet_s=now_s - line.quiet_since_s, overdue_s=now_s - line.due_s)
            )
        in_use = now_s - self._quiet_since_s < self._rules.idle_timeout_s
        return upkeep(states, self._rules, in_use=in_use)
