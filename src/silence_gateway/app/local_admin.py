"""The admin API over one gateway process: which engine answers which path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from silence_gateway.admin.access_lists import serve_access
from silence_gateway.admin.contracts import Ask
from silence_gateway.admin.engines import serve_sessions, serve_upstreams
from silence_gateway.admin.limit_keys import serve_keys
from silence_gateway.admin.limits import serve_limits
from silence_gateway.admin.local import LocalInstance
from silence_gateway.admin.rls import serve_rls
from silence_gateway.app.collect import families_of
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.config.quantities import parse_duration
from silence_gateway.app.explain_live import explaining
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.watch.logs import LogWriter


def local_instance(
    gateway: Gateway, loaded: LoadedConfig, log: LogWriter, lag: LoopLag, drain: Callable[[], None]
) -> LocalInstance:
    """Return *gateway* as the admin listener sees it; *drain* begins a graceful stop."""
    instance = LocalInstance(
        gateway.readiness,
        lambda: families_of(gateway, digest=loaded.digest, loop_lag_s=lag.worst_s, log_dropped=log.dropped),
    )

    async def stats(_ask: Ask) -> object:
        return stats_of(gateway)

    async def config(_ask: Ask) -> object:
        return loaded.describe()

    async def nodes(_ask: Ask) -> object:
        return {
            "this": gateway.store.instance_id,
            "live": gateway.store.live_instances,
            "nodes": gateway.nodes(),
        }

    async def begin_drain(_ask: Ask) -> object:
        drain()
        return {"state": "draining"}

    instance.serve("GET", "stats", stats)
    instance.serve("GET", "config", config)
    instance.serve("GET", "nodes", nodes)
    instance.serve("POST", "drain", begin_drain)
    serve_upstreams(instance, gateway.upstreams, parse_duration)
    serve_access(instance, gateway.access, parse_duration)
    if gateway.limiter is not None and gateway.limit_counts is not None:
        # Before the path of a limit of that name.
        instance.serve("GET", "limits/explain", explaining(gateway, gateway.limiter, loaded.config))
        serve_limits(instance, gateway.limiter, gateway.limit_counts)
        serve_keys(instance, gateway.limiter, parse_duration)
    if gateway.hub is not None:
        serve_sessions(instance, gateway.hub)
    if gateway.rls is not None:
        serve_rls(instance, gateway.rls.service)
    return instance


def stats_of(gateway: Gateway) -> dict[str, Any]:
    """Return the totals of one process: numbers that several workers' can be added to."""
    edge = gateway.server.statistics
    by_status: dict[str, int] = {}
    for (_, _, status), count in gateway.counters.total.items():
        by_status[str(status)] = by_status.get(str(status), 0) + count
    stats: dict[str, Any] = {
        "requests": {"total": sum(by_status.values()), "by_status": by_status},
        "connections": {"open": edge.connections_open, "total": edge.connections_total},
        "websockets": {"open": edge.websockets_open, "total": edge.websockets_total},
        "rejected": dict(edge.rejected),
        "bytes": {"received": edge.bytes_in, "sent": edge.bytes_out},
        "store": {"state": "up" if gateway.store_is_whole else "degraded"},
        "upstream_calls": {name: each.statistics.calls_by_code for name, each in gateway.upstreams.items()},
        "access": {"allowed": gateway.access.allowed, "denied": gateway.access.denied},
    }
    if gateway.limiter is not None:
        stats["limits"] = {
            name: {
                "allowed": counted.allowed,
                "denied": counted.denied,
                "shadow_denied": counted.shadow_denied,
            }
            for name, counted in gateway.limiter.statistics.items()
        }
    if gateway.hub is not None:
        realtime = gateway.hub.statistics
        stats["sessions"] = {
            "connected": realtime.connected,
            "publications": realtime.publications,
            "deliveries": realtime.deliveries,
        }
    if gateway.rls is not None:
        rls = gateway.rls.service.statistics
        stats["rls"] = {
            "requests": rls.requests,
            "service_errors": rls.service_errors,
            "store_errors": rls.store_errors,
        }
    return stats
