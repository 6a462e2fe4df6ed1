"""
What statistics of limits may ask of a store, and what it may rely on.

One limit at a time, off the request path. Totals go back to the first count or the last reset; clients are
those of the last minute and hour, cut into slots of time by the clock of the store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

WindowName: TypeAlias = Literal["1m", "1h"]
By: TypeAlias = Literal["requests", "refused"]
Tops: TypeAlias = Mapping[tuple[WindowName, By], int]
"""How many top keys are wanted, by window and by what they are ordered; what is not named is not read."""

SLOT_S: Final[Mapping[WindowName, int]] = {"1m": 10, "1h": 600}
"""Length of a slot of each window, in seconds."""

SLOTS: Final = 7
"""Slots that a window is read from: the present one and six before, so a minute is the last 60 to 70
seconds, and an hour the last 60 to 70 minutes. Nothing of the time asked for is ever missing."""

MAX_TOP: Final = 100
"""Keys with the most requests that are kept and shown per limit."""


class LimitCounts(NamedTuple):
    """
    How often a limit decided what.

    Attributes:
        allowed: Requests it let pass, those that another limit refused included.
        denied: Requests it refused.
        shadow_denied: Requests it would have refused, were it enforced.
        near: Those of the allowed that left less than a tenth of the limit.
    """

    allowed: int = 0
    denied: int = 0
    shadow_denied: int = 0
    near: int = 0

    def since(self, before: LimitCounts) -> LimitCounts:
        """Return what has been added since *before*."""
        return LimitCounts(*(now - then for now, then in zip(self, before, strict=True)))

    def plus(self, more: LimitCounts) -> LimitCounts:
        """Return both together."""
        return LimitCounts(*(one + other for one, other in zip(self, more, strict=True)))


NOTHING: Final = LimitCounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUse:
    """
    What one instance has to add to a limit's statistics.

    Attributes:
        counts: Decisions since the last time.
        requests: Its busiest keys, as they may be shown, with how many requests each made.
        refused: The keys refused most, with how often.
        clients: A hash of every key that made a request; the same key gives the same hash anywhere.
    """

    counts: LimitCounts = NOTHING
    requests: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    clients: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowUse:
    """
    How a limit was used in a window of time.

    Attributes:
        counts: Decisions.
        unique_clients: About how many different keys there were.
        requests: Keys with the most requests, most first; each was made at least so often.
        refused: Keys refused most, or that a shadow limit would have refused, most first.
    """

    counts: LimitCounts = NOTHING
    unique_clients: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """
    How a limit is used.

    Attributes:
        counts: Decisions since *since_us*.
        since_us: Since when, in microseconds since the epoch; 0 if nothing was ever counted.
        windows: The last minute and hour.
    """

    counts: LimitCounts = NOTHING
    since_us: int = 0
    windows: Mapping[WindowName, WindowUse] = field(default_factory=dict)


class LimitStats(Protocol):
    """
    Statistics of limits that all instances add to.

    Each reset begins a new generation of a limit's statistics, with a larger number. What was counted
    before a reset never gets in after it, provided that whoever adds says in which generation it counted.
    """

    def add(self, name: str, new: NewUse, generation: int) -> Awaitable[int]:
        """
        Add what was counted in *generation*; 0 for one who does not know it yet.

        Returns the generation in force. If that is above a *generation* other than 0, nothing was added.

        Raises:
            StoreUnavailable: No answer in time; it may have been added.
        """

    def read(self, name: str, top: Tops) -> Awaitable[LimitUse]:
        """
        Return how a limit is used, with its *top* keys.

        Raises:
            StoreUnavailable: No answer in time.
        """

    def reset(self, name: str) -> Awaitable[int]:
        """
        Begin a limit's statistics anew; returns the new generation.

        Raises:
            StoreUnavailable: No answer in time; they may have been reset.
        """

    def show(self, names: Sequence[str]) -> Awaitable[None]:
        """
        Say that an instance has these limits.

        Raises:
            StoreUnavailable: No answer in time.
        """

    def sweep(self, unseen_s: float, at_most: int) -> Awaitable[Sequence[str]]:
        """
        Forget limits that no instance has shown for *unseen_s* seconds, *at_most* of them; return them.

        Raises:
            StoreUnavailable: No answer in time; what is left ends by itself.
        """
