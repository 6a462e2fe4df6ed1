"""What is counted of each endpoint, as metric families; the upstream's own are in `watch/engines.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from silence_gateway.core.breaker import State
from silence_gateway.core.durations import published, total_s
from silence_gateway.upstreams.pool_statistics import EndpointStatistics
from silence_gateway.watch.families import Family, Labels, Sample, histogram_sample

OPENED = State.OPEN.value
"""Shown from the beginning, so that a first trip is an increase and not a new series. Other states are shown
once reached: a large fleet would fill the family with zeros."""

Labelled: TypeAlias = "Sequence[tuple[Labels, EndpointStatistics]]"
"""Endpoints, each with the labels that say which."""


def endpoint_families(endpoints: Labelled) -> list[Family]:
    """Return what *endpoints* count; labels are bounded: codes and states come from tables."""
    return [
        Family(
            "silence_endpoint_calls_total",
            "counter",
            "Calls ended at the endpoint by their status, attempts that were made again elsewhere included.",
            tuple(
                Sample((*labels, ("code", code)), count)
                for labels, endpoint in endpoints
                for code, count in endpoint.codes.items()
            ),
        ),
        Family(
            "silence_endpoint_call_seconds",
            "histogram",
            "How long the endpoint took to answer unary calls, or left them until their deadline.",
            tuple(
                histogram_sample(published(endpoint.latency.counts), total_s(endpoint.latency.counts), labels)
                for labels, endpoint in endpoints
            ),
        ),
        Family(
            "silence_endpoint_streams",
            "gauge",
            "Calls in flight as the endpoint's connections count them.",
            tuple(Sample(labels, endpoint.streams) for labels, endpoint in endpoints),
        ),
        Family(
            "silence_endpoint_connects_total",
            "counter",
            "Connections made.",
            tuple(Sample(labels, endpoint.connects) for labels, endpoint in endpoints),
        ),
        Family(
            "silence_endpoint_received_bytes_total",
            "counter",
            "Bytes received from the endpoint.",
            tuple(Sample(labels, endpoint.bytes_in) for labels, endpoint in endpoints),
        ),
        Family(
            "silence_endpoint_sent_bytes_total",
            "counter",
            "Bytes sent to the endpoint.",
            tuple(Sample(labels, endpoint.bytes_out) for labels, endpoint in endpoints),
        ),
        Family(
            "silence_endpoint_ejected",
            "gauge",
            "1 while the endpoint is left alone because it fails where its peers do not, else 0.",
            tuple(Sample(labels, float(endpoint.ejected)) for labels, endpoint in endpoints),
            "max",
        ),
        Family(
            "silence_breaker_moves_total",
            "counter",
            "Moves of the endpoint's circuit breaker, by the state it came to.",
            tuple(
                Sample((*labels, ("to", state)), count)
                for labels, endpoint in endpoints
                for state, count in endpoint.breaker_moved_to.items()
                if count or state == OPENED
            ),
        ),
    ]
