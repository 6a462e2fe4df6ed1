"""
What the end of a call, or that it does not end, teaches balancing and the concurrency limit.

On the hot path only where somebody wants to know (`peak_ewma`, `concurrency`): 0.6 us a call. Streams
teach nothing, because how long they take to say something is their own affair.
"""

from __future__ import annotations

from collections.abc import Iterable

from silence_gateway.clock import Clock
from silence_gateway.core.balancing.candidates import SILENT_S, faded, raised
from silence_gateway.core.balancing.peak_ewma import forgotten, observed
from silence_gateway.core.concurrency_limit import ConcurrencyLimit
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.outcomes import Evidence
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.settings import UpstreamSettings


class Feedback:
    """
    The teacher of one upstream.

    Attributes:
        wanted: Whether anybody learns from single calls.
    """

    def __init__(self, settings: UpstreamSettings, places: Places, clock: Clock) -> None:
        self._places = places
        self._decay_s = settings.balancing.decay_s if settings.balancer == "peak_ewma" else None
        self._limit: ConcurrencyLimit | None = None
        if settings.concurrency is not None:
            self._limit = ConcurrencyLimit(settings.concurrency, int(clock.monotonic_s() * 1e6))
        self.wanted = self._decay_s is not None or self._limit is not None

    def on_end(self, endpoint: Endpoint, took_s: float, now_s: float, evidence: Evidence) -> None:
        """Take note of a unary call that *took_s* at *endpoint*; its place is not given back yet."""
        if evidence is Evidence.NOTHING:
            if self._limit is not None and self._limit.on_left(
                int(now_s * 1e6), int(took_s * 1e6), self._places.limited
            ):
                self._places.limit_to(self._limit.limit)
            return
        answered = evidence is Evidence.ANSWER
        # A quick failure is no quick answer; silence is a slow one.
        if self._decay_s is not None and (answered or evidence is Evidence.SILENCE):
            endpoint.rtt_s = observed(endpoint.rtt_s, took_s, now_s - endpoint.heard_s, self._decay_s)
        if self._limit is not None:
            changed = self._limit.on_end(
                int(now_s * 1e6), int(took_s * 1e6), self._places.limited, dropped=not answered
            )
            if changed:
                self._places.limit_to(self._limit.limit)

    def on_second(self, endpoints: Iterable[Endpoint], now_s: float) -> None:
        """Make endpoints that owe answers and are silent look worse, and let the others' failures fade."""
        for endpoint in endpoints:
            if endpoint.in_flight <= endpoint.streaming:
                endpoint.penalty = faded(endpoint.penalty)
                if self._decay_s is not None:
                    endpoint.rtt_s = forgotten(endpoint.rtt_s, now_s - endpoint.heard_s, self._decay_s)
                endpoint.heard_s = now_s
            elif now_s - endpoint.heard_s >= SILENT_S:
                endpoint.penalty = raised(endpoint.penalty)
                if self._decay_s is not None:
                    endpoint.rtt_s = max(endpoint.rtt_s, now_s - endpoint.heard_s)
            else:
                endpoint.penalty = faded(endpoint.penalty)
