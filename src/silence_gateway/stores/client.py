"""
One connection to a Valkey or Redis server: write bytes, hand over replies.

Hot path. One small script call at 64 concurrent callers costs 4.1 us of our CPU with this protocol and
the hiredis reader, 8.7 us with the same batching over redis-py's connection object (each reply is a
coroutine with a timeout of its own), and 43 us through redis-py's client (`bench/store_calls.py`). One
kind of connection for all lanes is also less to trust than two.

Everything that reads or writes RESP is in this file; nothing here knows how to get in (`entrance.py`),
scripts, deadlines of calls (`batching.py`), or what to do about a fault (`shard.py`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, cast

import hiredis

from silence_gateway.core.store_failover import Fault
from silence_gateway.errors import StoreFault, StoreMisconfigured, StoreUnavailable

Command: TypeAlias = tuple[bytes | str | int, ...]
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # published for 1-tuples only
ReplyError = hiredis.ReplyError

NO_REPLY: Final = object()
# A reply larger than this is nothing that we ask for; whoever sends it may send it without end.
MAX_REPLY_BYTES = 64 * 1024 * 1024
# A peer that vanished without a word is noticed while it owes nothing, too.
USER_TIMEOUT_MS = 2000


class Wire(asyncio.Protocol):
    """
    An open connection.

    Attributes:
        paused: The server does not read as fast as we write; write nothing until `on_resume`.
        reads: How many times bytes came in: a watchdog compares two looks at it.
        distrust: What TLS broke on, if that ended the connection.
    """

    __slots__ = (
        "closed",
        "distrust",
        "on_lost",
        "on_reply",
        "on_resume",
        "paused",
        "reader",
        "reads",
        "transport",
        "unparsed",
    )

    def __init__(self) -> None:
        self.reader = hiredis.Reader(notEnoughData=NO_REPLY)
        self.transport: asyncio.Transport | None = None
        self.on_reply: Callable[[Any], None] = ignore
        self.on_lost: Callable[[str], None] = ignore
        self.on_resume: Callable[[], None] = nothing
        self.paused = False
        self.closed = False
        self.distrust: ssl.SSLError | None = None
        self.reads = 0
        self.unparsed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and have dead peers noticed by the kernel."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def data_received(self, data: bytes) -> None:
        """Hand every complete reply over, in order."""
        if self.closed:
            return
        self.reads += 1
        reader = self.reader
        try:
            reader.feed(data)
            reply = reader.gets()
            if reply is NO_REPLY:
                self.unparsed += len(data)
                if self.unparsed > MAX_REPLY_BYTES:
                    self.close("a reply is larger than we accept")
                return
            self.unparsed = len(data)
            on_reply = self.on_reply
            while reply is not NO_REPLY:
                on_reply(reply)
                if self.closed:
                    return
                reply = reader.gets()
        except hiredis.ProtocolError as exc:
            self.close(f"the server does not speak RESP, perhaps TLS (valkeys://): {exc}")

    def pause_writing(self) -> None:
        """The socket is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self.paused = False
        self.on_resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, by whoever's doing."""
        if isinstance(exc, ssl.SSLError):
            self.distrust = exc
        self.finish(f"connection lost: {exc}" if exc else "the server closed the connection")

    def write(self, data: bytes) -> None:
        """Send whole commands; the caller expects as many replies."""
        if self.transport is not None and not self.closed:
            self.transport.write(data)

    def close(self, reason: str) -> None:
        """Close now; answers still owed will not come."""
        if self.transport is not None:
            self.transport.abort()
        self.finish(reason)

    def finish(self, reason: str) -> None:
        """Tell the owner once."""
        if not self.closed:
            self.closed = True
            self.on_lost(reason)


def ignore(_value: Any) -> None:
    """Nobody listens yet."""


def nothing() -> None:
    """Nobody waits yet."""


def fault_error(fault: Fault, text: str, *, sent: bool = True) -> StoreFault:
    """The exception for an error reply, a broken connection, or a call that was never *sent*."""
    if fault in (Fault.CREDENTIALS, Fault.UNTRUSTED, Fault.PERMISSION, Fault.REFUSED):
        return StoreMisconfigured(text)
    return StoreUnavailable(text, sent=sent)


class StoreRefused(Exception):
    """The connection could not be made; *fault* says what kind of trouble. Never leaves this room."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


class Login(NamedTuple):
    """Who we are to a server: an ACL user or none, and a password or none."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Login({self.username!r}, ***)"
