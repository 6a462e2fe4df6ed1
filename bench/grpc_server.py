"""
Part g: calls per second of an empty unary handler on one core, ours against grpcio's, sync and aio.

Two shapes of the same 64 callers: on one connection, as a proxy calls, and on one connection each, where
system calls weigh more. The client is h2load on the other core, and it is what limits our numbers: CPU time
per call says how far apart the servers really are.

    python bench/grpc_server.py --rounds 1 --seconds 3
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile

from machine import HERE, LOAD_CORE, PYTHON, TESTED_CORE, abba, cpu_seconds, free_port, median_ratio, running

CALLERS = 64
SHAPES = {"1 connection": (1, CALLERS), "64 connections": (CALLERS, 1)}
NAMES = ["silence", "silence-await", "grpcio", "grpcio.aio"]
EMPTY_MESSAGE = b"\0\0\0\0\0"


def load(
    port: int,
    connections: int,
    streams: int,
    seconds: float,
    *,
    path: str = "/bench.Empty/Call",
    message: bytes = EMPTY_MESSAGE,
) -> float:
    """Call *path* for *seconds* and return calls per second; every one of them must have succeeded."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(message)
        body.flush()
        done = subprocess.run(
            [
                *("taskset", "-c", str(LOAD_CORE), "h2load", "-t", "1"),
                *(
                    "-c",
                    str(connections),
                    "-m",
                    str(streams),
                    "-D",
                    str(max(1, round(seconds))),
                    "--warm-up-time",
                    "1",
                ),
                *("-d", body.name, "-H", "content-type: application/grpc", "-H", "te: trailers"),
                f"http://127.0.0.1:{port}{path}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    rate = re.search(r"([\d.]+) req/s", done.stdout)
    spoilt = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    if rate is None or spoilt is None or any(int(count) for count in spoilt.groups()):
        raise SystemExit(f"h2load did not get good answers only:\n{done.stdout}{done.stderr}")
    return float(rate[1])


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part g and return its results."""
    runs: dict[str, list[dict[str, float]]] = {f"{name}, {shape}": [] for name in NAMES for shape in SHAPES}
    for _, name in abba(NAMES, rounds):
        port = free_port()
        with running(
            [PYTHON, str(HERE / "peers" / "grpc_empty.py"), name, str(port)], core=TESTED_CORE, port=port
        ) as server:
            for shape, (connections, streams) in SHAPES.items():
                before = cpu_seconds(server.pid)
                rate = load(port, connections, streams, seconds)
                busy = (cpu_seconds(server.pid) - before) / (seconds + 1)
                cpu_us = busy / rate * 1e6
                runs[f"{name}, {shape}"].append({"calls_per_second": rate, "cpu_us_per_call": cpu_us})
                print(
                    f"  {name:16} {shape:16} {rate:9.0f} calls/s, {busy:4.0%} of the core, "
                    f"{cpu_us:6.1f} us CPU per call",
                    file=sys.stderr,
                )
    rates = {key: [run["calls_per_second"] for run in found] for key, found in runs.items()}
    ratios = {}
    for shape in SHAPES:
        theirs = [
            max(pair) for pair in zip(rates[f"grpcio, {shape}"], rates[f"grpcio.aio, {shape}"], strict=True)
        ]
        for name in ("silence", "silence-await"):
            ratios[f"{name} / better grpcio ({shape})"] = median_ratio(rates[f"{name}, {shape}"], theirs)
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(json.dumps(measure(options.rounds, options.seconds)["ratios"], indent=2))
