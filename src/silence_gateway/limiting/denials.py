"""
Refusals remembered: a key that is over its limit is refused here until the store would let it pass again.

A client that hammers a limit costs the store nothing after its first refusal. What is remembered ends
when the store said it would, counted from the moment of asking, so it never outlasts the store's own
answer. It ends earlier where somebody gives something back: a reset, an override, a refund. That is told
to every instance over the bus, and after a gap of the bus everything is forgotten.

Not remembered: refusals of concurrency limits and of costs that are settled afterwards, whose ends
nobody can tell; and those of shadow limits, which refuse nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from silence_gateway.core.limits import NEVER, NOT_ASKED, Ask, Decision, LimitRule
from silence_gateway.stores.contracts import Bus, Subscription

MAX_DENIALS = 20_000
"""Keys remembered, about 400 bytes each; the oldest go first."""

SHORTEST_US = 5_000
"""A shorter wait is over before remembering it pays."""

CHANNEL = "limits/forget"
DIGEST_BYTES = 16

Place: TypeAlias = tuple[str, str]


class Denial(NamedTuple):
    """One key's refusal: until when, for how much, and what the limit said it has left."""

    until_s: float
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

    def __init__(self) -> None:
        self.by_place: dict[Place, Denial] = {}
        self.by_digest: dict[bytes, Place] = {}
        self.bus: Bus | None = None
        self.subscription: Subscription | None = None
        self.answered = 0

    def start(self, bus: Bus) -> None:
        """Hear from now on what other instances give back."""
        self.bus = bus
        self.subscription = bus.subscribe(CHANNEL, self.on_message, self.clear)

    def stop(self) -> None:
        """Hear no more."""
        if self.subscription is not None:
            self.subscription.close()
            self.subscription = None
        self.bus = None

    def look(self, asks: Sequence[Ask], now_s: float) -> list[Decision] | None:
        """Return a refusal if one is remembered for any of *asks*; the other limits are then not asked."""
        decisions: list[Decision] | None = None
        by_place = self.by_place
        for index, (rule, key, cost, _) in enumerate(asks):
            denial = by_place.get((rule.counter, key))
            if denial is None or cost < denial.cost or rule.shadow:
                continue
            left_s = denial.until_s - now_s
            if left_s <= 0:
                self.drop((rule.counter, key))
                continue
            if decisions is None:
                decisions = [Decision(True, ask.rule.capacity, NOT_ASKED, 0, 0) for ask in asks]
            decisions[index] = Decision(
                False,
                rule.capacity,
                denial.remaining,
                max(1, round(left_s * 1_000_000)),
                max(1, round((denial.reset_s - now_s) * 1_000_000)),
            )
        if decisions is not None:
            self.answered += 1
        return decisions

    def learn(self, asks: Sequence[Ask], decisions: Sequence[Decision], asked_s: float) -> None:
        """Remember who was refused by what was asked at *asked_s*."""
        for (rule, key, cost, _), decision in zip(asks, decisions, strict=True):
            wait_us = decision.retry_after_us
            if decision.allowed or rule.shadow or rule.kind == "c" or wait_us == NEVER or decision.at_us <= 0:
                continue
            if wait_us >= SHORTEST_US:
                self.remember((rule.counter, key), wait_us, cost, decision, asked_s)

    def remember(self, place: Place, wait_us: int, cost: int, decision: Decision, asked_s: float) -> None:
        """Remember one refusal."""
        self.drop(place)
        digest = digest_of(*place)
        self.by_place[place] = Denial(
            asked_s + wait_us / 1_000_000,
            asked_s + decision.reset_us / 1_000_000,
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

    def forget(self, places: Iterable[tuple[LimitRule, str]]) -> None:
        """Something was given back to these keys: forget their refusals, here and everywhere."""
        digests = []
        for rule, key in places:
            self.drop((rule.counter, key))
            digests.append(digest_of(rule.counter, key))
        if digests and self.bus is not None:
            # What is lost with the store is made up for by the gap that every listener then hears of.
            self.bus.publish(CHANNEL, b"".join(digests))

    def on_message(self, payload: bytes) -> None:
        """Another instance gave something back."""
        for at in range(0, len(payload) - DIGEST_BYTES + 1, DIGEST_BYTES):
            place = self.by_digest.get(payload[at : at + DIGEST_BYTES])
            if place is not None:
                self.drop(place)


def digest_of(counter: str, key: str) -> bytes:
    """Name a key to other instances without saying it: it may be an address or a secret."""
    text = f"{counter}\n{key}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
