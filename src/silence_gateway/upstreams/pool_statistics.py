"""
What a pool tells about itself, as plain data for the admin API and metrics.

Counters are plain integers, written where calls end and read when somebody asks. Totals never go down,
also when an endpoint is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from silence_gateway.core.endpoints import why_out
from silence_gateway.core.status import name_of_code
from silence_gateway.upstreams.endpoint import Endpoint


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
        failovers: Calls offered to a further endpoint because they had provably never left.
        board_malformed: Values on the board that were refused.
        board_unsent: Facts that could not be told to the others when they were new.
        endpoints: Each endpoint.
    """

    name: str
    calls_by_code: dict[str, int]
    latency_counts: tuple[int, ...]
    latency_sum_s: float
    waiting: int
    failovers: int
    board_malformed: int
    board_unsent: int
    endpoints: tuple[EndpointStatistics, ...]


def by_name(codes: list[int]) -> dict[str, int]:
    """Return the counts that are not zero by the names of their codes."""
    return {name_of_code(code): count for code, count in enumerate(codes) if count}


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
        ejected=endpoint.ejected,
        ejections=endpoint.ejections,
        vetoed=standing.vetoed,
    )
