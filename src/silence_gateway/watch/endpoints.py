"""What is counted of each endpoint, as metric families; the upstream's own are in `watch/engines.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from silence_gateway.core.breaker import HELD, State
from silence_gateway.core.durations import published, total_s
from silence_gateway.upstreams.pool_statistics import EndpointStatistics
from silence_gateway.watch.families import Family, Labels, Sample, histogram_sample

OPENED = State.OPEN.value
"""Shown from the beginning, so that a first trip is an increase and not a new series. Other states are shown
once reached: a large fleet would fill the family with zeros."""

HELD_WORDS = frozenset(state.value for state in HELD)

Labelled: TypeAlias = "Sequence[tuple[Labels, EndpointStatistics]]"
"""Endpoints, each with the labels that say which."""


def breaker_moves(labels: Labels, moved_to: Mapping[str, int]) -> Iterator[Sample]:
    """Yield how often the breaker that *labels* name came to each state."""
    for state, count in moved_to.items():
        if count or state == OPENED:
            yield Sample((*labels, ("to", state)), count)


def endpoint_families(endpoints: Labelled, instances: Mapping[str, str]) -> list[Family]:
    """
    Return what *endpoints* count; labels are bounded: codes and states come from tables.

    *instances* says by upstream, which is the first label, how this instance signs there.
    """
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
            "silence_endpoint_drained",
            "gauge",
            "1 while an operator lets the endpoint have no new calls, else 0.",
            tuple(Sample(labels, float(not endpoint.active)) for labels, endpoint in endpoints),
            "max",
        ),
        Family(
            "silence_breaker_held",
            "gauge",
            "1 while an operator holds the endpoint's circuit breaker open or closed, else 0.",
            tuple(Sample(labels, float(endpoint.breaker in HELD_WORDS)) for labels, endpoint in endpoints),
            "max",
        ),
        Family(
            "silence_endpoint_checked_here",
            "gauge",
            "1 if this instance is the one that checks the endpoint's health, else 0; 1 in the whole fleet.",
            tuple(
                Sample(labels, float(endpoint.prober == instances[upstream]))
                for labels, endpoint in endpoints
                for _, upstream in labels[:1]
            ),
        ),
        Family(
            "silence_endpoint_last_error_timestamp_seconds",
            "gauge",
            "When something last went wrong with a call, a connection or a check; since the Unix epoch.",
            tuple(
                Sample(labels, endpoint.last_error_us / 1e6)
                for labels, endpoint in endpoints
                if endpoint.last_error_us
            ),
            "max",
        ),
        Family(
            "silence_breaker_moves_total",
            "counter",
            "Moves of the endpoint's circuit breaker, by the state it came to.",
            tuple(
                sample
                for labels, endpoint in endpoints
                for sample in breaker_moves(labels, endpoint.breaker_moved_to)
            ),
        ),
    ]
