"""
Part h: decisions per second of the rate limit service on one core, beside an empty handler of grpcio.

The whole program runs as `silence run`, counting in memory or in Valkey; the question has two descriptors,
and both have a limit that is not reached. An empty handler of grpcio, sync or aio, is what people know as the
ceiling: it reads no question, counts nothing and answers nothing. Client and shapes are those of part g.

The client repeats one question, which the service then remembers; `all new` is measured with a memory that
forgets at once, as if every caller had another address. Where the client, the store or a neighbour has not
enough of the other core, our service waits and calls per second say little; the ratio of CPU time per call
then still tells how much of one core a decision costs.

    python bench/rls.py --rounds 1 --seconds 3
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from grpc_server import SHAPES, load
from machine import HERE, PYTHON, TESTED_CORE, abba, cpu_seconds, free_port, median_ratio, running, valkey

from silence_gateway.rls.messages import METHOD, RateLimitRequest

OURS = ["silence, memory", "silence, valkey", "silence, valkey, all new"]
PEERS = ["grpcio", "grpcio.aio"]
NAMES = [*OURS, *PEERS]
RULES = """
domain: bench
descriptors:
  - key: path
    value: /v1/orders
    descriptors:
      - key: method
        value: POST
        rate_limit: {unit: minute, requests_per_unit: 1000000000}
  - key: remote_address
    rate_limit: {unit: minute, requests_per_unit: 1000000000}
"""
QUESTION = {
    "domain": "bench",
    "descriptors": [
        {"entries": [{"key": "path", "value": "/v1/orders"}, {"key": "method", "value": "POST"}]},
        {"entries": [{"key": "remote_address", "value": "192.0.2.17"}]},
    ],
}


def question() -> bytes:
    """Return the question as a gRPC message."""
    message: bytes = RateLimitRequest.from_json(json.dumps(QUESTION)).to_binary()
    return b"\0" + len(message).to_bytes(4, "big") + message


@contextlib.contextmanager
def served(name: str) -> Iterator[tuple[int, int, int | None]]:
    """Run one program under test; yields its port, its process, and the port of its metrics if it has any."""
    port, admin, json_port = free_port(), free_port(), free_port()
    with contextlib.ExitStack() as stack:
        if not name.startswith("silence"):
            args = [PYTHON, str(HERE / "peers" / "grpc_empty.py"), name, str(port)]
            yield port, stack.enter_context(running(args, core=TESTED_CORE, port=port)).pid, None
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "rules.yaml").write_text(RULES)
        store = "memory://"
        if "valkey" in name:
            # The peer waits as long as it takes; so do we, instead of deciding alone when the machine stalls.
            store = f"redis://127.0.0.1:{stack.enter_context(valkey())}/0"
        (folder / "gateway.yaml").write_text(
            f"listen: []\nadmin: {{listen: '127.0.0.1:{admin}'}}\n"
            f"store: {{url: '{store}', deadline: 2s}}\ntelemetry: {{access_log: none}}\n"
            f"rls: {{listen: '127.0.0.1:{port}', json: '127.0.0.1:{json_port}', config: rules.yaml}}\n"
        )
        program = [str(Path(PYTHON).parent / "silence")]
        if "all new" in name:
            program = [PYTHON, str(HERE / "peers" / "rls_forgetful.py")]
        args = [*program, "run", "-c", str(folder / "gateway.yaml")]
        yield port, stack.enter_context(running(args, core=TESTED_CORE, port=port)).pid, admin


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part h and return its results."""
    runs: dict[str, list[dict[str, float]]] = {f"{name}, {shape}": [] for name in NAMES for shape in SHAPES}
    message = question()
    for _, name in abba(NAMES, rounds):
        with served(name) as (port, pid, admin):
            for shape, (connections, streams) in SHAPES.items():
                before = cpu_seconds(pid)
                if admin is None:
                    rate = load(port, connections, streams, seconds, message=message)
                else:
                    rate = load(port, connections, streams, seconds, path=METHOD, message=message)
                busy = (cpu_seconds(pid) - before) / (seconds + 1)
                each_us = busy / rate * 1e6
                runs[f"{name}, {shape}"].append({"calls_per_second": rate, "cpu_us_per_call": each_us})
                print(
                    f"  {name:24} {shape:16} {rate:9.0f} calls/s, {busy:4.0%} of the core, "
                    f"{each_us:6.1f} us CPU per call",
                    file=sys.stderr,
                )
            if admin is not None:
                refuse_void(admin)
    rates = {key: [run["calls_per_second"] for run in found] for key, found in runs.items()}
    cpu_us = {key: [run["cpu_us_per_call"] for run in found] for key, found in runs.items()}
    ratios = {}
    for shape in SHAPES:
        peers = [f"{peer}, {shape}" for peer in PEERS]
        theirs = [max(pair) for pair in zip(*(rates[peer] for peer in peers), strict=True)]
        their_us = [min(pair) for pair in zip(*(cpu_us[peer] for peer in peers), strict=True)]
        for name in OURS:
            mine = f"{name}, {shape}"
            ratios[f"{name} / better grpcio, empty ({shape})"] = median_ratio(rates[mine], theirs)
            ratios[f"better grpcio, empty / {name} (CPU, {shape})"] = median_ratio(their_us, cpu_us[mine])
    return {"runs": runs, "ratios": ratios}


def refuse_void(admin: int) -> None:
    """Stop if something was decided without the store, or refused: then it was another work."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    if found["silence_rls_local_decisions_total"] or found["silence_rls_service_errors_total"]:
        raise SystemExit("some decisions were made without the store, or not at all: the measurement is void")
    if found['silence_rls_hits_total{rule="bench.remote_address"}'] < found["silence_rls_requests_total"]:
        raise SystemExit("some questions met no limit: the measurement is void")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.seconds)["ratios"], indent=2))
