"""
Adaptive concurrency: how many calls an upstream may have in flight, found out from how long they take.

The gradient of Netflix's concurrency-limits (Gradient2). Calls are looked at window by window. While a
window's calls take no longer than calls used to, the limit grows by about its square root; the longer they
take, the smaller the next limit is, down to half. Calls that were turned away or never answered make it
smaller too. While fewer than half of the limit are in flight it stays, because then nothing is known.

Other than there, calls that took long while the limit was used up do not teach what is usual: they stood
in a line of our own making, and under a long overload the limit would creep up until callers give up.
Instead, a limit that has been used up for half a minute goes down to its minimum until those from before
have ended, and a few more; what these take is usual from then on. That is about the time of two calls. So an
upstream that has become slower gets its calls back.

Nothing here awaits or reads a clock. Writing down a call costs about 0.3 us.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import sqrt

WINDOW_US = 100_000
MIN_SAMPLES = 10
"""A window lasts until it has both passed and seen this many calls."""

FEW_SAMPLES = 4
"""
So many calls, or the minimum of the limit if that is more, tell what is usual where ten would take longer
than a window: everybody else waits meanwhile.
"""

SMOOTHING = 0.2
"""How much of the way to its new value the limit goes with one window."""

MEMORY = 600
"""Windows over which it is learned how long calls usually take; a minute of 100 ms windows."""

WARM_UP = 10
"""Windows that count alike at the beginning, so that the first one is not believed for a minute."""

FORGET = 0.95
"""What is left of the usual time per window while calls are twice as fast: a slow past is forgotten fast."""

PRESSED = 300
"""Windows in a row with the limit used up, after which it is measured anew what is usual."""

ON_DROP = 0.9
"""What is left of the limit after a window in which calls were turned away or never answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyRules:
    """
    The bounds.

    Attributes:
        initial: The limit before anything is known.
        minimum: It never goes below.
        maximum: It never goes above.
        tolerance: How many times longer than usual calls may take before the limit shrinks; 1 or more.

    Raises:
        ValueError: If they do not go together.
    """

    initial: int = 20
    minimum: int = 4
    maximum: int = 1000
    tolerance: float = 1.5

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                f"1 <= minimum <= initial <= maximum must hold, got {self.minimum}, {self.initial}, "
                f"{self.maximum}"
            )
        if not self.tolerance >= 1:
            raise ValueError(f"tolerance must be 1 or more, got {self.tolerance}")


class Phase(Enum):
    """What calls that end are looked at for."""

    FOLLOWING = "following"
    DRAINING = "draining"
    """The limit is at its minimum, and calls from before are still in flight."""
    MEASURING = "measuring"
    """Only as many calls as the minimum are in flight: what they take is usual."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What is known after some windows.

    Attributes:
        limit: Calls that may be in flight; a fraction is kept, so that small steps add up.
        usual_us: How long calls usually take; 0 before the first window.
        windows: How many windows were seen, up to MEMORY.
        pressed: For how many windows in a row the limit was used up.
        phase: What calls that end next are looked at for.
    """

    limit: float
    usual_us: float = 0.0
    windows: int = 0
    pressed: int = 0
    phase: Phase = Phase.FOLLOWING


def after_window(
    rules: ConcurrencyRules, estimate: Estimate, mean_us: float, most_in_flight: int, *, dropped: bool
) -> Estimate:
    """
    Return the estimate after a window of `FOLLOWING` whose answered calls took *mean_us* on average.

    Args:
        rules: The bounds.
        estimate: The one before.
        mean_us: Microseconds; 0 if no call was answered.
        most_in_flight: Most calls that were in flight at once.
        dropped: Whether calls were turned away or never answered.
    """
    limit = estimate.limit
    pressed = estimate.pressed + 1 if most_in_flight >= int(limit) else 0
    if pressed >= PRESSED:
        return replace(estimate, pressed=0, phase=Phase.DRAINING)
    if dropped:
        # Callers leave all the time. If the first answers did not tell what is usual, nothing that a caller
        # does would ever be told from an upstream that does not answer.
        usual_us = estimate.usual_us or mean_us
        limit = max(rules.minimum, limit * ON_DROP)
        return replace(estimate, limit=limit, usual_us=usual_us, pressed=pressed)
    if not mean_us:
        return replace(estimate, pressed=pressed)
    windows = min(estimate.windows + 1, MEMORY)
    usual_us = estimate.usual_us
    if windows <= WARM_UP:
        usual_us += (mean_us - usual_us) / windows
    elif mean_us < usual_us or not pressed:
        usual_us += (mean_us - usual_us) * 2 / (windows + 1)
    if usual_us > 2 * mean_us:
        usual_us *= FORGET
    if most_in_flight >= limit / 2:
        gradient = max(0.5, min(1.0, rules.tolerance * usual_us / mean_us))
        wanted = limit * gradient + sqrt(limit)
        limit += (wanted - limit) * SMOOTHING
        limit = max(rules.minimum, min(rules.maximum, limit))
    return Estimate(limit, usual_us, windows, pressed)


class ConcurrencyLimit:
    """
    The limit as it stands, and the window under way.

    Attributes:
        limit: Calls that may be in flight now.
        estimate: What it follows from.
    """

    __slots__ = (
        "_began_us", "_count", "_dropped", "_follows", "_most", "_rules", "_sum_us", "estimate", "limit"
    )  # fmt: skip

    def __init__(self, rules: ConcurrencyRules, now_us: int) -> None:
        self.limit = rules.initial
        self.estimate = Estimate(rules.initial)
        self._rules = rules
        self._follows = True
        self._began_us = now_us
        self._count = self._sum_us = self._most = self._dropped = 0

    def on_end(self, now_us: int, took_us: int, in_flight: int, *, dropped: bool) -> bool:
        """
        Take note of a call that ended; return whether the limit may have changed.

        Args:
            now_us: Microseconds of any clock that does not go back.
            took_us: How long the upstream took, waiting for a place not counted.
            in_flight: Calls in flight, this one included.
            dropped: Whether it was turned away or never answered; *took_us* then counts for nothing.
        """
        if not self._follows:
            return self._measure(now_us, took_us, in_flight, dropped=dropped)
        if dropped:
            self._dropped += 1
        else:
            self._sum_us += took_us
        self._count += 1
        self._most = max(self._most, in_flight)
        if now_us < self._began_us + WINDOW_US or self._count < MIN_SAMPLES:
            return False
        self.estimate = after_window(
            self._rules, self.estimate, self._mean_us, self._most, dropped=self._dropped > 0
        )
        self._follows = self.estimate.phase is Phase.FOLLOWING
        self.limit = int(self.estimate.limit) if self._follows else self._rules.minimum
        self._begin(now_us)
        return True

    @property
    def _mean_us(self) -> float:
        return self._sum_us / max(1, self._count - self._dropped)

    def _begin(self, now_us: int) -> None:
        self._began_us = now_us
        self._count = self._sum_us = self._most = self._dropped = 0

    def _measure(self, now_us: int, took_us: int, in_flight: int, *, dropped: bool) -> bool:
        """Do as `on_end` while it is found out what is usual, for no longer than that takes."""
        estimate, few = self.estimate, max(FEW_SAMPLES, self._rules.minimum)
        if estimate.phase is Phase.DRAINING:
            if in_flight <= self._rules.minimum:
                self.estimate = replace(estimate, phase=Phase.MEASURING)
                self._begin(now_us)
            return False
        if now_us - took_us < self._began_us:
            # It began among those from before.
            return False
        if dropped:
            self._dropped += 1
        else:
            self._sum_us += took_us
        self._count += 1
        if self._count < (few if now_us >= self._began_us + WINDOW_US else MIN_SAMPLES):
            return False
        usual_us = self._mean_us or estimate.usual_us
        self.estimate = replace(estimate, usual_us=usual_us, phase=Phase.FOLLOWING)
        self.limit, self._follows = int(estimate.limit), True
        self._begin(now_us)
        return True

    def on_left(self, now_us: int, took_us: int, in_flight: int, *, silent: bool) -> bool:
        """
        Take note of a call that was not waited for to its end; arguments and answer are as for `on_end`.

        Deadlines are up to callers, so it counts for nothing if it had no longer than calls usually take.
        Otherwise nobody answered it if it was *silent* until its deadline, or nothing is usual yet; and if
        its caller left it counts as one that took *took_us*: it would have taken longer still.
        """
        usual_us = self.estimate.usual_us
        if took_us <= usual_us:
            return False
        return self.on_end(now_us, took_us, in_flight, dropped=silent or not usual_us)
