"""
One gRPC upstream: a pool (`pool.py`), and how calls go through it.

That is `pooled_calls.py`, and `repeating.py` for those that may run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.events import Observer, nobody
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.connector import grpc_connector
from silence_gateway.upstreams.dialing import Connector
from silence_gateway.upstreams.discovery import Source
from silence_gateway.upstreams.grpc_health import grpc_checker
from silence_gateway.upstreams.pool import Pool
from silence_gateway.upstreams.pooled_calls import PooledCalls
from silence_gateway.upstreams.settings import UpstreamSettings


class GrpcUpstream(Pool, PooledCalls):
    """
    The endpoints of one gRPC upstream behind one `Caller`.

    A unary call without a deadline gets `settings.timeout_s`. A stream without one lives as long as it
    likes; only finding it a place is bounded.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        clock: Clock | None = None,
        observer: Observer = nobody,
        rng: Random | None = None,
        board: Board | None = None,
        connector: Connector | None = None,
        on_usable: Callable[[str], None] | None = None,
        sources: Sequence[Source] = (),
    ) -> None:
        clock = clock or SystemClock()
        Pool.__init__(
            self,
            settings,
            connector or grpc_connector(settings, clock),
            grpc_checker("" if settings.health is None else settings.health.service),
            clock=clock,
            observer=observer,
            rng=rng,
            board=board,
            on_usable=on_usable,
            sources=sources,
        )
        PooledCalls.__init__(
            self,
            self._places,
            self._ledger,
            self._repeats,
            clock=clock,
            timeout_s=settings.timeout_s,
            repeatable=settings.retry.methods,
            direct=connector is None,
        )
