"""A client without manners: it sends the bytes it is given and reads what comes back."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class Wire:
    """
    One TCP connection to 127.0.0.1:*port*; use it as a context manager.

    Every read ends after *timeout_s* seconds with `TimeoutError`: a test that waits for an answer that
    never comes fails, it does not hang.
    """

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.unread = b""

    def send(self, data: bytes) -> None:
        """Send *data*; a server that has hung up is not a failure, its answer may still be read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def until(self, mark: bytes) -> bytes:
        """Read up to and including *mark*; what follows it stays for the next read."""
        while mark not in self.unread:
            data = self.socket.recv(65_536)
            if not data:
                raise AssertionError(f"closed before {mark!r}; it said {self.unread[-500:]!r}")
            self.unread += data
        found, _, self.unread = self.unread.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        """Read *size* bytes."""
        while len(self.unread) < size:
            data = self.socket.recv(65_536)
            if not data:
                raise AssertionError(f"closed after {len(self.unread)} of {size} bytes")
            self.unread += data
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    def rest(self) -> bytes:
        """Read until the other side closes; a reset counts as closing."""
        while True:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                found, self.unread = self.unread, b""
                return found
            self.unread += data

    def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Read one answer with a sized body; *head_only* where there is none, as after HEAD."""
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        size = 0 if head_only else int(headers.get("content-length", "0"))
        return int(head[0].split(" ")[1]), headers, self.exactly(size)

    def chunk(self) -> bytes:
        """Read one chunk of a chunked body; empty for the last one."""
        size = int(self.until(b"\r\n"), 16)
        found = self.exactly(size)
        self.until(b"\r\n")
        return found

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """Return the bytes of a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", *headers, "", ""]
    return "\r\n".join(lines).encode()
