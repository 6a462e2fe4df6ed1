"""The reference server (`h2`) accepts all we send in any conversation, and calls end as it ended them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from h2.windows import WindowManager
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.upstreams.test_any_peer import Wire

from silence_gateway.core.grpc_messages import MessageInbox, framed
from silence_gateway.core.h2_frames import PREFACE, goaway_frame
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.h2_peer import HEAD, OK
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection

METHOD = b"/a.B/C"
SETTINGS = h2.settings.SettingCodes
TICKS = 3


_consumed = WindowManager.window_consumed


def window_consumed(self: WindowManager, size: int) -> None:
    """Let an empty frame pass a window below zero, as RFC 9113 section 6.9 does and h2 does not."""
    if size:
        _consumed(self, size)


@pytest.fixture(autouse=True, scope="module")
def _empty_frames_need_no_window() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowManager, "window_consumed", window_consumed)
        yield


@dataclass(eq=False)
class Exchange:
    """One call as both ends see it."""

    sizes: list[int]
    work: asyncio.Future[list[bytes]]
    streamed: bool
    stream: int = 0
    received: bytearray = field(default_factory=bytearray)
    request_ended: bool = False
    closed: bool = False
    expected: list[bytes] | int | None = None

    @property
    def request(self) -> bytes:
        return b"".join(framed(bytes([size % 251]) * size) for size in self.sizes)


class Conversation:
    """Our connection and the reference server, with a wire between them that is cut anywhere."""

    def __init__(self, bounds: ConnectionSettings, cut: int) -> None:
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.wire = Wire()
        self.client = GrpcConnection("test:1", b"test:1", b"http", bounds, FakeClock())
        self.client.connection_made(self.wire)
        self.exchanges: list[Exchange] = []
        self.arrived: list[Exchange] = []
        self.unacknowledged: list[tuple[int, int]] = []
        self.cut = cut
        self.greeted = False

    async def pass_on(self) -> None:
        """Let both ends hear all that was said, until nobody says anything more."""
        while True:
            for _ in range(TICKS):
                await asyncio.sleep(0)
            heard, self.wire.written = bytes(self.wire.written), bytearray()
            for piece in self.cut_at_frames(heard):
                for at in range(0, len(piece), self.cut):
                    for event in self.server.receive_data(piece[at : at + self.cut]):
                        self.on_event(event)
            said = self.server.data_to_send()
            for at in range(0, len(said), self.cut):
                self.client.data_received(said[at : at + self.cut])
            if not heard and not said:
                return

    def cut_at_frames(self, heard: bytes) -> Iterator[bytes]:
        """Cut what the client said: h2 goes by the old frame size until the read after an acknowledgement."""
        if not self.greeted and heard:
            self.greeted = True
            yield heard[: len(PREFACE)]
            heard = heard[len(PREFACE) :]
        while heard:
            length = 9 + int.from_bytes(heard[:3], "big")
            yield heard[:length]
            heard = heard[length:]

    def on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            # Streams open in the order of the calls; calls that were refused here have none.
            exchange = self.exchanges[int(dict(event.headers or ())[b"x-number"])]
            exchange.stream = event.stream_id
            self.arrived.append(exchange)
        elif isinstance(event, h2.events.DataReceived):
            self.of(event.stream_id).received += event.data or b""
            self.unacknowledged.append((event.flow_controlled_length or 0, event.stream_id))
        elif isinstance(event, h2.events.StreamEnded):
            self.of(event.stream_id).request_ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.of(event.stream_id).closed = True

    def of(self, stream: int) -> Exchange:
        return next(exchange for exchange in self.arrived if exchange.stream == stream)

    def begin(self, sizes: list[int], *, streamed: bool) -> None:
        """Make a call with messages of *sizes*."""
        metadata = [(b"x-number", b"%d" % len(self.exchanges))]

        async def messages() -> AsyncIterator[bytes]:
            for size in sizes:
                yield bytes([size % 251]) * size

        async def stream() -> list[bytes]:
            return [message async for message in self.client.stream(METHOD, messages(), metadata)]

        async def unary(reply: Awaitable[Any]) -> list[bytes]:
            return [(await reply).message]

        if streamed:
            work = asyncio.ensure_future(stream())
        else:
            sizes = sizes[:1] or [0]
            work = asyncio.ensure_future(
                unary(self.client.unary(METHOD, bytes([sizes[0] % 251]) * sizes[0], metadata))
            )
        self.exchanges.append(Exchange(sizes, work, streamed))

    def open_ones(self) -> list[Exchange]:
        """Calls that neither end has ended; none once the client has left, as it does after a goodbye."""
        return [] if self.wire.closed else [one for one in self.arrived if not one.closed]

    async def answer(self, exchange: Exchange, sizes: list[int], status: int) -> None:
        """Answer *exchange*, as the windows allow."""
        if not exchange.streamed:
            sizes = sizes[:1] or [0]
        messages = [bytes([size % 241]) * size for size in sizes]
        exchange.expected = status or messages
        try:
            self.server.send_headers(exchange.stream, [*HEAD, (b"x-stream", b"%d" % exchange.stream)])
            left = b"".join(framed(message) for message in messages)
            while left:
                room = self.server.local_flow_control_window(exchange.stream)
                step = min(room, self.server.max_outbound_frame_size, len(left))
                if step:
                    self.server.send_data(exchange.stream, left[:step])
                    left = left[step:]
                await self.pass_on()
                if exchange.closed:
                    return
                assert step or self.server.local_flow_control_window(exchange.stream) > 0
            trailers = OK if not status else [(b"grpc-status", b"%d" % status)]
            self.server.send_headers(exchange.stream, trailers, end_stream=True)
        except h2.exceptions.StreamClosedError:
            assert exchange.closed
        exchange.closed = True

    def acknowledge(self) -> None:
        """Give back the windows of all that has come."""
        for length, stream in self.unacknowledged:
            try:
                self.server.acknowledge_received_data(length, stream)
            except h2.exceptions.StreamClosedError:
                assert self.of(stream).closed
        self.unacknowledged.clear()

    async def finish(self) -> None:
        """Take every request to its end, and answer what has not been."""
        if self.wire.closed:
            return
        self.server.update_settings(
            {SETTINGS.INITIAL_WINDOW_SIZE: 65_535, SETTINGS.MAX_CONCURRENT_STREAMS: 1_000}
        )
        await self.pass_on()
        while not all(one.request_ended for one in self.open_ones()):
            so_far = sum(len(one.received) for one in self.arrived)
            self.acknowledge()
            await self.pass_on()
            for one in self.open_ones():
                # Windows that shrank while they were in use stay short of the setting for ever.
                if not one.request_ended:
                    self.server.increment_flow_control_window(1_000, one.stream)
            await self.pass_on()
            ended = all(one.request_ended for one in self.open_ones())
            assert ended or sum(len(one.received) for one in self.arrived) > so_far
        for exchange in self.open_ones():
            await self.answer(exchange, [5], 0)
            await self.pass_on()


SIZES = st.lists(st.one_of(st.integers(0, 50), st.integers(16_000, 17_000), st.just(70_000)), max_size=3)
ACTIONS = st.one_of(
    st.tuples(st.just("unary"), SIZES),
    st.tuples(st.just("stream"), SIZES),
    st.tuples(st.just("cancel"), st.integers(0, 10)),
    st.tuples(st.just("answer"), st.integers(0, 10), SIZES, st.sampled_from([0, 0, 0, 5, 14])),
    st.tuples(st.just("reset"), st.integers(0, 10), st.sampled_from([0, 2, 7, 8, 11])),
    st.tuples(
        st.just("settings"),
        st.fixed_dictionaries(
            {},
            optional={
                SETTINGS.INITIAL_WINDOW_SIZE: st.sampled_from([0, 1, 100, 65_535, 200_000]),
                SETTINGS.MAX_CONCURRENT_STREAMS: st.sampled_from([0, 1, 2, 100]),
                SETTINGS.MAX_FRAME_SIZE: st.sampled_from([16_384, 30_000, 2**24 - 1]),
                SETTINGS.HEADER_TABLE_SIZE: st.sampled_from([0, 50, 4_096, 65_536]),
                SETTINGS.MAX_HEADER_LIST_SIZE: st.sampled_from([100, 500, 65_536]),
            },
        ),
    ),
    st.tuples(st.just("acknowledge")),
    st.tuples(st.just("ping")),
    st.tuples(st.just("goaway")),
    st.tuples(st.just("pass on")),
)


@settings(max_examples=150, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=14), cut=st.sampled_from([7, 1_000, 10**9]), small=st.booleans())
def test_any_conversation_is_sound(actions: list[tuple[Any, ...]], cut: int, *, small: bool) -> None:
    bounds = ConnectionSettings(stream_window_bytes=65_535, connection_window_bytes=65_535, max_streams=4)

    async def scenario() -> None:
        talk = Conversation(bounds if small else ConnectionSettings(), cut)
        await talk.pass_on()
        for kind, *rest in actions:
            if talk.wire.closed:
                break
            waiting = talk.open_ones()
            if kind in ("unary", "stream"):
                talk.begin(rest[0], streamed=kind == "stream")
            elif kind == "cancel" and rest[0] < len(talk.exchanges):
                talk.exchanges[rest[0]].work.cancel()
            elif kind == "answer" and rest[0] < len(waiting) and waiting[rest[0]].request_ended:
                await talk.answer(waiting[rest[0]], rest[1], rest[2])
            elif kind == "reset" and rest[0] < len(waiting):
                waiting[rest[0]].closed = True
                waiting[rest[0]].expected = -1
                talk.server.reset_stream(waiting[rest[0]].stream, rest[1])
            elif kind == "settings" and rest[0]:
                talk.server.update_settings(rest[0])
            elif kind == "acknowledge":
                talk.acknowledge()
            elif kind == "ping":
                talk.server.ping(b"12345678")
            elif kind == "goaway":
                # h2 closes its end for good on a goodbye of its own, so it is written beside it.
                await talk.pass_on()
                last = max([one.stream for one in talk.arrived], default=0)
                talk.client.data_received(goaway_frame(last, 0))
            elif kind == "pass on":
                await talk.pass_on()
        await talk.pass_on()
        await talk.finish()
        await talk.pass_on()

        ends = await asyncio.gather(*(one.work for one in talk.exchanges), return_exceptions=True)
        assert talk.client.open_streams == 0
        for exchange, end in zip(talk.exchanges, ends, strict=True):
            assert exchange.request.startswith(exchange.received)
            if isinstance(end, asyncio.CancelledError):
                continue
            if exchange.stream == 0:
                assert isinstance(end, RpcError | UpstreamUnavailable)
            elif isinstance(exchange.expected, list):
                assert end == exchange.expected
            elif exchange.expected == -1:
                assert isinstance(end, RpcError | UpstreamFault)
            else:
                assert isinstance(end, RpcError)
                assert end.code == exchange.expected
            if exchange.request_ended:
                assert exchange.received == exchange.request
                inbox = MessageInbox(b"", 100_000)
                inbox.put(bytes(exchange.received))
                assert [len(raw[1]) for raw in iter(inbox.take, None)] == exchange.sizes
        talk.client.abort()

    asyncio.run(scenario())


@settings(max_examples=200, deadline=None)
@given(
    wire=st.binary(max_size=400),
    cut=st.integers(1, 60),
    begun=st.integers(0, 3),
    edits=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=6),
    honest=st.booleans(),
)
def test_no_bytes_crash_or_hang(
    wire: bytes, cut: int, begun: int, edits: list[tuple[int, int]], *, honest: bool
) -> None:
    """Bytes of chance, or of a sound server with some of them changed."""

    async def scenario() -> None:
        talk = Conversation(ConnectionSettings(), 10**9)
        await talk.pass_on()
        for number in range(begun):
            talk.begin([number * 10], streamed=bool(number % 2))
        for _ in range(TICKS):
            await asyncio.sleep(0)
        said = wire
        if honest:
            for event in talk.server.receive_data(bytes(talk.wire.written)):
                talk.on_event(event)
            for exchange in talk.arrived:
                talk.server.send_headers(exchange.stream, HEAD)
                talk.server.send_data(exchange.stream, framed(b"x" * 100))
                talk.server.send_headers(exchange.stream, OK, end_stream=True)
            changed = bytearray(talk.server.data_to_send())
            for at, byte in edits:
                if at < len(changed):
                    changed[at] = byte
            said = bytes(changed)
        for at in range(0, len(said), cut):
            talk.client.data_received(said[at : at + cut])
            await asyncio.sleep(0)
        talk.client.connection_lost(None)

        ends = await asyncio.gather(*(one.work for one in talk.exchanges), return_exceptions=True)
        assert all(isinstance(end, list | RpcError | UpstreamFault) for end in ends)
        assert talk.client.open_streams == 0
        assert not talk.client.accepting

    asyncio.run(scenario())
