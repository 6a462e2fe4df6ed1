"""
A TCP proxy that misbehaves on request, and speaks TLS where the server behind it cannot.

It runs on an event loop of its own in a thread of its own, so that a blocked or broken program under
test cannot make it look better than it is. Faults apply to every connection, the existing ones included,
from the moment they are set; `heal` ends them all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol, Self

from silence_gateway.testing.ports import free_port
from silence_gateway.testing.tls_line import TlsLine

START_DEADLINE_S = 5.0
CHUNK = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
BACKLOG = 512
TLS_HANDSHAKE = b"\x16"


class Reads(Protocol):
    """What a direction is read from."""

    async def read(self, size: int, /) -> bytes:
        """Return what comes next; nothing at the end."""


class Writes(Protocol):
    """What a direction is written to."""

    def write(self, data: bytes, /) -> None:
        """Send."""

    async def drain(self) -> None:
        """Wait until more is taken."""


class FaultProxy:
    """
    Forwards 127.0.0.1:`port` to *upstream*, a socket path or a host and port; use it as a context manager.

    Args:
        upstream: Where to; it may be changed, for the connections that follow.
        tls: Who begins with a TLS handshake is answered with this; others are served in clear, as servers
            speak among themselves. It may be changed, for the connections that follow.

    Attributes:
        port: Where it listens; the same before and after `refuse`.
        accepted: Connections taken so far.
        knocks: When each connection first said something (`time.monotonic`), and what.
        latency_s: Added to everything the server says.
        stall_to_server: Take what the client sends, and forward nothing.
        stall_to_client: Take what the server sends, and forward nothing.
        slice_bytes: Forward in pieces of this size; 0 forwards as it comes.
    """

    def __init__(self, upstream: str | tuple[str, int], *, tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.tls = tls
        self.port = 0
        self.accepted = 0
        self.knocks: list[tuple[float, bytes]] = []
        self.latency_s = 0.0
        self.stall_to_server = False
        self.stall_to_client = False
        self.slice_bytes = 0
        self.answers_until_reset = 0
        self.loop = asyncio.new_event_loop()
        self.listener: socket.socket | None = None
        self.accepting: asyncio.Task[None] | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()
        self.thread = threading.Thread(target=self.loop.run_forever, name="fault-proxy", daemon=True)
        self.thread.start()
        self.on_loop(self.listen())

    @property
    def url(self) -> str:
        """Its address as a store."""
        return f"valkey{'s' if self.tls is not None else ''}://127.0.0.1:{self.port}/0"

    # -- faults ---------------------------------------------------------------------------------------

    def black_hole(self) -> None:
        """Acknowledge everything and forward nothing, for old and new connections."""
        self.stall_to_server = self.stall_to_client = True

    def refuse(self) -> None:
        """Close the port and every connection: new ones are refused."""
        self.on_loop(self.stop_listening())
        self.reset()

    def reset(self) -> None:
        """Cut every connection with a RST."""
        self.on_loop(self.cut())

    def reset_at_answer(self, number: int) -> None:
        """Cut the *number*-th piece that the server says from now on in half, and its connection with it."""
        self.answers_until_reset = number

    def heal(self) -> None:
        """End every fault; what was held back goes on its way."""
        self.latency_s = 0.0
        self.stall_to_server = self.stall_to_client = False
        self.slice_bytes = self.answers_until_reset = 0
        self.on_loop(self.listen())

    # -- the work, on the proxy's own loop --------------------------------------------------------------

    def on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* on the proxy's loop and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(START_DEADLINE_S)

    async def listen(self) -> None:
        """Listen, on the same port as before if there was one, and wake what was stalled."""
        if self.listener is None:
            self.listener = socket.create_server(("127.0.0.1", self.port or free_port()), backlog=BACKLOG)
            self.listener.setblocking(False)
            self.port = self.listener.getsockname()[1]
            self.accepting = asyncio.create_task(self.accept(self.listener))
        self.changed.set()
        self.changed = asyncio.Event()

    async def stop_listening(self) -> None:
        """Close the port."""
        if self.listener is not None and self.accepting is not None:
            self.accepting.cancel()
            await asyncio.gather(self.accepting, return_exceptions=True)
            self.listener.close()
            self.listener = self.accepting = None

    async def accept(self, listener: socket.socket) -> None:
        """Take connections."""
        while True:
            taken, _ = await self.loop.sock_accept(listener)
            # The event loop does that by itself only for sockets that name their protocol.
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            task = asyncio.create_task(self.greet(taken))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def cut(self) -> None:
        """Abort every connection."""
        for writer in list(self.writers):
            abort(writer)

    async def greet(self, taken: socket.socket) -> None:
        """Serve one client, with TLS if that is how it begins."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self.loop.connect_accepted_socket(lambda: protocol, taken)
        writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
        self.writers.add(writer)
        try:
            first = await reader.read(CHUNK)
            if self.tls is None or first[:1] != TLS_HANDSHAKE:
                await self.serve(reader, writer, writer, first)
                return
            while self.stall_to_server or self.stall_to_client:
                await self.changed.wait()
            line = TlsLine(reader, writer, self.tls)
            await line.begin(first)
            await self.serve(line, line, writer, await line.read(CHUNK))
        except OSError:
            pass  # a handshake that fails is the client's to tell
        finally:
            self.writers.discard(writer)
            writer.close()

    async def serve(self, reader: Reads, writer: Writes, raw: asyncio.StreamWriter, first: bytes) -> None:
        """Join one client, who has said *first*, with the server until either leaves."""
        there: asyncio.StreamWriter | None = None
        try:
            self.knocks.append((time.monotonic(), first))
            if isinstance(self.upstream, str):
                back, there = await asyncio.open_unix_connection(self.upstream)
            else:
                back, there = await asyncio.open_connection(*self.upstream)
            self.writers.add(there)
            up = asyncio.create_task(self.pump(reader, there, there, first, to_client=False))
            down = asyncio.create_task(self.pump(back, writer, raw, b"", to_client=True))
            try:
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (up, down):
                    one.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except OSError:
            abort(raw)  # the server refuses: so does the proxy, as well as it still can
        finally:
            if there is not None:
                self.writers.discard(there)
                there.close()

    async def pump(
        self, reader: Reads, writer: Writes, raw: asyncio.StreamWriter, first: bytes, *, to_client: bool
    ) -> None:
        """Forward one direction, beginning with what was read already."""
        with suppress(OSError):
            while data := first or await reader.read(CHUNK):
                first = b""
                if to_client and self.latency_s:
                    await asyncio.sleep(self.latency_s)
                while self.stall_to_client if to_client else self.stall_to_server:
                    await self.changed.wait()
                if to_client and self.answers_until_reset:
                    self.answers_until_reset -= 1
                    if not self.answers_until_reset:
                        writer.write(data[: len(data) // 2])
                        abort(raw)
                        return
                step = self.slice_bytes or len(data)
                for at in range(0, len(data), step):
                    writer.write(data[at : at + step])
                    await writer.drain()

    async def finish(self) -> None:
        """Close everything."""
        await self.stop_listening()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # an aborted transport lets go of its socket a round later
            await asyncio.sleep(0)

    def close(self) -> None:
        """Stop; harmless when stopped."""
        if self.loop.is_closed():
            return
        self.on_loop(self.finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(START_DEADLINE_S)
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def abort(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
