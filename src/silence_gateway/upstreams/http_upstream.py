"""One HTTP upstream: the pool that every protocol has (`pool.py`), and how requests go through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.events import Observer, nobody
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.connector import http_connector
from silence_gateway.upstreams.dialing import Connector
from silence_gateway.upstreams.discovery import Source
from silence_gateway.upstreams.http_calls import HttpCalls
from silence_gateway.upstreams.http_health import http_checker
from silence_gateway.upstreams.pool import Pool
from silence_gateway.upstreams.settings import HealthSettings, UpstreamSettings


class HttpUpstream(Pool, HttpCalls):
    """
    The endpoints of one HTTP/1.1 upstream.

    An answer's head comes within `settings.timeout_s`; its body may take as long as it likes, unless the
    request has a deadline.
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
        # One link per endpoint, which has as many streams as it may have sockets.
        pool = replace(settings.pool, max_streams=settings.pool.max_connections)
        connector = connector or http_connector(settings, clock)
        pool = replace(pool, min_connections=1, max_connections=1, max_connection_age_s=None)
        health = settings.health and replace(settings.health, watch=False)
        settings = replace(settings, pool=pool, health=health)
        Pool.__init__(
            self,
            settings,
            connector,
            http_checker(settings.health or HealthSettings(), clock),
            clock=clock,
            observer=observer,
            rng=rng,
            board=board,
            on_usable=on_usable,
            sources=sources,
        )
        HttpCalls.__init__(
            self,
            self._places,
            self._ledger,
            self._repeats,
            clock=clock,
            timeout_s=settings.timeout_s,
            attempt_timeout_s=settings.retry.attempt_timeout_s,
        )
