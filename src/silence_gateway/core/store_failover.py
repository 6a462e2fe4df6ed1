"""
When to stop asking the store, and when to ask again.

Rule 1: every transition is in `TRANSITIONS`; no other file assigns a state.
Rule 2: this file opens no connection and reads no clock. It is told how calls and probes went, and says
        what state follows; times and the jitter are arguments.
Rule 3: a slow answer is a failure. A store that is slower than its deadline is worse than a dead one,
        because queues build up behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Whether calls may go to the store."""

    STARTING = "starting"  # nobody knows yet; calls may try
    UP = "up"
    SUSPECT = "suspect"  # something failed; calls still go, probes hurry
    OPEN = "open"  # calls fail at once
    PROBING = "probing"  # calls fail at once while one probe asks


class Signal(Enum):
    """What can happen."""

    SUCCESS = "a call was answered in time"
    FAILURE = "a call failed or was late"
    TOO_MANY_FAILURES = "failures in a row reached the threshold"
    REFUSED = "the store itself says that it cannot serve"
    COOL_DOWN_OVER = "cool-down over"
    PROBE_SUCCEEDED = "probe succeeded"
    PROBE_FAILED = "probe failed"


TRANSITIONS: dict[tuple[State, Signal], State] = {
    (State.STARTING, Signal.PROBE_SUCCEEDED): State.UP,
    (State.STARTING, Signal.PROBE_FAILED): State.OPEN,
    (State.STARTING, Signal.TOO_MANY_FAILURES): State.OPEN,
    (State.STARTING, Signal.REFUSED): State.OPEN,
    (State.UP, Signal.FAILURE): State.SUSPECT,
    (State.UP, Signal.TOO_MANY_FAILURES): State.OPEN,
    (State.UP, Signal.REFUSED): State.OPEN,
    (State.SUSPECT, Signal.SUCCESS): State.UP,
    (State.SUSPECT, Signal.TOO_MANY_FAILURES): State.OPEN,
    (State.SUSPECT, Signal.REFUSED): State.OPEN,
    (State.OPEN, Signal.COOL_DOWN_OVER): State.PROBING,
    (State.PROBING, Signal.PROBE_SUCCEEDED): State.UP,
    (State.PROBING, Signal.PROBE_FAILED): State.OPEN,
}

CALLS_REFUSED = frozenset({State.OPEN, State.PROBING})
"""States in which a call fails at once."""


class Fault(Enum):
    """What kind of trouble, sorted by what to do about it."""

    UNREACHABLE = "unreachable"  # refused, reset, closed, no more clients
    SLOW = "slow"  # no answer within the deadline
    NOT_READY = "not ready"  # LOADING, MASTERDOWN, CLUSTERDOWN
    MOVED = "moved"  # a cluster node that does not own the key
    WRONG_ROLE = "wrong role"  # READONLY: a replica, or a primary that was demoted
    SCRIPT_MISSING = "script missing"
    SCRIPT_STUCK = "script stuck"  # BUSY: somebody's script does not end
    CAPACITY = "capacity"  # out of memory, too few replicas
    CREDENTIALS = "credentials"  # the store does not know us
    UNTRUSTED = "untrusted"  # we do not trust the store, or it does not trust our certificate
    PERMISSION = "permission"  # the store knows us, and forbids this command
    REFUSED = "refused"  # any other error reply: the command or script itself is at fault


# By the first word of the reply: clients and servers agree on that and on little else.
FAULT_OF_PREFIX: dict[str, Fault] = {
    "LOADING": Fault.NOT_READY,
    "MASTERDOWN": Fault.NOT_READY,
    "MOVED": Fault.MOVED,
    "ASK": Fault.MOVED,
    "TRYAGAIN": Fault.MOVED,
    "CLUSTERDOWN": Fault.NOT_READY,
    "CROSSSLOT": Fault.REFUSED,
    "READONLY": Fault.WRONG_ROLE,
    "NOSCRIPT": Fault.SCRIPT_MISSING,
    "BUSY": Fault.SCRIPT_STUCK,
    "OOM": Fault.CAPACITY,
    "NOREPLICAS": Fault.CAPACITY,
    "MISCONF": Fault.CAPACITY,
    "WRONGPASS": Fault.CREDENTIALS,
    "NOAUTH": Fault.CREDENTIALS,
    "NOPERM": Fault.PERMISSION,
}

OPENS_AT_ONCE = frozenset(
    {Fault.NOT_READY, Fault.SCRIPT_STUCK, Fault.WRONG_ROLE, Fault.CREDENTIALS, Fault.UNTRUSTED}
)
"""The store answers and says that it cannot serve anybody like us: no need to count."""

COUNTS = frozenset({Fault.UNREACHABLE, Fault.SLOW, Fault.MOVED})
"""One more of these towards the threshold. The rest concerns one command, not the store."""

MENDED_BY_HAND = frozenset({Fault.CREDENTIALS, Fault.UNTRUSTED})
"""Wrong credentials and certificates mend when somebody acts. The server writes down every attempt, and may
lock out who tries too often; but who has mended them waits to see it."""

BY_HAND_COOL_DOWN_FACTOR = 2


def fault_of_reply(text: str) -> Fault:
    """Sort an error reply by its text."""
    prefix, _, rest = text.partition(" ")
    if prefix == "ERR":
        if "max number of clients" in rest:
            return Fault.UNREACHABLE
        if "invalid password" in rest or "without any password" in rest or "AUTH" in rest[:40]:
            return Fault.CREDENTIALS
        if "OOM command not allowed" in rest:  # raised inside a script
            return Fault.CAPACITY
        if "READONLY You can't write" in rest:
            return Fault.WRONG_ROLE
    if prefix == "CLUSTERDOWN" and "slot not served" in rest:
        return Fault.MOVED  # the cluster is well, but for this slot
    return FAULT_OF_PREFIX.get(prefix, Fault.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverPolicy:
    """
    How patient to be.

    Attributes:
        failures: Failures in a row that open the breaker.
        cool_down_us: Mean wait before a probe; a draw spreads it from half to one and a half.

    Raises:
        ValueError: If either is below one.
    """

    failures: int = 5
    cool_down_us: int = 500_000

    def __post_init__(self) -> None:
        if self.failures < 1 or self.cool_down_us < 1:
            raise ValueError(f"failures and cool-down must be at least one: {self}")


@dataclass(frozen=True, slots=True)
class Move:
    """The state changed; *lost* and *found* say whether anybody needs to hear of it."""

    old: State
    new: State
    lost: bool
    found: bool


class Failover:
    """
    The breaker of one store connection.

    Attributes:
        state: Where it stands.
        failures: Failures in a row.
        fault: The last kind of trouble, None while there is none.
        reason: The last trouble in words.
        down: Whether an outage has been announced and its end has not.
        down_since_us: When that outage began.
    """

    __slots__ = ("down", "down_since_us", "failures", "fault", "policy", "reason", "state")

    def __init__(self, policy: FailoverPolicy) -> None:
        self.policy = policy
        self.state = State.STARTING
        self.failures = 0
        self.fault: Fault | None = None
        self.reason = ""
        self.down = False
        self.down_since_us = 0

    def on_success(self, now_us: int) -> Move | None:
        """A call was answered in time."""
        if self.state in CALLS_REFUSED:
            return None  # an answer from before the trip proves nothing about now
        self.failures = 0
        return self.move(Signal.SUCCESS, now_us)

    def on_failure(self, fault: Fault, reason: str, now_us: int) -> Move | None:
        """A call failed, was late, or the store refused it."""
        if self.state in CALLS_REFUSED:
            return None
        if fault in OPENS_AT_ONCE:
            self.note(fault, reason)
            return self.move(Signal.REFUSED, now_us)
        if fault not in COUNTS:
            return None
        self.note(fault, reason)
        self.failures += 1
        if self.failures >= self.policy.failures:
            return self.move(Signal.TOO_MANY_FAILURES, now_us)
        return self.move(Signal.FAILURE, now_us)

    def on_cool_down_over(self, now_us: int) -> Move | None:
        """The wait is over; a probe starts."""
        return self.move(Signal.COOL_DOWN_OVER, now_us)

    def on_probe_success(self, now_us: int) -> Move | None:
        """A probe was answered in time; while calls are allowed it counts as one of them."""
        if self.state in (State.UP, State.SUSPECT):
            return self.on_success(now_us)
        self.failures = 0
        return self.move(Signal.PROBE_SUCCEEDED, now_us)

    def on_probe_failure(self, fault: Fault, reason: str, now_us: int) -> Move | None:
        """A probe failed; while calls are allowed it counts as one of them."""
        if self.state in (State.UP, State.SUSPECT):
            return self.on_failure(fault, reason, now_us)
        self.note(fault, reason)
        return self.move(Signal.PROBE_FAILED, now_us)

    def cool_down_us(self, draw: float) -> int:
        """How long to stay open before the next probe, for a *draw* in [0, 1)."""
        mean_us = self.policy.cool_down_us
        if self.fault in MENDED_BY_HAND:
            mean_us *= BY_HAND_COOL_DOWN_FACTOR
        return int(mean_us * (0.5 + draw))

    def note(self, fault: Fault, reason: str) -> None:
        """Remember the last trouble."""
        self.fault = fault
        self.reason = reason

    def move(self, signal: Signal, now_us: int) -> Move | None:
        """Follow the table; a signal with no row changes nothing."""
        old = self.state
        new = TRANSITIONS.get((old, signal), old)
        if new is old:
            return None
        self.state = new
        lost = new is State.OPEN and not self.down
        found = new is State.UP and self.down
        if lost:
            self.down = True
            self.down_since_us = now_us
        if new is State.UP:
            self.down = False
            self.fault = None
        return Move(old, new, lost, found)
