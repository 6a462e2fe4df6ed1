"""
Circuit breaker: three states, two more for an operator's word, one table, no clock.

Rule 1: every transition is in `TRANSITIONS`; no other file assigns a state.
Rule 2: this file does not know what is being called; it is told which calls went well, which failed,
        and which nobody answered. Times are integer microseconds on one clock that never steps back.
Rule 3: every move starts a new generation. A result belongs to the generation in which its call began,
        and a result of an older one changes nothing: a slow answer from before the trip cannot close
        the breaker, and a slow failure cannot open it again.

On the hot path: `succeeded` runs once for every call that went well (about 0.1 us).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from silence_gateway.core.status import Code

WINDOW_PARTS = 10
"""The window slides in steps of a tenth: finer costs memory, coarser forgets in lumps."""

FAILURE_CODES: frozenset[int] = frozenset({Code.UNAVAILABLE, Code.INTERNAL, Code.DATA_LOSS})
"""
gRPC answers that speak against an endpoint rather than against the request. UNKNOWN can be added, and is
not here by default: it is what many servers answer when a handler raises, so one caller with one odd
request could open the breaker for everyone. RESOURCE_EXHAUSTED is pushback, not a fault.
"""


class State(Enum):
    """Whether calls may go through; the value is the word used in metrics, events and the store."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    HELD_OPEN = "held_open"
    """An operator lets no calls through."""
    HELD_CLOSED = "held_closed"
    """An operator lets calls through, whatever becomes of them."""


_CLOSED = (
    State.CLOSED
)  # CPython 3.11 takes 0.1 us to find a member in its enum, a fifth of a call's bookkeeping

SHUT = frozenset({State.OPEN, State.HELD_OPEN})
"""States in which no call goes through."""

HELD = frozenset({State.HELD_OPEN, State.HELD_CLOSED})


class Event(Enum):
    """What can happen to a breaker."""

    TOO_MANY_FAILURES = "too many failures"
    COOL_DOWN_OVER = "cool-down over"
    PROBE_SUCCEEDED = "probe succeeded"
    PROBE_FAILED = "probe failed"
    PROBE_GIVEN_UP = "no probe in time"
    FLEET_OPENED = "opened by another instance"
    FLEET_CLOSED = "closed by another instance"
    HELD_OPEN = "held open by an operator"
    HELD_CLOSED = "held closed by an operator"
    RELEASED = "left to itself again"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.CLOSED, Event.TOO_MANY_FAILURES): State.OPEN,
    (State.CLOSED, Event.FLEET_OPENED): State.OPEN,
    (State.OPEN, Event.COOL_DOWN_OVER): State.HALF_OPEN,
    (State.OPEN, Event.FLEET_CLOSED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBE_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Event.PROBE_GIVEN_UP): State.OPEN,
    (State.HALF_OPEN, Event.FLEET_OPENED): State.OPEN,
    (State.HALF_OPEN, Event.FLEET_CLOSED): State.CLOSED,
    (State.CLOSED, Event.HELD_OPEN): State.HELD_OPEN,
    (State.OPEN, Event.HELD_OPEN): State.HELD_OPEN,
    (State.HALF_OPEN, Event.HELD_OPEN): State.HELD_OPEN,
    (State.HELD_CLOSED, Event.HELD_OPEN): State.HELD_OPEN,
    (State.CLOSED, Event.HELD_CLOSED): State.HELD_CLOSED,
    (State.OPEN, Event.HELD_CLOSED): State.HELD_CLOSED,
    (State.HALF_OPEN, Event.HELD_CLOSED): State.HELD_CLOSED,
    (State.HELD_OPEN, Event.HELD_CLOSED): State.HELD_CLOSED,
    (State.HELD_OPEN, Event.RELEASED): State.CLOSED,
    (State.HELD_CLOSED, Event.RELEASED): State.CLOSED,
}

JUDGEMENTS = frozenset({Event.TOO_MANY_FAILURES, Event.PROBE_SUCCEEDED, Event.PROBE_FAILED})
"""What this instance found out itself and may tell the others."""


NO_END_US = 2**62
"""The right to probe of who need not share it."""

WORD_OF_OPERATOR = {
    State.HELD_OPEN: Event.HELD_OPEN,
    State.HELD_CLOSED: Event.HELD_CLOSED,
    State.CLOSED: Event.RELEASED,
}


def next_state(state: State, event: Event) -> State:
    """Return the state after *event*; an event with no row changes nothing."""
    return TRANSITIONS.get((state, event), state)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """
    When to stop calling, and for how long.

    Attributes:
        failure_ratio: Share of failed calls in the window that opens the breaker, in (0, 1].
        min_calls: Calls needed in the window before the ratio counts.
        window_us: How far back the ratio looks.
        consecutive: Failures in a row that open the breaker, whatever the ratio.
        cool_down_us: How long to stay open before one probe.
        patience_us: How long an endpoint must have been silent before a timeout speaks against it; a
            caller's own tiny deadline does not.
        failure_codes: gRPC codes that count as failures.
        slow_call_us: Answers that took longer count as failed in the ratio; 0 leaves slow ones alone.

    Raises:
        ValueError: If a number is out of its range.
    """

    failure_ratio: float = 0.5
    min_calls: int = 20
    window_us: int = 10_000_000
    consecutive: int = 5
    cool_down_us: int = 5_000_000
    patience_us: int = 1_000_000
    failure_codes: frozenset[int] = FAILURE_CODES
    slow_call_us: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.failure_ratio <= 1:
            raise ValueError(f"failure_ratio must be in (0, 1], got {self.failure_ratio}")
        if self.slow_call_us < 0:
            raise ValueError(f"slow_call_us must be 0 or more, got {self.slow_call_us}")
        if min(self.min_calls, self.consecutive, self.cool_down_us) < 1 or self.patience_us < 0:
            raise ValueError(f"min_calls, consecutive and cool_down_us must be positive: {self}")
        if self.window_us < WINDOW_PARTS:
            raise ValueError(f"window_us must be at least {WINDOW_PARTS}, got {self.window_us}")


class Breaker:
    """
    The breaker of one endpoint, or of a whole upstream. Methods that can move it return the event that did,
    or None.

    Attributes:
        state: Whether calls may go through.
        generation: Grows with every move; results of an older one are ignored.
        term: Grows with every judgement (a trip, a probe's end); instances compare it to agree who knows
            better. Becoming half open is a right, not a judgement, so it has no term of its own.
        judged_us: When the judgement of that term was made.
        since_us: When the current state began.
        probing: Whether the one probe of the half-open state is under way.
        probe_until_us: When the right to probe ends; a probe must have ended by then too.
    """

    __slots__ = (
        "_busy_until_us",
        "_calls",
        "_failures",
        "_in_a_row",
        "_part",
        "_part_ends_s",
        "_part_us",
        "_silent_since_us",
        "generation",
        "judged_us",
        "policy",
        "probe_until_us",
        "probing",
        "since_us",
        "state",
        "term",
    )

    def __init__(self, policy: BreakerPolicy, now_us: int) -> None:
        self.policy = policy
        self.state = State.CLOSED
        self.generation = 0
        self.term = 0
        self.since_us = self.judged_us = now_us
        self.probing = False
        self.probe_until_us = 0
        self._busy_until_us = 0
        self._part_us = policy.window_us // WINDOW_PARTS
        self._forget(now_us)

    @property
    def reopens_us(self) -> int:
        """
        When an open breaker may let a probe through.

        If it was opened by others, or by hand, while a probe of ours was under way, that one must have ended.
        """
        return max(self.since_us + self.policy.cool_down_us, self._busy_until_us)

    def succeeded(self, generation: int, now_s: float) -> bool:
        """
        Do as `on_success` where that takes no thought; False, and nothing done, where it does.

        Seconds, because CPython 3.11 compares them in a fifth of the time that it takes to make microseconds
        of them and find their part of the window.
        """
        if generation != self.generation or now_s >= self._part_ends_s or self.state is not _CLOSED:
            return False
        self._calls[self._part % WINDOW_PARTS] += 1
        self._in_a_row = 0
        self._silent_since_us = -1
        return True

    def on_success(self, generation: int, now_us: int) -> Event | None:
        """Count an answer to a call begun in *generation*."""
        if generation != self.generation:
            return None
        part = now_us // self._part_us
        if part != self._part:
            self._slide(part)
        self._calls[part % WINDOW_PARTS] += 1
        self._in_a_row = 0
        self._silent_since_us = -1
        if self.state is _CLOSED:
            return None
        return self._move(Event.PROBE_SUCCEEDED, now_us)

    def on_failure(self, generation: int, now_us: int) -> Event | None:
        """Count a failure of a call begun in *generation*."""
        if generation != self.generation:
            return None
        if self.state is not State.CLOSED:
            return self._move(Event.PROBE_FAILED, now_us)
        part = now_us // self._part_us
        if part != self._part:
            self._slide(part)
        self._calls[part % WINDOW_PARTS] += 1
        self._failures[part % WINDOW_PARTS] += 1
        self._in_a_row += 1
        if self._in_a_row >= self.policy.consecutive or self._ratio_is_up():
            return self._move(Event.TOO_MANY_FAILURES, now_us)
        return None

    def on_slow(self, generation: int, now_us: int) -> Event | None:
        """
        Count an answer that came, but after `slow_call_us`.

        It is a failure for the ratio and ends a row of failures: the endpoint is there, and no use. A
        probe that was slow has failed.
        """
        if generation != self.generation:
            return None
        self._in_a_row = -1
        event = self.on_failure(generation, now_us)
        self._silent_since_us = -1
        return event

    def on_timeout(self, generation: int, started_us: int, now_us: int) -> Event | None:
        """
        Count a call begun at *started_us* that nobody answered until its deadline.

        It is a failure once nothing at all has been answered for `patience_us`; before that, it may be
        that the caller was in a hurry. A probe that timed out has failed in any case.
        """
        if generation != self.generation:
            return None
        if self._silent_since_us < 0:
            self._silent_since_us = started_us
        if self.state is State.CLOSED and now_us - self._silent_since_us < self.policy.patience_us:
            return None
        return self.on_failure(generation, now_us)

    def on_nothing(self, generation: int) -> None:
        """Take note that a call ended without evidence: its caller left. A probe is free again."""
        if generation == self.generation:
            self.probing = False

    def on_fleet_counts(
        self, calls: int, failures: int, now_us: int, own: tuple[int, int] | None = None
    ) -> Event | None:
        """
        Judge by our own window and what the other instances have counted in theirs.

        Only the ratio is judged so. An instance that has not seen a single failure does not open for others'
        sake; if they are right they open and say so. *own* is what `counted` would say, for whoever counts
        elsewhere.
        """
        own_calls, own_failures = self.counted(now_us) if own is None else own
        if self.state is not State.CLOSED or not own_failures:
            return None
        total = own_calls + calls
        if total < self.policy.min_calls or own_failures + failures < self.policy.failure_ratio * total:
            return None
        return self._move(Event.TOO_MANY_FAILURES, now_us)

    def counted(self, now_us: int) -> tuple[int, int]:
        """Return the calls in the window, and how many of them failed."""
        self._slide(now_us // self._part_us)
        return sum(self._calls), sum(self._failures)

    def hold(self, state: State, now_us: int) -> Event | None:
        """
        Do as an operator says: HELD_OPEN, HELD_CLOSED, or CLOSED to leave the breaker to itself again.

        Raises:
            ValueError: If *state* is another one.
        """
        if state not in WORD_OF_OPERATOR:
            raise ValueError(f"nobody holds a breaker {state.value}")
        return self._move(WORD_OF_OPERATOR[state], now_us)

    def on_cool_down_over(self, now_us: int, probe_until_us: int = NO_END_US) -> Event | None:
        """Let one probe through, if the breaker is open and has been for long enough."""
        if now_us < self.reopens_us:
            return None
        event = self._move(Event.COOL_DOWN_OVER, now_us)
        if event is not None:
            self.probe_until_us = probe_until_us
        return event

    def on_probe_given_up(self, now_us: int) -> Event | None:
        """Open again, because no probe could be made in time; a probe under way is left alone."""
        if self.probing:
            return None
        return self._move(Event.PROBE_GIVEN_UP, now_us)

    def claim_probe(self) -> bool:
        """Take the one probe of the half-open state; False when it is taken or the state is another."""
        if self.state is not State.HALF_OPEN or self.probing:
            return False
        self.probing = True
        return True

    def adopt(self, state: State, term: int, age_us: int, now_us: int) -> Event | None:
        """
        Follow another instance, if it knows better: its *term* is above ours.

        An opening is followed with the age it has, never as if it began now; otherwise passing a trip
        around would keep it open. HALF_OPEN is not followed: one instance probes, the others wait.
        """
        if term <= self.term or state not in (State.OPEN, State.CLOSED):
            return None
        # A term is followed even where the state is ours already: what we judge next must be above it.
        self.term, self.judged_us = term, now_us - max(age_us, 0)
        event = Event.FLEET_OPENED if state is State.OPEN else Event.FLEET_CLOSED
        began_us = now_us - min(max(age_us, 0), self.policy.cool_down_us)
        if state is self.state is State.OPEN:
            # A probe of theirs failed: the cool-down begins anew for all.
            self.since_us = began_us
        return self._move(event, began_us)

    def forget_term(self, told_us: int, now_us: int) -> None:
        """Number anew once the last judgement has been told for *told_us*: newcomers know of none."""
        if now_us - self.judged_us > told_us:
            self.term = 0

    def _move(self, event: Event, now_us: int) -> Event | None:
        state = next_state(self.state, event)
        if state is self.state:
            return None
        self.state = state
        self.generation += 1
        if event in JUDGEMENTS:
            self.term, self.judged_us = self.term + 1, now_us
        self.since_us = now_us
        if self.probing and event not in (Event.PROBE_SUCCEEDED, Event.PROBE_FAILED):
            self._busy_until_us = self.probe_until_us if self.probe_until_us < NO_END_US else 0
        self.probing = False
        self._forget(now_us)
        return event

    def _forget(self, now_us: int) -> None:
        self._begin(now_us // self._part_us)
        self._calls = [0] * WINDOW_PARTS
        self._failures = [0] * WINDOW_PARTS
        self._in_a_row = 0
        self._silent_since_us = -1

    def _slide(self, part: int) -> None:
        # After a long pause every part is cleared once, not once for each part of the pause.
        for step in range(1, min(max(part - self._part, 0), WINDOW_PARTS) + 1):
            self._calls[(self._part + step) % WINDOW_PARTS] = 0
            self._failures[(self._part + step) % WINDOW_PARTS] = 0
        self._begin(max(part, self._part))

    def _begin(self, part: int) -> None:
        self._part = part
        self._part_ends_s = (part + 1) * self._part_us / 1e6

    def _ratio_is_up(self) -> bool:
        calls = sum(self._calls)
        return calls >= self.policy.min_calls and sum(self._failures) >= self.policy.failure_ratio * calls
