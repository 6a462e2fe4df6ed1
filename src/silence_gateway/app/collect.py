"""Every metric of one gateway process, gathered when somebody asks."""

from __future__ import annotations

import resource
import sys

from silence_gateway.app.gateway import Gateway
from silence_gateway.watch.engines import (
    edge_families,
    limit_families,
    realtime_families,
    store_families,
    upstream_families,
)
from silence_gateway.watch.families import Family, Sample
from silence_gateway.watch.limits import limit_engine_families
from silence_gateway.watch.rls import rls_families


def families_of(gateway: Gateway, *, digest: str, loop_lag_s: float, log_dropped: int) -> list[Family]:
    """Return the metric families of *gateway*."""
    families = gateway.counters.families()
    families += edge_families(gateway.server.statistics)
    families += upstream_families(upstream.statistics for upstream in gateway.upstreams.values())
    if gateway.limiter is not None:
        engine = gateway.limit_engine
        local = engine.falling_back.local_decisions if engine is not None else 0
        unique = gateway.limit_counts.unique if gateway.limit_counts is not None else {}
        families += limit_families(gateway.limiter, local, unique)
        if engine is not None:
            families += limit_engine_families(gateway.limiter, engine)
    if gateway.hub is not None:
        families += realtime_families(gateway.hub.statistics)
    if gateway.rls is not None:
        families += rls_families(gateway.rls.service, gateway.rls.grpc, gateway.rls.falling_back)
    families += store_families(gateway.store)
    families += [
        _one(
            "silence_access_denied_total",
            "counter",
            "Requests refused by a deny list.",
            gateway.access.denied,
        ),
        _one(
            "silence_access_allowed_total",
            "counter",
            "Requests let past every limit by an allow list.",
            gateway.access.allowed,
        ),
        Family(
            "silence_loop_lag_seconds",
            "gauge",
            "Worst lateness of the event loop in the last half minute.",
            (Sample((), loop_lag_s),),
            "max",
        ),
        Family(
            "silence_config_hash",
            "gauge",
            "1, labelled with a digest of the configuration in force: two values in a fleet mean drift.",
            (Sample((("hash", digest),), 1),),
            "max",
        ),
        _one(
            "silence_log_lines_dropped_total", "counter", "Log lines that could not be written.", log_dropped
        ),
        _one("silence_resident_bytes", "gauge", "Peak resident memory.", _peak_bytes()),
    ]
    return families


def _one(name: str, kind: str, text: str, value: float) -> Family:
    return Family(name, "counter" if kind == "counter" else "gauge", text, (Sample((), value),))


def _peak_bytes() -> int:
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
