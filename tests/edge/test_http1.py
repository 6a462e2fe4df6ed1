"""What a client sees on the wire, on both event loops."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

import pytest

from silence_gateway.core.http import Request, Response
from silence_gateway.core.http_head import Rejected
from silence_gateway.events import Noticed
from silence_gateway.testing.clock import FakeClock

if TYPE_CHECKING:
    from tests.edge.conftest import Run, Serving


HOST = b"Host: x\r\n"
DEADLINE_S = 10.0
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = b"GET /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"


def statuses(wire: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", wire)]


def post(body: bytes, *lines: bytes) -> bytes:
    return b"POST /p HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        pytest.param(LAST, b"GET /last 0", id="plain"),
        pytest.param(post(b"abc", b"Content-Length: 3", b"Connection: close"), b"POST /p 3", id="sized"),
        pytest.param(
            post(
                b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n",
                b"Transfer-Encoding: chunked",
                b"Connection: close",
            ),
            b"POST /p 5",
            id="chunked",
        ),
        pytest.param(b"GET /old HTTP/1.0\r\n\r\n", b"GET /old 0", id="http-1.0"),
        pytest.param(b"\r\n\r\n" + LAST, b"GET /last 0", id="empty-lines-first"),
        pytest.param(
            b"GET http://x/abs?q HTTP/1.1\r\nHost: X\r\nConnection: close\r\n\r\n",
            b"GET /abs?q 0",
            id="absolute",
        ),
        pytest.param(
            b"OPTIONS * HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", b"OPTIONS * 0", id="asterisk"
        ),
    ],
)
def test_requests_are_answered(run: Run, serving: Serving, sent: bytes, answer: bytes) -> None:
    async def main() -> None:
        async with serving() as served:
            wire = await served.exchange(sent)

            assert statuses(wire) == [200]
            assert wire.endswith(b"\r\n\r\n" + answer)
            assert b"\r\nserver: silence\r\n" in wire
            assert re.search(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", wire)
            assert b"\r\nconnection: close\r\n" in wire

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run, serving: Serving) -> None:
    async def backwards(request: Request) -> Response:
        # Later requests would be done first, were they begun together.
        for _ in range(50 - int(request.path[1:])):
            await asyncio.sleep(0)
        return Response(200, [], request.path.encode())

    async def main() -> None:
        async with serving(backwards) as served:
            many = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(49))
            wire = await served.exchange(many + b"GET /49 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

            assert re.findall(rb"\r\n\r\n/(\d+)", wire) == [b"%d" % n for n in range(50)]
            assert served.server.statistics.requests == 50

    run(main())


def test_the_socket_is_not_read_while_too_much_waits_behind_a_request(run: Run, serving: Serving) -> None:
    """A client that pipelines without end is pushed back by TCP, not stored."""

    async def main() -> None:
        leave = asyncio.Event()

        async def wait(request: Request) -> Response:
            await leave.wait()
            return Response(200)

        async with serving(wait, max_pipelined_bytes=1000) as served:
            reader, writer = await served.connect()
            writer.write(GET * 200_000)
            await served.until(lambda: any(c.read_paused for c in served.server.connections))
            (connection,) = served.server.connections

            assert len(connection.buffer) < 1000 + 512 * 1024
            leave.set()
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            await served.until(lambda: not served.server.connections)

    run(main())


def test_head_has_the_length_but_no_body(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving() as served:
            wire = await served.exchange(b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)

            first, second = wire.split(b"HTTP/1.1 200 OK\r\n")[1:]
            assert b"content-length: 8\r\n" in first
            assert first.endswith(b"\r\n\r\n")
            assert second.endswith(b"GET /last 0")

    run(main())


def test_an_old_client_may_keep_its_connection(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving() as served:
            asked = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
            wire = await served.exchange(asked + b"GET /last HTTP/1.0\r\n\r\n")

            assert statuses(wire) == [200, 200]
            assert wire.count(b"connection: keep-alive\r\n") == 1

    run(main())


def test_leave_to_send_a_body_is_given_once_and_in_turn(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving() as served:
            reader, writer = await served.connect()
            writer.write(GET + post(b"", b"Content-Length: 3", b"Expect: 100-continue", b"Connection: close"))
            await reader.readuntil(b"GET / 0")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")

            assert (await reader.read(-1)).endswith(b"POST /p 3")
            writer.close()

    run(main())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(post(b"", b"Content-Length: 1073741824", b"Expect: 100-continue"), 413, id="1-gb-asked"),
        pytest.param(post(b"x" * 100, b"Content-Length: 1073741824"), 413, id="1-gb-declared"),
        pytest.param(post(b"40000000\r\n", b"Transfer-Encoding: chunked"), 413, id="1-gb-chunk"),
        pytest.param(post(b"", b"Content-Length: 3", b"Expect: miracle"), 417, id="expects-more"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 414, id="long-line"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431, id="long-head"),
        pytest.param(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 101 + b"\r\n", 431, id="many-fields"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", 505, id="http-2"),
        pytest.param(b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501, id="unknown-method"),
        pytest.param(b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405, id="trace"),
        pytest.param(b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", 405, id="connect"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="tls-on-a-plain-port"),
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", 400, id="bare-line-feeds"),
    ],
)
def test_what_is_refused_is_told_why_and_the_connection_ends(
    run: Run, serving: Serving, sent: bytes, status: int
) -> None:
    async def main() -> None:
        async with serving() as served:
            wire = await served.exchange(sent)

            assert statuses(wire) == [status]
            assert b"content-type: application/problem+json\r\n" in wire
            assert b'"status": %d' % status in wire
            assert sum(served.server.statistics.rejected.values()) == 1
            assert served.server.statistics.requests == 0

    run(main())


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", (None, "host"), id="head"),
        pytest.param(post(b"", b"Content-Length: 104857600"), ("/p", "body-too-large"), id="declared"),
        pytest.param(post(b"zz\r\n", b"Transfer-Encoding: chunked"), ("/p", "chunks"), id="body"),
    ],
)
def test_who_wants_to_log_what_is_refused_is_told(
    run: Run, serving: Serving, sent: bytes, told: tuple[str | None, str]
) -> None:
    async def main() -> None:
        heard: list[tuple[str, str | None, str]] = []

        def note(peer: str, request: Request | None, error: Rejected) -> None:
            heard.append((peer, None if request is None else request.target, error.reason))

        async with serving() as served:
            served.server.on_refused = note
            await served.exchange(sent)

            assert heard == [("127.0.0.1", *told)]

    run(main())


def test_a_refused_client_that_goes_on_sending_can_still_read_why(run: Run, serving: Serving) -> None:
    """Closing on unread bytes would reset the connection and lose the answer."""

    async def main() -> None:
        async with serving() as served:
            reader, writer = await served.connect()
            writer.write(post(b"", b"Content-Length: 104857600"))
            for _ in range(32):
                writer.write(b"x" * 65_536)
                await writer.drain()
            wire = await reader.read(-1)

            assert statuses(wire) == [413]
            writer.close()

    run(main())


def test_a_truncated_request_is_told_so(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving() as served:
            for part in (
                b"GET / HT",
                post(b"ab", b"Content-Length: 3"),
                post(b"3\r\na", b"Transfer-Encoding: chunked"),
            ):
                wire = await served.exchange(part, half_close=True)

                assert statuses(wire) == [400]
            assert served.server.statistics.rejected == {"truncated": 3}

    run(main())


def test_a_handler_is_cancelled_when_its_client_leaves(run: Run, serving: Serving) -> None:
    async def main() -> None:
        began = asyncio.Event()
        cancelled = asyncio.Event()

        async def wait(request: Request) -> Response:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return Response(200)

        async with serving(wait) as served:
            _, writer = await served.connect()
            writer.write(GET)
            await began.wait()
            writer.close()
            await asyncio.wait_for(cancelled.wait(), 5)

            await served.until(lambda: not served.server.connections)
            assert served.server.statistics.cancelled == 1

    run(main())


def test_clients_may_vanish_at_every_stage(run: Run, serving: Serving) -> None:
    """The server forgets them, reports nothing, and serves the next one."""
    request = post(b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked")

    async def main() -> None:
        async with serving() as served:
            for cut in range(0, len(request), 3):
                _, writer = await served.connect()
                writer.write(request[:cut])
                await writer.drain()
                writer.transport.abort()
            await served.until(lambda: not served.server.connections)

            assert statuses(await served.exchange(LAST)) == [200]
            assert served.noticed == []

    run(main())


def test_an_unexpected_error_is_reported_and_kept_from_the_client(run: Run, serving: Serving) -> None:
    async def fail(request: Request) -> Response:
        raise RuntimeError("secret")

    async def main() -> None:
        async with serving(fail) as served:
            wire = await served.exchange(LAST)

            assert statuses(wire) == [500]
            assert b"secret" not in wire
            (noticed,) = served.noticed
            assert isinstance(noticed, Noticed)
            assert "RuntimeError: secret" in noticed.what
            assert noticed.level == "error"

    run(main())


def test_a_header_with_a_line_end_is_not_sent(run: Run, serving: Serving) -> None:
    async def split(request: Request) -> Response:
        return Response(200, [(b"x", b"a\r\nset-cookie: b")], b"body")

    async def main() -> None:
        async with serving(split) as served:
            wire = await served.exchange(LAST)

            assert statuses(wire) == [500]
            assert b"set-cookie" not in wire
            assert len(served.noticed) == 1

    run(main())


def test_headers_that_layers_want_are_on_every_answer(run: Run, serving: Serving) -> None:
    async def mark(request: Request) -> Response:
        request.extra_headers.append((b"x-request-id", b"42"))
        if request.path == "/fail":
            raise RuntimeError
        return Response(204)

    async def main() -> None:
        async with serving(mark) as served:
            wire = await served.exchange(b"GET /fail HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)

            assert statuses(wire) == [500, 204]
            assert wire.count(b"x-request-id: 42\r\n") == 2
            assert b"content-length" not in wire.split(b" 204 ")[1]

    run(main())


def test_underscore_names_are_dropped_and_counted(run: Run, serving: Serving) -> None:
    async def names(request: Request) -> Response:
        return Response(200, [], b",".join(sorted(request.headers)))

    async def main() -> None:
        async with serving(names) as served:
            sent = b"GET / HTTP/1.1\r\nHost: x\r\nX_User: root\r\nX-A: b\r\nConnection: close\r\n\r\n"
            wire = await served.exchange(sent)

            assert wire.endswith(b"connection,host,x-a")
            assert served.server.statistics.dropped_headers == 1

    run(main())


@pytest.mark.parametrize(
    ("sent", "waits_s", "answer"),
    [
        pytest.param(b"", 10, [], id="says-nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHo", 10, [408], id="half-a-head"),
        pytest.param(post(b"ab", b"Content-Length: 3"), 30, [408], id="half-a-body"),
        pytest.param(GET, 75, [200], id="idle"),
    ],
)
def test_slow_clients_are_not_waited_for(
    run: Run, serving: Serving, sent: bytes, waits_s: int, answer: list[int]
) -> None:
    async def main() -> None:
        clock = FakeClock()
        async with serving(clock=clock) as served:
            reader, writer = await served.connect()
            writer.write(sent)
            await served.until(lambda: served.server.statistics.bytes_in == len(sent))
            await served.until(lambda: served.server.statistics.connections_open == 1)
            await served.until(lambda: all(c.task is None for c in served.server.connections))
            await clock.advance(waits_s - 1)
            assert served.server.statistics.timeouts == 0
            await clock.advance(3)

            assert served.server.statistics.timeouts == 1
            assert statuses(await asyncio.wait_for(reader.read(-1), 5)) == answer
            writer.close()

    run(main())


def test_a_client_that_reads_nothing_is_dropped_in_the_end(run: Run, serving: Serving) -> None:
    async def big(request: Request) -> Response:
        return Response(200, [], b"x" * 8_000_000)

    async def main() -> None:
        clock = FakeClock()
        async with serving(big, clock=clock) as served:
            _, writer = await served.connect(receive_buffer=4096)
            served.stop_reading(writer)
            writer.write(LAST)
            await served.until(lambda: served.server.statistics.bytes_out > 0)
            await clock.advance(80)
            await served.until(lambda: not served.server.connections)

            assert served.server.statistics.timeouts == 1
            writer.transport.abort()

    run(main())


def test_a_slow_reader_gets_no_more_answers_made_than_it_reads(run: Run, serving: Serving) -> None:
    """Pipelined requests for big answers: what is buffered stays about one answer."""

    async def big(request: Request) -> Response:
        return Response(200, [], b"x" * 300_000)

    async def main() -> None:
        async with serving(big) as served:
            reader, writer = await served.connect(receive_buffer=4096)
            writer.write(GET * 60 + LAST)
            await served.until(lambda: any(c.write_paused for c in served.server.connections))
            (connection,) = served.server.connections
            peak = 0
            received = 0
            while piece := await reader.read(65_536):
                received += len(piece)
                peak = max(peak, connection.transport.get_write_buffer_size())

            assert received > 61 * 300_000
            assert peak < 2 * 300_000 + 64 * 1024
            writer.close()

    run(main())


def test_a_pipelining_client_that_reads_nothing_is_not_stored(run: Run, serving: Serving) -> None:
    """Between two requests, too: what waits for the client to read is bounded, and served afterwards."""

    async def big(request: Request) -> Response:
        return Response(200, [], b"x" * 8_000_000)

    async def main() -> None:
        async with serving(big, max_pipelined_bytes=1000) as served:
            reader, writer = await served.connect(receive_buffer=4096)
            served.stop_reading(writer)
            writer.write(GET)
            await served.until(lambda: any(c.write_paused for c in served.server.connections))
            (connection,) = served.server.connections
            writer.write(GET * 300_000)
            await served.until(lambda: connection.read_paused)

            assert len(connection.buffer) < 1000 + 512 * 1024
            assert served.server.statistics.requests == 1
            cast("asyncio.Transport", writer.transport).resume_reading()
            await asyncio.wait_for(reader.readexactly(9_000_000), DEADLINE_S)
            writer.transport.abort()
            await served.until(lambda: not served.server.connections)

    run(main())


def test_requests_are_not_read_faster_than_they_are_answered(run: Run, serving: Serving) -> None:
    """Each answer makes room for what it answered, not for as much as the socket holds."""

    async def main() -> None:
        peak = 0
        async with serving(max_pipelined_bytes=1000) as served:
            reader, writer = await served.connect()
            writer.write(GET * 300_000)
            await served.until(lambda: any(c.read_paused for c in served.server.connections))
            (connection,) = served.server.connections
            for _ in range(300):
                await asyncio.wait_for(reader.readexactly(1000), DEADLINE_S)
                peak = max(peak, len(connection.buffer))
            writer.transport.abort()

        assert peak < 1000 + 512 * 1024

    run(main())


def test_a_client_that_leaves_as_it_is_answered_takes_no_other_answer_with_it(
    run: Run, serving: Serving
) -> None:
    async def main() -> None:
        everybody = asyncio.Event()
        waiting: list[str] = []

        async with serving() as served:

            async def answer(request: Request) -> Response:
                waiting.append(request.target)
                await everybody.wait()
                if request.target == "/gone":
                    (gone,) = (
                        each
                        for each in served.server.connections
                        if each.transport.get_extra_info("peername")[1] == gone_port
                    )
                    gone.transport.abort()
                return Response(200, [], b"here")

            served.server.handler = answer
            _, gone_writer = await served.connect()
            gone_port = gone_writer.get_extra_info("sockname")[1]
            gone_writer.write(GET.replace(b"/ ", b"/gone ", 1))
            await served.until(lambda: len(waiting) == 1)
            reader, writer = await served.connect()
            writer.write(GET)
            await served.until(lambda: len(waiting) == 2)
            everybody.set()

            assert (await asyncio.wait_for(reader.readuntil(b"here"), DEADLINE_S)).startswith(b"HTTP/1.1 200")
            gone_writer.close()
            writer.close()

    run(main())


def test_a_full_server_says_so(run: Run, serving: Serving) -> None:
    async def main() -> None:
        async with serving(max_connections=1) as served:
            _, writer = await served.connect()
            await served.until(lambda: served.server.statistics.connections_open == 1)
            wire = await served.exchange(GET)

            assert statuses(wire) == [503]
            assert served.server.statistics.rejected == {"connections": 1}
            writer.close()

    run(main())
