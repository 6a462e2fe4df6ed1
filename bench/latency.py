"""Part f: p50 and p99 at a fixed rate of 70 % of our maximum, against calling the backend directly."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from http_load import load, program
from machine import HERE, ITEM_HEX, ITEM_JSON, LOAD_CORE, backend

CLIENTS = 16


def at_rate(port: int, rate: float, seconds: float, *, direct: bool) -> dict[str, float]:
    """Send *rate* requests a second with h2load and return the latency quantiles in ms."""
    with tempfile.TemporaryDirectory() as folder:
        log, data = Path(folder) / "log", Path(folder) / "data"
        message = bytes.fromhex(ITEM_HEX)
        data.write_bytes(b"\x00" + len(message).to_bytes(4, "big") + message if direct else ITEM_JSON)
        args = [
            "h2load",
            f"--rps={rate / CLIENTS:.0f}",
            f"-c{CLIENTS}",
            "-t1",
            f"-D{seconds:.0f}",
            f"--log-file={log}",
            "-d",
            str(data),
        ]
        if direct:
            args += [
                "-m",
                "8",
                "-H",
                "content-type: application/grpc",
                "-H",
                "te: trailers",
                f"http://127.0.0.1:{port}/bench.Shop/PutItem",
            ]
        else:
            args += ["--h1", "-H", "content-type: application/json", f"http://127.0.0.1:{port}/v1/items"]
        subprocess.run(["taskset", "-c", str(LOAD_CORE), *args], cwd=HERE, capture_output=True, check=True)
        rows = [line.split() for line in log.read_text().splitlines()]
    taken = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")
    cuts = statistics.quantiles(taken, n=1000)
    return {
        "p50_ms": cuts[499],
        "p99_ms": cuts[989],
        "rate": len(taken) / seconds,
        "errors": len(rows) - len(taken),
    }


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part f and return its results."""
    runs: dict[str, list[dict[str, float]]] = {"silence": [], "the backend directly": []}
    with backend() as backend_port, program("silence", backend_port, None) as port:
        load(port, 2)
        rate = 0.7 * load(port, seconds)["rps"]
        for _ in range(rounds):
            for name, target in (("silence", port), ("the backend directly", backend_port)):
                result = at_rate(target, rate, seconds, direct=name != "silence")
                runs[name].append(result)
                print(
                    f"  {name:32} at {result['rate']:.0f}/s: "
                    f"p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms",
                    file=sys.stderr,
                )
    added = {
        f"added {key}": statistics.median(
            mine[key] - direct[key]
            for mine, direct in zip(runs["silence"], runs["the backend directly"], strict=True)
        )
        for key in ("p50_ms", "p99_ms")
    }
    return {"runs": runs, "ratios": {}, "added": added}
