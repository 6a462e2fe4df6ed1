"""
What a pool tells about itself, as plain data for the admin API, metrics, and whoever uses it as a library.

Counters are plain integers, written where calls end and read when somebody asks. Totals never go down,
also when an endpoint is removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from silence_gateway.clock import Clock
from silence_gateway.core.durations import BUCKETS, quantiles_s
from silence_gateway.core.endpoints import why_out
from silence_gateway.core.http_status import name_of_status
from silence_gateway.core.shedding import Importance
from silence_gateway.core.status import Code, name_of_code
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.membership import Membership
from silence_gateway.upstreams.operators import Operators
from silence_gateway.upstreams.outcomes import code_of_status
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.record import BreakerMove, Departure
from silence_gateway.upstreams.repeating import Repeats
from silence_gateway.upstreams.settings import UpstreamSettings
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker

SHARES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class Latency:
    """
    How long unary calls took from when they had a place until they were answered, or their deadline passed.

    Attributes:
        counts: Calls by bucket of `core.durations`; add these up to put several together.
    """

    counts: tuple[int, ...]

    @property
    def calls(self) -> int:
        """How many were timed."""
        return sum(self.counts)

    @property
    def quantiles_s(self) -> tuple[float | None, float | None, float | None]:
        """What half of them, 90 % and 99 % took at most, in seconds and within 5 %; None of nothing."""
        p50_s, p90_s, p99_s = quantiles_s(self.counts, SHARES)
        return p50_s, p90_s, p99_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentStatistics:
    """
    The last minute.

    Attributes:
        span_s: How far back it reaches, in seconds: 60 to 75, or less if counting began later.
        calls: Calls ended.
        faults: Those of them that failed: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        latency: How long unary calls took.
    """

    span_s: float
    calls: int
    faults: int
    latency: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatistics:
    """
    One endpoint now.

    Attributes:
        address: Where it is.
        state: `ready`, `probe`, `waiting`, `doubtful` or `out` (`core.endpoints.Verdict`).
        reason: Why it takes no calls; empty when it does.
        active: False while draining.
        drain_reason: Why an operator drained it; empty if nobody did, or said nothing.
        removed: Whether it is no endpoint any more, and only finishes its calls.
        link: `connecting`, `connected`, `idle` or `broken`.
        health: `unknown`, `healthy`, `unhealthy` or `doubted`.
        breaker: `closed`, `open`, `half_open`, `held_open` or `held_closed`.
        hold_reason: Why an operator holds the breaker; empty if nobody does, or said nothing.
        hold_until_us: When that ends, microseconds since the Unix epoch; 0 if nobody holds it.
        since_us: When *state* began, microseconds since the Unix epoch.
        begun_us: When the endpoint came, likewise; one that went and returned begins anew.
        calls: Calls ended, whatever the end.
        in_flight: Calls begun and not ended.
        codes: Calls ended, by the name of the code; those that HTTP answered, by its status.
        failures: Those of them that ended with other than OK, or a status that stands for other than OK.
        latency: How long unary calls took.
        recent: The last minute.
        bytes_in: Bytes received from it.
        bytes_out: Bytes sent to it.
        connects: Connections made to it.
        connections: Open connections that take calls.
        streams: Calls in flight as the connections count them, retiring ones included.
        last_error: What last went wrong with a connection, a call or a check; empty if nothing did.
        last_error_code: The name of the code, or the HTTP status, it was counted as; empty if it was no call.
        last_error_us: When, microseconds since the Unix epoch; 0 if never.
        last_check: How the latest health check ended, `serving`, `refusing` or `silent`; empty if none did.
        last_check_us: When, microseconds since the Unix epoch on the clock of whoever made it; 0 if never.
        last_check_by: Which instance made it.
        prober: Which instance checks its health and has the lease to do so; empty if that is not known.
        prober_since_us: Since when, microseconds since the Unix epoch; 0 if that is not known.
        breaker_moves: What its breaker did lately, the latest last.
        breaker_moved_to: How often it came to each state.
        weight: Its share of the calls.
        priority: Lower is used first.
        zone: Where it is; empty if that was not said.
        ejected: Whether it is left alone because it fails where its peers do not.
        ejected_until_us: When that ends, microseconds since the Unix epoch; 0 if it is not ejected.
        ejected_because: Why; empty if it is not ejected.
        ejections: How often it was.
        vetoed: Whether it is out of reach here although another instance says that it is well.
    """

    address: str
    state: str
    reason: str
    active: bool
    drain_reason: str
    removed: bool
    link: str
    health: str
    breaker: str
    hold_reason: str
    hold_until_us: int
    since_us: int
    begun_us: int
    calls: int
    in_flight: int
    codes: dict[str, int]
    failures: dict[str, int]
    latency: Latency
    recent: RecentStatistics
    bytes_in: int
    bytes_out: int
    connects: int
    connections: int
    streams: int
    last_error: str
    last_error_code: str
    last_error_us: int
    last_check: str
    last_check_us: int
    last_check_by: str
    prober: str
    prober_since_us: int
    breaker_moves: tuple[BreakerMove, ...]
    breaker_moved_to: dict[str, int]
    weight: int
    priority: int
    zone: str
    ejected: bool
    ejected_until_us: int
    ejected_because: str
    ejections: int
    vetoed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamStatistics:
    """
    One upstream now.

    Attributes:
        name: What config calls it.
        instance: How this instance signs, to others and in what is told here.
        since_us: When counting began, microseconds since the Unix epoch.
        calls_by_code: Calls ended, by the name of the code; those that HTTP answered, by its status. Those
            that no endpoint took are in here too.
        latency_counts: Calls per bucket of `core.histogram.BOUNDS_S`, not cumulative, and one for the rest.
        latency_sum_s: Sum of all durations, in seconds.
        latency: How long unary calls took at endpoints, those that are gone included.
        recent: The last minute of the endpoints that are here.
        bytes_in: Bytes received from endpoints, those that are gone included.
        bytes_out: Bytes sent to them.
        ejections: How often one of them was ejected.
        waiting: Calls that wait for a place now.
        shed: Calls refused to keep the line short, by importance.
        concurrency_limit: Most unary calls in flight at once, as found out; 0 if they are not limited.
        panic: Whether endpoints are used although they are judged unfit.
        breaker: State of the breaker of the upstream as a whole; `closed` also where none was asked for.
        hold_reason: Why an operator holds that breaker; empty if nobody does, or said nothing.
        hold_until_us: When that ends, microseconds since the Unix epoch; 0 if nobody holds it.
        breaker_moves: What that breaker did lately, the latest last.
        breaker_moved_to: How often it came to each state.
        known_endpoints: How many endpoints there are; with a subset, more than are used.
        unplaced: Calls and repeats that no endpoint could take, or not in time; without those that were shed.
        failovers: Calls offered to a further endpoint because they had provably never left.
        retries: Attempts made because one before had failed.
        hedges: Attempts made because one before was late.
        hedges_won: Calls that a hedge answered.
        retries_refused: Attempts that the retry budget did not allow.
        board_malformed: Values on the board that were refused.
        board_unsent: Facts that could not be told to the others when they were new.
        discovery: What keeps DNS, a file or a registry from telling which endpoints there are now.
        departed: Endpoints that have left, the latest last; older ones are forgotten.
        endpoints: Each endpoint.
    """

    name: str
    instance: str
    since_us: int
    calls_by_code: dict[str, int]
    latency_counts: tuple[int, ...]
    latency_sum_s: float
    latency: Latency
    recent: RecentStatistics
    bytes_in: int
    bytes_out: int
    ejections: int
    waiting: int
    shed: dict[str, int]
    concurrency_limit: int
    panic: bool
    breaker: str
    hold_reason: str
    hold_until_us: int
    breaker_moves: tuple[BreakerMove, ...]
    breaker_moved_to: dict[str, int]
    known_endpoints: int
    unplaced: int
    failovers: int
    retries: int
    hedges: int
    hedges_won: int
    retries_refused: int
    board_malformed: int
    board_unsent: int
    discovery: tuple[str, ...]
    departed: tuple[Departure, ...]
    endpoints: tuple[EndpointStatistics, ...]


def by_name(codes: list[int]) -> dict[str, int]:
    """Return the counts that are not zero by the names of their codes."""
    return {name_of_code(code): count for code, count in enumerate(codes) if count}


def by_answer(codes: Sequence[int], statuses: Mapping[int, int]) -> dict[str, int]:
    """
    Return what *codes* count, by name, but for those ends that are told by *statuses*.

    An operator of HTTP looks for the 404 and the 503 of the service. Inside they are codes as well, because
    one set of rules judges all protocols.
    """
    left = list(codes)
    for status, count in statuses.items():
        left[code_of_status(status)] -= count
    return by_name(left) | {
        name_of_status(status): statuses[status] for status in sorted(statuses) if statuses[status]
    }


def upstream_statistics(
    settings: UpstreamSettings,
    ledger: Ledger,
    places: Places,
    repeats: Repeats,
    fleet: Fleet | None,
    operators: Operators,
    endpoints: Collection[Endpoint],
    membership: Membership,
    whole: UpstreamBreaker,
    *,
    clock: Clock,
    instance: str,
    discovery: tuple[str, ...],
) -> UpstreamStatistics:
    """Return what the parts of a pool tell about it now."""
    told = tuple(endpoint_statistics(endpoint, clock.monotonic_s()) for endpoint in endpoints)
    counted = (ledger.codes, places.codes, *(endpoint.codes for endpoint in endpoints))
    codes = [sum(counts) for counts in zip(*counted, strict=True)]
    # Each failover is one attempt that its endpoint counts as UNAVAILABLE, and no end of a call.
    codes[Code.UNAVAILABLE] -= places.failovers
    # Likewise with attempts after which their call went on.
    codes = [count - repeated for count, repeated in zip(codes, repeats.codes, strict=True)]
    statuses: Counter[int] = Counter(ledger.statuses)
    for endpoint in endpoints:
        statuses.update(endpoint.statuses)
    statuses.subtract(repeats.statuses)
    return UpstreamStatistics(
        name=settings.name,
        instance=instance,
        since_us=ledger.begun_us,
        calls_by_code=by_answer(codes, statuses),
        latency_counts=tuple(ledger.latency_counts),
        latency_sum_s=ledger.latency_sum_s,
        latency=Latency(added([ledger.durations, *(one.latency.counts for one in told)])),
        recent=together([one.recent for one in told]),
        bytes_in=ledger.bytes_in + sum(one.bytes_in for one in told),
        bytes_out=ledger.bytes_out + sum(one.bytes_out for one in told),
        ejections=ledger.ejections + sum(one.ejections for one in told),
        waiting=places.waiting,
        shed={one.name.lower(): places.shed[one] for one in Importance},
        concurrency_limit=places.limit if settings.concurrency is not None else 0,
        panic=places.panic,
        breaker=whole.breaker.state.value,
        hold_reason=whole.hold.reason if whole.hold is not None else "",
        hold_until_us=whole.hold.until_us if whole.hold is not None else 0,
        breaker_moves=tuple(whole.history.moves),
        breaker_moved_to=dict(whole.history.moved_to),
        known_endpoints=len(membership.known),
        unplaced=sum(places.codes) - places.codes[Code.CANCELLED] - sum(places.shed),
        failovers=places.failovers,
        retries=repeats.retries,
        hedges=repeats.hedges,
        hedges_won=repeats.hedges_won,
        retries_refused=repeats.budget.refused,
        board_malformed=operators.malformed + (fleet.malformed if fleet is not None else 0),
        board_unsent=fleet.unsent if fleet is not None else 0,
        discovery=discovery,
        departed=tuple(ledger.departed),
        endpoints=told,
    )


def added(lists: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Add up lists of one length, number by number."""
    return tuple(map(sum, zip(*lists, strict=True)))


def together(recents: Sequence[RecentStatistics]) -> RecentStatistics:
    """Add up what several have counted of late; of none there is nothing."""
    return RecentStatistics(
        span_s=max((one.span_s for one in recents), default=0.0),
        calls=sum(one.calls for one in recents),
        faults=sum(one.faults for one in recents),
        latency=Latency(added([[0] * BUCKETS, *(one.latency.counts for one in recents)])),
    )


def endpoint_statistics(endpoint: Endpoint, now_s: float) -> EndpointStatistics:
    """Return what *endpoint* tells about itself now; *now_s* is the monotonic time."""
    standing = endpoint.standing
    record = endpoint.record
    mishap, check = record.mishap, record.check
    recent = record.recent(endpoint.codes, endpoint.durations, now_s)
    out = endpoint.ejected
    failed = {status: count for status, count in endpoint.statuses.items() if code_of_status(status)}
    return EndpointStatistics(
        address=endpoint.address,
        state=endpoint.verdict.value,
        reason=why_out(standing, endpoint.last_error, endpoint.history.opened_by),
        active=endpoint.active,
        drain_reason=endpoint.drain.reason if endpoint.drain is not None else "",
        removed=endpoint.removed,
        link=endpoint.link.value,
        health=endpoint.health.value,
        breaker=endpoint.breaker.state.value,
        hold_reason=endpoint.hold.reason if endpoint.hold is not None else "",
        hold_until_us=endpoint.hold.until_us if endpoint.hold is not None else 0,
        since_us=endpoint.since_us,
        begun_us=record.begun_us,
        calls=sum(endpoint.codes),
        in_flight=endpoint.in_flight,
        codes=by_answer(endpoint.codes, endpoint.statuses),
        failures=by_answer([0, *endpoint.codes[1:]], failed),
        latency=Latency(tuple(endpoint.durations)),
        recent=RecentStatistics(
            span_s=recent.span_s,
            calls=recent.calls,
            faults=recent.faults,
            latency=Latency(recent.durations),
        ),
        bytes_in=endpoint.bytes_in,
        bytes_out=endpoint.bytes_out,
        connects=endpoint.connects,
        connections=sum(connection.sockets for connection in endpoint.connections),
        streams=endpoint.streams,
        last_error=endpoint.last_error,
        last_error_code=mishap.code if mishap is not None else "",
        last_error_us=mishap.at_us if mishap is not None else 0,
        last_check=check.outcome.value if check is not None else "",
        last_check_us=check.at_us if check is not None else 0,
        last_check_by=check.by if check is not None else "",
        prober=record.prober,
        prober_since_us=record.prober_since_us,
        breaker_moves=tuple(endpoint.history.moves),
        breaker_moved_to=dict(endpoint.history.moved_to),
        weight=endpoint.weight,
        priority=endpoint.priority,
        zone=endpoint.zone,
        ejected=out,
        ejected_until_us=record.ejected_until_us if out else 0,
        ejected_because=record.ejected_because if out else "",
        ejections=endpoint.ejections,
        vetoed=standing.vetoed,
    )
