"""
Active health checks: who is checked when, and what becomes of it.

How one check goes is `grpc_health.py` or `http_health.py`; a gRPC server that has `Watch` is watched instead
(`health_stream.py`). What the checks add up to is decided in `core/health.py`; who checks, when many gateways
could, in `upstreams/fleet.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import FAILURE_CODES
from silence_gateway.core.endpoints import Link
from silence_gateway.core.health import Check, Health, Streak, after_check, after_word
from silence_gateway.core.status import Code
from silence_gateway.events import Observer, ProberBlind
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint, Spawn
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.health_messages import check_request
from silence_gateway.upstreams.health_stream import HealthStream
from silence_gateway.upstreams.record import LastCheck
from silence_gateway.upstreams.settings import HealthSettings

Checker: TypeAlias = Callable[[Connection, float], Awaitable[tuple[Check, str]]]
"""
Checks an endpoint once over a connection to it, until the given monotonic second, and returns how that
ended and what to show for it. It raises nothing.
"""

SPEAK_AGAINST = (*sorted(FAILURE_CODES), Code.DEADLINE_EXCEEDED)
"""Ends of calls that make a check worth while, whatever else went well."""

MAX_SKIPPED = 1
"""
Checks in a row left out because calls go well. Only a check finds out that an endpoint wants no more calls,
so half of them stay; unless it is watched and would say so.
"""

JITTER = 0.1
"""Checks come up to this share earlier or later, so that those of many endpoints spread out."""


class HealthWatch:
    """Keeps one verdict per endpoint up to date. *on_verdict* is called when one changed."""

    def __init__(
        self,
        upstream: str,
        settings: HealthSettings,
        check: Checker,
        *,
        clock: Clock,
        rng: Random,
        observer: Observer,
        fleet: Fleet | None,
        on_verdict: Callable[[], None],
        spawn: Spawn,
        instance: str = "",
    ) -> None:
        self._instance = instance
        self._spawn = spawn
        self._upstream = upstream
        self._observer = observer
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._fleet = fleet
        self._on_verdict = on_verdict
        self._check = check
        self._wake: dict[Endpoint, asyncio.Event] = {}
        self._streams: dict[Endpoint, HealthStream] = {}
        self._anew: set[Endpoint] = set()
        self._last: dict[Endpoint, Check] = {}
        self._blind = False
        self._calls: dict[Endpoint, tuple[int, int]] = {}
        if fleet is not None:
            fleet.on_ask = self._asked

    def reconnected(self, endpoint: Endpoint) -> None:
        """
        Check *endpoint* at once if it was unhealthy: what answers there now is most likely a new process.

        The first good check is enough then, as for an endpoint that was never seen before.
        """
        wake = self._wake.get(endpoint)
        if wake is None:
            return
        self._streams[endpoint].served = True
        if endpoint.health is Health.UNHEALTHY:
            self._anew.add(endpoint)
            wake.set()

    def lost(self, endpoint: Endpoint) -> None:
        """Watch *endpoint* no more, whose connections went: one that says goodbye waits for its streams."""
        stream = self._streams.get(endpoint)
        if stream is not None:
            stream.close()

    def watches(self, endpoint: Endpoint) -> bool:
        """Tell whether *endpoint* is watched."""
        return endpoint in self._wake

    async def watch(self, endpoint: Endpoint) -> None:
        """Check *endpoint* every interval until it is removed; cancelling it is safe."""
        wake = self._wake[endpoint] = asyncio.Event()
        stream = self._streams[endpoint] = HealthStream(
            check_request(self._settings.service), self._clock, wake.set
        )
        try:
            await self._watch(endpoint, wake, stream)
        finally:
            stream.close()
            del self._streams[endpoint]
            del self._wake[endpoint]
            self._anew.discard(endpoint)
            self._last.pop(endpoint, None)
            self._calls.pop(endpoint, None)

    async def _watch(self, endpoint: Endpoint, wake: asyncio.Event, stream: HealthStream) -> None:
        interval_s = self._settings.interval_s
        # The first check comes soon, and those of many endpoints and gateways not all at once.
        wait_s = min(interval_s, 1.0) * self._rng.random()
        streak = Streak()
        count = 0
        skipped = 0
        while not endpoint.removed:
            timer = self._clock.call_later(wait_s, wake.set)
            try:
                await wake.wait()
            finally:
                timer.cancel()
            wake.clear()
            if endpoint in self._anew:
                self._anew.discard(endpoint)
                streak = Streak(Health.UNHEALTHY, self._settings.healthy_after - 1)
            wait_s = interval_s * (1 - JITTER + 2 * JITTER * self._rng.random())
            if endpoint.link is Link.IDLE:
                # Whom nobody calls here is for others to check, or for nobody; a call opens a connection.
                stream.close()
                self._last.pop(endpoint, None)
                continue
            fence = 0
            calls_go_well = own_calls_go_well = self._calls_go_well(endpoint)
            if self._fleet is not None:
                lease = await self._fleet.lead_checks(endpoint.address)
                if lease is None:
                    stream.close()
                    self._last.pop(endpoint, None)
                    if calls_go_well:
                        self._fleet.tell_answers(endpoint.address)
                    # Should checking come to us later, it goes on from what the others found out; a mere
                    # doubt is nothing to go on from.
                    streak = Streak(Health.UNKNOWN if endpoint.health is Health.DOUBTED else endpoint.health)
                    continue
                fence = lease
                calls_go_well = calls_go_well or self._fleet.answers_heard(endpoint.address)
            endpoint.record.checked_by(self._instance, self._clock.now_us())
            if not stream.live:
                stream.close()
            word = stream.take()
            undisputed = word is None and streak.health is Health.HEALTHY and not streak.against
            may_skip = stream.live or skipped < MAX_SKIPPED
            if calls_go_well and undisputed and may_skip and endpoint.link is Link.CONNECTED:
                skipped += 1
                count += 1
                if self._fleet is not None and fence:
                    self._tell(self._fleet, endpoint, streak, fence, count)
                continue
            skipped = 0
            connection = endpoint.any_connection()
            if connection is None and endpoint.link is Link.CONNECTING:
                continue
            # Why there is no connection is known already, and says more than that there is none.
            outcome, error = Check.SILENT, ""
            if word is not None:
                outcome, streak = word, after_word(word)
            else:
                if connection is not None:
                    outcome, error = await self._ask(connection, stream)
                streak = after_check(
                    streak, outcome, self._settings.unhealthy_after, self._settings.healthy_after
                )
            count += 1
            endpoint.vouched = False
            endpoint.record.check = LastCheck(outcome=outcome, at_us=self._clock.now_us(), by=self._instance)
            self._last[endpoint] = outcome
            if error:
                endpoint.last_error = error
            health = streak.health
            if outcome is Check.SILENT and self._fleet is not None and fence:
                self._fleet.ask_others(endpoint.address)
            blind = self._is_blind(endpoint)
            if health is Health.UNHEALTHY and outcome is Check.SILENT and own_calls_go_well:
                # Who answers calls is there, whatever became of its health service.
                health = Health.DOUBTED
            elif blind and health is Health.UNHEALTHY:
                health = Health.DOUBTED
                if self._fleet is not None and fence:
                    stream.close()
                    self._fleet.stand_down(endpoint.address)
                    endpoint.record.checked_by("", self._clock.now_us())
            elif self._fleet is not None and fence:
                self._tell(self._fleet, endpoint, streak, fence, count)
            if health is not Health.UNKNOWN and health is not endpoint.health:
                endpoint.health = health
                self._on_verdict()

    def _tell(self, fleet: Fleet, endpoint: Endpoint, streak: Streak, fence: int, count: int) -> None:
        record = endpoint.record
        fleet.tell_health(
            endpoint.address,
            streak,
            fence,
            count,
            since_us=record.prober_since_us,
            checked_us=record.check.at_us if record.check is not None else 0,
        )

    async def _ask(self, connection: Connection, stream: HealthStream) -> tuple[Check, str]:
        """Ask once, in the way in which the server can be asked."""
        deadline_s = self._clock.monotonic_s() + self._settings.timeout_s
        if self._settings.watch and stream.served:
            said = await stream.ask(connection, deadline_s)
            if said is not None:
                return said
        return await self._check(connection, deadline_s)

    def _asked(self, address: str) -> None:
        """Another instance gets no answer from *address* and wants to know whether we do."""
        endpoint = next((one for one in self._wake if one.address == address), None)
        if endpoint is not None and self._fleet is not None:
            self._spawn(self._second_opinion(self._fleet, endpoint))

    async def _second_opinion(self, fleet: Fleet, endpoint: Endpoint) -> None:
        """Check *endpoint* once for another instance, unless somebody else does."""
        # Who is idle here has not been tried, and says nothing either way.
        if endpoint.link is Link.IDLE or not await fleet.may_answer(endpoint.address):
            return
        outcome, connection = Check.SILENT, endpoint.any_connection()
        if connection is not None:
            deadline_s = self._clock.monotonic_s() + self._settings.timeout_s
            outcome, _ = await self._check(connection, deadline_s)
        if outcome is Check.SILENT:
            fleet.tell_silence(endpoint.address)
        else:
            fleet.tell_answers(endpoint.address)

    def _is_blind(self, endpoint: Endpoint) -> bool:
        """
        Return whether the silence of *endpoint* says more about us than about it.

        So it does if it answers another instance. And if nobody answers our checks, of two endpoints or more,
        and no other instance has found the same: that all are gone at once is less likely than that we cannot
        reach them. They stay in use if nobody better is left, and another instance shall check.
        """
        if self._last[endpoint] is not Check.SILENT:
            self._blind = False
            return False
        address, fleet = endpoint.address, self._fleet
        reached = fleet is not None and fleet.reached_by_others(address)
        confirmed = fleet is not None and fleet.silence_heard(address)
        all_silent = all(check is Check.SILENT for check in self._last.values())
        blind = reached or (all_silent and len(self._last) > 1 and not confirmed)
        if blind and all_silent and not self._blind:
            self._observer(ProberBlind(upstream=self._upstream, endpoints=len(self._last)))
        self._blind = blind
        return blind

    def _calls_go_well(self, endpoint: Endpoint) -> bool:
        """Return whether calls were answered since the last look, and none failed."""
        good, bad = endpoint.codes[0], sum(endpoint.codes[code] for code in SPEAK_AGAINST)
        was_good, was_bad = self._calls.get(endpoint, (0, 0))
        self._calls[endpoint] = (good, bad)
        return good > was_good and bad == was_bad
