"""
One HTTP/2 connection to a gRPC server, carrying many calls.

This is the hottest path of the product, so it looks different from the rest: an `asyncio.Protocol`
without tasks, one future per call and nothing else, the calls of a loop tick in one write or a few,
request blocks encoded once per method, answer blocks interpreted once per distinct bytes. Which address to
connect to, when to connect again, retries and queues are the pool's business, not this file's.

Measured: 10 to 11 times less CPU per unary call than grpcio.aio 1.85 with 64 calls in flight against
`bench/responder.py`, both on uvloop in one run (5.1 to 56 us; `bench/calls.py`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable
from math import inf
from struct import Struct

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core import h2_frames as h2
from silence_gateway.core import hpack
from silence_gateway.core.grpc_metadata import encode_metadata
from silence_gateway.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.upstreams.addresses import parse_address
from silence_gateway.upstreams.call import UnaryCall
from silence_gateway.upstreams.connection_settings import ConnectionSettings
from silence_gateway.upstreams.connectivity import Connectivity
from silence_gateway.upstreams.contracts import Metadata, Reply
from silence_gateway.upstreams.deadlines import GRAIN_S
from silence_gateway.upstreams.dialing import why_not
from silence_gateway.upstreams.grpc_messages import CallError, in_pieces
from silence_gateway.upstreams.http2_client import Http2Client
from silence_gateway.upstreams.http2_link import CLOSE_GRACE_S
from silence_gateway.upstreams.outflow import Outbox
from silence_gateway.upstreams.packing import NEVER, WithEncoding
from silence_gateway.upstreams.request_heads import FIELD_SLACK, RequestHeads, timeout_field, timeouts
from silence_gateway.upstreams.stream_call import StreamCall, plain_pieces, refused

__all__ = ["ConnectionSettings", "GrpcConnection", "connect"]

# length of DATA (high, low), type, flags, stream; then the message's compressed flag and length
_data_head = Struct(">HBBBIBI")
_LAST_STREAMS = h2.MAX_STREAM_ID - 2
_EARLY = 160  # pieces, which are those of 32 calls: a write costs as much CPU as a third of a call
_SMALL = 4_096  # what is larger keeps the peer busy anyway, and would fill the socket
_NEAR_STREAMS = 2**30 - 1  # CPython 3.11 compares numbers up to this one in half the time


class GrpcConnection(Http2Client):
    """
    A connection that implements `contracts.Caller`. Made by `connect`; use it from one loop only.

    Attributes:
        address: Where it goes.
        statistics: What it has counted.
        calls: Those in flight, by their streams; may be counted, and is not to be changed.
        accepting: Whether new calls are taken; False for good after a GOAWAY, `close` or a failure.
        max_streams: How many calls may be in flight: the lower of the peer's cap and our own.
        stopped_because: Why it takes no more calls; empty while it does.
        dismissed: Whether that was an orderly goodbye of the peer (GOAWAY without an error).
    """

    __slots__ = ("address",)

    def __init__(
        self,
        address: str,
        authority: bytes,
        scheme: bytes,
        settings: ConnectionSettings,
        clock: Clock,
        on_lost: Callable[[GrpcConnection, str], None] | None = None,
        on_capacity: Callable[[GrpcConnection], None] | None = None,
    ) -> None:
        super().__init__(
            settings,
            clock,
            RequestHeads(scheme, authority, settings.user_agent),
            on_stop=lambda reason: None if on_lost is None else on_lost(self, reason),
            on_capacity=lambda: None if on_capacity is None else on_capacity(self),
        )
        self.address = address

    def unary(
        self,
        method: bytes,
        message: bytes,
        metadata: Metadata = (),
        deadline_s: float | None = None,
        now_s: float | None = None,
    ) -> Awaitable[Reply]:
        """
        See `contracts.Caller.unary`; the result is a future and may be cancelled as one.

        *now_s* saves a look at the clock where the caller has just had one.

        Raises:
            BadRequest: Metadata that cannot be sent.
        """
        extra, packing = b"", self._packing
        if metadata:
            extra = encode_metadata(metadata)
            if type(metadata) is WithEncoding:
                packing = packing.asked(metadata.encoding)
        if deadline_s is None:
            deadline_s = inf
        else:
            remaining_s = deadline_s - (self._now_s() if now_s is None else now_s)
            if remaining_s <= 0.0:
                return self._failed(_too_late())
            extra = (timeouts.get(int(remaining_s * 1e3)) or timeout_field(remaining_s)) + extra
        calls = self.calls
        outflow = self._outflow
        if not self.accepting or len(calls) >= self.max_streams or (outflow.paused and self._is_stuffed()):
            return self._failed(self._refusal())
        if deadline_s < self._deadlines.next_s - GRAIN_S:
            self._deadlines.watch(deadline_s)
        packed = False
        if len(message) >= packing.over:
            smaller = packing.pack(message)
            if smaller is not None:
                message, packed = smaller, True
                extra = packing.field + extra
        heads = self._heads
        block = heads.known.get(method) or heads.block(method)
        block_length = len(block) + len(extra)
        if block_length + len(metadata) * FIELD_SLACK > heads.roomy:
            too_long = heads.too_long(block + extra)
            if too_long is not None:
                return self._failed(too_long)
        stream = self._next_stream
        call = UnaryCall(loop=self._loop)
        call.carrier = self
        call.stream_id = stream
        call.deadline_s = deadline_s
        call.head = call.message = call.reader = call.owner = None
        statistics = self.statistics
        statistics.calls += 1
        statistics.messages_out += 1
        size = len(message) + 5
        if (
            size <= outflow.limit
            and size <= outflow.window
            and block_length < h2.DEFAULT_FRAME_SIZE
            and 1 < stream < _NEAR_STREAMS
            and not outflow.paused
        ):
            calls[stream] = call
            self._next_stream = stream + 2
            outflow.window -= size
            self._pieces += (
                h2.frame_head.pack(
                    block_length >> 8, block_length & 0xFF, h2.HEADERS, h2.END_HEADERS, stream
                ),
                block,
                extra,
                _data_head.pack(size >> 8, size & 0xFF, h2.DATA, h2.END_STREAM, stream, packed, size - 5),
                message,
            )
            if not self._flush_due:
                self._flush_due = True
                self._loop.call_soon(self._flush)
            elif len(self._pieces) >= _EARLY and size < _SMALL:
                self._flush_early()
        else:
            outbox = self._begin(stream, call, block + extra)
            outflow.put(outbox, *in_pieces(message, packed=packed), end=True)
        return call

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> StreamCall:
        """
        See `contracts.Caller.stream`.

        Raises:
            BadRequest: Metadata that cannot be sent.
        """
        extra = encode_metadata(metadata)
        if deadline_s is None:
            deadline_s = inf
        else:
            remaining_s = deadline_s - self._now_s()
            if remaining_s <= 0:
                return refused(self, _too_late())
            extra = timeout_field(remaining_s) + extra
        if not self.accepting or len(self.calls) >= self.max_streams or self._is_stuffed():
            return refused(self, self._refusal())
        if deadline_s < self._deadlines.next_s - GRAIN_S:
            self._deadlines.watch(deadline_s)
        packing, frame = self._packing, plain_pieces
        if type(metadata) is WithEncoding:
            packing = packing.asked(metadata.encoding)
        if packing.over != NEVER:
            extra = packing.field + extra
            frame = packing.in_pieces
        block = self._heads.block(method) + extra
        if len(block) + len(metadata) * FIELD_SLACK > self._heads.roomy:
            too_long = self._heads.too_long(block)
            if too_long is not None:
                return refused(self, too_long)
        stream = self._next_stream
        call = StreamCall(self, stream, deadline_s)
        self.statistics.calls += 1
        outbox = self._begin(stream, call, block)
        if isinstance(messages, bytes):
            self.statistics.messages_out += 1
            self._outflow.put(outbox, *frame(messages), end=True)
        else:
            call.send_from(messages, outbox, frame, self._send_part)
        return call

    @property
    def connectivity(self) -> Connectivity:
        """Whether it takes calls; once it does not, it never will again."""
        if self.accepting:
            return Connectivity.READY
        return Connectivity.SHUTDOWN if self.stopped_because else Connectivity.CONNECTING

    def connectivity_changed(self) -> asyncio.Future[None]:
        """Return what is done as soon as it takes no more calls, from now on."""
        return self._news.wait()

    @property
    def open_streams(self) -> int:
        """How many calls are in flight."""
        return len(self.calls)

    @property
    def sockets(self) -> int:
        """One, for as long as it is open."""
        return int(self._transport is not None)

    @property
    def keepalive_s(self) -> float | None:
        """The ping interval for the next connection: doubled when this peer complained of too many pings."""
        return self._keepalive.interval_s

    def _failed(self, error: CallError) -> Awaitable[Reply]:
        future: asyncio.Future[Reply] = self._loop.create_future()
        future.set_exception(error)
        future.exception()  # as for calls that fail later
        return future

    def _refusal(self) -> UpstreamUnavailable:
        if not self.accepting:
            return UpstreamUnavailable(self.stopped_because or "the connection is not ready", sent=False)
        if self._is_stuffed():
            return UpstreamUnavailable("the upstream does not read what it is sent", sent=False)
        return UpstreamUnavailable(f"all {self.max_streams} streams of the connection are in use", sent=False)

    def _begin(self, stream: int, call: UnaryCall | StreamCall, block: bytes) -> Outbox:
        """Open a stream the general way, for what is large, streamed, or the first of a connection."""
        if stream == 1:
            block = hpack.NO_TABLE + block
        self.calls[stream] = call
        self._next_stream = stream + 2
        self._write(
            h2.headers_frames(stream, block, end_stream=False, max_frame_size=self._outflow.max_frame_size)
        )
        if stream >= _LAST_STREAMS:
            self._stop("the connection has used up its stream numbers")
        return self._outflow.open(stream)

    def _send_part(self, outbox: Outbox, *pieces: bytes, end: bool) -> None:
        if outbox.stream_id in self._outflow.outboxes:
            self._outflow.put(outbox, *pieces, end=end)


def _too_late() -> UpstreamTimeout:
    return UpstreamTimeout("the deadline passed before the call was sent", sent=False)


async def connect(
    address: str,
    *,
    settings: ConnectionSettings | None = None,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    clock: Clock | None = None,
    on_lost: Callable[[GrpcConnection, str], None] | None = None,
    on_capacity: Callable[[GrpcConnection], None] | None = None,
) -> GrpcConnection:
    """
    Connect to a gRPC server and wait until it is ready for calls.

    Args:
        address: `host:port`, `[::1]:port` or `unix:PATH`.
        settings: Bounds; the defaults of `ConnectionSettings` if absent.
        tls: Encrypt with this context, which is told to offer h2 (ALPN) and nothing else.
        server_name: The name to check the certificate for and to send as `:authority`; the address if absent.
        clock: Where time comes from; the machine's if absent.
        on_lost: Called once, with the reason, the moment a connection that was ready takes no more
            calls: GOAWAY, broken, or closed by the peer. Calls accepted before may still be in flight.
        on_capacity: Called each time a stream becomes free after all were in use.

    Raises:
        UpstreamUnavailable: Nothing answers there, or not in time, or TLS failed.
        UpstreamProtocolError: What answers does not speak HTTP/2.

    Cancelling it leaves nothing open.
    """
    settings = settings or ConnectionSettings()
    where = parse_address(address)
    authority = (server_name or where.authority).encode("idna" if server_name else "ascii")
    lost: list[Callable[[GrpcConnection, str], None]] = []
    connection = GrpcConnection(
        address,
        authority,
        b"http" if tls is None else b"https",
        settings,
        clock or SystemClock(),
        lambda each, reason: lost[0](each, reason) if lost else None,
        on_capacity,
    )
    loop = asyncio.get_running_loop()
    name = shutdown_s = None
    if tls is not None:
        shutdown_s = CLOSE_GRACE_S
        tls.set_alpn_protocols(["h2"])
        name = server_name or where.host or "localhost"
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            if where.path:
                transport, _ = await loop.create_unix_connection(
                    lambda: connection,
                    where.path,
                    ssl=tls,
                    server_hostname=name,
                    ssl_shutdown_timeout=shutdown_s,
                )
            else:
                transport, _ = await loop.create_connection(
                    lambda: connection,
                    where.host,
                    where.port,
                    ssl=tls,
                    server_hostname=name,
                    ssl_shutdown_timeout=shutdown_s,
                )
            if tls is not None:
                tls_session = transport.get_extra_info("ssl_object")
                if tls_session.selected_alpn_protocol() != "h2":
                    raise UpstreamProtocolError(f"{address} does not offer HTTP/2 (ALPN h2)", sent=False)
            await connection.wait_ready()
    except TimeoutError as exc:
        connection.abort()
        raise UpstreamUnavailable(
            f"{address} was not ready within {settings.connect_timeout_s:g} s (connect_timeout_s)", sent=False
        ) from exc
    except (OSError, ssl.SSLError) as exc:
        connection.abort()
        raise UpstreamUnavailable(f"cannot connect to {address}: {why_not(exc)}", sent=False) from exc
    except (UpstreamUnavailable, UpstreamProtocolError) as exc:
        connection.abort()
        text = f"cannot use {address}: {exc}"
        if isinstance(exc, UpstreamUnavailable) and not connection.statistics.bytes_in:
            # What TLS 1.3 says about a missing certificate comes after the handshake, and gets lost.
            text += " before it said anything: does it want " + ("TLS?" if tls is None else "a certificate?")
        elif isinstance(exc, UpstreamProtocolError):
            text += "; does it speak gRPC?"
        raise type(exc)(text, sent=False) from exc
    except BaseException:
        connection.abort()
        raise
    if on_lost is not None:
        lost.append(on_lost)
    return connection
