"""
Refusals remembered: a key that is over its limit is refused here until the store would let it pass again.

A client that hammers a limit costs the store nothing after its first refusal. What is remembered ends
when the store said it would, counted from the moment of asking, so it never outlasts the store's own
answer; and it is asked about again at least every LONGEST_S. It ends earlier where somebody gives
something back: a reset, an override, a refund, a lease. That is told to every instance over the bus, and
after a gap of the bus everything is forgotten. A refusal that was asked for before such news and answered
after it is not remembered.

Not remembered: refusals of concurrency limits and of costs that are settled afterwards, whose ends
nobody can tell; and those of shadow limits, which refuse nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.limits import NEVER, NOT_ASKED, Ask, Decision, LimitRule
from silence_gateway.core.prospect import Prospect
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Bus, Subscription

MAX_DENIALS = 20_000
"""Keys remembered, about 500 bytes each; the oldest go first."""

MAX_KEY_CHARS = 512
"""Longer keys are not remembered, so that nobody fills the memory with them."""

SHORTEST_US = 5_000
"""A shorter wait is over before remembering it pays."""

LONGEST_S = 60.0
"""After so long the store is asked again: its clock may have been set, or a key removed by hand."""

MAX_NEWS = 4_096
"""Keys of which we remember when something was given back; only what is being asked just now needs it."""

CHANNEL = "limits/forget"
DIGEST_BYTES = 16
EVERYTHING = bytes(DIGEST_BYTES)
"""Told instead of the keys when they are too many."""

RETRY_S = 1.0
LONG_AGO_S = float("-inf")

Place: TypeAlias = tuple[str, str]


class Denial(NamedTuple):
    """
    One key's refusal.

    Attributes:
        until_s: Until when it is remembered.
        free_s: When the same request can succeed, as late as it can be.
        reset_s: When the whole limit is free again, likewise.
        cost: What was refused.
        remaining: What the limit said it has left.
        digest: The key's name to other instances.
    """

    until_s: float
    free_s: float
    reset_s: float
    cost: int
    remaining: int
    digest: bytes


class Denials:
    """
    The refusals that this instance remembers.

    Attributes:
        by_place: By counter and key, oldest first; empty while nobody is refused.
        answered: Requests refused from here.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.by_place: dict[Place, Denial] = {}
        self.by_digest: dict[bytes, Place] = {}
        self.news: dict[bytes, float] = {}  # when something was given back, by digest of the key
        self.unsure_s = LONG_AGO_S  # what was asked before this may have been given back unheard
        self.bus: Bus | None = None
        self.subscription: Subscription | None = None
        self.untold: dict[bytes, None] = {}  # what the others have not heard yet
        self.telling: asyncio.Task[None] | None = None
        self.answered = 0

    def start(self, bus: Bus) -> None:
        """Hear from now on what other instances give back."""
        self.bus = bus
        self.subscription = bus.subscribe(CHANNEL, self.on_message, self.clear)

    async def stop(self) -> None:
        """Hear no more, and tell the others what they have not heard; the bus is still there."""
        if self.subscription is not None:
            self.subscription.close()
            self.subscription = None
        if self.telling is not None:
            self.telling.cancel()
            await asyncio.gather(self.telling, return_exceptions=True)
            self.telling = None  # one that was not begun yet does not say so itself
        bus, self.bus = self.bus, None
        if bus is not None and self.untold:
            # What they do not hear now they find out within LONGEST_S.
            with suppress(StoreFault):
                await bus.publish(CHANNEL, b"".join(self.untold))
        self.untold.clear()
        self.clear()

    def look(self, asks: Sequence[Ask], now_s: float) -> list[Decision] | None:
        """
        Return a refusal if one is remembered for any of *asks*; the other limits are then not asked.

        Only for the cost that was refused: less might pass, and more would have to wait for longer.
        """
        decisions: list[Decision] | None = None
        by_place = self.by_place
        for index, (rule, key, cost, _) in enumerate(asks):
            denial = by_place.get((rule.counter, key))
            if denial is None or cost != denial.cost or rule.shadow:
                continue
            if denial.until_s <= now_s:
                self.drop((rule.counter, key))
                continue
            if decisions is None:
                decisions = [Decision(True, ask.rule.capacity, NOT_ASKED, 0, 0) for ask in asks]
            decisions[index] = Decision(
                False,
                rule.capacity,
                denial.remaining,
                micros_left(denial.free_s - now_s),
                micros_left(denial.reset_s - now_s),
            )
        if decisions is not None:
            self.answered += 1
        return decisions

    def over(self, ask: Ask, prospect: Prospect, now_s: float) -> Prospect:
        """Lay a refusal that is remembered over what the store says would be met; see `look` for which."""
        rule, key, cost, _ = ask
        denial = self.by_place.get((rule.counter, key))
        if (
            denial is None
            or cost != denial.cost
            or rule.shadow
            or denial.until_s <= now_s
            or prospect.retry_after_us == NEVER
        ):
            return prospect
        wait_us = max(prospect.retry_after_us, micros_left(denial.free_s - now_s))
        return prospect._replace(retry_after_us=wait_us, remaining=min(prospect.remaining, denial.remaining))

    def learn(self, asks: Sequence[Ask], decisions: Sequence[Decision], asked_s: float) -> None:
        """Remember who was refused by what was asked at *asked_s* and is answered now."""
        for (rule, key, cost, _), decision in zip(asks, decisions, strict=True):
            wait_us = decision.retry_after_us
            if decision.allowed or rule.shadow or rule.kind == "c" or wait_us == NEVER:
                continue
            # What this instance decided alone is asked again as soon as the store is back.
            if decision.at_us >= 0 and wait_us >= SHORTEST_US and len(key) <= MAX_KEY_CHARS:
                self.remember((rule.counter, key), cost, decision, asked_s)

    def remember(self, place: Place, cost: int, decision: Decision, asked_s: float) -> None:
        """Remember one refusal, unless something was given back after it was asked for."""
        self.drop(place)
        digest = digest_of(*place)
        if asked_s <= self.unsure_s or asked_s <= self.news.get(digest, LONG_AGO_S):
            return
        now_s = self.clock.monotonic_s()
        wait_s = decision.retry_after_us / 1_000_000
        self.by_place[place] = Denial(
            asked_s + min(wait_s, LONGEST_S),
            now_s + wait_s,
            now_s + decision.reset_us / 1_000_000,
            cost,
            decision.remaining,
            digest,
        )
        self.by_digest[digest] = place
        if len(self.by_place) > MAX_DENIALS:
            self.drop(next(iter(self.by_place)))

    def drop(self, place: Place) -> None:
        """Forget one refusal, if it is remembered."""
        denial = self.by_place.pop(place, None)
        if denial is not None:
            self.by_digest.pop(denial.digest, None)

    def clear(self) -> None:
        """Forget all: something may have been given back unheard."""
        self.by_place.clear()
        self.by_digest.clear()
        self.news.clear()
        self.unsure_s = self.clock.monotonic_s()

    def forget(self, places: Iterable[tuple[LimitRule, str]]) -> None:
        """Something was given back to these keys: forget their refusals, here and everywhere."""
        for rule, key in places:
            digest = digest_of(rule.counter, key)
            self.on_news(digest)
            if self.bus is not None and EVERYTHING not in self.untold:
                self.untold[digest] = None
        if len(self.untold) > MAX_NEWS:
            self.untold = {EVERYTHING: None}
        if self.untold and self.telling is None:
            self.telling = asyncio.get_running_loop().create_task(self.tell())

    async def tell(self) -> None:
        """Tell the other instances, as often as it takes; a gap of their own makes them forget everything."""
        try:
            while self.untold and self.bus is not None:
                told, self.untold = self.untold, {}
                try:
                    await self.bus.publish(CHANNEL, b"".join(told))
                except BaseException as exc:
                    self.untold = told | self.untold
                    if not isinstance(exc, StoreFault):
                        raise
                    await self.clock.sleep(RETRY_S)
        finally:
            self.telling = None

    def on_message(self, payload: bytes) -> None:
        """Another instance gave something back."""
        for at in range(0, len(payload) - DIGEST_BYTES + 1, DIGEST_BYTES):
            self.on_news(payload[at : at + DIGEST_BYTES])

    def on_news(self, digest: bytes) -> None:
        """Something was given back to one key, or to more than anybody can name."""
        if digest == EVERYTHING:
            self.clear()
            return
        place = self.by_digest.get(digest)
        if place is not None:
            self.drop(place)
        if len(self.news) >= MAX_NEWS:
            self.news.clear()
            self.unsure_s = self.clock.monotonic_s()
        self.news[digest] = self.clock.monotonic_s()


def micros_left(seconds: float) -> int:
    """Return a wait in microseconds, at least one."""
    return max(1, round(seconds * 1_000_000))


def digest_of(counter: str, key: str) -> bytes:
    """Name a key to other instances without saying it: it may be an address or a secret."""
    text = f"{counter}\n{key}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
