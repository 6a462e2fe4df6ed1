"""
Concurrency: at most so many hold a place at once.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits/concurrency.lua`; `tests/agreement` holds both to the same numbers.

Places have names and an end: whoever still works renews its place, whoever is done releases it, and the
place of a holder that crashed is free when its time is over. Counting up and down instead would never
find back after the first crash.

Time that steps back lets places last longer by as much, never for ever: what ends later than one whole
time to live from now was written by another clock, and is cut to that.
"""

from __future__ import annotations

from typing import Final

from silence_gateway.core.limits import Decision, LimitRule

RETRY_US: Final = 1_000_000
"""When a place becomes free nobody knows: ask again after a second, or when the next place runs out."""


class Places:
    """
    Who holds a place.

    Attributes:
        until: When the place of each holder is free again, by name of the holder.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until: dict[str, int] = {}


def is_over(_rule: LimitRule, places: Places, now_us: int) -> bool:
    """Whether nobody holds a place any more."""
    return all(until_us <= now_us for until_us in places.until.values())


def settle(rule: LimitRule, places: Places | None, now_us: int) -> Places:
    """Free the places whose time is over, and cut those that end too late; changes *places*."""
    if places is None:
        return Places()
    latest_us = now_us + rule.ttl_us
    places.until = {
        holder: min(until_us, latest_us) for holder, until_us in places.until.items() if until_us > now_us
    }
    return places


def judge(rule: LimitRule, places: Places | None, now_us: int, cost: int, holder: str = "") -> Decision:
    """
    Say whether *holder* may have a place, or keep the one it has.

    *cost* is 1, or 0 to ask what is left.
    """
    places = settle(rule, places, now_us)
    limit, held = rule.capacity, len(places.until)
    if not cost:
        return Decision(True, limit, max(0, limit - held), 0, 0, now_us)
    if holder in places.until:
        return Decision(True, limit, max(0, limit - held), 0, 0, now_us)
    if cost <= limit - held:
        return Decision(True, limit, limit - held - 1, 0, 0, now_us)
    first_us = min(places.until.values()) - now_us
    return Decision(False, limit, 0, min(RETRY_US, first_us), 0, now_us)


def spend(rule: LimitRule, places: Places | None, now_us: int, holder: str) -> Places:
    """Give *holder* a place, whether there is one or not, or let it last from now; changes *places*."""
    places = settle(rule, places, now_us)
    places.until[holder] = now_us + rule.ttl_us
    return places


def release(rule: LimitRule, places: Places, now_us: int, holder: str) -> tuple[Places, int]:
    """Free the place of *holder*; changes *places* and says how many it freed."""
    places = settle(rule, places, now_us)
    return places, 0 if places.until.pop(holder, None) is None else 1


def used_of(rule: LimitRule, places: Places | None, now_us: int) -> tuple[int, int]:
    """Return how many places are held."""
    return len(settle(rule, places, now_us).until), 0
