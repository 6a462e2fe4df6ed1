"""
What each engine has counted, as metric families.

The engines keep plain integers and know nothing of metrics; this file knows the names that operators
rely on. Labels are bounded: upstreams, endpoints, limits and close codes come from configuration or
from a protocol's table, never from a caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from silence_gateway.edge.statistics import Statistics as EdgeStatistics
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.realtime.statistics import RealtimeStatistics
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.upstreams.pool_statistics import UpstreamStatistics
from silence_gateway.watch.endpoints import breaker_moves, endpoint_families
from silence_gateway.watch.families import Family, Sample, histogram_sample

BREAKER_VALUES = {"closed": 0, "half_open": 1, "open": 2, "held_closed": 0, "held_open": 2}


def counts(label: str, values: Mapping[str, float]) -> tuple[Sample, ...]:
    """Return one series per name in *values*."""
    return tuple(Sample(((label, name),), value) for name, value in values.items())


def upstream_families(upstreams: Iterable[UpstreamStatistics]) -> list[Family]:
    """Return the calls, endpoints and breakers of *upstreams*."""
    upstreams = list(upstreams)
    endpoints = [
        ((("upstream", upstream.name), ("endpoint", endpoint.address)), endpoint)
        for upstream in upstreams
        for endpoint in upstream.endpoints
    ]
    return [
        Family(
            "silence_upstream_calls_total",
            "counter",
            "Calls ended, by their gRPC status; of HTTP by its status, or by what went wrong without one.",
            tuple(
                Sample((("upstream", upstream.name), ("code", code)), count)
                for upstream in upstreams
                for code, count in upstream.calls_by_code.items()
            ),
        ),
        Family(
            "silence_upstream_call_seconds",
            "histogram",
            "How long calls took.",
            tuple(
                histogram_sample(
                    upstream.latency_counts, upstream.latency_sum_s, (("upstream", upstream.name),)
                )
                for upstream in upstreams
            ),
        ),
        Family(
            "silence_upstream_failovers_total",
            "counter",
            "Calls offered to another endpoint because they had provably never left.",
            counts("upstream", {upstream.name: upstream.failovers for upstream in upstreams}),
        ),
        Family(
            "silence_upstream_retries_total",
            "counter",
            "Attempts made because one before had failed, or was late (`hedge`).",
            tuple(
                Sample((("upstream", upstream.name), ("kind", kind)), count)
                for upstream in upstreams
                for kind, count in (("retry", upstream.retries), ("hedge", upstream.hedges))
            ),
        ),
        Family(
            "silence_upstream_hedges_won_total",
            "counter",
            "Calls that a hedge answered first.",
            counts("upstream", {upstream.name: upstream.hedges_won for upstream in upstreams}),
        ),
        Family(
            "silence_upstream_retries_refused_total",
            "counter",
            "Attempts that the retry budget did not allow.",
            counts("upstream", {upstream.name: upstream.retries_refused for upstream in upstreams}),
        ),
        Family(
            "silence_upstream_calls_waiting",
            "gauge",
            "Calls that wait for a free stream now.",
            counts("upstream", {upstream.name: upstream.waiting for upstream in upstreams}),
        ),
        Family(
            "silence_upstream_shed_total",
            "counter",
            "Calls refused because they would have waited too long, by the importance of their route.",
            tuple(
                Sample((("upstream", upstream.name), ("importance", importance)), count)
                for upstream in upstreams
                for importance, count in upstream.shed.items()
            ),
        ),
        Family(
            "silence_upstream_concurrency_limit",
            "gauge",
            "Most unary calls in flight at once, as found out; only where `concurrency` is set.",
            counts(
                "upstream",
                {one.name: one.concurrency_limit for one in upstreams if one.concurrency_limit},
            ),
        ),
        Family(
            "silence_upstream_panic",
            "gauge",
            "1 while endpoints are used although they are judged unfit, because too few others are left.",
            counts("upstream", {upstream.name: float(upstream.panic) for upstream in upstreams}),
            "max",
        ),
        Family(
            "silence_upstream_discovery_failing",
            "gauge",
            "Sources (DNS, a file, a registry) that cannot tell which endpoints there are, or tell too many.",
            counts("upstream", {one.name: len(one.discovery) for one in upstreams}),
            "max",
        ),
        Family(
            "silence_endpoint_healthy",
            "gauge",
            "1 if the endpoint takes calls, else 0.",
            tuple(Sample(labels, float(endpoint.state == "ready")) for labels, endpoint in endpoints),
            "min",
        ),
        Family(
            "silence_endpoint_in_flight",
            "gauge",
            "Calls begun and not ended.",
            tuple(Sample(labels, endpoint.in_flight) for labels, endpoint in endpoints),
        ),
        Family(
            "silence_endpoint_connections",
            "gauge",
            "Open connections.",
            tuple(Sample(labels, endpoint.connections) for labels, endpoint in endpoints),
        ),
        Family(
            "silence_breaker_state",
            "gauge",
            "0 closed, 1 half open, 2 open.",
            tuple(Sample(labels, BREAKER_VALUES[endpoint.breaker]) for labels, endpoint in endpoints),
            "max",
        ),
        Family(
            "silence_upstream_breaker_state",
            "gauge",
            "0 closed, 1 half open, 2 open: the breaker of the upstream as a whole.",
            counts("upstream", {one.name: BREAKER_VALUES[one.breaker] for one in upstreams}),
            "max",
        ),
        Family(
            "silence_upstream_breaker_moves_total",
            "counter",
            "Moves of the circuit breaker of the upstream as a whole, by the state it came to.",
            tuple(
                sample
                for one in upstreams
                for sample in breaker_moves((("upstream", one.name),), one.breaker_moved_to)
            ),
        ),
        Family(
            "silence_endpoint_vetoed",
            "gauge",
            "1 if the endpoint is out of reach here although another instance says that it is well, else 0.",
            tuple(Sample(labels, float(endpoint.vetoed)) for labels, endpoint in endpoints),
            "max",
        ),
        Family(
            "silence_endpoint_ejections_total",
            "counter",
            "Times the endpoint was left alone because it failed where its peers did not.",
            tuple(Sample(labels, endpoint.ejections) for labels, endpoint in endpoints),
        ),
        *endpoint_families(endpoints, {one.name: one.instance for one in upstreams}),
    ]


def edge_families(edge: EdgeStatistics) -> list[Family]:
    """Return what the listeners have counted."""
    return [
        Family(
            "silence_connections", "gauge", "Open HTTP connections.", (Sample((), edge.connections_open),)
        ),
        Family(
            "silence_connections_total",
            "counter",
            "Connections accepted.",
            (Sample((), edge.connections_total),),
        ),
        Family("silence_websockets", "gauge", "Open WebSockets.", (Sample((), edge.websockets_open),)),
        Family(
            "silence_rejected_total",
            "counter",
            "Requests and connections refused before any route was looked for, by reason.",
            counts("reason", edge.rejected),
        ),
        Family(
            "silence_websocket_failures_total",
            "counter",
            "WebSockets closed because the client broke a rule, by close code.",
            counts("code", {str(code): count for code, count in edge.websocket_failures.items()}),
        ),
        Family(
            "silence_client_timeouts_total",
            "counter",
            "Connections ended because the client was too slow.",
            (Sample((), edge.timeouts),),
        ),
        Family(
            "silence_dropped_headers_total",
            "counter",
            "Header lines left out because of an underscore in their name.",
            (Sample((), edge.dropped_headers),),
        ),
        Family(
            "silence_received_bytes_total",
            "counter",
            "Bytes read from clients.",
            (Sample((), edge.bytes_in),),
        ),
        Family(
            "silence_sent_bytes_total", "counter", "Bytes sent to clients.", (Sample((), edge.bytes_out),)
        ),
    ]


def limit_families(
    limiter: Limiter, local_decisions: int, unique: Mapping[str, Mapping[str, int]]
) -> list[Family]:
    """Return what the limits have decided in this process, and their *unique* clients when last looked."""
    counted = limiter.statistics
    return [
        Family(
            "silence_limit_decisions_total",
            "counter",
            "Decisions of each limit.",
            tuple(
                Sample((("limit", name), ("decision", decision)), value)
                for name, of in counted.items()
                for decision, value in (
                    ("allowed", of.allowed),
                    ("denied", of.denied),
                    ("shadow_denied", of.shadow_denied),
                )
            ),
        ),
        Family(
            "silence_limit_near_total",
            "counter",
            "Requests that passed with less than a tenth of the limit left.",
            counts("limit", {name: of.near for name, of in counted.items()}),
        ),
        Family(
            "silence_limit_local_decisions_total",
            "counter",
            "Requests decided without the store, by each limit's when_down.",
            (Sample((), local_decisions),),
        ),
        Family(
            "silence_limit_unique_clients",
            "gauge",
            "About how many different keys each limit counted, in the whole fleet; up to half a minute old.",
            tuple(
                Sample((("limit", name), ("window", window)), number)
                for name, windows in unique.items()
                for window, number in windows.items()
            ),
            "max",
        ),
        Family(
            "silence_limit_uncounted_requests_total",
            "counter",
            "Requests left out of unique and top clients: new keys came faster than they are looked at.",
            counts("limit", {name: of.missed for name, of in counted.items()}),
        ),
    ]


def realtime_families(realtime: RealtimeStatistics) -> list[Family]:
    """Return what the realtime hub of this process has counted."""
    waiting = realtime.sockets - realtime.connected
    single = {
        "silence_channel_deliveries_total": ("Publications written to a client.", realtime.deliveries),
        "silence_channel_publications_total": ("Publications accepted here.", realtime.publications),
        "silence_channel_received_total": ("Publications that came over the bus.", realtime.received),
        "silence_channel_gaps_total": ("Times a channel may have missed publications.", realtime.gaps),
        "silence_session_commands_total": ("Commands that clients sent.", realtime.commands),
        "silence_session_errors_total": ("Commands answered with an error.", realtime.errors),
        "silence_session_slow_closes_total": ("Clients closed for reading too slowly.", realtime.slow_closes),
        "silence_session_store_failures_total": (
            "Times the session store did not take what was written.",
            realtime.store_failures,
        ),
        "silence_sessions_swept_total": ("Sessions of killed instances removed here.", realtime.swept),
        "silence_session_refused_origins_total": (
            "Handshakes refused for their Origin.",
            realtime.refused_origins,
        ),
        "silence_server_api_refused_total": ("Server API calls with a wrong key.", realtime.refused_keys),
    }
    return [
        Family(
            "silence_sessions",
            "gauge",
            "Sessions of this process, and sockets not let in yet.",
            counts("state", {"connected": realtime.connected, "connecting": waiting}),
        ),
        Family(
            "silence_channels", "gauge", "Channels with a local subscriber.", (Sample((), realtime.channels),)
        ),
        Family(
            "silence_subscriptions", "gauge", "Local subscriptions.", (Sample((), realtime.subscriptions),)
        ),
        Family(
            "silence_ws_closes_total",
            "counter",
            "Ended sessions by close code; 0 for codes that are not ours.",
            counts("code", {str(code): count for code, count in realtime.closes.items()}),
        ),
        *(Family(name, "counter", text, (Sample((), value),)) for name, (text, value) in single.items()),
    ]


def store_families(store: Store) -> list[Family]:
    """Return the state of the shared store and what was asked of it."""
    degraded = not store.up or bool(store.refuses_writes or store.partly_away)
    families = [
        Family("silence_store_state", "gauge", "0 up, 1 degraded.", (Sample((), float(degraded)),), "max"),
        Family(
            "silence_live_instances",
            "gauge",
            "Instances of the fleet that were alive when the store last answered.",
            (Sample((), store.live_instances),),
            "max",
        ),
    ]
    if not isinstance(store, ValkeyStore):
        return families
    lanes = {kind: store.counts[kind] for kind in ("hot", "general")}
    return [
        *families,
        Family(
            "silence_store_transitions_total",
            "counter",
            "Times the store's breaker changed its state.",
            (Sample((), store.transitions),),
        ),
        Family(
            "silence_store_operation_seconds",
            "histogram",
            "From sending the commands of a loop tick to the last of their answers, by lane.",
            tuple(
                histogram_sample(of.latency.counts, of.latency.sum_s, (("operation", name),))
                for name, of in lanes.items()
            ),
        ),
        Family(
            "silence_store_calls_total",
            "counter",
            "Commands sent to the store.",
            counts("lane", {name: of.calls for name, of in lanes.items()}),
        ),
        Family(
            "silence_store_batches_total",
            "counter",
            "Writes they travelled in.",
            counts("lane", {name: of.batches for name, of in lanes.items()}),
        ),
        Family(
            "silence_store_expired_total",
            "counter",
            "Commands whose answer did not come within the deadline.",
            counts("lane", {name: of.expired for name, of in lanes.items()}),
        ),
        Family(
            "silence_store_connects_total",
            "counter",
            "Connections opened to the store.",
            counts("lane", {name: of.connects for name, of in lanes.items()}),
        ),
    ]
