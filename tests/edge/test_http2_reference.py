"""The h2 package as a client: it checks every frame, header, window and state of what we send."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.http2_scene import CHAT, ECHO, LATER, PUSH, Scene, run, scene

from silence_gateway.core.grpc_messages import framed
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_client import MemoryTransport, head_of

Settings = h2.settings.SettingCodes


def frames_of(data: bytes) -> list[bytes]:
    """Cut *data* into frames: within one call the reference does not apply what was acknowledged in it."""
    frames = []
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


class Reference:
    """
    A strict client in memory.

    Attributes:
        headers: Header lists of each stream, the last one its trailers.
        content: DATA of each stream.
        ended: Streams that the server has ended.
        resets: Codes of streams that the server has reset.
        gone: The GOAWAY of the server.
    """

    def __init__(self, served: Scene, initial: dict[Any, int] | None = None) -> None:
        self.protocol: Any = served.server.connection()
        self.transport = MemoryTransport()
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2: Any = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        if initial:
            self.h2.update_settings(initial)
        self.headers: dict[int, list[list[tuple[bytes, bytes]]]] = {}
        self.content: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.gone: Any = None
        self.at = 0
        self.give_back = True

    def begin(self, stream: int, path: bytes, *more: tuple[bytes, bytes], **options: Any) -> None:
        self.h2.send_headers(stream, head_of(path, *more), **options)

    async def send(
        self, stream: int, content: bytes, *, end: bool = True, padding: int | None = None
    ) -> None:
        """Send *content* as the windows allow."""
        while content:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            room -= 0 if padding is None else padding + 1
            if room <= 0:
                await self.turn()
                continue
            piece, content = content[:room], content[room:]
            self.h2.send_data(stream, piece, pad_length=padding)
        if end:
            self.h2.end_stream(stream)
        await self.turn()

    async def turn(self) -> list[Any]:
        """Exchange what both sides have to say until neither has anything."""
        seen: list[Any] = []
        while True:
            if out := self.h2.data_to_send():
                self.protocol.data_received(out)
            await settle(4)
            new = bytes(self.transport.written[self.at :])
            if not new and not out:
                return seen
            self.at += len(new)
            for frame in frames_of(new):
                events = self.h2.receive_data(frame)
                seen += events
                for event in events:
                    self.take(event)

    def take(self, event: Any) -> None:
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            self.headers.setdefault(event.stream_id, []).append(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.content[event.stream_id] = self.content.get(event.stream_id, b"") + event.data
            if self.give_back:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.gone = event

    def status(self, stream: int) -> int:
        return int(dict(self.headers[stream][-1])[b"grpc-status"])


@settings(max_examples=40, deadline=None)
@given(
    size=st.one_of(st.integers(0, 300), st.integers(60_000, 70_000), st.just(200_000)),
    window=st.sampled_from([9_000, 65_535, 1_000_000]),
    frame=st.sampled_from([16_384, 20_000, 1_000_000]),
    padding=st.sampled_from([None, 0, 100]),
)
def test_calls_of_any_size_are_flawless(size: int, window: int, frame: int, padding: int | None) -> None:
    async def scenario() -> None:
        async with scene() as served:
            initial = {Settings.INITIAL_WINDOW_SIZE: window, Settings.MAX_FRAME_SIZE: frame}
            client = Reference(served, initial)
            message = framed(bytes(size))
            for stream in (1, 3, 5):
                client.begin(stream, ECHO)
                await client.send(stream, message, padding=padding)

            assert [client.content[stream] for stream in (1, 3, 5)] == [message] * 3
            assert client.ended == {1, 3, 5}
            assert [client.status(stream) for stream in (1, 3, 5)] == [0, 0, 0]
            assert client.resets == {}

    run(scenario())


def test_windows_may_change_at_any_time() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = Reference(served)
            client.give_back = False
            client.begin(1, PUSH)
            await client.send(1, framed(b"1 300000"))
            assert len(client.content[1]) == 65_535

            for window in (10, 70_000, 0, 80_000, 100):
                client.h2.update_settings({Settings.INITIAL_WINDOW_SIZE: window})
                client.h2.increment_flow_control_window(5_000)
                await client.turn()
            client.h2.increment_flow_control_window(300_000)
            client.h2.increment_flow_control_window(300_000, 1)
            await client.turn()
            assert client.content[1] == framed(bytes(300_000))
            assert client.status(1) == 0

    run(scenario())


def test_streams_trailers_resets_and_pings_are_flawless() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = Reference(served)
            client.begin(1, CHAT, priority_weight=16, priority_depends_on=0, priority_exclusive=False)
            for number in range(3):
                await client.send(1, framed(b"%d" % number), end=False)
            client.begin(3, LATER)
            await client.send(3, framed(b""))
            client.h2.reset_stream(3, h2.errors.ErrorCodes.CANCEL)
            client.h2.ping(b"12345678")
            client.h2.send_headers(1, [(b"x-last", b"1")], end_stream=True)
            seen = await client.turn()

            assert any(isinstance(event, h2.events.PingAckReceived) for event in seen)
            assert client.content[1] == framed(b"0") + framed(b"1") + framed(b"2")
            assert client.status(1) == 0
            assert 3 not in client.headers

    run(scenario())


def test_a_large_head_needs_continuation_and_gets_through() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = Reference(served)
            more = [(b"x-%d" % number, b"\xff" * 900) for number in range(25)]
            client.begin(1, ECHO, *more)
            await client.send(1, framed(b"x"))

            assert client.status(1) == 0

    run(scenario())


def test_an_early_end_is_one_that_a_client_understands() -> None:
    async def scenario() -> None:
        async with scene(max_message_bytes=1_000) as served:
            client = Reference(served)
            client.begin(1, ECHO)
            client.h2.send_data(1, framed(bytes(5_000)))
            await client.turn()
            assert client.status(1) == 8
            assert client.ended == {1}

            client.begin(3, b"/no.Such/Method")
            await client.send(3, framed(b""))
            assert client.status(3) == 12

    run(scenario())


def test_what_is_broken_by_hand_is_answered_with_the_code_that_h2_expects() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = Reference(served)
            await client.turn()
            client.protocol.data_received(b"\0\0\x01\x06\0\0\0\0\0x")
            await client.turn()

            assert client.gone.error_code == h2.errors.ErrorCodes.FRAME_SIZE_ERROR
            with pytest.raises(h2.exceptions.ProtocolError):
                client.h2.ping(b"12345678")

    run(scenario())
