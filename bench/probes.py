"""
Part q: 20 gateway processes and 10 endpoints on one Valkey: how often each endpoint is asked for its health.

Each process is an instance of the upstream engine with a store of its own; the endpoints are grpcio servers
in one more, and count what reaches them, so that nothing rests on what gateways say of themselves. Once they
have Watch and once only Check. There is no traffic, which would make checks fewer still. Counting begins when
every instance knows every endpoint to be healthy and a lease has passed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

from machine import HERE, LOAD_CORE, PYTHON, TESTED_CORE, valkey

GATEWAYS = 20
ENDPOINTS = 10
INTERVAL_S = 1.0
TIMEOUT_S = 0.5
SECONDS = 20.0
WANTED = 1.2
SERVING = b"\x08\x01"
KINDS = ("watch", "check")


def ratio_of(kind: str) -> str:
    """Return what the share of the wanted rate is called that the endpoint asked most often saw."""
    return f"{WANTED} per interval / most seen by an endpoint, {kind}"


async def endpoints(kind: str) -> None:
    """Serve all endpoints; print their ports, and for each line read how often each was asked so far."""
    import grpc

    def handlers(counts: list[int], index: int) -> grpc.GenericRpcHandler:
        async def check(_request: bytes, _context) -> bytes:
            counts[index] += 1
            return SERVING

        async def watch(_request: bytes, _context):
            counts[index] += 1
            yield SERVING
            await asyncio.Event().wait()

        methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
        if kind == "watch":
            methods["Watch"] = grpc.unary_stream_rpc_method_handler(watch)
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    counts = [0] * ENDPOINTS
    servers, ports = [], []
    for index in range(ENDPOINTS):
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handlers(counts, index),))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(counts), flush=True)
    for server in servers:
        await server.stop(None)


async def gateway(port: int, fleet: str, ports: list[int]) -> None:
    """Be one instance until standard input ends; say so once every endpoint is known to be healthy."""
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.valkey import ValkeyStore
    from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
    from silence_gateway.upstreams.settings import EndpointSettings, HealthSettings, UpstreamSettings

    store = ValkeyStore(StoreSettings(url=f"valkey://127.0.0.1:{port}/0", deadline_s=1.0), fleet)
    settings = UpstreamSettings(
        name="shop",
        endpoints=tuple(EndpointSettings(address=f"127.0.0.1:{one}") for one in ports),
        health=HealthSettings(interval_s=INTERVAL_S, timeout_s=TIMEOUT_S),
    )
    await store.start()
    async with GrpcUpstream(settings, board=store.board) as pool:
        while not all(one.health == "healthy" for one in pool.statistics.endpoints):  # noqa: ASYNC110 - pools do not tell
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await store.stop()


def run(kind: str, seconds: float) -> dict[str, float]:
    """Run everything once and return what the endpoints saw, per interval."""
    started: list[subprocess.Popen[str]] = []

    def start(core: int, *told: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), PYTHON, str(HERE / "probes.py"), *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    def asked() -> list[int]:
        serving.stdin.write("\n")
        serving.stdin.flush()
        return json.loads(serving.stdout.readline())

    with valkey() as port:
        try:
            serving = start(LOAD_CORE, "endpoints", kind)
            ports = serving.stdout.readline().strip()
            fleet = f"probes-{time.time_ns()}"
            instances = [start(TESTED_CORE, "gateway", str(port), fleet, ports) for _ in range(GATEWAYS)]
            for instance in instances:
                if instance.stdout.readline() != "ready\n":
                    raise SystemExit("an instance did not begin")
            time.sleep(2 * INTERVAL_S + TIMEOUT_S)
            before, began_s = asked(), time.monotonic()
            time.sleep(seconds)
            after, intervals = asked(), (time.monotonic() - began_s) / INTERVAL_S
        finally:
            for process in started:
                process.kill()
                process.communicate()
    rates = [(now - then) / intervals for now, then in zip(after, before, strict=True)]
    return {
        "least_per_interval": min(rates),
        "mean_per_interval": sum(rates) / len(rates),
        "most_per_interval": max(rates),
    }


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part q and return its results; it says how often, not how fast, and needs no rounds."""
    del rounds, seconds
    runs = {}
    ratios = {}
    for kind in KINDS:
        figures = run(kind, SECONDS)
        print(f"  {kind:8} {figures}", file=sys.stderr)
        if not figures["least_per_interval"]:
            raise SystemExit(f"{kind}: an endpoint was not checked at all")
        runs[f"{GATEWAYS} gateways, {ENDPOINTS} endpoints, {kind}"] = [figures]
        ratios[ratio_of(kind)] = WANTED / figures["most_per_interval"]
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "endpoints":
        asyncio.run(endpoints(sys.argv[2]))
    elif len(sys.argv) == 5 and sys.argv[1] == "gateway":
        asyncio.run(gateway(int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])))
    else:
        measure(1, 0)
