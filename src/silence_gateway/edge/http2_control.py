"""
What a client does on an HTTP/2 connection beside sending requests, and what it does wrong.

Control frames, requests that are refused, late frames of streams that have ended, deadlines. The plain
course of a request is in `http2.py`, which builds on this class.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_flood import Noise
from silence_gateway.core.h2_frames import ErrorCode, H2Violation
from silence_gateway.core.h2_requests import problem_of_trailers
from silence_gateway.edge.http2_link import GOODBYE, GREETING, LAST, LEAVING
from silence_gateway.edge.http2_sending import Http2Sending
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.edge.http2_streams import Http2Head, Http2Stream
from silence_gateway.upstreams.deadlines import GRAIN_S, Deadlines

if TYPE_CHECKING:
    from silence_gateway.edge.http2_server import Http2Server


class Http2Control(Http2Sending):
    """A connection that can do everything but read requests."""

    def __init__(self, server: Http2Server) -> None:
        super().__init__(server)
        self.deadlines = Deadlines(server.clock, self.give_up_overdue)

    # Streams that do not get or have no answer to come.

    def refuse(self, stream_id: int, flags: int, head: Http2Head | None) -> None:
        """
        Do not open a stream.

        Raises:
            H2Violation: Its number cannot be opened (again).
            Capped: Too many had to be refused.
        """
        if stream_id in self.ended_early:
            self.count_noise(Noise.STRAYS)
            return
        if not stream_id & 1:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which is not odd")
        if stream_id <= self.last_stream:
            raise H2Violation(ErrorCode.STREAM_CLOSED, f"HEADERS on stream {stream_id}, which has ended")
        if self.phase >= LAST:
            return
        self.last_stream = stream_id
        if not flags & h2.END_STREAM:
            self.remember(stream_id)
        statistics = self.statistics
        if head is None:
            statistics.capped[Cap.HEADER_LIST] += 1
            self.write(self.header_frames(stream_id, self.server.application.too_large, end_stream=True))
            if not flags & h2.END_STREAM:
                self.write(h2.rst_stream_frame(stream_id, ErrorCode.NO_ERROR))
            self.count_noise(Noise.RESETS)
            return
        statistics.resets_sent += 1
        if head.malformed:
            self.write(h2.rst_stream_frame(stream_id, ErrorCode.PROTOCOL_ERROR))
            self.count_noise(Noise.RESETS)
            return
        cap = Cap.UNSENT if self.unsent > self.settings.max_unsent_bytes else Cap.STREAMS
        statistics.capped[cap] += 1
        self.write(h2.rst_stream_frame(stream_id, ErrorCode.REFUSED_STREAM))
        self.count_noise(Noise.REFUSALS)

    def on_trailers(self, stream: Http2Stream, flags: int, head: Http2Head | None) -> None:
        """
        Take a second header block of a request, which must end it.

        Raises:
            Capped: Too many requests were broken.
        """
        if not stream.receiving:
            self.reset_for_fault(stream, ErrorCode.STREAM_CLOSED)
        elif head is None or not flags & h2.END_STREAM or problem_of_trailers(head.pairs):
            self.reset_for_fault(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.answered:
            self.on_late_data(stream.id, stream, flags)
        elif stream.head.content_length not in (-1, stream.received):
            self.reset_for_fault(stream, ErrorCode.PROTOCOL_ERROR)
        else:
            stream.receiving = False
            stream.on_end()

    def on_late_data(self, stream_id: int, stream: Http2Stream | None, flags: int) -> None:
        """
        Take content that nobody waits for.

        Raises:
            H2Violation: Nobody ever opened that stream.
            Capped: There was too much of it.
        """
        if stream is None:
            self.check_not_idle(stream_id)
            if stream_id not in self.ended_early and self.phase < LAST:
                self.write(h2.rst_stream_frame(stream_id, ErrorCode.STREAM_CLOSED))
            self.count_noise(Noise.STRAYS)
        elif not stream.receiving:
            self.reset_for_fault(stream, ErrorCode.STREAM_CLOSED)
        elif flags & h2.END_STREAM:
            stream.receiving = False
            if stream.outbox is None:
                self.drop(stream)
        elif stream.outbox is None:
            # It has its answer, and is not done: more would be for nobody (RFC 9113 section 8.1).
            self.write(h2.rst_stream_frame(stream_id, ErrorCode.NO_ERROR))
            self.remember(stream_id)
            self.drop(stream)
        else:
            self.count_noise(Noise.STRAYS)

    # Control frames.

    def on_control(self, kind: int, flags: int, stream_id: int, content: bytes) -> None:
        """
        Carry out a frame that is neither DATA nor HEADERS.

        Raises:
            H2Violation: It breaks a rule, or is one too many.
        """
        if self.phase == GREETING and (kind != h2.SETTINGS or flags & h2.ACK):
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == h2.WINDOW_UPDATE:
            self.count_noise(Noise.WINDOW_UPDATES)
            self.on_window_update(stream_id, h2.read_increment(content))
        elif kind == h2.RST_STREAM:
            self.on_reset(stream_id)
        elif kind == h2.SETTINGS and not flags & h2.ACK:
            self.count_noise(Noise.SETTINGS)
            self.on_settings(content)
        elif kind == h2.PING and not flags & h2.ACK:
            self.count_noise(Noise.PINGS)
            self.statistics.pings_answered += 1
            self.write(h2.ping_frame(content, ack=True))
        elif kind == h2.PING and content == GOODBYE and self.phase == LEAVING:
            self.take_no_more()
        else:
            self.count_noise(Noise.OTHERS)

    def on_reset(self, stream_id: int) -> None:
        """
        The client takes a request back.

        Raises:
            H2Violation: Nobody ever opened that stream.
            Capped: Too many were taken back.
        """
        stream = self.streams.get(stream_id)
        if stream is None:
            self.check_not_idle(stream_id)
            self.count_noise(Noise.STRAYS)
            return
        self.statistics.resets_received += 1
        unfinished = not stream.answered or stream.outbox is not None
        self.drop(stream)
        if not stream.answered:
            stream.on_gone()
        if unfinished:
            self.count_reset(stream)

    # Time.

    def watch_deadline(self, deadline_s: float) -> None:
        """Give a stream with this deadline up when it has passed (`Http2Stream.on_deadline`)."""
        if deadline_s < self.deadlines.next_s - GRAIN_S:
            self.deadlines.watch(deadline_s)

    def give_up_overdue(self, now_s: float) -> Collection[Http2Stream]:
        """Tell the streams whose time is up, and return the others that have no answer yet."""
        waiting = [stream for stream in self.streams.values() if not stream.answered]
        for stream in waiting:
            if stream.deadline_s <= now_s and not stream.answered:
                stream.on_deadline()
        return [stream for stream in waiting if not stream.answered]

    def forget_time(self) -> None:
        """Cancel what was to happen later."""
        super().forget_time()
        self.deadlines.stop()
