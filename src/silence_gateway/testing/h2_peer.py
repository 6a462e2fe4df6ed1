"""
A scripted HTTP/2 server: it sends exactly the bytes a test tells it to, good or bad.

For testing clients against what no real server would do on purpose. It decides nothing by itself:
it keeps no windows and checks nothing but what it is asked to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.hpack import BlockReader, HeaderPairs, encode

HEAD: tuple[tuple[bytes, bytes], ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK: tuple[tuple[bytes, bytes], ...] = ((b"grpc-status", b"0"),)


class H2Peer:
    """
    The server's end of one connection.

    Attributes:
        received: Every frame of the client so far, in order.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = h2.FrameReader(h2.MAX_FRAME_SIZE)
        self._blocks: BlockReader[HeaderPairs] = BlockReader(lambda pairs: pairs)
        self._unread: list[h2.Frame] = []
        self.received: list[h2.Frame] = []

    async def greet(self, settings: Sequence[tuple[int, int]] = ()) -> None:
        """Read the client's preface and SETTINGS, and send ours."""
        preface = await self._reader.readexactly(len(h2.PREFACE))
        if preface != h2.PREFACE:
            raise AssertionError(f"the client began with {preface!r}")
        self.send(h2.settings_frame(settings), h2.SETTINGS_ACK)

    def send(self, *frames: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(b"".join(frames))

    def send_headers(
        self, stream: int, pairs: Sequence[tuple[bytes, bytes]] = HEAD, *, end_stream: bool = False
    ) -> None:
        """Send one header block."""
        self.send(
            h2.headers_frames(
                stream, encode(pairs), end_stream=end_stream, max_frame_size=h2.DEFAULT_FRAME_SIZE
            )
        )

    def send_message(self, stream: int, message: bytes, *, flag: int = 0) -> None:
        """Send one message as DATA, with a true length before it."""
        data = bytes((flag,)) + len(message).to_bytes(4, "big") + message
        self.send(h2.data_frames(stream, data, end_stream=False, max_frame_size=h2.DEFAULT_FRAME_SIZE))

    def answer(self, stream: int, message: bytes = b"") -> None:
        """Send a whole good answer to a unary call."""
        self.send_headers(stream)
        self.send_message(stream, message)
        self.send_headers(stream, OK, end_stream=True)

    async def frame(self, kind: int) -> h2.Frame:
        """Wait for the next frame of *kind*, passing over all others."""
        while True:
            while self._unread:
                frame = self._unread.pop(0)
                if frame[0] == kind:
                    return frame
            data = await self._reader.read(65_536)
            if not data:
                raise AssertionError(f"the client left before it sent a frame of type {kind}")
            frames = self._frames.feed(data)
            if self._frames.violation is not None:
                raise AssertionError(f"the client broke HTTP/2: {self._frames.violation}")
            self._unread += frames
            self.received += frames

    async def request(self) -> int:
        """Wait for the next frame that ends a request, and return its stream."""
        while True:
            frame = await self.frame(h2.DATA)
            if frame[1] & h2.END_STREAM:
                return frame[2]

    async def headers(self) -> tuple[int, HeaderPairs]:
        """Wait for the next request's headers; return its stream and them. Ask for all of them in order."""
        frame = await self.frame(h2.HEADERS)
        return frame[2], self._blocks.read(frame[3])

    async def gone(self) -> None:
        """Wait until the client closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65_536):
                pass

    def hang_up(self) -> None:
        """Close the connection after what was sent."""
        self._writer.close()


Script = Callable[[H2Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[str]:
    """
    Serve on loopback; every connection runs *script* and is closed after it. Gives `host:port`.

    Raises:
        Exception: On leaving, whatever a script raised.
    """
    failures: list[Exception] = []
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await script(H2Peer(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client may leave whenever it likes, and so may the test
        except Exception as exc:  # noqa: BLE001 - shown to the test when it leaves
            failures.append(exc)
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    except Exception as exc:
        # What the script saw comes first: the client's trouble is mostly its consequence.
        if failures:
            raise failures[0] from exc
        raise
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if failures:
        raise failures[0]
