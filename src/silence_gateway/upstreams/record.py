"""
What is written down about one endpoint for people to read: what last went wrong, what its breaker did, who
checks it, how its last minute was, and what there was to say when it left.

Nothing here decides anything, and nothing runs for a call that went well: calls are counted by the ledger in
the endpoint's own lists, and looked at here four times a minute. Everything is bounded: texts in length,
moves and looks in number; 28 KB for an endpoint that is busy all the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from silence_gateway.core.breaker import State
from silence_gateway.core.durations import BUCKETS
from silence_gateway.core.health import Check
from silence_gateway.core.status import FAULTS

MAX_ERROR_TEXT = 300
MAX_REASON_TEXT = 200

MAX_MOVES = 16
"""Moves of a breaker that are remembered: a night of one that opens and half opens again is seen as such."""

LOOK_S = 15
"""Seconds between looks at what was counted."""

MAX_DEPARTURES = 8
"""Endpoints that have left and are still told about; what a registry forgot is looked for here."""

RECENT_S = 60
"""How far back "of late" reaches at least; at most LOOK_S more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMove:
    """
    One move of a breaker.

    Attributes:
        at_us: When, microseconds since the Unix epoch.
        old: State before, as in `core.breaker.State`.
        new: State after.
        reason: Why, in a few words.
        by: Which instance decided it.
        instance: Which instance's breaker moved.
    """

    at_us: int
    old: str
    new: str
    reason: str
    by: str
    instance: str


class BreakerHistory:
    """
    What one breaker did.

    Attributes:
        moves: Its moves, the latest last; older ones are forgotten.
        moved_to: How often it came to each state.
    """

    __slots__ = ("moved_to", "moves")

    def __init__(self) -> None:
        self.moves: deque[BreakerMove] = deque(maxlen=MAX_MOVES)
        self.moved_to = {state.value: 0 for state in State}

    @property
    def opened_by(self) -> str:
        """Which other instance made the latest move, if that opened the breaker; empty otherwise."""
        if not self.moves or self.moves[-1].new != State.OPEN.value:
            return ""
        return self.moves[-1].by if self.moves[-1].by != self.moves[-1].instance else ""

    def add(self, move: BreakerMove) -> None:
        """Write down a move."""
        self.moves.append(move)
        self.moved_to[move.new] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """
    An endpoint that has left.

    Attributes:
        address: Where it was.
        left_us: When its last call had ended, microseconds since the Unix epoch.
        calls: Calls it ended.
        faults: Those of them that failed (`core.status.FAULTS`).
        mishap: What last went wrong with it; None if nothing did.
    """

    address: str
    left_us: int
    calls: int
    faults: int
    mishap: Mishap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """
    What last went wrong with an endpoint.

    Attributes:
        text: What it was, at most MAX_ERROR_TEXT characters.
        code: The name of the status it was counted as; empty if it was no call.
        at_us: When, microseconds since the Unix epoch.
    """

    text: str
    code: str
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCheck:
    """
    The latest health check of an endpoint.

    Attributes:
        outcome: How it ended.
        at_us: When, microseconds since the Unix epoch on the clock of whoever made it.
        by: Which instance made it.
    """

    outcome: Check
    at_us: int
    by: str


def faults_of(codes: Sequence[int]) -> int:
    """Return how many calls failed, of counts by code."""
    return sum(codes[code] for code in FAULTS)


class Look:
    """What had been counted at one time: calls, those of them that failed, and durations."""

    __slots__ = ("at_s", "calls", "durations", "faults")

    def __init__(self, at_s: float, codes: Sequence[int], durations: Sequence[int]) -> None:
        self.at_s = at_s
        self.calls = sum(codes)
        self.faults = faults_of(codes)
        self.durations = tuple(durations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """
    What was counted of late.

    Attributes:
        span_s: How far back that reaches, in seconds.
        calls: Calls ended.
        faults: Those of them that failed (`core.status.FAULTS`).
        durations: The timed ones by bucket of `core.durations`.
    """

    span_s: float
    calls: int
    faults: int
    durations: tuple[int, ...]


class EndpointRecord:
    """
    One endpoint's record.

    Attributes:
        begun_us: When the endpoint came, microseconds since the Unix epoch.
        mishap: What last went wrong.
        check: Its latest health check, whoever made it.
        prober: Which instance checks its health; empty if that is not known, or nobody does.
        prober_since_us: Since when, microseconds since the Unix epoch.
        ejected_until_us: When its last ejection ends, microseconds since the Unix epoch.
        ejected_because: Why it was ejected.
        bytes_in: Bytes received on connections that are gone.
        bytes_out: Bytes sent on them.
        connects: Connections made that are gone.
    """

    __slots__ = (
        "begun_us",
        "bytes_in",
        "bytes_out",
        "check",
        "connects",
        "ejected_because",
        "ejected_until_us",
        "looks",
        "mishap",
        "prober",
        "prober_since_us",
    )

    def __init__(self, now_us: int, now_s: float) -> None:
        self.begun_us = now_us
        self.mishap: Mishap | None = None
        self.check: LastCheck | None = None
        self.prober = ""
        self.prober_since_us = 0
        self.ejected_until_us = 0
        self.ejected_because = ""
        self.bytes_in = self.bytes_out = self.connects = 0
        self.looks: deque[Look] = deque(
            [Look(now_s, (0,) * 17, (0,) * BUCKETS)], maxlen=RECENT_S // LOOK_S + 1
        )

    def went_wrong(self, text: str, at_us: int, code: str = "") -> None:
        """Write down what went wrong last."""
        self.mishap = Mishap(text=text[:MAX_ERROR_TEXT], code=code, at_us=at_us)

    def ejected(self, until_us: int, reason: str) -> None:
        """Write down an ejection."""
        self.ejected_until_us = until_us
        self.ejected_because = reason[:MAX_REASON_TEXT]

    def checked_by(self, instance: str, since_us: int) -> None:
        """Write down who checks the endpoint's health; *since_us* counts if that is news."""
        if instance != self.prober:
            self.prober = instance
            self.prober_since_us = since_us

    def look(self, codes: Sequence[int], durations: Sequence[int], now_s: float) -> None:
        """Look at what was counted; call it every LOOK_S seconds."""
        self.looks.append(Look(now_s, codes, durations))

    def begin_anew(self, codes: Sequence[int], durations: Sequence[int], now_s: float) -> None:
        """Let nothing that was counted so far be of late."""
        self.looks.clear()
        self.look(codes, durations, now_s)

    def recent(self, codes: Sequence[int], durations: Sequence[int], now_s: float) -> Recent:
        """Return what was counted since the latest look that is RECENT_S seconds old, or the oldest one."""
        then = self.looks[0]
        for look in self.looks:
            if now_s - look.at_s < RECENT_S:
                break
            then = look
        calls = sum(codes)
        return Recent(
            span_s=now_s - then.at_s,
            calls=calls - then.calls,
            faults=faults_of(codes) - then.faults,
            durations=tuple(now - old for now, old in zip(durations, then.durations, strict=True)),
        )
