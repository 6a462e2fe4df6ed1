"""
What comes in on one HTTP/2 connection that carries gRPC answers, and what each frame does.

Hot path (see `connection.py`, which adds the calling half): one loop over the frames of a read,
header blocks looked up by their bytes. It knows nothing of messages or metadata; what an answer
means is the business of the calls.
"""

from __future__ import annotations

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_flood import Noise
from silence_gateway.core.h2_frames import ErrorCode, H2Violation, Setting
from silence_gateway.core.hpack import HeaderListTooLarge, HpackError
from silence_gateway.errors import (
    UpstreamProtocolError,
    UpstreamUnavailable,
)
from silence_gateway.upstreams.answers import Answer, reset_error
from silence_gateway.upstreams.call import as_our_timeout
from silence_gateway.upstreams.grpc_messages import CallError
from silence_gateway.upstreams.http2_link import MEASURING_PING, Http2Link


class Http2Client(Http2Link):
    """A connection, without the means to begin a call; see `connection.GrpcConnection`."""

    def data_received(self, data: bytes) -> None:
        """Carry out every frame that is complete."""
        self.statistics.bytes_in += len(data)
        frames = self._frames.feed(data)
        calls = self._calls
        known = self._blocks.known
        try:
            for kind, flags, stream, content, length in frames:
                if kind == h2.HEADERS:
                    answer = known.get(content) or self._read_block(stream, content)
                    call = calls.get(stream)
                    if call is None or answer is None:
                        self._stray(stream)
                    elif flags & h2.END_STREAM:
                        del calls[stream]
                        if self._outflow.outboxes:
                            self._request_cut_short(stream)
                        call.on_end(answer)
                        if len(calls) == self.max_streams - 1 or not self.accepting:
                            self._one_less()
                    else:
                        call.on_head(answer)
                        if answer.http_status < 200:
                            self._count_noise(Noise.OTHERS)
                elif kind == h2.DATA:
                    self._received += length
                    call = calls.get(stream)
                    if call is None:
                        self._stray(stream)
                        continue
                    if content:
                        call.on_data(content, length)
                    if flags & h2.END_STREAM:
                        self._ended_by_data(stream)
                    elif not content:
                        self._count_noise(Noise.EMPTY_FRAMES)
                else:
                    self._on_control(kind, flags, stream, content)
            # Once a read and not once a frame; what stands between other frames may be missed.
            if frames and (kind <= h2.HEADERS or frames[0][0] <= h2.HEADERS):
                self._keepalive.quiet_pings = 0
            if self._frames.violation is not None:
                raise self._frames.violation
            if self._received:
                self._give_back_to_connection()
        except H2Violation as violation:
            text = f"the upstream broke HTTP/2: {violation}"
            if not self._ready.done() and data.startswith(b"HTTP/"):
                text = "the upstream speaks HTTP/1, not HTTP/2"
            self._break_off(UpstreamProtocolError(text), violation.code)

    def _read_block(self, stream: int, block: bytes) -> Answer | None:
        """Read a block that is not known; None if it ended its call."""
        try:
            answer = self._blocks.read(block)
        except HpackError as exc:
            raise H2Violation(ErrorCode.COMPRESSION_ERROR, str(exc)) from exc
        except HeaderListTooLarge as exc:
            call = self._calls.get(stream)
            if call is not None:
                self.let_go(stream, ErrorCode.CANCEL)
                call.fail(UpstreamProtocolError(f"the upstream sent too many headers: {exc}"))
            return None
        if answer.accepts:
            self._packing.learn(answer.accepts)
        return answer

    def _stray(self, stream: int) -> None:
        """HEADERS, DATA or RST_STREAM on a stream without a call: late if it had one, else an error."""
        if not stream % 2 or stream >= self._next_stream:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"a frame on stream {stream}, which nobody opened")
        self._count_noise(Noise.STRAYS)

    def _request_cut_short(self, stream: int) -> None:
        """The answer is complete; if the request is not, the peer does not want the rest."""
        if self._outflow.drop(stream):
            self._write(h2.rst_stream_frame(stream, ErrorCode.CANCEL))

    def _ended_by_data(self, stream: int) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            self._request_cut_short(stream)
            call.on_end_without_status()
            self._one_less()

    def _give_back_to_connection(self) -> None:
        window = self.settings.connection_window_bytes
        if self._received > window:
            raise H2Violation(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self._received >= window // 2:
            self._write(h2.window_update_frame(0, self._received))
            self._received = 0

    def _count_noise(self, noise: Noise) -> None:
        """Count a frame that makes us work and moves nothing forward (`core.h2_flood`)."""
        if self._is_stuffed():
            raise H2Violation(
                ErrorCode.ENHANCE_YOUR_CALM, "frames that want answers, but answers are not read"
            )
        statistics = self.statistics
        work = statistics.calls + (statistics.bytes_in + statistics.bytes_out >> 10)
        if not self._budget.spend(noise, self._now_s(), work):
            name = noise.name.lower().replace("_", " ")
            raise H2Violation(ErrorCode.ENHANCE_YOUR_CALM, f"a flood of {name}")

    def _on_control(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == h2.WINDOW_UPDATE:
            self._count_noise(Noise.WINDOW_UPDATES)
            if not self._outflow.on_window_update(stream, h2.read_increment(content)):
                self._end_call(stream, UpstreamProtocolError("the upstream sent an impossible WINDOW_UPDATE"))
            return
        if not self._ready.done() and kind != h2.SETTINGS:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == h2.GOAWAY:
            self._count_noise(Noise.OTHERS)
            self._on_goaway(*h2.read_goaway(content))
        elif kind == h2.RST_STREAM:
            if stream in self._calls:
                self._on_reset(stream, h2.read_word(content))
            else:
                self._stray(stream)
        elif kind == h2.SETTINGS and not flags & h2.ACK:
            self._count_noise(Noise.SETTINGS)
            self._on_settings(content)
        elif kind == h2.PING and not flags & h2.ACK:
            self._count_noise(Noise.PINGS)
            self.statistics.pings_answered += 1
            self._write(h2.ping_frame(content, ack=True))
        else:
            if kind == h2.PING and content == MEASURING_PING:
                self._estimate.on_ping_answered(self.statistics.bytes_in)
            self._count_noise(Noise.OTHERS)

    def _end_call(self, stream: int, error: CallError) -> None:
        call = self._calls.get(stream)
        if call is not None:
            self.let_go(stream, ErrorCode.PROTOCOL_ERROR)
            call.fail(error)

    def _on_reset(self, stream: int, code: int) -> None:
        call = self._calls.pop(stream)
        self._outflow.drop(stream)
        error = reset_error(code, answering=call.head is not None)
        call.fail(as_our_timeout(error, self, call.deadline_s))
        self._one_less()

    def _on_goaway(self, last: int, code: int, debug: bytes) -> None:
        text = debug[:200].decode("ascii", "replace")
        if code == ErrorCode.ENHANCE_YOUR_CALM and debug == b"too_many_pings":
            self._keepalive.on_complaint()
        reason = f"the upstream is going away: {h2.error_name(code)}" + (f" ({text})" if text else "")
        self.dismissed = code == ErrorCode.NO_ERROR
        self._stop(reason)
        for stream in [stream for stream in self._calls if stream > last]:
            call = self._calls.pop(stream)
            self._outflow.drop(stream)
            call.fail(UpstreamUnavailable(reason, sent=False))
        if not self._calls:
            self._break_off(UpstreamUnavailable(reason), ErrorCode.NO_ERROR)

    def _on_settings(self, content: bytes) -> None:
        # Of a setting that is there more than once the last counts; 2,700 of them cost no more than one.
        settings = dict(h2.read_settings(content))
        # First of all: what leaves because of the new values must not reach the peer before this.
        self._write(h2.SETTINGS_ACK)
        had_room = len(self._calls) < self.max_streams
        for name, value in settings.items():
            if name == Setting.MAX_CONCURRENT_STREAMS:
                self.max_streams = min(value, self.settings.max_streams)
            elif name == Setting.INITIAL_WINDOW_SIZE:
                self._outflow.resize(initial_window=value)
            elif name == Setting.MAX_FRAME_SIZE:
                self._outflow.resize(max_frame_size=value)
            elif name == Setting.MAX_HEADER_LIST_SIZE:
                self._heads.limit(value)
            # HEADER_TABLE_SIZE bounds a table that we do not keep; the rest is not for clients.
        if self.accepting and not had_room and len(self._calls) < self.max_streams:
            self._on_capacity()
        if not self._ready.done():
            self.accepting = not self.stopped_because
            self._ready.set_result(None)
            self._keepalive.start()
