"""
What comes in on one HTTP/2 connection that carries gRPC answers, and what each frame does.

Hot path (see `connection.py`, which adds the calling half): one loop over the frames of a read, in which
the usual ones are carried out where they are found (`_usual`), a whole answer in one go, and header blocks
looked up by their bytes. Of messages it knows the prefix; what an answer means is the business of the calls.
"""

from __future__ import annotations

from struct import Struct

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_flood import Noise
from silence_gateway.core.h2_frames import ErrorCode, H2Violation, Setting
from silence_gateway.core.hpack import HeaderListTooLarge, HpackError
from silence_gateway.errors import (
    UpstreamProtocolError,
    UpstreamUnavailable,
)
from silence_gateway.upstreams.answers import Answer, reset_error
from silence_gateway.upstreams.call import UnaryCall, as_meant
from silence_gateway.upstreams.grpc_messages import PREFIX_BYTES, CallError
from silence_gateway.upstreams.http2_link import MEASURING_PING, Http2Link

_HEAD_BYTES = h2.frame_head.size
_ENDS = h2.END_HEADERS | h2.END_STREAM
_message_head = Struct(">HBBBIBI")  # that of a DATA frame, and the prefix of a gRPC message
_REST_BYTES = _message_head.size + _HEAD_BYTES
# CPython 3.11 does not remember where the methods of a future are: 0.05 us for each of the three.
_head_of_unary = UnaryCall.on_head
_data_of_unary = UnaryCall.on_data
_end_unary = UnaryCall.on_end
_end_unary_well = UnaryCall.end_well


class Http2Client(Http2Link):
    """A connection, without the means to begin a call; see `connection.GrpcConnection`."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Carry out every frame that is complete."""
        self.statistics.bytes_in += len(data)
        frames = self._frames
        try:
            others, at = frames.begun(data)
            for frame in others:
                self._on_frame(*frame)
            start = at
            if frames.begins_anew:
                at = self._usual(data, at)
            if at < len(data):
                others = frames.feed(data[at:] if at else data)
                for frame in others:
                    self._on_frame(*frame)
            # Once a read and not once a frame; what stands between other frames may be missed.
            if at > start or (others and min(others[0][0], others[-1][0]) <= h2.HEADERS):
                self._keepalive.quiet_pings = 0
            if frames.violation is not None:
                raise frames.violation
            if self._received:
                self._give_back_to_connection()
        except H2Violation as violation:
            text = f"the upstream broke HTTP/2: {violation}"
            if not self._ready.done() and data.startswith(b"HTTP/"):
                text = "the upstream speaks HTTP/1, not HTTP/2"
            self._break_off(UpstreamProtocolError(text), violation.code)

    def _usual(self, data: bytes, at: int) -> int:
        """
        Carry out the frames in *data* from *at* on, as long as they are those of usual answers.

        Returns:
            Where the rest begins, which `FrameReader` has to look at.

        Nothing is checked here that a call in flight, a known block and exact flags do not say already.
        """
        calls, known, outflow = self.calls, self._blocks.known, self._outflow
        unpack, unpack_message = h2.frame_head.unpack_from, _message_head.unpack_from
        limit, end, received = self.settings.frame_bytes, len(data), 0
        while end - at > _HEAD_BYTES:
            high, low, kind, flags, stream = unpack(data, at)
            call = calls.get(stream)
            length = high << 8 | low
            start = at + _HEAD_BYTES
            at_next = start + length
            if call is None or at_next > end:
                break
            if kind == h2.HEADERS:
                answer = known.get(data[start:at_next])
                if answer is None:
                    break
                if flags == h2.END_HEADERS and answer.plain:
                    if type(call) is not UnaryCall:
                        call.on_head(answer)
                    elif end - at_next <= _REST_BYTES or call.head is not None:
                        _head_of_unary(call, answer)
                    else:
                        # Most servers send what answers a call in one piece, so its rest is here as well.
                        high, low, kind, flags, same, packed, size = unpack_message(data, at_next)
                        message_at = at_next + _message_head.size
                        end_at = message_at + size
                        length = size + PREFIX_BYTES
                        if (
                            same == stream
                            and kind == h2.DATA
                            and not flags
                            and not packed
                            and length == high << 8 | low
                            and length <= limit
                            and size <= self.max_message_bytes
                            and end - end_at > _HEAD_BYTES
                        ):
                            high, low, kind, flags, same = unpack(data, end_at)
                            start = end_at + _HEAD_BYTES
                            stop = start + (high << 8 | low)
                            if same == stream and kind == h2.HEADERS and flags == _ENDS and stop <= end:
                                trailers = known.get(data[start:stop])
                                if trailers is not None and trailers.ends_well:
                                    received += length
                                    del calls[stream]
                                    if outflow.outboxes:
                                        self._request_cut_short(stream)
                                    _end_unary_well(
                                        call, answer.metadata, data[message_at:end_at], trailers.metadata
                                    )
                                    if len(calls) == self.max_streams - 1 or not self.accepting:
                                        self._one_less()
                                    at = stop
                                    continue
                        _head_of_unary(call, answer)
                elif flags == _ENDS:
                    del calls[stream]
                    if outflow.outboxes:
                        self._request_cut_short(stream)
                    if type(call) is UnaryCall:
                        _end_unary(call, answer)
                    else:
                        call.on_end(answer)
                    if len(calls) == self.max_streams - 1 or not self.accepting:
                        self._one_less()
                else:
                    break
            elif kind == h2.DATA and not flags and 0 < length <= limit:
                received += length
                if type(call) is UnaryCall:
                    _data_of_unary(call, data[start:at_next], length)
                else:
                    call.on_data(data[start:at_next], length)
            else:
                break
            at = at_next
        self._received += received
        return at

    def _on_frame(self, kind: int, flags: int, stream: int, content: bytes, length: int) -> None:
        """Carry out one frame, whatever it is."""
        calls = self.calls
        if kind == h2.HEADERS:
            answer = self._blocks.known.get(content) or self._read_block(stream, content)
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
                return
            if length:  # padding alone takes of the windows too
                call.on_data(content, length)
            if flags & h2.END_STREAM:
                self._ended_by_data(stream)
            elif not content:
                self._count_noise(Noise.EMPTY_FRAMES)
        else:
            self._on_control(kind, flags, stream, content)

    def _read_block(self, stream: int, block: bytes) -> Answer | None:
        """Read a block that is not known; None if it ended its call."""
        try:
            answer = self._blocks.read(block)
        except HpackError as exc:
            raise H2Violation(ErrorCode.COMPRESSION_ERROR, str(exc)) from exc
        except HeaderListTooLarge as exc:
            call = self.calls.get(stream)
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
        call = self.calls.pop(stream, None)
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
            if stream in self.calls:
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
        call = self.calls.get(stream)
        if call is not None:
            self.let_go(stream, ErrorCode.PROTOCOL_ERROR)
            call.fail(error)

    def _on_reset(self, stream: int, code: int) -> None:
        call = self.calls.pop(stream)
        self._outflow.drop(stream)
        answering = call.head is not None
        if code == ErrorCode.REFUSED_STREAM and not answering:
            # First of all: the call itself may be offered to this connection again.
            self._stream_cap.turned_away(len(self.calls))
        error = reset_error(code, answering=answering)
        call.fail(as_meant(error, self, call.deadline_s))
        self._one_less()

    def _on_goaway(self, last: int, code: int, debug: bytes) -> None:
        text = debug[:200].decode("ascii", "replace")
        if code == ErrorCode.ENHANCE_YOUR_CALM and debug == b"too_many_pings":
            self._keepalive.on_complaint()
        reason = f"the upstream is going away: {h2.error_name(code)}" + (f" ({text})" if text else "")
        self.dismissed = code == ErrorCode.NO_ERROR
        self._stop(reason)
        for stream in [stream for stream in self.calls if stream > last]:
            call = self.calls.pop(stream)
            self._outflow.drop(stream)
            call.fail(UpstreamUnavailable(reason, sent=False))
        if not self.calls:
            self._break_off(UpstreamUnavailable(reason), ErrorCode.NO_ERROR)

    def _on_settings(self, content: bytes) -> None:
        # Of a setting that is there more than once the last counts; 2,700 of them cost no more than one.
        settings = dict(h2.read_settings(content))
        # First of all: what leaves because of the new values must not reach the peer before this.
        self._write(h2.SETTINGS_ACK)
        streams = settings.pop(Setting.MAX_CONCURRENT_STREAMS, None)
        for name, value in settings.items():
            if name == Setting.INITIAL_WINDOW_SIZE:
                self._outflow.resize(initial_window=value)
            elif name == Setting.MAX_FRAME_SIZE:
                self._outflow.resize(max_frame_size=value)
            elif name == Setting.MAX_HEADER_LIST_SIZE:
                self._heads.limit(value)
            # HEADER_TABLE_SIZE bounds a table that we do not keep; the rest is not for clients.
        if streams is not None:
            self._stream_cap.say(min(streams, self.settings.max_streams))
        if not self._ready.done():
            self.accepting = not self.stopped_because
            self._ready.set_result(None)
            self._keepalive.start()
            self._silence.start()
