"""
Which endpoints of an upstream may take a call now.

One pure decision over everything that is known of each endpoint: its connections, its health, its breaker,
and what an operator said. `upstreams/pool.py` takes it again whenever one of those changes, never per call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from silence_gateway.core.breaker import SHUT, State
from silence_gateway.core.health import Health


class Link(Enum):
    """How an endpoint's connections stand."""

    CONNECTING = "connecting"
    """The first attempt since the start, or since a connection was lost, is under way."""
    CONNECTED = "connected"
    BROKEN = "broken"
    """The last attempt failed; the next one waits for its back-off. Nobody waits for this one."""


class Verdict(Enum):
    """What an endpoint is good for."""

    READY = "ready"
    PROBE = "probe"
    """Half-open, and nobody probes yet: it gets exactly the next call."""
    WAITING = "waiting"
    """Nothing speaks against it; its connection is on the way."""
    DOUBTFUL = "doubtful"
    """Usable if nobody better is left."""
    OUT = "out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    Everything that decides about one endpoint.

    Attributes:
        active: Not draining and not removed.
        link: How its connections stand.
        health: What health checks say.
        breaker: Its breaker's state.
        probing: Whether the half-open breaker's one probe is under way.
        priority: Endpoints of the lowest number are used while any of them is ready.
        ejected: It fails where its peers do not.
        vouched: Its health was found out by another instance.
    """

    active: bool = True
    link: Link = Link.CONNECTED
    health: Health = Health.UNKNOWN
    breaker: State = State.CLOSED
    probing: bool = False
    priority: int = 0
    ejected: bool = False
    vouched: bool = False

    @property
    def vetoed(self) -> bool:
        """Whether it is out of reach for this instance, and another says that it is well."""
        return self.vouched and self.health is Health.HEALTHY and self.link is Link.BROKEN


@dataclass(frozen=True, slots=True)
class Eligible:
    """
    Who may take a call, as indices into what was asked about.

    Attributes:
        ready: Candidates for the balancer.
        probes: Endpoints that get the next call each, before any balancing.
        hopeful: Whether it makes sense to wait: nobody is ready, but a connection is on the way.
    """

    ready: tuple[int, ...]
    probes: tuple[int, ...]
    hopeful: bool


def verdict(standing: Standing) -> Verdict:
    """Say what one endpoint is good for."""
    if not standing.active or standing.health is Health.UNHEALTHY or standing.breaker in SHUT:
        return Verdict.OUT
    if standing.link is Link.BROKEN:
        return Verdict.OUT
    if standing.breaker is State.HALF_OPEN:
        usable = standing.link is Link.CONNECTED and not standing.probing
        return Verdict.PROBE if usable else Verdict.OUT
    if standing.link is Link.CONNECTING:
        return Verdict.WAITING
    return Verdict.DOUBTFUL if standing.health is Health.DOUBTED or standing.ejected else Verdict.READY


def eligible(standings: Sequence[Standing]) -> Eligible:
    """
    Decide who may take a call.

    Only the lowest priority number that has a ready endpoint is used. If nobody is ready, endpoints that
    only another instance doubts are used rather than nobody: everything down at once says more about who
    asked than about them. If even those are missing the answer is empty, and *hopeful* says whether a
    connection is on the way; otherwise calls should fail at once.
    """
    verdicts = [verdict(standing) for standing in standings]
    chosen: tuple[int, ...] = ()
    for wanted in (Verdict.READY, Verdict.DOUBTFUL):
        found = [index for index, one in enumerate(verdicts) if one is wanted]
        if found:
            first = min(standings[index].priority for index in found)
            chosen = tuple(index for index in found if standings[index].priority == first)
            break
    probes = tuple(index for index, one in enumerate(verdicts) if one is Verdict.PROBE)
    hopeful = not chosen and Verdict.WAITING in verdicts
    return Eligible(chosen, probes, hopeful)


def why_out(standing: Standing, last_error: str = "") -> str:
    """Say in a few words why an endpoint takes no calls; empty when it does."""
    if not standing.active:
        return "draining"
    if standing.link is Link.BROKEN:
        here = " here, though another instance reaches it" if standing.vetoed else ""
        return f"not connected{here} ({last_error})" if last_error else f"not connected{here}"
    if standing.link is Link.CONNECTING:
        return f"connecting (lost: {last_error})" if last_error else "connecting"
    if standing.health is Health.UNHEALTHY:
        return f"unhealthy ({last_error})" if last_error else "unhealthy"
    if standing.breaker is State.HELD_OPEN:
        return "circuit breaker held open by an operator"
    if standing.breaker is State.OPEN:
        return f"circuit breaker open ({last_error})" if last_error else "circuit breaker open"
    if standing.breaker is State.HALF_OPEN:
        return "circuit breaker half open, one probe under way" if standing.probing else ""
    return "ejected: it fails where others do not" if standing.ejected else ""
