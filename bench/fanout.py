"""Part e: one publication to 1,000 WebSocket clients, in CPU time of the server; memory per connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from machine import (
    HERE,
    LOAD_CORE,
    PYTHON,
    TESTED_CORE,
    abba,
    cpu_seconds,
    free_port,
    median_ratio,
    resident_bytes,
    running,
)

CLIENTS = 1000
IDLE_CLIENTS = 2000
PAYLOAD = "x" * 100
MARK = PAYLOAD.encode()


def masked(payload: bytes) -> bytes:
    """Encode one text frame as a client must: masked (RFC 6455 section 5.3)."""
    mask = os.urandom(4)
    size = len(payload)
    head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0x80 | 126]) + size.to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Client(asyncio.Protocol):
    """Connects, says what it must, and counts the publications that reach it."""

    def __init__(
        self,
        port: int,
        path: str,
        say: dict[bytes, list[bytes]],
        ready: bytes,
        on_delivery: Callable[[int], None],
    ) -> None:
        self._port, self._path, self._say, self._ready = port, path, dict(say), ready
        self._on_delivery = on_delivery
        self._tail = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            # A payload may be cut in two by a read: keep the few bytes that could be its beginning.
            data = self._tail + data
            count = data.count(MARK)
            if count:
                self._on_delivery(count)
            at = data.rfind(MARK)
            self._tail = data[max(at + len(MARK) if at >= 0 else 0, len(data) - len(MARK) + 1) :]
            return
        for cue, lines in list(self._say.items()):
            if cue in data:
                del self._say[cue]
                for line in lines:
                    self._transport.write(masked(line))
        if self._ready in data:
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("closed before it was ready"))


async def connect_all(port: int, name: str, count: int, on_delivery: Callable[[int], None]) -> list[Client]:
    """Open *count* subscribed clients, 50 at a time."""
    loop = asyncio.get_running_loop()
    if name == "silence":
        path = "/connection/websocket"
        lines = [b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}']
        say, ready = {b"101 Switching": lines}, b'"id":2'
    else:
        path = "/socket.io/?EIO=4&transport=websocket"
        say, ready = {b"101 Switching": [b"40"]}, b"40{"
    clients: list[Client] = []
    for start in range(0, count, 50):
        made = [
            await loop.create_connection(
                lambda: Client(port, path, say, ready, on_delivery), "127.0.0.1", port
            )
            for _ in range(min(50, count - start))
        ]
        clients += [protocol for _, protocol in made]
        await asyncio.wait_for(asyncio.gather(*(protocol.ready for _, protocol in made)), 20)
    return clients


async def publish(port: int, name: str) -> None:
    """Publish once and wait for the answer."""
    if name == "silence":
        path, body = "/api/publish", json.dumps({"channel": "news", "data": PAYLOAD})
    else:
        path, body = "/publish", PAYLOAD
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-API-Key: bench\r\n"
        "Content-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = await reader.read()
    writer.close()
    if b" 200 " not in answer[:20]:
        raise SystemExit(f"{name} did not publish: {answer[:300]!r}")


async def drive(port: int, pid: int, name: str, seconds: float) -> dict[str, float]:
    """Connect, publish for *seconds*, and return what it cost the server."""
    idle_before = resident_bytes(pid)
    received = 0
    wanted = 0
    enough = asyncio.Event()

    def delivered(count: int) -> None:
        nonlocal received
        received += count
        if received >= wanted:
            enough.set()

    clients = await connect_all(port, name, CLIENTS, delivered)
    cpu_before, started = cpu_seconds(pid), time.monotonic()
    publications = 0
    while time.monotonic() - started < seconds:
        wanted += CLIENTS
        enough.clear()
        await publish(port, name)
        publications += 1
        await asyncio.wait_for(enough.wait(), 20)
    cpu = cpu_seconds(pid) - cpu_before
    elapsed = time.monotonic() - started
    clients += await connect_all(port, name, IDLE_CLIENTS, delivered)
    memory = (resident_bytes(pid) - idle_before) / len(clients)
    return {
        "deliveries_per_cpu_second": received / cpu,
        "deliveries_per_second": received / elapsed,
        "lost": wanted - received,
        "bytes_per_connection": memory,
    }


@contextlib.contextmanager
def server(name: str) -> Iterator[tuple[int, int]]:
    """Run one server under test; yields its port and the process id."""
    port = free_port()
    if name == "silence":
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "gateway.yaml"
            config.write_text(
                f"version: 1\nname: bench\nlisten: 127.0.0.1:{port}\n"
                f"admin: {{listen: '127.0.0.1:{free_port()}'}}\n"
                "store: {url: 'memory://'}\ntelemetry: {access_log: none}\n"
                "realtime: {anonymous: true, api_key: bench, "
                "namespaces: {'': {publish: false, presence: false}}}\n"
            )
            args = [str(Path(PYTHON).parent / "silence"), "run", "-c", str(config)]
            with running(args, core=TESTED_CORE, port=port) as process:
                yield port, process.pid
        return
    args = [
        PYTHON,
        "-m",
        "uvicorn",
        "--app-dir",
        str(HERE / "peers"),
        "socketio_app:app",
        "--port",
        str(port),
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--no-access-log",
        "--log-level",
        "error",
    ]
    with running(args, core=TESTED_CORE, port=port) as process:
        yield port, process.pid


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part e and return its results."""
    names = ["silence", "python-socketio"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _, name in abba(names, rounds):
        with server(name) as (port, pid):
            done = subprocess.run(
                [
                    "taskset",
                    "-c",
                    str(LOAD_CORE),
                    PYTHON,
                    str(HERE / "fanout.py"),
                    name,
                    str(port),
                    str(pid),
                    str(seconds),
                ],
                stdout=subprocess.PIPE,
                check=True,
            )
        result = json.loads(done.stdout)
        runs[name].append(result)
        print(
            f"  {name:32} {result['deliveries_per_cpu_second']:9.0f} deliveries per CPU second, "
            f"{result['bytes_per_connection'] / 1024:.1f} KiB per connection",
            file=sys.stderr,
        )
    ours, theirs = (runs[name] for name in names)
    key = "deliveries_per_cpu_second"
    return {
        "runs": runs,
        "ratios": {
            "silence / python-socketio": median_ratio([r[key] for r in ours], [r[key] for r in theirs])
        },
    }


if __name__ == "__main__":
    import uvloop

    _, target, target_port, target_pid, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(drive(int(target_port), int(target_pid), target, float(duration)))))
