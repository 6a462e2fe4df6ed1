"""Another protocol over HTTP/2 than gRPC: what an application has to be, and that it is enough."""

from __future__ import annotations

import asyncio

from tests.edge.http2_scene import run

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.hpack import HeaderPairs, encode
from silence_gateway.edge.http2_server import Http2Server
from silence_gateway.edge.http2_streams import Http2Head, Http2Stream, Outbox
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.h2_client import H2Client, data, headers


class Hello(Http2Stream):
    """Answers any request with its path and how much content it had."""

    __slots__ = ()

    def on_data(self, content: bytes) -> None:
        self.connection.give_room(self, len(content))
        if not self.receiving:
            self.on_end()

    def on_end(self) -> None:
        said = self.head.path + b" %d" % self.received
        self.connection.send_headers(self, encode([(b":status", b"200")]))
        self.connection.send_data(self, said)
        self.connection.send_end(self)

    def on_gone(self) -> None:
        """Nothing to stop."""


class HelloApplication:
    """Any request is for `Hello`."""

    too_large = encode([(b":status", b"431")])

    def read_head(self, pairs: HeaderPairs) -> Http2Head:
        head = Http2Head(pairs)
        head.open = Hello
        return head


def get(path: bytes) -> list[tuple[bytes, bytes]]:
    return [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"test")]


def test_an_application_answers_with_content_and_without_trailers() -> None:
    async def scenario() -> None:
        server = Http2Server(HelloApplication(), clock=FakeClock())
        await server.start([])
        client = H2Client(server.connection)
        client.greet()
        client.send(headers(1, get(b"/a"), end=True))
        client.send(headers(3, get(b"/b")) + data(3, bytes(40_000)) + data(3, bytes(40_000), end=True))
        client.send(headers(5, [*get(b"/c"), (b"x", b"y" * 40_000)], end=True))

        assert await client.content(1) == b"/a 0"
        assert await client.content(3) == b"/b 80000"
        assert await client.ended(1)
        assert await client.ended(3)
        assert await client.blocks(5) == [{b":status": b"431"}]
        assert len(await client.all_of(h2.WINDOW_UPDATE, 3)) > 0
        client.send(headers(7, get(b"/d")), h2.rst_stream_frame(7, 8))
        await settle()
        assert await server.abort() == 1

    run(scenario())


def test_an_answer_that_waits_keeps_its_order_and_copies_nothing() -> None:
    outbox = Outbox()
    outbox.put(b"abcdef")
    outbox.put(b"ghi")

    assert [bytes(outbox.take(size)) for size in (2, 10, 1, 9)] == [b"ab", b"cdef", b"g", b"hi"]
    assert (outbox.size, outbox.sent) == (0, 9)


def test_whoever_waits_for_an_outbox_goes_on_when_it_is_short_enough() -> None:
    async def scenario() -> None:
        outbox = Outbox()
        outbox.put(bytes(100))
        waiting = [asyncio.create_task(outbox.below(size)) for size in (50, 50, 0)]
        await settle()
        outbox.take(60)
        outbox.wake()
        await settle()

        assert [task.done() for task in waiting] == [True, True, False]
        outbox.take(40)
        outbox.wake()
        await settle()
        assert all(task.done() for task in waiting)

    run(scenario())
