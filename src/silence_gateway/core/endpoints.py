"""
Which endpoints of an upstream may take a call now, and in which proportion.

One pure decision over everything that is known of each endpoint: its connections, its health, its breaker,
and what an operator said. `upstreams/places.py` takes it again whenever one of those changes, never per
call. How calls are shared among priorities and zones is `core/balancing/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from silence_gateway.core.balancing.priorities import OVERPROVISIONING, Level, loads
from silence_gateway.core.balancing.zones import ZoneState, zone_parts
from silence_gateway.core.breaker import SHUT, State
from silence_gateway.core.health import Health


class Link(Enum):
    """How an endpoint's connections stand."""

    CONNECTING = "connecting"
    """The first attempt since the start, or since a connection was lost, is under way."""
    CONNECTED = "connected"
    IDLE = "idle"
    """Nobody has called for long, and its connections were closed; the next call has one opened."""
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
        priority: Endpoints of the lowest number are used as far as they can take the calls.
        zone: Where it is; empty if that is not known.
        weight: Its part of the calls of its zone.
        ejected: It fails where its peers do not.
        vouched: Another instance has found it well since it was last within reach here.
        silent: It owes answers here and does not even answer a ping.
    """

    active: bool = True
    link: Link = Link.CONNECTED
    health: Health = Health.UNKNOWN
    breaker: State = State.CLOSED
    probing: bool = False
    priority: int = 0
    zone: str = ""
    weight: int = 1
    ejected: bool = False
    vouched: bool = False
    silent: bool = False

    @property
    def vetoed(self) -> bool:
        """Whether it is out of reach for this instance, and another says that it is well."""
        return self.vouched and self.health is Health.HEALTHY and self.link is Link.BROKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """
    How calls are shared among priorities and zones.

    Attributes:
        overprovisioning: How much more than its even part of the calls an endpoint can take.
        panic_threshold: Part of a priority that must be ready, or all that can be reached are used; 0 never.
        zone: Where we are; empty looks at no zones.
    """

    overprovisioning: float = OVERPROVISIONING
    panic_threshold: float = 0.0
    zone: str = ""


PLAIN_SPREAD = Spread()


@dataclass(frozen=True, slots=True)
class Group:
    """
    Endpoints among which only the balancer decides: one zone of one priority.

    Attributes:
        part: Its part of all calls, in (0, 1].
        members: As indices.
        total_weight: Weight of all its endpoints, those that take no calls now included.
    """

    part: float
    members: tuple[int, ...]
    total_weight: int


@dataclass(frozen=True, slots=True)
class Eligible:
    """
    Who may take a call, as indices into what was asked about.

    Attributes:
        groups: Candidates for the balancer; the parts add up to 1, or there are none.
        probes: Endpoints that get the next call each, before any balancing.
        hopeful: Whether it makes sense to wait: nobody is ready, but a connection is on the way.
        spare: Those that are as good but have no part of the calls, the most wanted priority first: for
            calls that find everybody else full, or have been there already.
        panic: Whether judgements are passed over because too few would be left.
    """

    groups: tuple[Group, ...]
    probes: tuple[int, ...]
    hopeful: bool
    spare: tuple[int, ...] = ()
    panic: bool = False

    @property
    def ready(self) -> tuple[int, ...]:
        """All candidates."""
        return tuple(index for group in self.groups for index in group.members)


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
    doubtful = standing.health is Health.DOUBTED or standing.ejected or standing.silent
    return Verdict.DOUBTFUL if doubtful else Verdict.READY


def reachable(standing: Standing) -> bool:
    """Return whether a call could be made there, whatever is said about it by others than operators."""
    held = standing.breaker is State.HELD_OPEN
    return standing.active and standing.link in (Link.CONNECTED, Link.IDLE) and not held


def eligible(standings: Sequence[Standing], spread: Spread = PLAIN_SPREAD) -> Eligible:
    """
    Decide who may take a call.

    The lowest priority number takes all calls while enough of it is ready, and overflows to the next. If
    nobody is ready, endpoints that only another instance doubts are used rather than nobody: everything
    down at once says more about who asked than about them. If even those are missing the answer is empty,
    and *hopeful* says whether a connection is on the way; otherwise calls should fail at once.
    """
    verdicts = [verdict(standing) for standing in standings]
    wanted = Verdict.READY if Verdict.READY in verdicts else Verdict.DOUBTFUL
    usable = [index for index, one in enumerate(verdicts) if one is wanted]
    levels: dict[int, list[int]] = {}
    for index, standing in enumerate(standings):
        levels.setdefault(standing.priority, []).append(index)
    in_order = [levels[priority] for priority in sorted(levels)]
    good = frozenset(usable)
    shared = loads(
        [
            Level(
                ready=sum(index in good for index in level),
                reachable=sum(reachable(standings[index]) for index in level),
                all=len(level),
            )
            for level in in_order
        ],
        spread.overprovisioning,
        spread.panic_threshold,
    )
    groups: list[Group] = []
    for level, load in zip(in_order, shared, strict=True):
        if load.part:
            members = [
                index for index in level if (reachable(standings[index]) if load.panic else index in good)
            ]
            groups += _by_zone(standings, level, members, load.part, spread)
    probes = tuple(index for index, one in enumerate(verdicts) if one is Verdict.PROBE)
    used = frozenset(index for group in groups for index in group.members)
    return Eligible(
        tuple(groups),
        probes,
        spare=tuple(index for level in in_order for index in level if index in good and index not in used),
        hopeful=not groups and Verdict.WAITING in verdicts,
        panic=any(load.panic and load.part > 0 for load in shared),
    )


def _by_zone(
    standings: Sequence[Standing], level: Sequence[int], members: Sequence[int], part: float, spread: Spread
) -> list[Group]:
    """Divide the *members* of one level that take calls, and their *part* of the calls, among zones."""
    if not spread.zone:
        return [Group(part, tuple(members), sum(standings[index].weight for index in level))]
    ready: dict[str, list[int]] = {}
    for index in members:
        ready.setdefault(standings[index].zone, []).append(index)
    all_of: dict[str, int] = {}
    for index in level:
        zone = standings[index].zone
        all_of[zone] = all_of.get(zone, 0) + standings[index].weight
    states = {
        zone: ZoneState(sum(standings[index].weight for index in ready.get(zone, ())), weight)
        for zone, weight in all_of.items()
    }
    parts = zone_parts(states, spread.zone, spread.overprovisioning)
    return [Group(part * own, tuple(ready[zone]), all_of[zone]) for zone, own in parts.items()]


def why_out(standing: Standing, last_error: str = "", opened_by: str = "") -> str:
    """
    Say in a few words why an endpoint takes no calls; empty when it does.

    *opened_by* is the instance that opened its breaker, if that was another one: what went wrong, went
    wrong there, and *last_error* is about something else.
    """
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
    if standing.breaker is State.OPEN and opened_by:
        return f"circuit breaker open (opened by instance {opened_by})"
    if standing.breaker is State.OPEN:
        return f"circuit breaker open ({last_error})" if last_error else "circuit breaker open"
    if standing.breaker is State.HALF_OPEN:
        if standing.link is Link.IDLE:
            return "circuit breaker half open, connecting"
        return "circuit breaker half open, one probe under way" if standing.probing else ""
    if standing.silent:
        return "silent: it owes answers and does not answer a ping"
    return "ejected: it fails where others do not" if standing.ejected else ""
