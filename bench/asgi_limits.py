"""
Part l: what limits in a FastAPI app add to a request, ours beside slowapi and fastapi-limiter.

Requests are handed to the app without a server in between, 64 in flight, from 1,000 addresses, and all are
allowed: the app's own cost is the same for everybody, and is taken off. In memory slowapi counts fixed
windows, its default, and fastapi-limiter everybody in one bucket, also its default; we count sliding
counters per address. On Valkey slowapi asks from the event loop, which waits for every answer. In this
version fastapi-limiter counts clients apart on Valkey only with a bucket factory written by its user, so it
is left out there.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from machine import HERE, PYTHON, TESTED_CORE, abba, valkey

IN_FLIGHT = 64
RATE = "1000000/minute"
PEERS = [(f"10.0.{number // 250}.{number % 250}", 1) for number in range(1000)]
BODY = {"type": "http.request", "body": b"", "more_body": False}


def bare(_store: str, **route: Any) -> Any:
    """Return the app that everybody limits."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/hello", **route)
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    return app


def silence(store: str) -> Any:
    """Return it with our middleware."""
    from silence_gateway import LimitMiddleware, RateLimiter, RouteLimit

    app, limiter = bare(store), RateLimiter(store, fleet="bench")
    limit = limiter.limit("bench", RATE, algorithm="sliding_counter")
    app.add_middleware(LimitMiddleware, limiter=limiter, limits=[RouteLimit(limit)])
    return app


def slowapi(store: str) -> Any:
    """Return it with slowapi's pure ASGI middleware; its other one costs more."""
    from slowapi import Limiter
    from slowapi.middleware import SlowAPIASGIMiddleware
    from slowapi.util import get_remote_address

    app = bare(store)
    app.state.limiter = Limiter(
        key_func=get_remote_address,
        default_limits=[RATE],
        headers_enabled=True,
        storage_uri=store.replace("valkey://", "redis://"),
    )
    app.add_middleware(SlowAPIASGIMiddleware)
    return app


def fastapi_limiter(store: str) -> Any:
    """Return it with the dependency of fastapi-limiter, which writes no headers."""
    from fastapi import Depends
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, Limiter, Rate

    limiter = Limiter(Rate(1_000_000, Duration.MINUTE))
    return bare(store, dependencies=[Depends(RateLimiter(limiter=limiter))])


APPS: dict[str, Callable[[str], Any]] = {
    "bare": bare,
    "silence": silence,
    "slowapi": slowapi,
    "fastapi-limiter": fastapi_limiter,
}


async def paced(app: Any, seconds: float) -> dict[str, float]:
    """Keep IN_FLIGHT requests going for *seconds*; return time and CPU per request."""
    statuses: dict[int, int] = {}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses[message["status"]] = statuses.get(message["status"], 0) + 1

    async def receive() -> dict[str, Any]:
        return BODY

    async def caller(number: int, until: float) -> int:
        count = 0
        while time.monotonic() < until:
            scope = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/hello",
                "raw_path": b"/hello",
                "query_string": b"",
                "root_path": "",
                "headers": [(b"host", b"bench"), (b"accept", b"*/*")],
                "client": PEERS[(number * 7919 + count) % len(PEERS)],
                "server": ("127.0.0.1", 80),
            }
            await app(scope, receive, send)
            count += 1
            # A server would turn its loop here; an app that never waits must not keep the others out.
            await asyncio.sleep(0)
        return count

    await asyncio.gather(*(caller(n, time.monotonic() + 0.3) for n in range(IN_FLIGHT)))
    statuses.clear()
    cpu, started = time.process_time(), time.monotonic()
    counts = await asyncio.gather(*(caller(n, started + seconds) for n in range(IN_FLIGHT)))
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - started
    if set(statuses) != {200}:
        raise SystemExit(f"not every request was allowed: {statuses}")
    return {"us_per_request": elapsed / sum(counts) * 1e6, "cpu_us_per_request": cpu / sum(counts) * 1e6}


def run(name: str, store: str, seconds: float) -> dict[str, float]:
    """Measure one app in a process of its own."""
    done = subprocess.run(
        ["taskset", "-c", str(TESTED_CORE), PYTHON, str(HERE / "asgi_limits.py"), name, store, str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part l and return its results."""
    runs: dict[str, list[dict[str, float]]] = {}
    added: dict[str, list[float]] = {}
    for where, names in (("memory", list(APPS)), ("Valkey", ["bare", "silence", "slowapi"])):
        of: dict[str, list[float]] = {name: [] for name in names}
        for _, name in abba(names, rounds):
            if where == "memory":
                figures = run(name, "memory://", seconds)
            else:
                with valkey() as port:
                    figures = run(name, f"valkey://127.0.0.1:{port}/0", seconds)
            of[name].append(figures["us_per_request"])
            runs.setdefault(f"{name}, {where}", []).append(figures)
            print(f"  {name:16} {where:8} {figures['us_per_request']:7.1f} us/request", file=sys.stderr)
        for name in names[1:]:
            added[f"{name}, {where}"] = [
                limited - alone for limited, alone in zip(of[name], of["bare"], strict=True)
            ]
    ratios = {}
    for name, theirs in added.items():
        peer, _, where = name.partition(", ")
        if peer != "silence":
            pairs = sorted(a / b for a, b in zip(theirs, added[f"silence, {where}"], strict=True))
            ratios[f"{peer} / silence (added to a request, {where})"] = pairs[len(pairs) // 2]
    means = {f"{name}: us added": sorted(values)[len(values) // 2] for name, values in added.items()}
    return {"runs": runs, "ratios": ratios, "added": means}


if __name__ == "__main__":
    import uvloop

    _, which, where_counted, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(paced(APPS[which](where_counted), float(duration)))))
