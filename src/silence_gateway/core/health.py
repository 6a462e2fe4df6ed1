"""
What an answer to a health check means, and how many of them change our mind.

Nothing here asks anybody: `upstreams/health.py` does, and `upstreams/fleet.py` passes verdicts around.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Health(Enum):
    """What is known of an endpoint; the value is the word used in the store and the admin API."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """It says so itself, or our own checks stay unanswered."""
    DOUBTED = "doubted"
    """Another instance gets no answer from it. That may be the other's network, not the endpoint."""


class Check(Enum):
    """How one health check ended."""

    SERVING = "serving"
    REFUSING = "refusing"
    """It answered that it does not serve."""
    SILENT = "silent"
    """It did not answer in time, or could not be reached."""


@dataclass(frozen=True, slots=True)
class Streak:
    """
    The verdict so far and the checks in a row that speak against it.

    Attributes:
        health: UNKNOWN, HEALTHY or UNHEALTHY.
        against: How many checks in a row said otherwise.
        last: The latest check.
    """

    health: Health = Health.UNKNOWN
    against: int = 0
    last: Check | None = None


def after_check(streak: Streak, check: Check, unhealthy_after: int, healthy_after: int) -> Streak:
    """
    Return the verdict after one more check.

    The first good check of an unknown endpoint is enough; after that *unhealthy_after* bad ones in a row
    take it out and *healthy_after* good ones bring it back.
    """
    good = check is Check.SERVING
    if good is (streak.health is Health.HEALTHY) and streak.health is not Health.UNKNOWN:
        return Streak(streak.health, 0, check)
    if good:
        needed = 1 if streak.health is Health.UNKNOWN else healthy_after
    else:
        needed = unhealthy_after
    against = streak.against + 1
    if good and streak.health is Health.UNKNOWN:
        against = 1
    if against < needed:
        return Streak(streak.health, against, check)
    return Streak(Health.HEALTHY if good else Health.UNHEALTHY, 0, check)


def after_word(word: Check) -> Streak:
    """Return the verdict once an endpoint that is watched said of itself that its mind has changed."""
    return Streak(Health.HEALTHY if word is Check.SERVING else Health.UNHEALTHY, 0, word)


def on_hearsay(said: Health, last: Check | None) -> Health:
    """
    Return what another instance's verdict means to this one.

    What an endpoint said itself is believed. That it did not answer *there* is only a doubt *here*.
    """
    if said is Health.UNHEALTHY and last is not Check.REFUSING:
        return Health.DOUBTED
    return said
