"""
The admin API's answers about upstreams: how they are, and how they are used.

Nothing here decides or counts anything. Counts are since the last reset; metrics show them since the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol

from silence_gateway.admin.contracts import Ask
from silence_gateway.admin.local import LocalInstance
from silence_gateway.core.durations import quantiles_s, written
from silence_gateway.errors import BadRequest, NotFound
from silence_gateway.upstreams.pool_statistics import (
    SHARES,
    EndpointStatistics,
    Latency,
    RecentStatistics,
    UpstreamStatistics,
)
from silence_gateway.upstreams.record import Departure

QUANTILES = ("p50_s", "p90_s", "p99_s")


class Counting(Protocol):
    """An upstream of any kind, as far as it is told about here."""

    @property
    def statistics_since_reset(self) -> UpstreamStatistics:
        """What there is to tell, now, with counts since the last reset."""

    async def reset_statistics(self) -> bool:
        """Begin anew in the whole fleet; False if the store could not be told."""


def serve_statistics(instance: LocalInstance, upstreams: Mapping[str, Counting]) -> None:
    """Serve what *upstreams*, by name, are and count."""

    async def listing(ask: Ask) -> object:
        histograms = asked_for_histograms(ask)
        return [
            described(upstream.statistics_since_reset, histograms=histograms, moves=False)
            for upstream in upstreams.values()
        ]

    async def one(ask: Ask) -> object:
        found = named(ask).statistics_since_reset
        return described(found, histograms=asked_for_histograms(ask), moves=True)

    async def reset_one(ask: Ask) -> object:
        return {"reset": [ask.captured["name"]], "fleet": await named(ask).reset_statistics()}

    async def reset_all(_ask: Ask) -> object:
        told = [await upstream.reset_statistics() for upstream in upstreams.values()]
        return {"reset": list(upstreams), "fleet": all(told)}

    def named(ask: Ask) -> Counting:
        name = ask.captured["name"]
        if name not in upstreams:
            raise NotFound(f"there is no upstream {name!r}; there are {', '.join(upstreams) or 'none'}")
        return upstreams[name]

    instance.serve("GET", "upstreams", listing)
    instance.serve("GET", "upstreams/{name}", one)
    instance.serve("DELETE", "upstreams/stats", reset_all)
    instance.serve("DELETE", "upstreams/{name}/stats", reset_one)


def asked_for_histograms(ask: Ask) -> bool:
    """
    Return whether the counts behind the quantiles are wanted.

    Raises:
        BadRequest: What was said is neither yes nor no.
    """
    said = ask.query.get("histograms", "false")
    if said not in {"true", "false"}:
        raise BadRequest(f"histograms is true or false, not {said[:20]!r}")
    return said == "true"


def described(upstream: UpstreamStatistics, *, histograms: bool, moves: bool) -> dict[str, Any]:
    """Return one upstream as JSON; *moves* includes what its breaker and those of its endpoints did."""
    told = shallow(upstream, moves=moves)
    del told["instance"]
    told["instances"] = [upstream.instance]
    told["latency"] = latency_of(upstream.latency, histograms=histograms)
    told["recent"] = recent_of(upstream.recent, histograms=histograms)
    told["departed"] = [departed(one) for one in upstream.departed]
    told["endpoints"] = [
        endpoint_described(endpoint, histograms=histograms, moves=moves) for endpoint in upstream.endpoints
    ]
    return told


def endpoint_described(endpoint: EndpointStatistics, *, histograms: bool, moves: bool) -> dict[str, Any]:
    """Return one endpoint as JSON."""
    told = shallow(endpoint, moves=moves)
    told["states"] = {endpoint.state: 1}
    told["latency"] = latency_of(endpoint.latency, histograms=histograms)
    told["recent"] = recent_of(endpoint.recent, histograms=histograms)
    return told


def departed(one: Departure) -> dict[str, Any]:
    """Return an endpoint that has left as JSON."""
    mishap = one.mishap
    return {
        "address": one.address,
        "left_us": one.left_us,
        "calls": one.calls,
        "faults": one.faults,
        "last_error": mishap.text if mishap is not None else "",
        "last_error_code": mishap.code if mishap is not None else "",
        "last_error_us": mishap.at_us if mishap is not None else 0,
    }


def shallow(told: UpstreamStatistics | EndpointStatistics, *, moves: bool) -> dict[str, Any]:
    """Return the fields by name, *moves* as objects; `asdict` would copy every bucket of every histogram."""
    named = {field.name: getattr(told, field.name) for field in fields(told)}
    del named["breaker_moves"]
    if moves:
        named["breaker_moves"] = [asdict(move) for move in told.breaker_moves]
    return named


def latency_of(latency: Latency, *, histograms: bool) -> dict[str, Any]:
    """Return how long calls took as JSON."""
    told = timed(latency.counts)
    return told | {"counts": written(latency.counts)} if histograms else told


def timed(counts: Sequence[int]) -> dict[str, Any]:
    """Return how many calls there are in buckets of `core.durations`, and how long they took at most."""
    told = zip(QUANTILES, quantiles_s(counts, SHARES), strict=True)
    # More digits would claim what the buckets do not know.
    return {"calls": sum(counts), **{name: s if s is None else float(f"{s:.4g}") for name, s in told}}


def recent_of(recent: RecentStatistics, *, histograms: bool) -> dict[str, Any]:
    """Return the last minute as JSON."""
    return {
        "span_s": round(recent.span_s, 3),
        "calls": recent.calls,
        "faults": recent.faults,
        "latency": latency_of(recent.latency, histograms=histograms),
    }
