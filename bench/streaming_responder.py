"""
A gRPC server for benchmarks of streams and of large messages: every call gets N times the same message, or
what it sent.

    python bench/streaming_responder.py --message-bytes 64 --messages 500
    python bench/streaming_responder.py --echo

Prints `ready HOST:PORT` when it listens, and serves until it is told to end (SIGTERM, SIGINT).

As `responder.py` it does not decode request headers, and the messages of an answer are framed once; what it
does not send back it does not even look at. It keeps the windows of streams, so an answer may be larger.
Each message is a frame of its own (several, where the peer allows no frame that large), as with most servers;
the largest frame it takes is that of a grpcio server. One small message costs about 0.2 us of its core, an
echoed one about 2 us, and a call of 64 KB both ways about 40 us, nearly all of it the kernel's.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections import deque

import uvloop
from responder import GIVE_BACK_AT

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.hpack import encode

HEAD = encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
MAX_FRAME_BYTES = 4_194_304
TRAILERS = encode(((b"grpc-status", b"0"),))


class Sending:
    """What one stream has still to send: pieces that fit into frames, then trailers if *ended*."""

    __slots__ = ("ended", "pieces", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.pieces: deque[bytes] = deque()
        self.ended = False


class StreamingResponder(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, message: bytes, count: int) -> None:
        self.message = b"\0" + len(message).to_bytes(4, "big") + message
        self.count = count  # 0 echoes
        self.buffer = bytearray(MAX_FRAME_BYTES + h2.frame_head.size)
        self.view = memoryview(self.buffer)
        self.filled = 0
        self.skipped = len(h2.PREFACE)  # what is still to come of something that is not looked at
        self.window = self.initial_window = h2.DEFAULT_WINDOW
        self.max_frame_size = h2.DEFAULT_FRAME_SIZE
        self.received = 0
        self.streams: dict[int, Sending] = {}
        self.paused = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(
            h2.settings_frame(
                [
                    (h2.Setting.INITIAL_WINDOW_SIZE, h2.MAX_WINDOW),
                    (h2.Setting.MAX_FRAME_SIZE, MAX_FRAME_BYTES),
                ]
            )
            + h2.window_update_frame(0, h2.MAX_WINDOW - h2.DEFAULT_WINDOW)
        )

    def get_buffer(self, _: int) -> memoryview:
        return self.view[self.filled :]

    def buffer_updated(self, count: int) -> None:
        end = self.filled + count
        at = min(self.skipped, end)
        self.skipped -= at
        out: list[bytes] = []
        unpack, head_size = h2.frame_head.unpack_from, h2.frame_head.size
        while end - at >= head_size:
            high, low, kind, flags, stream = unpack(self.buffer, at)
            length = high << 8 | low
            start, stop = at + head_size, at + head_size + length
            if kind == h2.DATA:
                self.received += length
            if kind == h2.DATA and self.count:
                content, self.skipped, stop = b"", max(0, stop - end), min(stop, end)
            elif stop > end:
                break
            else:
                content = bytes(self.view[start:stop])
            at = stop
            if kind <= h2.HEADERS:
                self.on_request(kind, flags, stream, content, out)
            else:
                self.on_control(kind, flags, stream, content, out)
        self.filled = end - at
        self.buffer[: self.filled] = self.buffer[at:end]
        if self.received >= GIVE_BACK_AT:
            out.append(h2.window_update_frame(0, self.received))
            self.received = 0
        self.pump(out)

    def on_request(self, kind: int, flags: int, stream: int, content: bytes, out: list[bytes]) -> None:
        if stream not in self.streams:
            self.streams[stream] = Sending(self.initial_window)
            out.append(h2.frame(h2.HEADERS, h2.END_HEADERS, stream, HEAD))
        sending = self.streams[stream]
        if content and kind == h2.DATA:
            sending.pieces.append(content)
        if flags & h2.END_STREAM:
            step = self.max_frame_size
            whole = [self.message[at : at + step] for at in range(0, len(self.message), step)]
            sending.pieces.extend(whole * self.count)
            sending.ended = True

    def on_control(self, kind: int, flags: int, stream: int, content: bytes, out: list[bytes]) -> None:
        if kind == h2.WINDOW_UPDATE:
            if not stream:
                self.window += h2.read_increment(content)
            elif stream in self.streams:
                self.streams[stream].window += h2.read_increment(content)
        elif kind == h2.PING and not flags & h2.ACK:
            out.append(h2.ping_frame(content, ack=True))
        elif kind == h2.RST_STREAM:
            self.streams.pop(stream, None)
        elif kind == h2.SETTINGS and not flags & h2.ACK:
            for name, value in h2.read_settings(content):
                if name == h2.Setting.INITIAL_WINDOW_SIZE:
                    for sending in self.streams.values():
                        sending.window += value - self.initial_window
                    self.initial_window = value
                elif name == h2.Setting.MAX_FRAME_SIZE:
                    self.max_frame_size = value
            out.append(h2.SETTINGS_ACK)

    def pump(self, out: list[bytes]) -> None:
        """Write *out*, and what the windows and the socket take."""
        pack = h2.frame_head.pack
        for stream, sending in [] if self.paused else list(self.streams.items()):
            pieces = sending.pieces
            while pieces:
                room = min(self.window, sending.window)
                if room <= 0:
                    break
                piece = pieces.popleft()
                if len(piece) > room:
                    pieces.appendleft(piece[room:])
                    piece = piece[:room]
                size = len(piece)
                sending.window -= size
                self.window -= size
                out += (pack(size >> 8, size & 0xFF, h2.DATA, 0, stream), piece)
            if sending.ended and not pieces:
                out.append(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, TRAILERS))
                del self.streams[stream]
        if len(self.message) >= h2.DEFAULT_FRAME_SIZE:
            self.transport.writelines(out)
        elif out:
            self.transport.write(b"".join(out))

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump([])


async def serve(host: str, port: int, message: bytes, count: int) -> None:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, end.set)
    server = await loop.create_server(lambda: StreamingResponder(message, count), host, port, backlog=1024)
    name = server.sockets[0].getsockname()
    print(f"ready {name[0]}:{name[1]}", flush=True)
    await end.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer every gRPC call with messages, or with its own.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--message-bytes", type=int, default=0, help="the size of a message (default: 0)")
    parser.add_argument("--messages", type=int, default=1, help="messages of an answer (default: 1)")
    parser.add_argument("--echo", action="store_true", help="send back what comes, as it comes")
    options = parser.parse_args()
    count = 0 if options.echo else options.messages
    uvloop.run(serve(options.host, options.port, bytes(options.message_bytes), count))


if __name__ == "__main__":
    main()
