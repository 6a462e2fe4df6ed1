"""
Active health checks by `grpc.health.v1`, over the pool's own connections.

By `Watch` where the server has it (`health_stream.py`), else by `Check`. Only an explicit NOT_SERVING, or no
answer, speaks against an endpoint: a server without the health service, or with another idea of it, counts as
healthy because it answers. What the checks add up to is decided in `core/health.py`; who checks, when many
gateways could, in `upstreams/fleet.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import FAILURE_CODES
from silence_gateway.core.endpoints import Link
from silence_gateway.core.health import Check, Health, Streak, after_check, after_word
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.events import Observer, ProberBlind
from silence_gateway.upstreams.contracts import Caller
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint, Spawn
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.health_messages import check_request, says_not_serving
from silence_gateway.upstreams.health_stream import HealthStream
from silence_gateway.upstreams.settings import HealthSettings

CHECK = b"/grpc.health.v1.Health/Check"
SPEAK_AGAINST = (*sorted(FAILURE_CODES), Code.DEADLINE_EXCEEDED)
"""Ends of calls that make a check worth while, whatever else went well."""

MAX_SKIPPED = 1
"""
Checks in a row left out because calls go well. Only a check finds out that an endpoint wants no more calls,
so half of them stay; unless it is watched and would say so.
"""

JITTER = 0.1
"""Checks come up to this share earlier or later, so that those of many endpoints spread out."""


async def check(connection: Caller, request: bytes, deadline_s: float) -> tuple[Check, str]:
    """
    Ask once, and return how that ended and what to show for it.

    UNAVAILABLE counts as no answer: it is what a proxy says whose server is gone.
    """
    try:
        reply = await connection.unary(CHECK, request, (), deadline_s)
    except RpcError as error:
        if error.code == Code.UNAVAILABLE:
            return Check.SILENT, f"health check: UNAVAILABLE {error.details}"
        return Check.SERVING, ""
    except UpstreamFault as error:
        return Check.SILENT, f"health check: {error}"
    if says_not_serving(reply.message):
        return Check.REFUSING, "health check: NOT_SERVING"
    return Check.SERVING, ""


class HealthWatch:
    """Keeps one verdict per endpoint up to date. *on_verdict* is called when one changed."""

    def __init__(
        self,
        upstream: str,
        settings: HealthSettings,
        *,
        clock: Clock,
        rng: Random,
        observer: Observer,
        fleet: Fleet | None,
        on_verdict: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        self._spawn = spawn
        self._upstream = upstream
        self._observer = observer
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._fleet = fleet
        self._on_verdict = on_verdict
        self._request = check_request(settings.service)
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
        stream = self._streams[endpoint] = HealthStream(self._request, self._clock, wake.set)
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
            if not stream.live:
                stream.close()
            word = stream.take()
            undisputed = word is None and streak.health is Health.HEALTHY and not streak.against
            may_skip = stream.live or skipped < MAX_SKIPPED
            if calls_go_well and undisputed and may_skip and endpoint.link is Link.CONNECTED:
                skipped += 1
                count += 1
                if self._fleet is not None and fence:
                    self._fleet.tell_health(endpoint.address, streak, fence, count)
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
            elif self._fleet is not None and fence:
                self._fleet.tell_health(endpoint.address, streak, fence, count)
            if health is not Health.UNKNOWN and health is not endpoint.health:
                endpoint.health = health
                self._on_verdict()

    async def _ask(self, connection: Connection, stream: HealthStream) -> tuple[Check, str]:
        """Ask once, in the way in which the server can be asked."""
        deadline_s = self._clock.monotonic_s() + self._settings.timeout_s
        if self._settings.watch and stream.served:
            said = await stream.ask(connection, deadline_s)
            if said is not None:
                return said
        return await check(connection, self._request, deadline_s)

    def _asked(self, address: str) -> None:
        """Another instance gets no answer from *address* and wants to know whether we do."""
        endpoint = next((one for one in self._wake if one.address == address), None)
        if endpoint is not None and self._fleet is not None:
            self._spawn(self._second_opinion(self._fleet, endpoint))

    async def _second_opinion(self, fleet: Fleet, endpoint: Endpoint) -> None:
        """Check *endpoint* once for another instance, unless somebody else does."""
        if not await fleet.may_answer(endpoint.address):
            return
        outcome, connection = Check.SILENT, endpoint.any_connection()
        if connection is not None:
            deadline_s = self._clock.monotonic_s() + self._settings.timeout_s
            outcome, _ = await check(connection, self._request, deadline_s)
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
