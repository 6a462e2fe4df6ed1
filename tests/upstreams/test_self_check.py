"""How a service checks itself: over TCP, HTTP and gRPC, and what each says is wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.stores.certificates import Authority

from silence_gateway.errors import ConfigError
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.testing.h2_peer import H2Peer, scripted_server
from silence_gateway.upstreams.self_check import self_check


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


@asynccontextmanager
async def answering(
    answer: bytes, path: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """Serve *answer* to whoever connects; yield the address, and what was asked."""
    asked = asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
        except OSError:  # a client that ended TLS without a word
            line = b""
        writer.write(answer)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        asked.put_nowait(line)

    if path is None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        server = await asyncio.start_unix_server(serve, path)
        address = f"unix:{path}"
    async with server:
        yield address, asked


async def wrong(kind: str, address: str, **more: Any) -> str:
    check = self_check(kind, address, **more)
    assert check is not None
    return await check()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "", id="ok"),
        pytest.param(b"HTTP/1.0 302 Found\r\n\r\n", "", id="redirect"),
        pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", "GET /up is answered 503", id="unavailable"),
        pytest.param(b"SSH-2.0-x\r\n", "not HTTP", id="another-protocol"),
        pytest.param(b"HTTP/1.1 \xff\r\n", "not HTTP", id="no-status"),
        pytest.param(b"", "not HTTP", id="nothing"),
        pytest.param(b"x" * 5000, "", id="no-line-end"),
    ],
)
def test_http_wants_a_good_status(answer: bytes, says: str) -> None:
    async def scenario() -> None:
        async with answering(answer) as (address, asked):
            said = await wrong("http", address, path="/up")
            assert says in said
            assert bool(said) is not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 302"))
            assert await asked.get() == b"GET /up HTTP/1.1\r\n"

    within_seconds(scenario())


def test_tcp_wants_a_connection_also_over_a_socket_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        for path in (tmp_path / "s", None):
            async with answering(b"", path) as (address, asked):
                assert await wrong("tcp", address) == ""
                assert await asked.get() == b""
        assert await wrong("tcp", address)

    within_seconds(scenario())


@pytest.mark.parametrize(
    ("message", "says"),
    [(b"\x08\x01", ""), (b"", ""), (b"\x08\x02", "NOT_SERVING")],
    ids=["serving", "unknown", "not-serving"],
)
def test_grpc_wants_anything_but_not_serving(message: bytes, says: str) -> None:
    async def serve(peer: H2Peer) -> None:
        await peer.greet()
        peer.answer(await peer.request(), message)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(serve) as address:
            said = await wrong("grpc", address)
            assert says in said
            assert bool(said) is bool(says)

    within_seconds(scenario())


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_who_does_not_answer_in_time_is_not_well(kind: str) -> None:
    async def scenario() -> None:
        over = asyncio.Event()

        async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            assert "within 0.05 s" in await wrong(kind, address, timeout_s=0.05)
            over.set()

    within_seconds(scenario())


def test_none_is_no_check_and_anything_else_is_refused() -> None:
    assert self_check("none", "127.0.0.1:1") is None
    with pytest.raises(ConfigError, match="a check is one of grpc, tcp, http, none"):
        self_check("ping", "127.0.0.1:1")
    for path in ("up", "/a b", "/\r\nX: y", "/\u00fc"):
        with pytest.raises(ConfigError, match="path of a check"):
            self_check("http", "127.0.0.1:1", path=path)


def test_a_service_that_speaks_tls_is_asked_in_tls(tmp_path: Path) -> None:
    async def scenario() -> None:
        ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
        answer = b"HTTP/1.1 200 OK\r\n\r\n"
        async with answering(answer, tls=ours.server()) as (address, asked):
            assert await wrong("tcp", address, tls=TlsSettings(ca=ours.ca)) == ""
            assert await asked.get() == b""
            assert await wrong("http", address, tls=TlsSettings(ca=ours.ca)) == ""
            assert await asked.get() == b"GET / HTTP/1.1\r\n"
            for kind in ("tcp", "http", "grpc"):
                assert "CERTIFICATE_VERIFY_FAILED" in await wrong(
                    kind, address, tls=TlsSettings(ca=theirs.ca)
                )
            assert "does not offer HTTP/2" in await wrong("grpc", address, tls=TlsSettings(ca=ours.ca))

    within_seconds(scenario())


def test_files_that_were_renewed_are_read_for_the_next_check(tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
        ca = tmp_path / "ca.pem"
        ca.write_bytes(old.ca.read_bytes())
        async with answering(b"", tls=new.server()) as (address, _):
            check = self_check("tcp", address, tls=TlsSettings(ca=ca))
            assert check is not None
            assert "CERTIFICATE_VERIFY_FAILED" in await check()
            new.ca.rename(ca)
            assert await check() == ""
            ca.unlink()
            assert "tls of the check: " in await check()

    within_seconds(scenario())


def test_files_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")

    with pytest.raises(ConfigError, match="must be PEM"):
        self_check("grpc", "127.0.0.1:1", tls=TlsSettings(ca=ca))
