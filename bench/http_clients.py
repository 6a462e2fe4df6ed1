"""
Part t: what one process reaches as a client of HTTP/1.1, our link to an upstream against aiohttp, httpx and
httpcore.

64 requests are in flight, on as many kept connections. Each has another target and the same five header
lines, as a proxy's would, and is read to its end; those with a body of 1 KB or 64 KB are POSTs whose answers
are as long. Ours is measured twice: the link, which holds the sockets to one endpoint and is what
`docs/design/dependencies.md` speaks of; and the upstream, which adds what a proxy needs of any client and the
others do not have: a pool with balancing, breakers, retries and statistics. The others run as lean as they
can be set up: no cookies, redirects, decompression, time-outs or environment. httpx is one client, as people
use it; most of its time goes into looking through its 64 connections for each request, so httpcore, which is
what is under it, has a pool of one connection for each caller and shows what the wire alone costs there. CPU
is that of the client's process alone, on uvloop; the server has the other core and is our own
(`http_responder.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import Any

from machine import HERE, LOAD_CORE, PYTHON, TESTED_CORE, abba, free_port, median_ratio, running

IN_FLIGHT = 64

BODIES = {"empty": 0, "1 KB": 1_024, "64 KB": 65_536}
LINK, UPSTREAM, *PEERS = NAMES = ("silence", "silence, upstream with a pool", "aiohttp", "httpx", "httpcore")
OURS = (LINK, UPSTREAM)

FIELDS = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "user-agent": "bench",
    "x-forwarded-for": "203.0.113.7",
    "x-request-id": "0123456789abcdef0123456789abcdef",
}
LINES = "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items()).encode()

Requester = Callable[[str], Awaitable[int]]
"""Asks for one target and returns how many bytes the body of its answer has."""


def method_of(body: bytes) -> str:
    """Return what a request with *body* is."""
    return "POST" if body else "GET"


def as_ask(target: str, body: bytes) -> Any:
    """Return a request as `layers/proxy.py` makes it."""
    from silence_gateway.upstreams.http_contracts import HttpAsk

    method = method_of(body)
    lines = LINES + b"content-length: %d\r\n" % len(body) if body else LINES
    start = b"%b %b HTTP/1.1\r\n" % (method.encode(), target.encode())
    return HttpAsk(method, start, None, lines, body, repeatable=not body)


async def read_on(answer: Any) -> int:
    """Read the body of one of our answers to its end, as the edge does."""
    if answer.done:
        return len(answer.whole())
    size = 0
    async for piece in answer:
        size += len(piece)
    return size


@asynccontextmanager
async def with_link(where: str, body: bytes) -> AsyncIterator[Requester]:
    """Give our link."""
    from silence_gateway.clock import SystemClock
    from silence_gateway.upstreams.http_heads import AnswerHeads
    from silence_gateway.upstreams.http_link import HttpLink, LinkSettings

    settings = LinkSettings(max_sockets=IN_FLIGHT, idle_timeout_s=60.0, connect_timeout_s=5.0)
    link = HttpLink(
        where,
        settings,
        AnswerHeads(),
        SystemClock(),
        on_lost=sys.exit,
        on_capacity=lambda: None,
    )
    await link.open()

    async def ask(target: str) -> int:
        return await read_on(await link.exchange(as_ask(target, body), 5.0, inf))

    try:
        yield ask
    finally:
        await link.close()


@asynccontextmanager
async def with_upstream(where: str, body: bytes) -> AsyncIterator[Requester]:
    """Give our upstream of one endpoint."""
    from silence_gateway.upstreams.http_upstream import HttpUpstream
    from silence_gateway.upstreams.settings import EndpointSettings, PoolSettings, UpstreamSettings

    upstream = HttpUpstream(
        UpstreamSettings(
            name="bench",
            endpoints=(EndpointSettings(address=where),),
            pool=PoolSettings(max_connections=IN_FLIGHT, idle_timeout_s=60.0),
        )
    )

    async def ask(target: str) -> int:
        return await read_on(await upstream.exchange(as_ask(target, body)))

    await upstream.start()
    try:
        yield ask
    finally:
        await upstream.stop()


@asynccontextmanager
async def with_aiohttp(where: str, body: bytes) -> AsyncIterator[Requester]:
    """Give aiohttp's session."""
    import aiohttp

    method, data = method_of(body), body or None
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        skip_auto_headers=("content-type",),
    ) as session:

        async def ask(target: str) -> int:
            url = f"http://{where}{target}"
            async with session.request(
                method, url, data=data, headers=FIELDS, allow_redirects=False
            ) as answer:
                return len(await answer.read())

        yield ask


@asynccontextmanager
async def with_httpx(where: str, body: bytes) -> AsyncIterator[Requester]:
    """Give httpx's client. `aiter_raw` neither unpacks nor decodes."""
    import httpx

    method, content = method_of(body), body or None
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=None) as client:

        async def ask(target: str) -> int:
            url = f"http://{where}{target}"
            async with client.stream(method, url, content=content, headers=FIELDS) as answer:
                return sum([len(piece) async for piece in answer.aiter_raw()])

        yield ask


@asynccontextmanager
async def with_httpcore(where: str, body: bytes) -> AsyncIterator[Requester]:
    """Give httpcore, which is what is under httpx, on h11: a pool of one connection for each caller."""
    import httpcore

    method, content = method_of(body), body or None
    fields = {"host": where, **FIELDS} | ({"content-length": str(len(body))} if body else {})
    free = [httpcore.AsyncConnectionPool(max_connections=1) for _ in range(IN_FLIGHT)]

    async def ask(target: str) -> int:
        pool = free.pop()
        answer = await pool.request(method, f"http://{where}{target}", headers=fields, content=content)
        free.append(pool)
        return len(answer.content)

    yield ask
    for pool in free:
        await pool.aclose()


CLIENTS = dict(zip(NAMES, (with_link, with_upstream, with_aiohttp, with_httpx, with_httpcore), strict=True))


async def work(name: str, kind: str, port: int, seconds: float) -> dict[str, float]:
    """Keep requests with bodies of *kind* going for *seconds* and return CPU and rate."""
    size = BODIES[kind]
    numbers = itertools.count()

    async def caller(ask: Requester, until: float) -> int:
        done = 0
        while time.monotonic() < until:
            got = await ask(f"/v1/items/{next(numbers)}?fields=id,name")
            if got != size:
                raise SystemExit(f"{name}: {got} bytes came instead of {size}")
            done += 1
        return done

    async with CLIENTS[name](f"127.0.0.1:{port}", bytes(size)) as ask:
        await asyncio.gather(*(caller(ask, time.monotonic() + 0.5) for _ in range(IN_FLIGHT)))
        cpu, started = time.process_time(), time.monotonic()
        counts = await asyncio.gather(*(caller(ask, started + seconds) for _ in range(IN_FLIGHT)))
        cpu, elapsed = time.process_time() - cpu, time.monotonic() - started
    return {"cpu_us_per_request": cpu / sum(counts) * 1e6, "requests_per_second": sum(counts) / elapsed}


@contextmanager
def responder(body_bytes: int):
    """Run the constant-answer HTTP server on the load core and return its port."""
    port = free_port()
    args = [PYTHON, "http_responder.py", "--port", str(port), "--body-bytes", str(body_bytes)]
    with running(args, core=LOAD_CORE, port=port):
        yield port


def alone(name: str, kind: str, port: int, seconds: float) -> dict[str, float]:
    """Measure one client in a process and on a core of its own."""
    file = str(HERE / "http_clients.py")
    done = subprocess.run(
        ["taskset", "-c", str(TESTED_CORE), PYTHON, file, name, kind, str(port), str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Run part t and return its results."""
    runs: dict[str, list[dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for kind, size in BODIES.items():
        ran: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        with responder(size) as port:
            for _, name in abba(NAMES, rounds):
                result = alone(name, kind, port, seconds)
                ran[name].append(result)
                shown = ", ".join(f"{key} {value:,.1f}" for key, value in result.items())
                print(f"  {f'{name} ({kind})':40} {shown}", file=sys.stderr)
        runs |= {f"{name} ({kind})": results for name, results in ran.items()}
        used, reached = ran[LINK][0]
        for name, peer in itertools.product(OURS, PEERS):
            theirs, ours = ([run[used] for run in ran[each]] for each in (peer, name))
            ratios[f"{peer} / {name} (CPU, {kind})"] = median_ratio(theirs, ours)
            theirs, ours = ([run[reached] for run in ran[each]] for each in (peer, name))
            ratios[f"{name} / {peer} (rate, {kind})"] = median_ratio(ours, theirs)
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    import uvloop

    _, which, what, target_port, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work(which, what, int(target_port), float(duration)))))
