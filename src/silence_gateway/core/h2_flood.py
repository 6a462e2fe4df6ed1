"""
How much a client may do that costs us and brings nobody forward.

Every frame of HTTP/2 that wants an answer, or throws work away, has been used to keep servers busy: resets
(CVE-2023-44487), SETTINGS, PING, empty frames, WINDOW_UPDATE. All of them also occur in honest traffic, and
more of them the more is done. So each kind has an allowance that time earns and work earns, and what is
spent beyond it ends the connection. Nothing here reads a clock or knows what a connection is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Noise(IntEnum):
    """What is counted; the comment says who does it honestly."""

    RESETS = 0  # a stream ended before its answer: impatient callers, hedging
    REFUSALS = 1  # a stream beyond the agreed number: a client that has not read our SETTINGS yet
    SETTINGS = 2  # once per connection, and clients that tune their windows
    PINGS = 3  # keepalive; grpc measures its bandwidth with one per round trip while data flows
    EMPTY_FRAMES = 4  # DATA without content that does not end a stream
    WINDOW_UPDATES = 5  # one or two per frame of an answer
    STRAYS = 6  # frames for a stream that has just ended: they were on their way
    OTHERS = 7  # PRIORITY of browsers, acknowledgements, types that we do not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """
    How much of one kind is allowed.

    Attributes:
        burst: The most that can be saved up, and what a new connection begins with.
        per_s: Earned by every second.
        per_work: Earned by every unit of work: an answered request, or a KiB of content either way.

    Raises:
        ValueError: If nothing would ever be allowed, or a number is negative.
    """

    burst: int
    per_s: float
    per_work: float

    def __post_init__(self) -> None:
        if self.burst < 1 or self.per_s < 0 or self.per_work < 0:
            raise ValueError(f"an allowance must begin with one or more and earn: {self}")


ALLOWANCES: Mapping[Noise, Allowance] = {
    # A thousand calls that time out at once are bad luck; a thousand a second that nobody wanted are not.
    Noise.RESETS: Allowance(burst=1_000, per_s=200, per_work=1),
    Noise.REFUSALS: Allowance(burst=1_000, per_s=100, per_work=1),
    Noise.SETTINGS: Allowance(burst=100, per_s=10, per_work=0),
    Noise.PINGS: Allowance(burst=1_000, per_s=100, per_work=1),
    Noise.EMPTY_FRAMES: Allowance(burst=1_000, per_s=100, per_work=1),
    # Careful clients give back every frame, on the stream and on the connection.
    Noise.WINDOW_UPDATES: Allowance(burst=4_000, per_s=1_000, per_work=4),
    # As much as fits into the windows may be on its way when a stream ends.
    Noise.STRAYS: Allowance(burst=2_000, per_s=500, per_work=2),
    Noise.OTHERS: Allowance(burst=1_000, per_s=100, per_work=2),
}


class FloodBudget:
    """
    What one connection has left of each kind.

    What is left is spent first, and only then it is counted what was earned since that was last done, so
    that most spending is a subtraction. In any stretch of time no more is spent than two bursts and what
    the stretch earned.

    Args:
        now_s: The time, in seconds of any one clock.
        allowances: By kind; every kind must be there.
    """

    __slots__ = ("allowances", "counted_s", "counted_work", "left")

    def __init__(self, now_s: float, allowances: Mapping[Noise, Allowance] = ALLOWANCES) -> None:
        self.allowances = [allowances[noise] for noise in Noise]
        self.left = [allowance.burst for allowance in self.allowances]
        self.counted_s = [now_s] * len(self.left)
        self.counted_work = [0] * len(self.left)

    def spend(self, noise: Noise, now_s: float, work: int) -> bool:
        """
        Take one of *noise*; False if there is none left.

        Args:
            noise: The kind.
            now_s: The time, on the clock of the beginning.
            work: Units of work since the beginning, altogether.
        """
        if self.left[noise]:
            self.left[noise] -= 1
            return True
        allowance = self.allowances[noise]
        earned = (now_s - self.counted_s[noise]) * allowance.per_s
        earned += (work - self.counted_work[noise]) * allowance.per_work
        whole = min(allowance.burst, int(earned))
        if whole < 1:
            return False
        self.counted_s[noise] = now_s
        self.counted_work[noise] = work
        self.left[noise] = whole - 1
        return True
