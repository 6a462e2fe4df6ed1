"""
The patience with one HTTP/2 connection: what its client is waited for, and how long.

Called for every connection by the server's one sweep, about once a second, so that a request costs no timer;
a timeout is therefore late by up to two sweeps. 10,000 idle connections take 19 ms of a sweep. Deadlines of
calls are finer, and are not watched here.
"""

from __future__ import annotations

from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.core.progress import UNSET
from silence_gateway.edge.http2 import Http2Connection
from silence_gateway.edge.http2_link import CLOSED, GREETING, LINGERING, OPEN, Capped
from silence_gateway.edge.http2_statistics import Cap


def sweep(connection: Http2Connection, now_s: float) -> None:
    """End what *connection* is too slow in: itself, or some of its streams."""
    if connection.phase == CLOSED:
        return
    if connection.phase == LINGERING:
        watch_goodbye(connection, now_s)
        return
    watch = connection.watch
    try:
        if (
            connection.unsent
            or connection.transport.get_write_buffer_size()
            or watch.socket.since_s != UNSET
            or watch.content.since_s != UNSET
        ):
            watch_socket(connection, now_s)
        if connection.phase == GREETING or connection.frames.unfinished:
            watch_frames(connection, now_s)
        else:
            watch.frame_since_s = UNSET
        if connection.streams:
            watch_streams(connection, now_s)
    except Capped as capped:
        connection.break_off(capped)
        return
    watch_age(connection, now_s)


def watch_goodbye(connection: Http2Connection, now_s: float) -> None:
    """Cut a client off that has been told why, and stays."""
    watch = connection.watch
    if watch.lingers_since_s == UNSET:
        watch.lingers_since_s = now_s
    elif now_s - watch.lingers_since_s >= connection.settings.linger_s:
        connection.transport.abort()


def watch_socket(connection: Http2Connection, now_s: float) -> None:
    """
    Look whether the client takes what it is sent.

    Raises:
        Capped: It does not, or does not open the connection's window.
    """
    patience_s = connection.settings.stall_timeout_s
    waiting = connection.transport.get_write_buffer_size()
    if connection.watch.socket.is_stuck(now_s, connection.bytes_out - waiting, waiting, patience_s):
        connection.transport.abort()
        raise Capped(Cap.STALLED_CONNECTION, "the client does not read")
    shut = connection.unsent if connection.window <= 0 else 0
    if connection.watch.content.is_stuck(now_s, connection.sent, shut, patience_s):
        raise Capped(Cap.STALLED_CONNECTION, "the client does not open the window of its connection")


def watch_frames(connection: Http2Connection, now_s: float) -> None:
    """
    Look whether what the client has begun to say gets finished: its greeting, or a frame.

    Raises:
        Capped: It does not.
    """
    patience_s = connection.settings.header_timeout_s
    if connection.phase == GREETING:
        if now_s - connection.begun_s >= patience_s:
            raise Capped(Cap.SLOW_PREFACE, "the connection did not begin in time")
        return
    watch = connection.watch
    if watch.frame_since_s == UNSET or watch.frames != connection.frames_seen:
        watch.frames = connection.frames_seen
        watch.frame_since_s = now_s
    elif now_s - watch.frame_since_s >= patience_s:
        raise Capped(Cap.SLOW_HEADERS, "a frame or header block did not end in time")


def watch_streams(connection: Http2Connection, now_s: float) -> None:
    """
    Look whether requests get finished and answers get taken.

    Raises:
        Capped: Too many did not.
    """
    settings = connection.settings
    for stream in list(connection.streams.values()):
        outbox = stream.outbox
        if outbox is not None:
            shut = outbox.size if stream.window <= 0 else 0
            if outbox.progress.is_stuck(now_s, outbox.sent, shut, settings.stall_timeout_s):
                connection.server.count_capped(Cap.STALLED_STREAM, connection.peer, "an answer is not taken")
                connection.reset_for_fault(stream, ErrorCode.CANCEL)
        elif stream.answered or stream.waits_for_content():
            if stream.since_s == UNSET:
                stream.since_s = now_s
            elif now_s - stream.since_s < settings.body_timeout_s:
                continue
            elif stream.answered:
                # It has its answer, and has never said that its request is complete.
                connection.reset(stream, ErrorCode.NO_ERROR)
            else:
                connection.server.count_capped(
                    Cap.SLOW_BODY, connection.peer, "a request did not end in time"
                )
                stream.on_slow()


def watch_age(connection: Http2Connection, now_s: float) -> None:
    """Send a client away that has been there without a request, or at all, for long enough."""
    watch = connection.watch
    if connection.phase == OPEN:
        if connection.streams or watch.streams != connection.last_stream:
            watch.streams = connection.last_stream
            watch.idle_since_s = now_s
        elif now_s - watch.idle_since_s >= connection.settings.idle_timeout_s:
            connection.statistics.capped[Cap.IDLE] += 1
            connection.leave()
            return
    if not watch.retire_s or now_s < watch.retire_s:
        return
    if connection.phase == OPEN:
        connection.statistics.capped[Cap.AGE] += 1
        watch.retire_s = now_s + connection.settings.age_grace_s
        connection.leave()
    else:
        connection.say_goodbye(ErrorCode.NO_ERROR, "this connection is as old as it may be")
