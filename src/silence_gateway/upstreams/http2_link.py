"""
The socket of one HTTP/2 connection to a gRPC server: what leaves it, how it ends, which calls are on it.

One write per loop tick, whoever asked for it, or a few where many calls begin in one. What comes in is
read by `http2_client.py`, calls are begun by `connection.py`; both build on this class, and this file knows
neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TypeAlias, cast

from silence_gateway.clock import Clock, Timer
from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_bandwidth import WindowEstimate
from silence_gateway.core.h2_flood import FloodBudget
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.core.hpack import BlockReader
from silence_gateway.errors import (
    RpcError,
    UpstreamFault,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.upstreams.answers import Answer
from silence_gateway.upstreams.call import UnaryCall
from silence_gateway.upstreams.connection_settings import ConnectionSettings
from silence_gateway.upstreams.connectivity import News
from silence_gateway.upstreams.deadlines import GRAIN_S, Deadlines
from silence_gateway.upstreams.grpc_messages import CallError
from silence_gateway.upstreams.keepalive import PING_CONTENT, Keepalive
from silence_gateway.upstreams.outflow import MAX_BURST, Outflow, Piece
from silence_gateway.upstreams.packing import Packing
from silence_gateway.upstreams.request_heads import RequestHeads
from silence_gateway.upstreams.silence import SilenceWatch
from silence_gateway.upstreams.statistics import ConnectionStatistics
from silence_gateway.upstreams.stream_call import StreamCall
from silence_gateway.upstreams.stream_cap import StreamCap

# What may wait for a peer that does not read, beyond the requests in flight: then calls are refused.
MAX_UNREAD = 4_194_304

# How long the peer may take to read our GOAWAY before the socket is closed regardless.
CLOSE_GRACE_S = 0.5

# How long it may take to end TLS where all is written: grpcio's server never does, and no call hangs on it.
TLS_END_S = 0.05

# Unlike that of keepalive, so that its answer is known.
MEASURING_PING = b"how wide"

_CLOSED_HERE = "the connection was closed here"

Call: TypeAlias = UnaryCall | StreamCall


class Http2Link(asyncio.Protocol):
    """
    A connection that can send and end, but neither read nor begin a call.

    Args:
        heads: What requests begin with.
        on_stop: Called once with a reason, the moment `accepting` turns False for good.
        on_capacity: Called when a call ends while all streams were in use, or the peer allows more.
    """

    # More than thirty of them: in a dictionary CPython 3.11 would look each one up.
    __slots__ = (
        "__weakref__", "_blocks", "_budget", "_clock", "_closed", "_closing", "_deadlines",
        "_estimate", "_flush_due", "_frames", "_heads", "_keepalive", "_loop", "_news", "_next_stream",
        "_now_s", "_on_capacity", "_on_stop", "_outflow", "_packing", "_pieces", "_ready", "_received",
        "_silence", "_stream_cap", "_transport", "_unsent_from", "accepting", "calls", "dismissed",
        "max_message_bytes", "max_streams", "settings", "statistics", "stopped_because",
        "stream_window_bytes",
    )  # fmt: skip

    def __init__(
        self,
        settings: ConnectionSettings,
        clock: Clock,
        heads: RequestHeads,
        on_stop: Callable[[str], None],
        on_capacity: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.statistics = ConnectionStatistics()
        self.accepting = False
        self.max_streams = settings.max_streams
        self._stream_cap = StreamCap(settings.max_streams, clock, self._room_for)
        self.max_message_bytes = settings.max_message_bytes
        self.stream_window_bytes = settings.stream_window_bytes
        self.stopped_because = ""
        self.dismissed = False
        self._clock = clock
        self._now_s = clock.monotonic_s
        self._heads = heads
        self._packing = Packing(settings.compression, settings.compress_over_bytes)
        self._on_stop: Callable[[str], None] | None = on_stop
        self._on_capacity = on_capacity
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._closing: Timer | None = None
        self._frames = h2.FrameReader(settings.frame_bytes)
        self._blocks = BlockReader(Answer, max_list_size=settings.max_header_list_bytes)
        self._news = News()
        self.calls: dict[int, Call] = {}
        self._next_stream = 1
        self._unsent_from = 1  # streams from here on have not been given to the socket
        self._pieces: list[Piece] = []
        self._flush_due = False
        self._outflow = Outflow(self._write)
        self._estimate = WindowEstimate(settings.stream_window_bytes, settings.max_stream_window_bytes)
        self._received = 0  # bytes of DATA not given back to the connection's window yet
        self._budget = FloodBudget(clock.monotonic_s())
        self._deadlines = Deadlines(clock, self._give_up_overdue)
        self._keepalive = Keepalive(
            settings,
            clock,
            self.statistics,
            send_ping=lambda: self._write(h2.ping_frame(PING_CONTENT)),
            in_flight=lambda: len(self.calls),
            on_silence=lambda reason: self._break_off(UpstreamUnavailable(reason), ErrorCode.NO_ERROR),
        )
        self._silence = SilenceWatch(
            settings.silence_s,
            clock,
            self.statistics,
            self._keepalive,
            send_ping=lambda: self._write(h2.ping_frame(PING_CONTENT)),
            in_flight=lambda: len(self.calls),
        )

    def watch_silence(self, tell: Callable[[bool], None]) -> None:
        """Call *tell* with True when the peer owes answers and has gone quiet, with False when that ends."""
        self._silence.on_change = tell

    # The end.

    async def close(self, *, graceful: bool = False) -> None:
        """
        Take no more calls, close, and return when the socket is closed.

        With *graceful* the calls in flight are waited for, else they fail with UpstreamUnavailable.
        `on_lost` is not called for it. Cancelling a graceful close leaves the connection draining.
        """
        if graceful and self.calls:
            self._on_stop = None
            self._stop(_CLOSED_HERE)
        else:
            self.abort()
        await self.wait_closed()

    def abort(self) -> None:
        """Close without waiting; calls in flight fail with UpstreamUnavailable."""
        self._on_stop = None
        self._break_off(UpstreamUnavailable(_CLOSED_HERE), ErrorCode.NO_ERROR)

    async def wait_ready(self) -> None:
        """Return once the peer's SETTINGS are in; raises what is wrong with it otherwise."""
        await asyncio.shield(self._ready)

    async def wait_closed(self) -> None:
        """Return once the socket is closed."""
        await asyncio.shield(self._closed)

    def _stop(self, reason: str) -> None:
        """Take no more calls."""
        self.accepting = False
        if not self.stopped_because:
            self.stopped_because = reason
            self._news.tell()
            if self._on_stop is not None:
                self._on_stop(reason)

    def _break_off(self, error: UpstreamFault, code: ErrorCode) -> None:
        """End the connection now, with every call on it."""
        transport, self._transport = self._transport, None
        self._stop(str(error))
        self._deadlines.stop()
        self._keepalive.stop()
        self._silence.stop()
        self._stream_cap.stop()
        if transport is not None:
            debug = str(error).encode("ascii", "replace")[:200] if code else b""
            if self._unsent_from < self._next_stream:
                # Some of this are calls that end below as never sent, and may be made elsewhere for that.
                self._pieces.clear()
            transport.write(b"".join([*self._pieces, h2.goaway_frame(0, code, debug)]))
            self._pieces.clear()
            transport.close()
            # A peer may never read our last bytes, and need not be waited for.
            grace_s = CLOSE_GRACE_S if transport.get_write_buffer_size() else TLS_END_S
            self._closing = self._clock.call_later(grace_s, transport.abort)
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # connect may have given up waiting; then nobody else looks
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            self._outflow.drop(call.stream_id)
            call.fail(type(error)(str(error), sent=call.stream_id < self._unsent_from))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        reason = f"the connection broke: {exc}" if exc else "the upstream closed the connection"
        self._transport = None
        self._break_off(UpstreamUnavailable(reason), ErrorCode.NO_ERROR)
        if self._closing is not None:
            self._closing.cancel()
        if not self._closed.done():
            self._closed.set_result(None)

    # Sending.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello: preface, SETTINGS, and a window wide enough for all answers together."""
        # A cast, not a check: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        settings = self.settings
        self._write(
            h2.PREFACE
            + h2.settings_frame(
                (
                    (Setting.ENABLE_PUSH, 0),
                    (Setting.INITIAL_WINDOW_SIZE, settings.stream_window_bytes),
                    (Setting.MAX_FRAME_SIZE, settings.frame_bytes),
                    (Setting.MAX_HEADER_LIST_SIZE, settings.max_header_list_bytes),
                )
            )
        )
        if settings.connection_window_bytes > h2.DEFAULT_WINDOW:
            self._write(h2.window_update_frame(0, settings.connection_window_bytes - h2.DEFAULT_WINDOW))

    def _write(self, *pieces: Piece) -> None:
        self._pieces += pieces
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._pieces and self._transport is not None:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._unsent_from = self._next_stream
            self.statistics.bytes_out += len(data)
            self.statistics.flushes += 1
            self._transport.write(data)
        if self._outflow.burst < MAX_BURST:
            self._outflow.written()

    def _flush_early(self) -> None:
        """
        Give the peer what there is so far, while more is on its way in the same turn of the loop.

        Else the peer has nothing to do until everybody here has said all, and we have nothing to do until it
        has answered all: with 64 calls in flight that cost a fifth of the calls per second.
        """
        transport = self._transport
        if transport is not None:
            # uvloop keeps what is written until its turn is over, unless it is above this mark.
            transport.set_write_buffer_limits(high=0)
            self._flush()
            transport.set_write_buffer_limits()
            self._flush_due = True  # which it is, for the end of the turn

    def pause_writing(self) -> None:
        """The socket is full; only small requests still leave, and they are bounded by `max_streams`."""
        self._outflow.paused = True

    def resume_writing(self) -> None:
        """The socket has room again."""
        self._outflow.paused = False
        self._outflow.pump()

    def _is_stuffed(self) -> bool:
        """Whether the peer has left so much unread that we hold no more for it."""
        transport = self._transport
        return (
            self._outflow.paused and transport is not None and transport.get_write_buffer_size() > MAX_UNREAD
        )

    # What calls ask for (see `call.Carrier`).

    def let_go(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream that the peer has not ended, and forget it."""
        if self.calls.pop(stream_id, None) is not None:
            self._outflow.drop(stream_id)
            self._write(h2.rst_stream_frame(stream_id, code))
            self._one_less()

    def give_back(self, stream_id: int, count: int, window: int) -> int:
        """
        Allow the peer to send again the *count* bytes that were taken; return the stream's new window.

        Only answers larger than half a window get here, so that only these are worth a measurement.
        """
        if stream_id not in self.calls:
            return window
        estimate = self._estimate
        if estimate.wants_ping:
            # After DATA of the peer, so that it forgives the ping (see `Keepalive`).
            estimate.on_ping_sent(self.statistics.bytes_in)
            self._keepalive.on_other_ping()
            self._write(h2.ping_frame(MEASURING_PING))
        grown = max(window, estimate.window)
        self._write(h2.window_update_frame(stream_id, count + grown - window))
        return grown

    def count_error(self, error: CallError) -> None:
        """Count a call that did not end well."""
        statistics = self.statistics
        if isinstance(error, RpcError):
            statistics.by_code[error.code] += 1
            return
        statistics.faults += 1
        if isinstance(error, UpstreamTimeout):
            statistics.timeouts += 1
        elif isinstance(error, UpstreamProtocolError):
            statistics.protocol_errors += 1

    def is_due(self, deadline_s: float) -> bool:
        """Tell whether a deadline has passed, or is about to within the grain of our timers."""
        return deadline_s - GRAIN_S <= self._clock.monotonic_s()

    def _one_less(self) -> None:
        """A call has just left `calls`."""
        left = len(self.calls)
        if not self.accepting:
            if not left:
                self._break_off(UpstreamUnavailable(self.stopped_because), ErrorCode.NO_ERROR)
        elif left == self.max_streams - 1:
            self._on_capacity()

    def _room_for(self, streams: int) -> None:
        """Have at most so many calls in flight from now on; those that are stay."""
        had_room = len(self.calls) < self.max_streams
        self.max_streams = streams
        if self.accepting and not had_room and len(self.calls) < streams:
            self._on_capacity()

    def _give_up_overdue(self, now_s: float) -> Collection[Call]:
        for call in [call for call in self.calls.values() if call.deadline_s <= now_s]:
            sent = call.stream_id < self._unsent_from
            self.let_go(call.stream_id, ErrorCode.CANCEL)
            call.fail(UpstreamTimeout("the deadline passed before the upstream answered", sent=sent))
        return self.calls.values()
