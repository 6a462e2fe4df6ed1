"""
What a pool tells about itself, as plain data for the admin API and metrics.

Counters are plain integers, written where calls end and read when somebody asks. Totals never go down,
also when an endpoint is removed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from silence_gateway.core.endpoints import why_out
from silence_gateway.core.shedding import Importance
from silence_gateway.core.status import Code, name_of_code
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.membership import Membership
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.repeating import Repeats
from silence_gateway.upstreams.settings import UpstreamSettings
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatistics:
    """
    One endpoint now.

    Attributes:
        address: Where it is.
        state: `ready`, `probe`, `waiting`, `doubtful` or `out` (`core.endpoints.Verdict`).
        reason: Why it takes no calls; empty when it does.
        active: False while draining.
        link: `connecting`, `connected` or `broken`.
        health: `unknown`, `healthy`, `unhealthy` or `doubted`.
        breaker: `closed`, `open`, `half_open`, `held_open` or `held_closed`.
        hold_reason: Why an operator holds the breaker; empty if nobody does, or said nothing.
        hold_until_us: When that ends, microseconds since the Unix epoch; 0 if nobody holds it.
        since_us: When *state* began, microseconds since the Unix epoch.
        calls: Calls ended, whatever the end.
        in_flight: Calls begun and not ended.
        failures: Calls ended with other than OK, by the name of the code.
        connections: Open connections that take calls.
        streams: Calls in flight as the connections count them, retiring ones included.
        last_error: What last went wrong with a connection or a call; empty if nothing did.
        weight: Its share of the calls.
        priority: Lower is used first.
        zone: Where it is; empty if that was not said.
        ejected: Whether it is left alone because it fails where its peers do not.
        ejections: How often it was.
        vetoed: Whether it is out of reach here although another instance says that it is well.
    """

    address: str
    state: str
    reason: str
    active: bool
    link: str
    health: str
    breaker: str
    hold_reason: str
    hold_until_us: int
    since_us: int
    calls: int
    in_flight: int
    failures: dict[str, int]
    connections: int
    streams: int
    last_error: str
    weight: int
    priority: int
    zone: str
    ejected: bool
    ejections: int
    vetoed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamStatistics:
    """
    One upstream now.

    Attributes:
        name: What config calls it.
        calls_by_code: Calls ended, by the name of the code; those that no endpoint took are in here too.
        latency_counts: Calls per bucket of `core.histogram.BOUNDS_S`, not cumulative, and one for the rest.
        latency_sum_s: Sum of all durations, in seconds.
        waiting: Calls that wait for a place now.
        shed: Calls refused to keep the line short, by importance.
        concurrency_limit: Most unary calls in flight at once, as found out; 0 if they are not limited.
        panic: Whether endpoints are used although they are judged unfit.
        breaker: State of the breaker of the upstream as a whole; `closed` also where none was asked for.
        hold_reason: Why an operator holds that breaker; empty if nobody does, or said nothing.
        hold_until_us: When that ends, microseconds since the Unix epoch; 0 if nobody holds it.
        known_endpoints: How many endpoints there are; with a subset, more than are used.
        failovers: Calls offered to a further endpoint because they had provably never left.
        retries: Attempts made because one before had failed.
        hedges: Attempts made because one before was late.
        hedges_won: Calls that a hedge answered.
        retries_refused: Attempts that the retry budget did not allow.
        board_malformed: Values on the board that were refused.
        board_unsent: Facts that could not be told to the others when they were new.
        endpoints: Each endpoint.
    """

    name: str
    calls_by_code: dict[str, int]
    latency_counts: tuple[int, ...]
    latency_sum_s: float
    waiting: int
    shed: dict[str, int]
    concurrency_limit: int
    panic: bool
    breaker: str
    hold_reason: str
    hold_until_us: int
    known_endpoints: int
    failovers: int
    retries: int
    hedges: int
    hedges_won: int
    retries_refused: int
    board_malformed: int
    board_unsent: int
    endpoints: tuple[EndpointStatistics, ...]


def by_name(codes: list[int]) -> dict[str, int]:
    """Return the counts that are not zero by the names of their codes."""
    return {name_of_code(code): count for code, count in enumerate(codes) if count}


def upstream_statistics(
    settings: UpstreamSettings,
    ledger: Ledger,
    places: Places,
    repeats: Repeats,
    fleet: Fleet | None,
    endpoints: Collection[Endpoint],
    membership: Membership,
    whole: UpstreamBreaker,
) -> UpstreamStatistics:
    """Return what the parts of a pool tell about it now."""
    counted = (ledger.codes, places.codes, *(endpoint.codes for endpoint in endpoints))
    codes = [sum(counts) for counts in zip(*counted, strict=True)]
    # Each failover is one attempt that its endpoint counts as UNAVAILABLE, and no end of a call.
    codes[Code.UNAVAILABLE] -= places.failovers
    # Likewise with attempts after which their call went on.
    codes = [count - repeated for count, repeated in zip(codes, repeats.codes, strict=True)]
    return UpstreamStatistics(
        name=settings.name,
        calls_by_code=by_name(codes),
        latency_counts=tuple(ledger.latency_counts),
        latency_sum_s=ledger.latency_sum_s,
        waiting=places.waiting,
        shed={one.name.lower(): places.shed[one] for one in Importance},
        concurrency_limit=places.limit if settings.concurrency is not None else 0,
        panic=places.panic,
        breaker=whole.breaker.state.value,
        hold_reason=whole.hold.reason if whole.hold is not None else "",
        hold_until_us=whole.hold.until_us if whole.hold is not None else 0,
        known_endpoints=len(membership.known),
        failovers=places.failovers,
        retries=repeats.retries,
        hedges=repeats.hedges,
        hedges_won=repeats.hedges_won,
        retries_refused=repeats.budget.refused,
        board_malformed=fleet.malformed if fleet is not None else 0,
        board_unsent=fleet.unsent if fleet is not None else 0,
        endpoints=tuple(endpoint_statistics(endpoint) for endpoint in endpoints),
    )


def endpoint_statistics(endpoint: Endpoint) -> EndpointStatistics:
    """Return what *endpoint* tells about itself now."""
    standing = endpoint.standing
    return EndpointStatistics(
        address=endpoint.address,
        state=endpoint.verdict.value,
        reason=why_out(standing, endpoint.last_error),
        active=endpoint.active,
        link=endpoint.link.value,
        health=endpoint.health.value,
        breaker=endpoint.breaker.state.value,
        hold_reason=endpoint.hold.reason if endpoint.hold is not None else "",
        hold_until_us=endpoint.hold.until_us if endpoint.hold is not None else 0,
        since_us=endpoint.since_us,
        calls=sum(endpoint.codes),
        in_flight=endpoint.in_flight,
        failures=by_name([0, *endpoint.codes[1:]]),
        connections=len(endpoint.connections),
        streams=endpoint.streams,
        last_error=endpoint.last_error,
        weight=endpoint.weight,
        priority=endpoint.priority,
        zone=endpoint.zone,
        ejected=endpoint.ejected,
        ejections=endpoint.ejections,
        vetoed=standing.vetoed,
    )
