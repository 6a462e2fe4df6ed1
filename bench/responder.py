"""
A gRPC server that gives every call of every method the same answer, so that a benchmark measures
its client and nothing else.

    python bench/responder.py --port 9001 --message-hex 0a0568656c6c6f

Prints `ready HOST:PORT` when it listens, and serves until it is told to end (SIGTERM, SIGINT).

Proper enough HTTP/2 for Envoy, grpcio and our own connection: SETTINGS, acknowledgements, PING and
flow control both ways. Request headers are not even decoded. Every answer of a read leaves in one
write; one call costs about 2 us of its core.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import struct

import uvloop

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_metadata import encode_message
from silence_gateway.core.hpack import encode

MAX_MESSAGE_BYTES = h2.DEFAULT_FRAME_SIZE - 5
GIVE_BACK_AT = 2**29

_stream_number = struct.Struct(">I")


class Answer:
    """The frames of the answer, cut where the stream number goes: `number.join(parts)` is one answer."""

    def __init__(self, message: bytes, status: int, status_message: str) -> None:
        content_type = (b"content-type", b"application/grpc")
        trailers = [(b"grpc-status", b"%d" % status)]
        if status_message:
            trailers.append((b"grpc-message", encode_message(status_message)))
        if status:
            head = encode([(b":status", b"200"), content_type, *trailers])
            self.size = 0
            frames = [h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 0, head)]
        else:
            data = b"\0" + len(message).to_bytes(4, "big") + message
            self.size = len(data)
            frames = [
                h2.frame(h2.HEADERS, h2.END_HEADERS, 0, encode([(b":status", b"200"), content_type])),
                h2.frame(h2.DATA, 0, 0, data),
                h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 0, encode(trailers)),
            ]
        self.parts = [frames[0][:5]]
        for frame, after in zip(frames, [*frames[1:], b""], strict=True):
            self.parts.append(frame[9:] + after[:5])


class Responder(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: Answer, max_streams: int) -> None:
        self.answer = answer
        self.max_streams = max_streams
        self.frames = h2.FrameReader()
        self.preface_left = len(h2.PREFACE)
        self.window = h2.DEFAULT_WINDOW
        self.received = 0
        self.waiting: list[int] = []

    def connection_made(self, transport) -> None:
        self.transport = transport
        settings = [(h2.Setting.INITIAL_WINDOW_SIZE, h2.MAX_WINDOW)]
        if self.max_streams:
            settings.append((h2.Setting.MAX_CONCURRENT_STREAMS, self.max_streams))
        transport.write(
            h2.settings_frame(settings) + h2.window_update_frame(0, h2.MAX_WINDOW - h2.DEFAULT_WINDOW)
        )

    def data_received(self, data: bytes) -> None:
        if self.preface_left:
            taken = min(self.preface_left, len(data))
            start = len(h2.PREFACE) - self.preface_left
            if data[:taken] != h2.PREFACE[start : start + taken]:
                self.transport.abort()
                return
            self.preface_left -= taken
            data = data[taken:]
        out: list[bytes] = []
        number, parts = _stream_number.pack, self.answer.parts
        size, window = self.answer.size, self.window
        for kind, flags, stream, content, length in self.frames.feed(data):
            if kind <= h2.HEADERS:  # DATA or HEADERS
                if kind == h2.DATA:
                    self.received += length
                if flags & h2.END_STREAM:
                    if window >= size:
                        window -= size
                        out.append(number(stream).join(parts))
                    else:
                        self.waiting.append(stream)
            elif kind == h2.WINDOW_UPDATE:
                if not stream:
                    window += h2.read_increment(content)
            elif kind == h2.PING and not flags & h2.ACK:
                out.append(h2.ping_frame(content, ack=True))
            elif kind == h2.SETTINGS and not flags & h2.ACK:
                for name, value in h2.read_settings(content):
                    if name == h2.Setting.INITIAL_WINDOW_SIZE and value < size:
                        print(f"the client's window of {value} is below one answer", flush=True)
                        self.transport.abort()
                        return
                out.append(h2.SETTINGS_ACK)
            elif kind == h2.RST_STREAM and stream in self.waiting:
                self.waiting.remove(stream)
        while self.waiting and window >= size:
            window -= size
            out.append(number(self.waiting.pop(0)).join(parts))
        self.window = window
        if self.received >= GIVE_BACK_AT:
            out.append(h2.window_update_frame(0, self.received))
            self.received = 0
        if out:
            self.transport.write(b"".join(out))
        if self.frames.violation is not None:
            print(f"bad frame: {self.frames.violation}", flush=True)
            self.transport.abort()


async def serve(host: str, port: int, answer: Answer, max_streams: int) -> None:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, end.set)
    server = await loop.create_server(lambda: Responder(answer, max_streams), host, port, backlog=1024)
    name = server.sockets[0].getsockname()
    print(f"ready {name[0]}:{name[1]}", flush=True)
    await end.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer every gRPC call with the same message.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--message-hex", default="", help="the serialised answer, in hex (default: empty)")
    parser.add_argument(
        "--grpc-status", type=int, default=0, help="answer with this error instead of a message"
    )
    parser.add_argument("--grpc-message", default="", help="the text of the error")
    parser.add_argument(
        "--max-streams", type=int, default=0, help="MAX_CONCURRENT_STREAMS; 0 names none (default)"
    )
    options = parser.parse_args()
    message = bytes.fromhex(options.message_hex)
    if len(message) > MAX_MESSAGE_BYTES:
        parser.error(f"the message has {len(message)} bytes, more than one frame of {MAX_MESSAGE_BYTES}")
    answer = Answer(message, options.grpc_status, options.grpc_message)
    uvloop.run(serve(options.host, options.port, answer, options.max_streams))


if __name__ == "__main__":
    main()
