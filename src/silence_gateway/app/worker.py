"""
One worker process: `python -m silence_gateway.app.worker`, started by `worker_pool.py` only.

It reads its orders from standard input, serves, and answers its parent on a private unix socket. It
drains and ends on SIGTERM, and when its standard input closes, because then the parent has died.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from urllib.parse import parse_qsl

from silence_gateway.admin.contracts import Ask
from silence_gateway.admin.handler import API
from silence_gateway.admin.local import LocalInstance
from silence_gateway.app.build import build
from silence_gateway.app.exit_codes import BAD_INPUT, OK
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.app.process import (
    LAST_WORDS_S,
    StopSignals,
    first_of,
    log_of,
    run_on_uvloop,
    settle_garbage_collector,
)
from silence_gateway.app.store_place import open_store_at
from silence_gateway.app.worker_admin import CALLER
from silence_gateway.app.worker_pool import WorkerOrders, adopted
from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Handler, Request, Response, stack
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.problems import answer_errors
from silence_gateway.edge.server import HttpServer
from silence_gateway.errors import ConfigError
from silence_gateway.watch.families import as_json


def private_handler(instance: LocalInstance) -> Handler:
    """Return what answers the parent: JSON for everything; the socket's directory is the guard."""

    async def handle(request: Request) -> Response:
        if request.path == "/families":
            return _json(200, as_json(await instance.families()))
        if request.path == "/readiness":
            readiness = await instance.readiness()
            return _json(200, {"word": readiness.word, "parts": dict(readiness.parts)})
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        asked = Ask(
            request.method,
            request.path.removeprefix(API),
            query,
            items=json.loads(request.body) if request.body else None,
            caller=request.headers.get(CALLER.lower().encode(), b"").decode("latin-1"),
        )
        answer = await instance.call(asked)
        return _json(answer.status, answer.body)

    return handle


def _json(status: int, body: object) -> Response:
    return Response(status, [(b"content-type", b"application/json")], json.dumps(body, default=str).encode())


async def work(orders: WorkerOrders) -> int:
    """Serve as *orders* say until told to stop."""
    clock = SystemClock()
    loaded = orders.loaded
    log, observer = log_of(loaded.config.telemetry, clock)
    stop = StopSignals()
    with stop.installed():
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), stop.ask)
        store = open_store_at(loaded.config, orders.store_url, clock, observer)
        gateway = build(loaded, store, clock, observer, log)
        lag = LoopLag(clock)
        measuring = asyncio.create_task(lag.run())
        instance = local_instance(gateway, loaded, log, lag, stop.ask)
        private = HttpServer(stack(answer_errors(observer))(private_handler(instance)), None, clock, observer)
        try:
            await private.start(open_sockets([f"unix:{orders.admin_path}"], reuse_port=False))
            await gateway.start(adopted(orders.sockets))
            settle_garbage_collector()
            await stop.asked.wait()
            loop.remove_reader(sys.stdin.fileno())
            await first_of(gateway.drain(), stop.insisted.wait())
        finally:
            measuring.cancel()
            await gateway.stop()
            await private.abort()
    log.flush(LAST_WORDS_S)
    return OK


def main() -> int:
    """Read the orders and carry them out."""
    descriptor = sys.stdin.fileno()
    size = int.from_bytes(os.read(descriptor, 8), "big")
    data = b""
    # Not a byte more than the orders is read: what follows on the pipe is its end, which the loop waits for.
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            return OK
        data += piece
    orders = pickle.loads(data)  # noqa: S301 - written by our own parent, through a pipe of its own
    assert isinstance(orders, WorkerOrders)
    try:
        return run_on_uvloop(work(orders))
    except ConfigError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
