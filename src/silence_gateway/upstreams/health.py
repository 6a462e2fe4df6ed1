"""
Active health checks by `grpc.health.v1.Health/Check`, over the pool's own connections.

The two messages are one field each and written by hand here. Only an explicit NOT_SERVING, or no answer,
speaks against an endpoint: a server without the health service, or with another idea of it, counts as
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
from silence_gateway.core.health import Check, Health, Streak, after_check
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.events import Observer, ProberBlind
from silence_gateway.upstreams.contracts import Caller
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.record import LastCheck
from silence_gateway.upstreams.settings import HealthSettings

CHECK = b"/grpc.health.v1.Health/Check"
NOT_SERVING = 2
SPEAK_AGAINST = (*sorted(FAILURE_CODES), Code.DEADLINE_EXCEEDED)
"""Ends of calls that make a check worth while, whatever else went well."""

MAX_SKIPPED = 1
"""
Checks in a row left out because calls go well. Only a check finds out that an endpoint wants no more calls,
so half of them stay.
"""

JITTER = 0.1
"""Checks come up to this share earlier or later, so that those of many endpoints spread out."""


def check_request(service: str) -> bytes:
    """Return a HealthCheckRequest for *service*: field 1, a string, absent when empty."""
    name = service.encode()
    return b"\x0a" + varint(len(name)) + name if name else b""


def says_not_serving(message: bytes) -> bool:
    """
    Return whether a HealthCheckResponse says NOT_SERVING (field 1, an enum; the last one counts).

    Anything that cannot be read says nothing.
    """
    status, at = 0, 0
    while at < len(message):
        key, at = read_varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(message, at)
            if key >> 3 == 1:
                status = value
        elif kind == 2:
            length, at = read_varint(message, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return False
        if at > len(message):
            return False
    return status == NOT_SERVING


def varint(number: int) -> bytes:
    """Return *number* in base 128, lowest group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at* and where it ends; beyond the end of *message* if it is cut short."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    return number, len(message) + 1


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
        instance: str = "",
    ) -> None:
        self._instance = instance
        self._upstream = upstream
        self._observer = observer
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._fleet = fleet
        self._on_verdict = on_verdict
        self._request = check_request(settings.service)
        self._wake: dict[Endpoint, asyncio.Event] = {}
        self._anew: set[Endpoint] = set()
        self._last: dict[Endpoint, Check] = {}
        self._blind = False
        self._calls: dict[Endpoint, tuple[int, int]] = {}

    def reconnected(self, endpoint: Endpoint) -> None:
        """
        Check *endpoint* at once if it was unhealthy: what answers there now is most likely a new process.

        The first good check is enough then, as for an endpoint that was never seen before.
        """
        wake = self._wake.get(endpoint)
        if wake is not None and endpoint.health is Health.UNHEALTHY:
            self._anew.add(endpoint)
            wake.set()

    def watches(self, endpoint: Endpoint) -> bool:
        """Tell whether *endpoint* is watched."""
        return endpoint in self._wake

    async def watch(self, endpoint: Endpoint) -> None:
        """Check *endpoint* every interval until it is removed; cancelling it is safe."""
        wake = self._wake[endpoint] = asyncio.Event()
        try:
            await self._watch(endpoint, wake)
        finally:
            del self._wake[endpoint]
            self._anew.discard(endpoint)
            self._last.pop(endpoint, None)
            self._calls.pop(endpoint, None)

    async def _watch(self, endpoint: Endpoint, wake: asyncio.Event) -> None:
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
                self._last.pop(endpoint, None)
                continue
            fence = 0
            calls_go_well = self._calls_go_well(endpoint)
            if self._fleet is not None:
                lease = await self._fleet.lead_checks(endpoint.address)
                if lease is None:
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
            undisputed = streak.health is Health.HEALTHY and not streak.against
            if calls_go_well and undisputed and skipped < MAX_SKIPPED and endpoint.link is Link.CONNECTED:
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
            if connection is not None:
                deadline_s = self._clock.monotonic_s() + self._settings.timeout_s
                outcome, error = await check(connection, self._request, deadline_s)
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
            if self._is_blind() and health is Health.UNHEALTHY:
                health = Health.DOUBTED
                if self._fleet is not None and fence:
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

    def _is_blind(self) -> bool:
        """
        Return whether nobody answers our checks, of two endpoints or more.

        That they are all gone at once is less likely than that we cannot reach them: they stay in use if
        nobody better is left, and another instance shall check.
        """
        blind = len(self._last) > 1 and all(check is Check.SILENT for check in self._last.values())
        if blind and not self._blind:
            self._observer(ProberBlind(upstream=self._upstream, endpoints=len(self._last)))
        self._blind = blind
        return blind

    def _calls_go_well(self, endpoint: Endpoint) -> bool:
        """Return whether calls were answered since the last look, and none failed."""
        good, bad = endpoint.codes[0], sum(endpoint.codes[code] for code in SPEAK_AGAINST)
        was_good, was_bad = self._calls.get(endpoint, (0, 0))
        self._calls[endpoint] = (good, bad)
        return good > was_good and bad == was_bad
