"""Sockets to one HTTP endpoint: when one is used again, and what its server may say on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.http_head import CHUNKED
from silence_gateway.errors import (
    UpstreamBroken,
    UpstreamFault,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.testing.clock import FakeClock
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.http_contracts import HttpAsk, KeptBody
from silence_gateway.upstreams.http_heads import AnswerHeads
from silence_gateway.upstreams.http_link import HttpLink, LinkSettings
from silence_gateway.upstreams.http_upstream import HttpUpstream
from silence_gateway.upstreams.settings import EndpointSettings, UpstreamSettings

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"
BOUNDS = LinkSettings(max_sockets=2, idle_timeout_s=5.0, connect_timeout_s=1.0)


def get(*, repeatable: bool = False, method: str = "GET", pieces: KeptBody | None = None) -> HttpAsk:
    return HttpAsk(method, f"{method} / HTTP/1.1\r\n".encode(), None, b"", b"", pieces, repeatable=repeatable)


class Pieces:
    """A body that comes as it is told, and may break."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.size = CHUNKED
        self.received = 0
        self.done = False
        self.pieces = iter(pieces)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            return piece
        raise StopAsyncIteration


class World:
    """One server that talks as it is told, and a link to it."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = self.open = 0
        self.lost: list[str] = []
        self.room = 0
        self.link: HttpLink
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            self.ended.set()

    def make(self, address: str, settings: LinkSettings = BOUNDS, clock: Clock | None = None) -> HttpLink:
        def on_capacity() -> None:
            self.room += 1

        return HttpLink(
            address,
            settings,
            AnswerHeads(),
            clock or SystemClock(),
            on_lost=self.lost.append,
            on_capacity=on_capacity,
        )


@asynccontextmanager
async def world(talk: Talk, settings: LinkSettings = BOUNDS) -> AsyncIterator[World]:
    made = World(talk)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.link = made.make(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", settings)
    await made.link.open()
    try:
        yield made
    finally:
        await made.link.close(graceful=False)
        await until(lambda: not made.open)
        server.close()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def always(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await head(reader)
            writer.write(answer)

    return talk


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is a count, not an event
            await asyncio.sleep(0.001)


def test_a_socket_is_used_again_after_a_clean_answer() -> None:
    async def main() -> None:
        async with world(always(OK)) as here:
            for _ in range(3):
                answer = await here.link.exchange(get(), 1.0)
                assert answer.done
                assert answer.whole() == b"ok"
                assert here.link.open_streams == 0
            assert here.connections == here.link.sockets == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", id="another-answer"),
        pytest.param(OK + b"x", id="a-byte-too-many"),
        pytest.param(b"HTTP/1.1 204 No\r\n\r\nbody", id="a-body-where-none-is"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
            id="after-chunks",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", id="http-1.0"),
    ],
)
def test_a_socket_with_anything_unclear_left_is_not(answer: bytes) -> None:
    async def main() -> None:
        async with world(always(answer)) as here:
            for _ in range(2):
                got = await here.link.exchange(get(), 1.0)
                assert got.done
                assert got.whole() in {b"ok", b""}
            assert here.connections == 2

    asyncio.run(main())


def test_what_a_server_says_unasked_is_nobody_s_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(OK)
        await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await reader.read()

    async def main() -> None:
        async with world(talk) as here:
            assert (await here.link.exchange(get(), 1.0)).whole() == b"ok"
            await until(lambda: here.link.sockets == 0)

            assert (await here.link.exchange(get(), 1.0)).whole() == b"ok"
            assert here.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000, id="long-head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", id="long-whole-head"),
        pytest.param(b"HTTP/1.1 103 Hints\r\n\r\n" * 17, id="hints-without-end"),
        pytest.param(b"HTTP/1.1 200 OK\nA: b\n\n", id="bare-lf"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", id="two-lengths"
        ),
        pytest.param(b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="unasked-switch"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", id="many-fields"),
    ],
)
def test_an_answer_that_breaks_the_rules_ends_its_socket(said: bytes) -> None:
    async def main() -> None:
        async with world(always(said)) as here:
            with pytest.raises(UpstreamProtocolError):
                await here.link.exchange(get(), 1.0)
            assert here.link.open_streams == 0
            await until(lambda: here.link.sockets == 0)
            assert here.link.accepting, "the endpoint is there"

    asyncio.run(main())


def test_a_request_that_meets_a_closed_socket_is_sent_again_only_if_it_may_run_twice() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(OK)
        await head(reader)  # and hang up instead of answering

    async def main() -> None:
        async with world(talk) as here:
            await here.link.exchange(get(), 1.0)
            with pytest.raises(UpstreamBroken) as caught:
                await here.link.exchange(get(method="POST"), 1.0)
            assert caught.value.sent
            await here.link.exchange(get(), 1.0)
            assert (await here.link.exchange(get(repeatable=True), 1.0)).whole() == b"ok"
            assert here.connections == 3

    asyncio.run(main())


def test_a_request_that_its_server_has_thought_about_is_not_sent_again_for_nothing() -> None:
    """Whether it is made again is then for the rules of retries to say, and their budget to pay."""
    asked, died = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(OK)
        await head(reader)
        asked.set()
        await died.wait()

    async def main() -> None:
        here, clock = World(talk), FakeClock()
        server = await asyncio.start_server(here.serve, "127.0.0.1", 0)
        link = here.make(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", clock=clock)
        await link.exchange(get(), 60.0)
        call = asyncio.ensure_future(link.exchange(get(repeatable=True), 60.0))
        await asked.wait()
        await clock.advance(0.2)
        died.set()
        with pytest.raises(UpstreamBroken, match="without an answer") as caught:
            await call
        server.close()

        assert type(caught.value) is UpstreamBroken
        assert here.connections == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "asks"),
    [
        pytest.param(b"", "does it want TLS", id="nothing"),
        pytest.param(b"\x00\x00\x18\x04\x00", "does it speak HTTP/1.1", id="frames-of-http2"),
        pytest.param(b"HTTP/1.1 200 OK\r\nCont", "", id="half-a-head"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", "", id="early-hints"),
    ],
)
def test_a_server_that_never_answers_is_doubted_by_what_it_said(said: bytes, asks: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(said)

    async def main() -> None:
        async with world(talk) as here:
            with pytest.raises(UpstreamBroken) as caught:
                await here.link.exchange(get(), 60.0)

        assert str(caught.value).endswith(f"without an answer{asks and f': {asks}?'}")

    asyncio.run(main())


def test_a_server_that_has_answered_before_is_not_doubted() -> None:
    answers = iter([OK, b""])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(next(answers))

    async def main() -> None:
        async with world(talk) as here:
            await here.link.exchange(get(), 60.0)
            with pytest.raises(UpstreamBroken) as caught:
                await here.link.exchange(get(method="POST"), 60.0)

        assert "?" not in str(caught.value)

    asyncio.run(main())


def test_what_cannot_be_sent_again_is_not_sent_to_a_server_that_has_hung_up() -> None:
    ends: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        await always(OK)(reader, writer)

    async def main() -> None:
        async with world(talk) as here:
            await here.link.exchange(get(method="POST"), 1.0)
            await here.link.exchange(get(method="POST"), 1.0)
            assert here.connections == 1, "a free socket is used again"

            # Not a turn of the event loop passes between the end and the next request.
            ends[0].get_extra_info("socket").shutdown(socket.SHUT_WR)
            assert (await here.link.exchange(get(method="POST"), 1.0)).whole() == b"ok"
            assert here.connections == 2

    asyncio.run(main())


def test_a_server_that_closes_new_connections_at_once_has_not_had_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        create = loop.create_connection

        async def late(*args: Any, **more: Any) -> Any:
            made = await create(*args, **more)
            await until(lambda: made[1].gone)
            return made

        here = World(talk)
        server = await asyncio.start_server(here.serve, "127.0.0.1", 0)
        link = here.make(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setattr(loop, "create_connection", late)
        with pytest.raises(UpstreamUnavailable, match="closed a new connection at once") as caught:
            await link.exchange(get(method="POST"), 1.0)
        server.close()

        assert not caught.value.sent
        assert (link.sockets, len(here.lost)) == (0, 1)

    asyncio.run(main())


def test_a_server_that_speaks_before_it_is_asked_may_not_speak_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a gRPC server does, whose first frame comes as soon as it is connected to."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x18\x04\x00")
        await reader.read()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        create = loop.create_connection

        async def late(*args: Any, **more: Any) -> Any:
            made = await create(*args, **more)
            await until(lambda: made[1].gone)
            return made

        here = World(talk)
        server = await asyncio.start_server(here.serve, "127.0.0.1", 0)
        link = here.make(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setattr(loop, "create_connection", late)
        with pytest.raises(UpstreamUnavailable, match=r"at once: does it speak HTTP/1\.1\?$"):
            await link.exchange(get(), 1.0)
        server.close()

    asyncio.run(main())


def test_an_endpoint_that_cannot_be_dialled_is_lost_and_the_call_never_left() -> None:
    async def main() -> None:
        here = World(always(OK))
        link = here.make("127.0.0.1:1")

        with pytest.raises(UpstreamUnavailable) as caught:
            await link.exchange(get(), 1.0)
        assert not caught.value.sent
        assert not link.accepting
        assert len(here.lost) == 1
        with pytest.raises(UpstreamUnavailable):
            await link.reach()
        assert len(here.lost) == 1

    asyncio.run(main())


def test_dialling_takes_no_longer_than_the_call_may(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        here = World(always(OK))
        link = here.make("127.0.0.1:1")
        started = asyncio.Event()

        async def never(*_args: object, **_named: object) -> None:
            started.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        with pytest.raises(UpstreamTimeout) as caught:
            await link.exchange(get(), 0.05)
        assert not caught.value.sent
        assert link.accepting, "how long a call has says nothing about the endpoint"
        leaving = asyncio.ensure_future(link.exchange(get(), 0.5))
        started.clear()
        await started.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert link.open_streams == 0

        with pytest.raises(UpstreamUnavailable, match="within 1 s"):
            await link.exchange(get(), 30.0)
        assert not link.accepting

    asyncio.run(main())


def test_room_is_told_when_there_was_none() -> None:
    hold = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await head(reader)
            await hold.wait()
            writer.write(OK)

    async def main() -> None:
        async with world(talk) as here:
            calls = [asyncio.ensure_future(here.link.exchange(get(), 5.0)) for _ in range(2)]
            await until(lambda: here.link.sockets == 2)
            assert here.link.open_streams == here.link.max_streams == 2
            assert here.room == 0
            hold.set()
            await asyncio.gather(*calls)
            assert here.room == 1

    asyncio.run(main())


def test_free_sockets_are_closed_when_their_time_is_over() -> None:
    async def main() -> None:
        bounds = LinkSettings(max_sockets=2, idle_timeout_s=0.05, connect_timeout_s=1.0)
        async with world(always(OK), bounds) as here:
            await here.link.exchange(get(), 1.0)
            assert here.link.sockets == 1
            await until(lambda: here.link.sockets == 0)
            assert here.link.accepting

            await here.link.exchange(get(), 1.0)
            assert here.link.opened == here.connections == 2

    asyncio.run(main())


def test_statistics_tell_every_socket_that_was_ever_opened() -> None:
    ended: list[bool] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await always(OK)(reader, writer)
        writer.close()
        ended.append(True)

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = UpstreamSettings(name="web", endpoints=(EndpointSettings(address=address),), health=None)
        async with server, HttpUpstream(settings) as upstream:
            await asyncio.gather(*(upstream.exchange(get()) for _ in range(3)))
            (told,) = upstream.statistics.endpoints
            assert told.connections == told.connects == 3
        await until(lambda: len(ended) == 3)

    asyncio.run(main())


def test_a_body_that_breaks_ends_the_request_with_its_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with world(talk) as here:
            body = KeptBody(Pieces(b"a", RuntimeError("broken")), 10)
            with pytest.raises(RuntimeError, match="broken"):
                await here.link.exchange(get(method="POST", pieces=body), 1.0)
            await asyncio.wait_for(here.ended.wait(), 5)
            assert here.link.open_streams == 0

    asyncio.run(main())


def test_closing_fails_what_is_in_flight_and_dials_no_more() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with world(talk) as here:
            call = asyncio.ensure_future(here.link.exchange(get(), 5.0))
            await until(lambda: here.link.open_streams)
            await asyncio.sleep(0)
            await here.link.close(graceful=False)
            with pytest.raises(UpstreamFault):
                await call
            with pytest.raises(UpstreamUnavailable):
                await here.link.exchange(get(), 1.0)
            assert here.lost == [], "never for one that we closed"

    asyncio.run(main())


@pytest.mark.parametrize(
    "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("answer", [OK, ENDLESS], ids=["whole", "endless"])
def test_cancelling_at_any_turn_of_the_loop_leaves_nothing_behind(
    answer: bytes, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        async with world(always(answer)) as here:
            for turns in range(24):
                call = asyncio.ensure_future(here.link.exchange(get(), 0.9))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                (came,) = await asyncio.gather(call, return_exceptions=True)
                if isinstance(came, HttpAnswer):
                    came.close()
                assert here.link.open_streams == 0
                # The next one never gets what belongs to the one before.
                following = await here.link.exchange(get(repeatable=True), 0.9)
                assert await anext(following) in {b"ok", b"begun"}
                following.close()
            await here.link.close()
            await until(lambda: here.link.sockets == 0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_connection_that_stands_as_its_caller_leaves_is_kept_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with world(always(ENDLESS)) as here:
            first = await here.link.exchange(get(), 0.5)
            loop = asyncio.get_running_loop()
            create = loop.create_connection

            async def leaving(*args: Any, **more: Any) -> Any:
                made = await create(*args, **more)
                # After the dialling has ended, and before whoever waits for it has heard so.
                loop.call_soon(call.cancel)
                return made

            monkeypatch.setattr(loop, "create_connection", leaving)
            call = asyncio.ensure_future(here.link.exchange(get(), 0.5))
            await asyncio.gather(call, return_exceptions=True)
            assert call.cancelled()
            (await here.link.exchange(get(), 0.5)).close()
            assert here.connections == 2
            first.close()
            await until(lambda: here.link.sockets == 0)

    asyncio.run(main())


def test_a_body_is_kept_as_long_as_it_is_small_enough() -> None:
    async def main() -> None:
        body = KeptBody(Pieces(b"abc", b"de", b"f"), 5)
        first = aiter(body)
        assert [await anext(first), await anext(first)] == [b"abc", b"de"]
        assert body.can_repeat

        assert [piece async for piece in body] == [b"abc", b"de", b"f"]
        assert not body.can_repeat

    asyncio.run(main())


def test_tls_and_unix_sockets(tmp_path: Path) -> None:
    async def main() -> None:
        here = World(always(OK))
        ca = trustme.CA()
        server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert("shop.internal").configure_cert(server_side)
        client_side = ssl.create_default_context()
        ca.configure_trust(client_side)
        secure = await asyncio.start_server(here.serve, "127.0.0.1", 0, ssl=server_side)
        address = f"127.0.0.1:{secure.sockets[0].getsockname()[1]}"
        plain = await asyncio.start_unix_server(here.serve, tmp_path / "s")
        try:
            for where, tls, name, works in (
                (address, client_side, "shop.internal", True),
                (address, client_side, "other.internal", False),
                (f"unix:{tmp_path}/s", None, None, True),
            ):
                told = LinkSettings(
                    max_sockets=1, idle_timeout_s=5, connect_timeout_s=5, tls=tls, server_name=name
                )
                link = here.make(where, told)
                if works:
                    assert (await link.exchange(get(), 5.0)).whole() == b"ok"
                    await link.reach()
                else:
                    with pytest.raises(UpstreamUnavailable, match="certificate"):
                        await link.exchange(get(), 5.0)
                await link.close()
            await until(lambda: not here.open)
        finally:
            secure.close()
            plain.close()

    asyncio.run(main())
