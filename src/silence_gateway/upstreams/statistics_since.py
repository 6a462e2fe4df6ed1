"""
Statistics that an operator can begin anew, in the whole fleet, without any total going down.

What was counted at the reset is subtracted from what is told afterwards; metrics go on from the totals. The
others hear of a reset over the board, `resets/<upstream>`. The word stays there, so that an instance that was
cut off follows when it is back; what is from before an instance began is of no concern to it. What is
remembered rather than counted stays: the last error, moves of breakers, who checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from silence_gateway.clock import Clock
from silence_gateway.core.fleet_facts import number, read, written
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.pool_statistics import EndpointStatistics, Latency, UpstreamStatistics

NAME = "statistics"


class StatisticsSince:
    """
    The statistics of one upstream since they were last begun anew.

    *total* returns all that was ever counted; *instance* is how this one signs.

    Attributes:
        malformed: Values on the board that were refused.
    """

    def __init__(
        self,
        upstream: str,
        board: Board | None,
        total: Callable[[], UpstreamStatistics],
        endpoints: Mapping[str, Endpoint],
        clock: Clock,
        instance: str,
    ) -> None:
        self.malformed = 0
        self._instance = instance
        self._begun_us = clock.now_us()
        self._room = f"resets/{upstream}"
        self._board = board
        self._total = total
        self._endpoints = endpoints
        self._clock = clock
        self._base: UpstreamStatistics | None = None
        self._last: bytes | None = None

    def join(self) -> None:
        """Hear of resets from now on."""
        if self._board is not None:
            self._board.watch(self._room, self._changed)

    def read(self) -> UpstreamStatistics:
        """Return what was counted since the last reset, or ever if there was none."""
        total = self._total()
        return total if self._base is None else less(total, self._base)

    async def reset(self) -> bool:
        """
        Begin anew, on every instance of the fleet.

        Returns False if the store could not be told: this instance has begun anew, the others will when the
        store is back.
        """
        self._begin_anew()
        if self._board is None:
            return False
        self._last = written({"by": self._instance, "at_us": self._clock.now_us()})
        try:
            await self._board.put(self._room, NAME, self._last)
        except StoreFault:
            return False
        return True

    def _changed(self, name: str, value: bytes | None) -> None:
        if name != NAME or value is None or value == self._last:
            return
        self._last = value
        try:
            at_us = number(read(value), "at_us")
        except ValueError:
            self.malformed += 1
            return
        if at_us >= self._begun_us:
            self._begin_anew()

    def _begin_anew(self) -> None:
        now_s = self._clock.monotonic_s()
        for endpoint in self._endpoints.values():
            endpoint.record.begin_anew(endpoint.codes, endpoint.durations, now_s)
        self._base = replace(self._total(), since_us=self._clock.now_us())


def less(now: UpstreamStatistics, then: UpstreamStatistics) -> UpstreamStatistics:
    """Return what was counted between *then* and *now*; what is no count is as it is now."""
    known = {(one.address, one.begun_us): one for one in then.endpoints}
    return replace(
        now,
        since_us=then.since_us,
        calls_by_code=fewer(now.calls_by_code, then.calls_by_code),
        latency_counts=minus(now.latency_counts, then.latency_counts),
        latency_sum_s=now.latency_sum_s - then.latency_sum_s,
        latency=Latency(minus(now.latency.counts, then.latency.counts)),
        bytes_in=now.bytes_in - then.bytes_in,
        bytes_out=now.bytes_out - then.bytes_out,
        ejections=now.ejections - then.ejections,
        shed={name: count - then.shed[name] for name, count in now.shed.items()},
        unplaced=now.unplaced - then.unplaced,
        failovers=now.failovers - then.failovers,
        retries=now.retries - then.retries,
        hedges=now.hedges - then.hedges,
        hedges_won=now.hedges_won - then.hedges_won,
        retries_refused=now.retries_refused - then.retries_refused,
        board_malformed=now.board_malformed - then.board_malformed,
        board_unsent=now.board_unsent - then.board_unsent,
        breaker_moved_to=fewer(now.breaker_moved_to, then.breaker_moved_to),
        endpoints=tuple(
            endpoint_less(one, known[one.address, one.begun_us])
            if (one.address, one.begun_us) in known
            else one
            for one in now.endpoints
        ),
    )


def endpoint_less(now: EndpointStatistics, then: EndpointStatistics) -> EndpointStatistics:
    """Return what one endpoint has counted between *then* and *now*."""
    return replace(
        now,
        calls=now.calls - then.calls,
        codes=fewer(now.codes, then.codes),
        failures=fewer(now.failures, then.failures),
        latency=Latency(minus(now.latency.counts, then.latency.counts)),
        bytes_in=now.bytes_in - then.bytes_in,
        bytes_out=now.bytes_out - then.bytes_out,
        connects=now.connects - then.connects,
        ejections=now.ejections - then.ejections,
        breaker_moved_to=fewer(now.breaker_moved_to, then.breaker_moved_to),
    )


def fewer(now: Mapping[str, int], then: Mapping[str, int]) -> dict[str, int]:
    """Subtract counts by name; those that come to nothing are left out."""
    left = {name: count - then.get(name, 0) for name, count in now.items()}
    return {name: count for name, count in left.items() if count}


def minus(now: Sequence[int], then: Sequence[int]) -> tuple[int, ...]:
    """Subtract counts number by number."""
    return tuple(a - b for a, b in zip(now, then, strict=True))
