"""
Opens the pool's real connections: the one place where pool and connection meet.

What is learned about an address from one connection and is needed for the next is kept here: how often it
lets itself be pinged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from silence_gateway.clock import Clock
from silence_gateway.upstreams.connection import GrpcConnection, connect
from silence_gateway.upstreams.connection_settings import ConnectionSettings
from silence_gateway.upstreams.dialing import Connection, Connector
from silence_gateway.upstreams.settings import UpstreamSettings

MAX_KEEPALIVE_S = 3600.0
"""An endpoint that complains of every ping is asked once an hour in the end."""


def grpc_connector(settings: UpstreamSettings, clock: Clock) -> Connector:
    """Return what opens HTTP/2 connections as *settings* say."""
    pool = settings.pool
    bounds = ConnectionSettings(
        connect_timeout_s=pool.connect_timeout_s,
        max_streams=pool.max_streams,
        max_message_bytes=settings.max_message_bytes,
        keepalive_s=pool.keepalive_s,
        compression=settings.compression,
        compress_over_bytes=settings.compress_over_bytes,
    )
    learned: dict[str, float] = {}

    async def open_connection(
        address: str, *, on_lost: Callable[[str], None], on_capacity: Callable[[], None]
    ) -> Connection:
        told = False

        def lost(connection: GrpcConnection, reason: str) -> None:
            nonlocal told
            if told:
                return
            told = True
            if connection.keepalive_s is not None and connection.keepalive_s > pool.keepalive_s:
                learned[address] = min(connection.keepalive_s, MAX_KEEPALIVE_S)
            on_lost("" if connection.dismissed else reason)

        connection = await connect(
            address,
            settings=replace(bounds, keepalive_s=learned.get(address, pool.keepalive_s)),
            tls=settings.tls,
            server_name=settings.server_name,
            clock=clock,
            on_lost=lost,
            on_capacity=lambda _connection: on_capacity(),
        )
        if not connection.accepting:
            # Its greeting and its goodbye came in one read: nobody was listening yet.
            lost(connection, connection.stopped_because)
        return connection

    return open_connection
