"""Bodies that are handed on as they come: whole however they are cut, held up, refused, and their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.conftest import serve

from silence_gateway.core.http import BodyRule, Handler, Request, Response
from silence_gateway.core.http_head import CHUNKED

if TYPE_CHECKING:
    from tests.edge.conftest import Run

RULE = BodyRule(max_bytes=100_000, whole_bytes=10)
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def only_posts(request: Request) -> BodyRule | None:
    return RULE if request.method == "POST" else None


async def tell_body(request: Request) -> Response:
    """Answer with the pieces, joined, and how they came."""
    if request.incoming is None:
        return Response(200, [], b"whole:%b" % request.body)
    pieces = [piece async for piece in request.incoming]
    assert all(pieces)
    assert request.incoming.done
    assert request.incoming.received == len(b"".join(pieces))
    return Response(200, [], b"pieces:%b" % b"".join(pieces))


def bodies(wire: bytes) -> list[bytes]:
    """Return the bodies of answers with a length."""
    found = []
    while wire:
        head, _, wire = wire.partition(b"\r\n\r\n")
        size = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        found.append(wire[:size])
        wire = wire[size:]
    return found


def framed(body: bytes, chunk_size: int) -> bytes:
    if not chunk_size:
        return HEAD % b"Content-Length: %d" % len(body) + body
    chunks = [body[at : at + chunk_size] for at in range(0, len(body), chunk_size)]
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
    return HEAD % b"Transfer-Encoding: chunked" + encoded + b"0\r\nX-Trailer: a\r\n\r\n"


@settings(max_examples=40)
@given(
    body=st.binary(max_size=300),
    chunk_size=st.integers(0, 100),
    cuts=st.lists(st.integers(1, 200), max_size=12),
)
def test_a_body_is_whole_however_it_is_cut_and_the_next_request_is_read_from_its_first_byte(
    body: bytes, chunk_size: int, cuts: list[int]
) -> None:
    async def main() -> None:
        async with serve(tell_body) as served:
            served.server.body_rule = only_posts
            reader, writer = await served.connect()
            wire = framed(body, chunk_size) + LAST
            at = 0
            for cut in cuts:
                writer.write(wire[at : at + cut])
                at += cut
                await asyncio.sleep(0)
            writer.write(wire[at:])
            got = bodies(await asyncio.wait_for(reader.read(), 10))
            writer.close()

            way = b"pieces:" if chunk_size or len(body) > 10 else b"whole:"
            assert got == [way + body, b"whole:"]

    asyncio.run(main())


def served_with(run: Run, handler: Handler, talk: Callable[..., object], **bounds: Any) -> None:
    async def main() -> None:
        async with serve(handler, **bounds) as served:
            served.server.body_rule = only_posts
            await talk(served)  # type: ignore[misc]

    run(main())


def test_nobody_s_body_closes_the_connection_after_the_answer(run: Run) -> None:
    async def ignore(request: Request) -> Response:
        assert request.incoming is not None
        assert request.incoming.size == CHUNKED
        return Response(200, [], b"enough")

    async def talk(served: Any) -> None:
        wire = HEAD % b"Transfer-Encoding: chunked" + b"5\r\nhello\r\n"
        got = await served.exchange(wire)
        assert b"connection: close" in got
        assert got.endswith(b"enough")
        assert len(bodies(got)) == 1, "what follows is no request"

    served_with(run, ignore, talk)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD % b"Transfer-Encoding: chunked" + b"5\r\nhelloXX", 400),
        (HEAD % b"Transfer-Encoding: chunked" + b"186a1\r\n", 413),
        (HEAD % b"Content-Length: 100001", 413),
        (HEAD % b"Transfer-Encoding: chunked" + b"5\r\nhello\r\n", 408),
    ],
)
def test_a_body_that_breaks_the_rules_is_refused_and_counted(run: Run, sent: bytes, status: int) -> None:
    async def talk(served: Any) -> None:
        got = await served.exchange(sent)
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert sum(served.server.statistics.rejected.values()) == 1

    served_with(run, tell_body, talk, body_timeout_s=0.2)


def test_a_client_is_not_read_faster_than_its_body_is_taken(run: Run) -> None:
    async def main() -> None:
        take = asyncio.Event()
        held: list[int] = []

        async def slow(request: Request) -> Response:
            assert request.incoming is not None
            await take.wait()
            held.append(request.incoming.received)
            return await tell_body(request)

        async with serve(slow) as served:
            served.server.body_rule = lambda _request: BodyRule(2**26, 0)
            reader, writer = await served.connect()
            size = 2**23
            writer.write(HEAD % b"Content-Length: %d" % size + b"x" * size)
            before = -1
            (connection,) = served.server.connections
            while connection.incoming is None or before != connection.incoming.received:
                before = connection.incoming.received if connection.incoming is not None else -1
                await asyncio.sleep(0.05)
            take.set()
            writer.write(LAST)
            got = await asyncio.wait_for(reader.read(), 10)
            writer.close()

            # One mark, and what the loop reads from a socket at once.
            assert held[0] < 2**20
            assert len(bodies(got)[0]) == size + len(b"pieces:")

    run(main())
