"""
An HTTP/1.1 server that answers every request with the same body, so that a benchmark measures its client.

    python bench/http_responder.py --port 9001 --body-bytes 1024

Bodies of requests are read to their end, by their Content-Length. The end of a head is all that is looked
for besides: a request costs about 3 us of its core. Serves until it is told to end (SIGTERM, SIGINT).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class HttpResponder(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.head = b""
        self.missing = 0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        while data:
            if self.missing:
                taken = min(self.missing, len(data))
                self.missing -= taken
                if self.missing:
                    return
                self.transport.write(self.answer)
                data = data[taken:]
                continue
            self.head += data
            end = self.head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            data = self.head[end:]
            length = LENGTH.search(self.head, 0, end)
            self.head = b""
            self.missing = int(length[1]) if length is not None else 0
            if not self.missing:
                self.transport.write(self.answer)


async def serve(host: str, port: int, answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, end.set)
    server = await loop.create_server(lambda: HttpResponder(answer), host, port, backlog=1024)
    await end.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer every HTTP/1.1 request with the same body.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body-bytes", type=int, default=0, help="how long the body is (default: 0)")
    options = parser.parse_args()
    head = (
        "HTTP/1.1 200 OK\r\ndate: Sun, 29 Nov 2026 08:00:00 GMT\r\nserver: bench\r\n"
        f"content-type: application/octet-stream\r\ncontent-length: {options.body_bytes}\r\n\r\n"
    )
    uvloop.run(serve(options.host, options.port, head.encode() + bytes(options.body_bytes)))


if __name__ == "__main__":
    main()
