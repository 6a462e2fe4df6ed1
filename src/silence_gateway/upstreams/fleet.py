"""
What gateways tell each other about the endpoints of one upstream, through a board.

One gateway checks an endpoint's health: the holder of its lease. The others take the verdict from their
copy of the board and ask neither the endpoint nor the store. Breakers tell each other what they judged.
Nothing here is on the request path: facts are written by one background task, and leases are asked for by
whoever checks or probes in the background.

While the store is away, what was last known stays; once the lease must have run out, every gateway checks
for itself. What is read is untrusted: a value that is no fact is counted and otherwise ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import Breaker, State
from silence_gateway.core.fleet_facts import (
    BreakerFact,
    HealthFact,
    read_breaker,
    read_health,
    read_signature,
    written,
    written_breaker,
    written_health,
)
from silence_gateway.core.health import Health, Streak, on_hearsay
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.settings import HealthSettings
from silence_gateway.upstreams.shared_counts import SharedCounts

RESEND_S = 1.0
"""Wait before facts that could not be written are written again, unless newer ones replaced them."""

ENDED_S = 0.001
"""A lease renewed for this long has ended."""

BREAKER_FACT_EXTRA_S = 60.0
"""How much longer than its cool-down a trip stays on the board, for instances that start meanwhile."""


def told_s(breaker: Breaker) -> float:
    """Return for how long a judgement of *breaker* is on the board, in seconds."""
    return breaker.policy.cool_down_us / 1e6 + BREAKER_FACT_EXTRA_S


class Hearer(Protocol):
    """Does something about what others say; every address is one we expect."""

    def on_health(self, address: str, health: Health, fact: HealthFact) -> None:
        """Take over a verdict as it counts here; *fact* is what was said."""

    def on_breaker(self, address: str, state: State, term: int, age_us: int, by: str) -> None:
        """Take note of a judgement, its number, its age in microseconds, and whose it is."""

    def on_counts(self, address: str) -> None:
        """Take note that the others' counts of calls changed."""


class Heard:
    """What was last heard about one endpoint's health from another instance."""

    __slots__ = ("at_s", "fence")

    def __init__(self, at_s: float, fence: int) -> None:
        self.at_s = at_s
        self.fence = fence


class Fleet:
    """
    One instance's seat at the table.

    Attributes:
        malformed: Values on the board that were refused.
        unsent: Attempts to write a fact that the store did not take.
        counts: What breakers have in their windows.
        tallies: What outliers are judged by.
        on_ask: Called with an address that another instance gets no answer from; it wants a second opinion.
    """

    def __init__(
        self,
        upstream: str,
        board: Board,
        *,
        clock: Clock,
        instance: str,
        health: HealthSettings | None,
        hearer: Hearer,
    ) -> None:
        """
        Take a seat.

        Args:
            upstream: Its name; the room is `upstreams/<name>`.
            board: What the fleet shares.
            clock: For ages and waits.
            instance: How this one signs; must be unique in the fleet.
            health: Intervals of checks; None when nobody checks.
            hearer: Is told what others say about endpoints we expect.
        """
        self.malformed = 0
        self.unsent = 0
        self._room = f"upstreams/{upstream}"
        self._board = board
        self._clock = clock
        self._instance = instance
        interval_s = health.interval_s if health is not None else 5.0
        timeout_s = health.timeout_s if health is not None else 1.0
        self._fresh_s = 2 * interval_s
        self._lease_s = 2 * interval_s + timeout_s
        self._hearer = hearer
        self._copy: Mapping[str, bytes] = {}
        # Only what concerns our own endpoints is remembered: the board may hold any number of others.
        self._expected: set[str] = set()
        self._heard: dict[str, Heard] = {}
        self._leading: dict[str, int] = {}
        self._stood_down_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}
        self._silent_s: dict[str, float] = {}
        self.on_ask: Callable[[str], None] = lambda _address: None
        self.counts = SharedCounts("counts", instance, clock, self._write)
        self.tallies = SharedCounts("tally", instance, clock, self._write)
        self._lost_s: float | None = None
        self._unwritten: dict[str, tuple[bytes, float]] = {}
        self._wake = asyncio.Event()
        self._left = False

    def join(self) -> None:
        """Hear from now on."""
        self._copy = self._board.watch(self._room, self._changed)

    def expect(self, address: str) -> None:
        """Take over what is known about *address*, and hear what is said about it."""
        self._expected.add(address)
        for name in (f"health/{address}", f"breaker/{address}"):
            self._changed(name, self._copy.get(name))

    def leave(self) -> None:
        """Hear no more."""
        self._left = True

    async def lead_checks(self, address: str) -> int | None:
        """
        Ask whether this instance shall check *address* now.

        Returns None when another instance does, the fencing number of our lease when we do, and 0 when we
        do because the store has been away for longer than any lease.
        """
        heard = self._heard.get(address)
        now_s = self._clock.monotonic_s()
        if now_s < self._stood_down_s.get(address, 0.0):
            return None
        if address not in self._leading and heard is not None and now_s - heard.at_s < self._fresh_s:
            return None
        try:
            fence = await self._board.lead(self._room, f"check/{address}", self._lease_s)
        except StoreFault:
            if self._lost_s is None:
                self._lost_s = now_s
            if address in self._leading:
                return self._leading[address]
            return 0 if now_s - self._lost_s >= self._lease_s else None
        self._lost_s = None
        if fence <= 0:
            self._leading.pop(address, None)
            return None
        self._leading[address] = fence
        return fence

    def stand_down(self, address: str) -> None:
        """Let another instance check *address*: our own view of the endpoints is not to be trusted."""
        self._leading.pop(address, None)
        self._unwritten.pop(f"health/{address}", None)
        self._stood_down_s[address] = self._clock.monotonic_s() + 2 * self._lease_s

    async def may_probe(self, address: str, ttl_s: float) -> float | None:
        """
        Ask for the fleet's one right to probe a half-open *address*; without a store everybody has it.

        Returns until when (`Clock.monotonic_s`) the right is ours, counted from before it was asked for so
        that nobody else can have it at the same time; None if it is another's.
        """
        until_s = self._clock.monotonic_s() + ttl_s
        try:
            ours = await self._board.lead(self._room, f"probe/{address}", ttl_s) > 0
        except StoreFault:
            return until_s
        if not ours:
            # Who has it lets go after a probe that failed: what fails for one may work for another.
            self._write(f"want/{address}", written({"by": self._instance}), 2 * ttl_s)
            return None
        return until_s if self._clock.monotonic_s() < until_s else None

    async def end_probe(self, address: str) -> None:
        """Give up the right to probe *address*, held for as long as a call may take: the probe is over."""
        # Without a store everybody has the right anyway.
        with suppress(StoreFault):
            await self._board.lead(self._room, f"probe/{address}", ENDED_S)

    def others_want_to_probe(self, address: str) -> bool:
        """Return whether another instance asked for the right to probe *address* lately, in vain."""
        value = self._copy.get(f"want/{address}")
        if value is None:
            return False
        try:
            return read_signature(value) != self._instance
        except ValueError:
            self.malformed += 1
            return False

    def tell_answers(self, address: str) -> None:
        """Tell whoever checks *address* that our calls to it went well, unless somebody just did."""
        if not self.answers_heard(address):
            self._sign("seen", address, self._fresh_s)

    def answers_heard(self, address: str) -> bool:
        """Return whether another instance's calls to *address* went well within the last interval."""
        return self._clock.monotonic_s() - self._seen_s.get(address, -self._fresh_s) < self._fresh_s / 2

    def ask_others(self, address: str) -> None:
        """Ask whether anybody else gets an answer from *address*: we do not."""
        self._sign("ask", address, self._lease_s)

    async def may_answer(self, address: str) -> bool:
        """Return whether a second opinion on *address* is ours to give: one instance does in an interval."""
        try:
            return await self._board.lead(self._room, f"second/{address}", self._fresh_s / 2) > 0
        except StoreFault:
            return False

    def reached_by_others(self, address: str) -> bool:
        """Return whether another instance got answers from *address* since about our last check but one."""
        return self._clock.monotonic_s() - self._seen_s.get(address, -self._lease_s) < self._lease_s

    def tell_silence(self, address: str) -> None:
        """Tell whoever checks *address* that we get no answer from it either."""
        self._sign("silent", address, self._lease_s)

    def silence_heard(self, address: str) -> bool:
        """Return whether another instance got no answer from *address* either, lately."""
        return self._clock.monotonic_s() - self._silent_s.get(address, -self._lease_s) < self._lease_s

    def _sign(self, kind: str, address: str, ttl_s: float) -> None:
        # The time makes it a new value, which is pushed, each time.
        fact = written({"by": self._instance, "count": self._clock.now_us()})
        self._write(f"{kind}/{address}", fact, ttl_s)

    def tell_health(
        self,
        address: str,
        streak: Streak,
        fence: int,
        count: int,
        *,
        since_us: int = 0,
        checked_us: int = 0,
    ) -> None:
        """Tell the others what our checks of *address* add up to, and since and when we check."""
        if streak.last is None or streak.health not in (Health.HEALTHY, Health.UNHEALTHY):
            return
        fact = HealthFact(
            health=streak.health,
            last=streak.last,
            fence=fence,
            count=count,
            by=self._instance,
            since_us=since_us,
            checked_us=checked_us,
        )
        self._write(f"health/{address}", written_health(fact), 2 * self._lease_s)

    def tell_breaker(self, address: str, breaker: Breaker) -> None:
        """Tell the others what our breaker judged about *address*."""
        if breaker.state not in (State.OPEN, State.CLOSED):
            return
        fact = BreakerFact(
            state=breaker.state, term=breaker.term, at_us=self._clock.now_us(), by=self._instance
        )
        self._write(f"breaker/{address}", written_breaker(fact), told_s(breaker))

    def forget(self, address: str) -> None:
        """Drop what is remembered about a removed endpoint."""
        self._expected.discard(address)
        self._heard.pop(address, None)
        self._leading.pop(address, None)
        self._unwritten.pop(f"health/{address}", None)
        self._stood_down_s.pop(address, None)
        self._seen_s.pop(address, None)
        self._silent_s.pop(address, None)
        self.counts.forget(address)
        self.tallies.forget(address)

    async def write_facts(self) -> None:
        """Write what is told, newest per endpoint, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unwritten:
                name, (value, ttl_s) = next(iter(self._unwritten.items()))
                try:
                    await self._board.put(self._room, name, value, ttl_s)
                except StoreFault:
                    self.unsent += 1
                    await self._clock.sleep(RESEND_S)
                    continue
                if self._unwritten.get(name) == (value, ttl_s):
                    del self._unwritten[name]

    def _write(self, name: str, value: bytes, ttl_s: float) -> None:
        self._unwritten[name] = (value, ttl_s)
        self._wake.set()

    def _changed(self, name: str, value: bytes | None) -> None:
        # A value that ran out changes nothing: what was last known stays until somebody knows better.
        if self._left:
            return
        kind, _, address = name.partition("/")
        by = ""
        if kind in ("counts", "tally"):
            address, _, by = address.rpartition("/")
        if value is None or address not in self._expected:
            return
        try:
            if kind == "counts":
                if self.counts.hear(address, by, value):
                    self._hearer.on_counts(address)
            elif kind == "tally":
                self.tallies.hear(address, by, value)
            elif kind == "seen":
                if read_signature(value) != self._instance:
                    self._seen_s[address] = self._clock.monotonic_s()
            elif kind == "silent":
                if read_signature(value) != self._instance:
                    self._silent_s[address] = self._clock.monotonic_s()
            elif kind == "ask":
                if read_signature(value) != self._instance:
                    self.on_ask(address)
            elif kind == "health":
                self._hear_health(address, read_health(value))
            elif kind == "breaker":
                self._hear_breaker(address, read_breaker(value))
        except ValueError:
            self.malformed += 1

    def _hear_health(self, address: str, fact: HealthFact) -> None:
        if fact.by == self._instance:
            return
        now_s = self._clock.monotonic_s()
        heard = self._heard.get(address)
        # A lower fence is a prober that was replaced; unless the store forgot its numbers and starts anew.
        if heard is not None and fact.fence < heard.fence and now_s - heard.at_s < self._lease_s:
            return
        if fact.fence < self._leading.get(address, 0):
            return
        self._heard[address] = Heard(now_s, fact.fence)
        self._hearer.on_health(address, on_hearsay(fact.health, fact.last), fact)

    def _hear_breaker(self, address: str, fact: BreakerFact) -> None:
        if fact.by != self._instance:
            age_us = self._clock.now_us() - fact.at_us
            self._hearer.on_breaker(address, fact.state, fact.term, age_us, fact.by)
