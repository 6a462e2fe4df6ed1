"""
What gateways tell each other about endpoints, as small JSON values on a board.

Everything read is untrusted: bounded in size, of exact types and ranges, or refused with ValueError.
Nothing here reads or writes a board (`upstreams/fleet.py` does).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from silence_gateway.core.breaker import HELD, State
from silence_gateway.core.health import Check, Health

MAX_FACT_BYTES = 1280
"""Room for a reason of 64 characters that JSON writes in twelve bytes each."""

MAX_NUMBER = 2**53
"""Above this, other readers of the same JSON would round."""

MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFact:
    """
    What one prober concluded.

    Attributes:
        health: HEALTHY or UNHEALTHY.
        last: Its latest check; tells a refusal from silence.
        fence: Number of the prober's lease; a lower one is a prober that was replaced.
        count: Grows with every check, so that an unchanged verdict is still seen to be fresh.
        by: Who says so.
        since_us: Since when the prober checks, in microseconds since the Unix epoch on its clock; 0 if it
            did not say.
        checked_us: When it last did, likewise.
    """

    health: Health
    last: Check
    fence: int
    count: int
    by: str
    since_us: int = 0
    checked_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerFact:
    """
    What one breaker judged.

    Attributes:
        state: OPEN or CLOSED.
        term: Number of the judgement; the highest wins.
        at_us: When, in microseconds since the Unix epoch on the writer's clock.
        by: Who says so.
    """

    state: State
    term: int
    at_us: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFact:
    """
    What an operator said about one breaker.

    Attributes:
        state: HELD_OPEN or HELD_CLOSED.
        reason: Why, in the operator's words.
        until_us: When it ends, in microseconds since the Unix epoch.
        by: Which instance was told.
        lasts_us: For how long it was said, in microseconds.
        said_us: When it was said, in microseconds since the Unix epoch; the later word counts.
        who: Who told it, as far as it knows.
    """

    state: State
    reason: str
    until_us: int
    by: str
    lasts_us: int
    said_us: int
    who: str = ""

    def by_clock(self, now_us: int) -> HoldFact:
        """
        Return this as an instance minds it whose clock says *now_us* when it finds it on the board.

        The board forgets a hold when it is over, so one that is there is not over. If its end is past or
        further away than it was ever said to be, two clocks disagree, and it ends when the board forgets it.
        """
        if 0 < self.until_us - now_us <= self.lasts_us:
            return self
        return replace(self, until_us=now_us + self.lasts_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsFact:
    """
    What one instance has in its breaker's window.

    Attributes:
        calls: Calls ended.
        failures: How many of them failed.
        term: The judgement they came after; counts of another term are of another time.
        by: Who counted.
    """

    calls: int
    failures: int
    term: int
    by: str


def written_hold(fact: HoldFact) -> bytes:
    """Return *fact* as it goes on the board."""
    return written(
        {
            "state": fact.state.value,
            "reason": fact.reason,
            "until_us": fact.until_us,
            "by": fact.by,
            "lasts_us": fact.lasts_us,
            "said_us": fact.said_us,
            "who": fact.who,
        }
    )


def written_counts(fact: CountsFact, at_us: int = 0) -> bytes:
    """Return *fact* as it goes on the board; *at_us* tells it from an equal one of another time."""
    fields: dict[str, str | int] = {"calls": fact.calls, "failures": fact.failures}
    return written(fields | {"term": fact.term, "by": fact.by, "at_us": at_us})


def read_hold(value: bytes) -> HoldFact:
    """
    Return the hold in *value*.

    Raises:
        ValueError: If it is not one.
    """
    fields = read(value)
    state = State(text(fields, "state"))
    if state not in HELD:
        raise ValueError(f"nobody holds a breaker {state.value}")
    return HoldFact(
        state=state,
        reason=text(fields, "reason"),
        until_us=number(fields, "until_us"),
        by=text(fields, "by"),
        lasts_us=number(fields, "lasts_us"),
        said_us=number(fields, "said_us"),
        who=text(fields, "who"),
    )


def read_counts(value: bytes) -> CountsFact:
    """
    Return the counts in *value*.

    Raises:
        ValueError: If they are none, or more failed than there were.
    """
    fields = read(value)
    fact = CountsFact(
        calls=number(fields, "calls"),
        failures=number(fields, "failures"),
        term=number(fields, "term"),
        by=text(fields, "by"),
    )
    if fact.failures > fact.calls:
        raise ValueError(f"{fact.failures} of {fact.calls} calls cannot have failed")
    return fact


def read_signature(value: bytes) -> str:
    """
    Return who wrote *value*, whatever else it says.

    Raises:
        ValueError: If it is no fact.
    """
    return text(read(value), "by")


def written_health(fact: HealthFact) -> bytes:
    """Return *fact* as it goes on the board."""
    return written(
        {
            "health": fact.health.value,
            "last": fact.last.value,
            "fence": fact.fence,
            "count": fact.count,
            "by": fact.by,
            "since_us": fact.since_us,
            "checked_us": fact.checked_us,
        }
    )


def written_breaker(fact: BreakerFact) -> bytes:
    """Return *fact* as it goes on the board."""
    return written({"state": fact.state.value, "term": fact.term, "at_us": fact.at_us, "by": fact.by})


def read_health(value: bytes) -> HealthFact:
    """
    Return the health fact in *value*.

    Raises:
        ValueError: If it is not one.
    """
    fields = read(value)
    health = Health(text(fields, "health"))
    if health not in (Health.HEALTHY, Health.UNHEALTHY):
        raise ValueError(f"nobody tells others {health.value!r}")
    return HealthFact(
        health=health,
        last=Check(text(fields, "last")),
        fence=number(fields, "fence"),
        count=number(fields, "count"),
        by=text(fields, "by"),
        since_us=number(fields, "since_us") if "since_us" in fields else 0,
        checked_us=number(fields, "checked_us") if "checked_us" in fields else 0,
    )


def read_breaker(value: bytes) -> BreakerFact:
    """
    Return the breaker fact in *value*.

    Raises:
        ValueError: If it is not one.
    """
    fields = read(value)
    state = State(text(fields, "state"))
    if state not in (State.OPEN, State.CLOSED):
        raise ValueError(f"{state.value} is no judgement, and not something to tell others so")
    return BreakerFact(
        state=state, term=number(fields, "term"), at_us=number(fields, "at_us"), by=text(fields, "by")
    )


def written(fields: dict[str, str | int]) -> bytes:
    """Return *fields* as compact JSON."""
    return json.dumps(fields, separators=(",", ":")).encode()


def read(value: bytes) -> dict[str, object]:
    """
    Return the fields of a small JSON object.

    Raises:
        ValueError: If it is too long or not an object.
    """
    if len(value) > MAX_FACT_BYTES:
        raise ValueError(f"{len(value)} bytes are too many for a fact, {MAX_FACT_BYTES} are allowed")
    try:
        fields: object = json.loads(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError("a fact is a JSON object")  # noqa: TRY004 what was read is at fault, not our caller
    return fields


def text(fields: dict[str, object], name: str) -> str:
    """
    Return a short text field.

    Raises:
        ValueError: If it is missing, no text, or too long.
    """
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise ValueError(f"{name} must be a text of at most {MAX_NAME} characters")
    return value


def number(fields: dict[str, object], name: str) -> int:
    """
    Return a whole number that is not negative.

    Raises:
        ValueError: If it is missing, no whole number, or out of range.
    """
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"{name} must be a whole number from 0 to 2^53")
    return value
