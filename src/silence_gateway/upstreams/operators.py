"""
What operators do to the endpoints of one upstream, in the whole fleet: drain them, and hold breakers.

Each word is carried out here, told to the fleet, and written to the log of every instance that carries it
out. An endpoint that comes later is welcomed with what was said about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import State
from silence_gateway.core.endpoints import Verdict
from silence_gateway.core.fleet_facts import MAX_NAME, HoldFact, read_hold, written_hold
from silence_gateway.core.operator_words import DrainFact, MarkFact, moment, read_drain, written_drain
from silence_gateway.events import Observer, OperatorSaid
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.breakers import Breakers
from silence_gateway.upstreams.endpoint import Endpoint, Spawn
from silence_gateway.upstreams.guarded import WHOLE, Guarded
from silence_gateway.upstreams.membership import Membership
from silence_gateway.upstreams.operator_words import KEPT_S, OperatorWords
from silence_gateway.upstreams.places import USABLE, Places
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker

LEAST_HOLD_S = 1.0
"""A shorter hold would be over before the fleet has heard of it."""

MOST_HOLD_S = KEPT_S
"""A longer one is not meant as a hold: take the endpoint out of the configuration, or drain it."""

HELD_WORDS = {State.HELD_OPEN: "breaker open", State.HELD_CLOSED: "breaker closed"}
BY_ITSELF = frozenset({State.OPEN, State.HALF_OPEN})
TAKES_CALLS = USABLE | {Verdict.PROBE, Verdict.WAITING}
"""At the start all of them wait for their connections; that is no reason to warn anybody."""


@dataclass(frozen=True, slots=True)
class Told:
    """
    What became of an operator's word.

    Attributes:
        fleet: Whether the fleet was told; if not, it counts at this instance, and for the others once the
            store is back.
        warning: What the operator should know; empty if nothing.
        until_us: When it ends, in microseconds since the Unix epoch; 0 if nobody said.
    """

    fleet: bool
    warning: str
    until_us: int = 0


class Operators:
    """
    Carries out what is said about *endpoints*, by address, and about the upstream as a *whole*.

    *instance* is how this one signs.
    """

    def __init__(
        self,
        upstream: str,
        endpoints: Mapping[str, Endpoint],
        whole: UpstreamBreaker,
        membership: Membership,
        *,
        board: Board | None,
        clock: Clock,
        observer: Observer,
        instance: str,
        spawn: Spawn,
        breakers: Breakers,
        places: Places,
    ) -> None:
        self._upstream = upstream
        self._endpoints = endpoints
        self._whole = whole
        self._membership = membership
        self._clock = clock
        self._observer = observer
        self._instance = instance
        self._breakers = breakers
        self._places = places
        self._drains = OperatorWords(
            "drain",
            upstream,
            board,
            instance=instance,
            spawn=spawn,
            read=read_drain,
            write=written_drain,
            lasts_s=lambda _word: None,
            on_change=self._heard_drain,
        )
        self._holds = OperatorWords(
            "hold",
            upstream,
            board,
            instance=instance,
            spawn=spawn,
            read=self._read_hold,
            write=written_hold,
            lasts_s=self._left_s,
            on_change=self._heard_hold,
        )

    @property
    def malformed(self) -> int:
        """How many values on the board were refused."""
        return self._drains.malformed + self._holds.malformed

    def join(self) -> None:
        """Carry out what the fleet hears from now on."""
        self._drains.join()
        self._holds.join()

    async def heard(self) -> None:
        """Wait until what was said before this instance came is carried out; as long as the store is away."""
        await self._drains.heard()
        await self._holds.heard()

    def leave(self) -> None:
        """Hear no more."""
        self._drains.leave()
        self._holds.leave()

    def welcome(self, endpoint: Endpoint) -> None:
        """Treat an endpoint that has just come, or come back, as was said about it."""
        address = endpoint.address
        drain, hold = self._drains.in_force(address), self._holds.in_force(address)
        endpoint.drain, endpoint.active = drain, drain is None
        if drain is not None:
            self._tell_log(address, "drain", drain, fleet=True, warning="")
        self._breakers.hold(endpoint, hold)
        if endpoint.hold is not None:
            self._tell_log(address, HELD_WORDS[endpoint.hold.state], endpoint.hold, fleet=True, warning="")

    async def drain(self, address: str, *, drained: bool, who: str = "", reason: str = "") -> Told:
        """
        Give *address* no new calls, or give it calls again, in the whole fleet.

        Raises:
            KeyError: If there is no such endpoint.
            ValueError: If *reason* is too long to be passed on; then nothing has changed.
        """
        self._check_known(address, self._drains)
        mark = self._mark(self._drains.next_us(address, self._clock.now_us()), who, reason)
        word = None
        if drained:
            word = DrainFact(said_us=mark.said_us, by=mark.by, who=mark.who, reason=reason)
        telling = self._drains.say(address, word, mark)
        endpoint = self._endpoints.get(address)
        if endpoint is not None:
            self._set_drain(endpoint, word)
        warning = self._warning(address) if drained else ""
        fleet = await telling
        self._tell_log(
            address, "drain" if drained else "activate", word or mark, fleet=fleet, warning=warning
        )
        return Told(fleet, warning)

    async def hold(self, address: str, state: State, reason: str, ttl_s: float, *, who: str = "") -> Told:
        """
        Hold the breaker of *address* for *ttl_s* seconds in the whole fleet; CLOSED lets go of it.

        *address* is that of an endpoint, or WHOLE.

        Raises:
            KeyError: If there is no such endpoint.
            ValueError: If *state* is another one, *reason* is too long to be passed on, or *ttl_s* is out of
                range; then nothing has changed.
        """
        self._check_known(address, self._holds)
        now_us = self._clock.now_us()
        mark = self._mark(self._holds.next_us(address, now_us), who, reason)
        word = None
        if state is not State.CLOSED:
            if not LEAST_HOLD_S <= ttl_s <= MOST_HOLD_S:
                raise ValueError(
                    f"a breaker is held for 1s to {MOST_HOLD_S / 86_400:.0f}d, not for {ttl_s:,.10g} s"
                )
            lasts_us = round(ttl_s * 1e6)
            word = HoldFact(
                state=state,
                reason=reason,
                until_us=now_us + lasts_us,
                by=mark.by,
                lasts_us=lasts_us,
                said_us=mark.said_us,
                who=mark.who,
            )
        telling = self._holds.say(address, word, mark)
        guarded = self._guarded(address)
        if guarded is not None:
            self._breakers.hold(guarded, word)
        warning = self._warning(address) if state is State.HELD_OPEN else ""
        if state is State.CLOSED and guarded is not None and guarded.breaker.state in BY_ITSELF:
            warning = (
                "it opened by itself and waits for its trial call; hold it closed for 1s to close it now"
            )
        fleet = await telling
        self._tell_log(
            address, HELD_WORDS.get(state, "breaker auto"), word or mark, fleet=fleet, warning=warning
        )
        return Told(fleet, warning, 0 if word is None else word.until_us)

    def _check_known(self, address: str, words: OperatorWords[Any]) -> None:
        """Let be said what is about something: of what has left, only that it is to be forgotten."""
        if address != WHOLE and address not in self._membership.known and words.in_force(address) is None:
            raise KeyError(address)

    def _mark(self, said_us: int, who: str, reason: str) -> MarkFact:
        return MarkFact(said_us=said_us, by=self._instance, who=who[:MAX_NAME], reason=reason)

    def _guarded(self, address: str) -> Guarded | None:
        return self._whole if address == WHOLE else self._endpoints.get(address)

    def _set_drain(self, endpoint: Endpoint, word: DrainFact | None) -> None:
        endpoint.drain = word
        # Who is removed does not come back by that.
        endpoint.active = word is None and not endpoint.removed
        self._places.reconsider()

    def _heard_drain(self, address: str) -> None:
        endpoint = self._endpoints.get(address)
        if endpoint is None or endpoint.removed:
            return
        old, word, mark = endpoint.drain, self._drains.in_force(address), self._drains.taken_back(address)
        self._set_drain(endpoint, word)
        if word is None:
            if mark is not None:
                self._tell_log(address, "activate", mark, fleet=True, warning="")
        elif old is None or (word.who, word.reason) != (old.who, old.reason):
            # Workers of one instance that were each told say the same.
            self._tell_log(address, "drain", word, fleet=True, warning=self._warning(address))

    def _heard_hold(self, address: str) -> None:
        guarded = self._guarded(address)
        if guarded is None:
            return
        old, word, mark = guarded.hold, self._holds.in_force(address), self._holds.taken_back(address)
        self._breakers.hold(guarded, word)
        if word is not None:
            if old is not None and substance(word) == substance(old):
                return
            warning = self._warning(address) if word.state is State.HELD_OPEN else ""
            self._tell_log(address, HELD_WORDS[word.state], word, fleet=True, warning=warning)
        elif old is not None and mark is not None and moment(mark) > moment(old):
            self._tell_log(address, "breaker auto", mark, fleet=True, warning="")

    def _warning(self, address: str) -> str:
        """Return what is to be said about what has just been done to *address*; empty if calls go on."""
        if address == WHOLE:
            return f"every call to upstream {self._upstream!r} is refused while this holds"
        if any(endpoint.verdict in TAKES_CALLS for endpoint in self._endpoints.values()):
            return ""
        return f"no endpoint of upstream {self._upstream!r} is left that takes calls"

    def _tell_log(
        self, address: str, what: str, said: HoldFact | DrainFact | MarkFact, *, fleet: bool, warning: str
    ) -> None:
        self._observer(
            OperatorSaid(
                upstream=self._upstream,
                endpoint=address,
                what=what,
                who=said.who,
                told=said.by,
                said_us=said.said_us,
                reason=said.reason,
                until_us=said.until_us if isinstance(said, HoldFact) else None,
                fleet=fleet,
                warning=warning,
            )
        )

    def _read_hold(self, value: bytes) -> HoldFact:
        return read_hold(value).by_clock(self._clock.now_us())

    def _left_s(self, word: HoldFact) -> float:
        return (word.until_us - self._clock.now_us()) / 1e6


def substance(word: HoldFact) -> tuple[State, str, str, int]:
    """Return what is the same where the workers of one instance were each told the same."""
    return word.state, word.who, word.reason, word.lasts_us
