"""
The server's side of TLS over a stream, which also says why it refuses.

An event loop's own TLS hangs up on a handshake that fails, and the alert that would tell the client why is
never sent. Servers send it, and clients of ours have to understand it.
"""

from __future__ import annotations

import asyncio
import ssl

CHUNK = 65536


class TlsLine:
    """Reads and writes as a pair of streams does; made by `begin`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def begin(self, first: bytes) -> None:
        """
        Shake hands; *first* is what was read already.

        Raises:
            ssl.SSLError: One of us does not accept the other; the client has been told.
            ConnectionError: The client has left.
        """
        self.incoming.write(first)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                if not await self.feed():
                    raise ConnectionResetError("the client left") from None
            except ssl.SSLError:
                self.flush()
                raise
            else:
                self.flush()
                return

    async def feed(self) -> bool:
        """Take in what the client says next; False at the end."""
        data = await self.reader.read(CHUNK)
        self.incoming.write(data)
        return bool(data)

    async def read(self, size: int) -> bytes:
        """Return what comes next; nothing at the end."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self.flush()
                if not await self.feed():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    def write(self, data: bytes) -> None:
        """Send; see `drain`."""
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        """Pass on what TLS has made."""
        if self.outgoing.pending:
            self.writer.write(self.outgoing.read())

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        await self.writer.drain()
