"""
How a service that registers itself finds out whether it is well: as its callers would, on a new connection.

Each check says what is wrong in a few words, or nothing. What several of them add up to is
`core/health.py`'s to say, and what follows from it `registry.py`'s.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from silence_gateway.clock import SystemClock
from silence_gateway.core.health import Check
from silence_gateway.errors import ConfigError, UpstreamFault
from silence_gateway.stores.tls import TlsContexts, TlsSettings
from silence_gateway.upstreams.addresses import Address, parse_address
from silence_gateway.upstreams.connection import connect
from silence_gateway.upstreams.connection_settings import ConnectionSettings
from silence_gateway.upstreams.grpc_health import check
from silence_gateway.upstreams.health_messages import check_request

SelfCheck: TypeAlias = Callable[[], Awaitable[str]]
"""Returns what is wrong; empty if nothing is."""

KINDS = ("grpc", "tcp", "http", "none")
MAX_LINE_BYTES = 1024


def self_check(
    kind: str, address: str, *, path: str = "/", timeout_s: float = 1.0, tls: TlsSettings | None = None
) -> SelfCheck | None:
    """
    Return what checks *address*.

    Args:
        kind: `grpc` asks grpc.health.v1, and is content with any other answer of a gRPC server; `tcp`
            connects, and with *tls* shakes hands; `http` expects a status below 400 for a GET of *path*;
            `none` is no check.
        address: As it is registered.
        path: What `http` asks for.
        timeout_s: How long one check may take.
        tls: How the service proves who it is, and what it wants to see; None where it speaks no TLS.

    Raises:
        ConfigError: There is no such kind, *path* is none, or a file of *tls* cannot be used.
    """
    if kind not in KINDS:
        raise ConfigError(f"a check is one of {', '.join(KINDS)}, not {kind!r}")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise ConfigError(f"the path of a check begins with '/' and is plain text, not {path!r}")
    where = parse_address(address)
    server_name = (tls.server_name if tls is not None else "") or None
    contexts = None if tls is None else TlsContexts(tls, "tls of the check")
    if contexts is not None:
        contexts.current()  # what is wrong from the start is the operator's to hear now

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = None if contexts is None else contexts.current()
        if context is not None and kind == "http":
            context.set_alpn_protocols(["http/1.1"])
        return await _open(where, context, server_name)

    async def by_tcp() -> str:
        _, writer = await opened()
        writer.close()
        return ""

    async def by_http() -> str:
        reader, writer = await opened()
        try:
            request = f"GET {path} HTTP/1.1\r\nHost: {where.authority}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            line = await reader.readline()
        finally:
            writer.close()
        words = line.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            return "what answers is not HTTP"
        status = int(words[1])
        return "" if 200 <= status < 400 else f"GET {path} is answered {status}"

    async def by_grpc() -> str:
        clock = SystemClock()
        settings = ConnectionSettings(connect_timeout_s=timeout_s)
        context = None if contexts is None else contexts.current()
        connection = await connect(
            address, settings=settings, tls=context, server_name=server_name, clock=clock
        )
        try:
            outcome, why = await check(connection, check_request(""), clock.monotonic_s() + timeout_s)
        finally:
            await connection.close()
        return "" if outcome is Check.SERVING else why

    ways = {"tcp": by_tcp, "http": by_http, "grpc": by_grpc}

    async def within_time() -> str:
        try:
            async with asyncio.timeout(timeout_s):
                return await ways[kind]()
        except TimeoutError:
            return f"no answer within {timeout_s:g} s"
        except (OSError, ValueError, ConfigError, UpstreamFault) as error:
            return str(error) or type(error).__name__

    return None if kind == "none" else within_time


async def _open(
    where: Address, tls: ssl.SSLContext | None, server_name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = None if tls is None else server_name or where.host or "localhost"
    if where.path:
        return await asyncio.open_unix_connection(
            where.path, limit=MAX_LINE_BYTES, ssl=tls, server_hostname=name
        )
    return await asyncio.open_connection(
        where.host, where.port, limit=MAX_LINE_BYTES, ssl=tls, server_hostname=name
    )
