"""The connection fed by hand: the same bytes give the same answers however they are cut."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.http import Request, Response
from silence_gateway.edge.http1 import Http1Connection
from silence_gateway.edge.server import HttpServer
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.testing.clock import FakeClock

MAX_BODY = 2000
HOST = b"Host: x\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what was written, and never pushes back."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def describe(request: Request) -> Response:
    """Answer with everything that was understood."""
    fields = b";".join(b"%b=%b" % item for item in sorted(request.headers.items()))
    said = b"%b %b {%b} {%b}" % (request.method.encode(), request.target.encode(), fields, request.body)
    return Response(200, [], said)


async def feed(pieces: list[bytes]) -> bytes:
    """Return what a connection answers to *pieces*, without the dates."""
    server = HttpServer(describe, ServerSettings(max_body_bytes=MAX_BODY, max_header_bytes=1024), FakeClock())
    server.loop = asyncio.get_running_loop()
    connection = Http1Connection(server)
    wire = Wire()
    connection.connection_made(wire)
    for piece in pieces:
        if piece:
            connection.data_received(piece)
        while connection.task is not None:
            await asyncio.wait([connection.task])
        await asyncio.sleep(0)  # the answers of a tick leave at its end
        assert len(connection.buffer) <= max(MAX_BODY, 1024) + len(piece)
    connection.connection_lost(None)
    assert server.statistics.connections_open == 0
    return re.sub(rb"date: [^\r]*\r\n", b"", wire.written)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return one valid request."""
    body = draw(st.binary(max_size=100))
    fields = draw(
        st.lists(st.sampled_from([b"A: b", b"a:c", b"Cookie: d=e", b"X_Y: z", b"Upgrade: h2c"]), max_size=4)
    )
    kind = draw(st.sampled_from(["get", "sized", "chunked"]))
    target = draw(st.sampled_from([b"/", b"/a?b=c", b"/%20//x", b"http://x/abs"]))
    lines = [HOST, *(field + b"\r\n" for field in fields)]
    if kind == "get":
        return b"GET " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
    if kind == "sized":
        lines.append(b"Content-Length: %d\r\n" % len(body))
    else:
        lines.append(b"Transfer-Encoding: chunked\r\n")
        pieces = cut(body, draw(st.lists(st.integers(0, 100), max_size=3)))
        body = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
    return b"POST " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n" + body


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=10))
@settings(max_examples=150, deadline=None)
def test_valid_requests_are_answered_alike_however_they_are_cut(sent: list[bytes], places: list[int]) -> None:
    data = b"".join(sent)

    whole = asyncio.run(feed([data]))
    parts = asyncio.run(feed(cut(data, places)))

    assert whole.count(b"HTTP/1.1 200 OK") == len(sent)
    assert parts == whole


def test_a_request_may_come_byte_by_byte() -> None:
    chunked = b"3\r\nabc\r\n0\r\nT: v\r\n\r\n"
    request = b"\r\nPOST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked
    data = request * 3

    answers = asyncio.run(feed([data[at : at + 1] for at in range(len(data))]))

    assert answers.count(b"POST /x {host=x;transfer-encoding=chunked} {abc}") == 3


words = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/",
        b" HTTP/1.1\r\n",
        HOST,
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"\n",
        b"\0",
        b"Transfer-Encoding: chunked\r\n",
        b"5\r\n",
        b"hello",
        b"0\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b"x" * 1100,
        b"Connection: close\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    ]
)


@given(
    st.lists(st.one_of(words, st.binary(max_size=20)), max_size=20),
    st.lists(st.integers(0, 3000), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_answers_or_silence(pieces: list[bytes], places: list[int]) -> None:
    """No exception, no growth, and after a refusal not one word more."""
    answers = asyncio.run(feed(cut(b"".join(pieces), places)))

    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
    assert all(status in {100, 200} for status in statuses[:-1])
    assert not statuses or statuses[-1] in {100, 200, 400, 405, 413, 414, 417, 426, 431, 501, 505}
