"""Parts a and b: HTTP/JSON to unary gRPC, without and with an exact distributed limit."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from machine import (
    HERE,
    LOAD_CORE,
    PYTHON,
    TESTED_CORE,
    abba,
    backend,
    free_port,
    median_ratio,
    running,
    valkey,
    wait_for_port,
)

CONNECTIONS = 64


def generated() -> Path:
    """Compile the proto once: modules for the peers, a descriptor set for Envoy and us."""
    import google.api.annotations_pb2
    import grpc_tools
    from grpc_tools import protoc

    out = Path(tempfile.gettempdir()) / f"silence-bench-generated-{os.getpid()}"
    if (out / "shop.binpb").exists():
        return out
    out.mkdir(exist_ok=True)
    site = Path(google.api.annotations_pb2.__file__).parents[2]
    status = protoc.main(
        [
            "protoc",
            f"-I{HERE}",
            f"-I{site}",
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            "--include_imports",
            f"--descriptor_set_out={out}/shop.binpb",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            "shop.proto",
        ]
    )
    if status:
        raise SystemExit("the proto did not compile")
    return out


def our_config(port: int, backend_port: int, store: str | None, folder: Path) -> Path:
    """Write the gateway's configuration for a run."""
    text = f"""version: 1
name: bench
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{free_port()}"}}
store: {{url: "{store or "memory://"}"}}
upstreams:
  shop:
    endpoints: ["127.0.0.1:{backend_port}"]
    descriptors: {generated()}/shop.binpb
telemetry: {{access_log: none}}
"""
    if store:
        text += """limits:
  - {name: items, match: {any: true}, key: ["header:X-Client"], rate: 1000/minute, algorithm: sliding_window}
"""
    path = folder / f"gateway-{port}.yaml"
    path.write_text(text)
    return path


@contextlib.contextmanager
def program(name: str, backend_port: int, store: str | None) -> Iterator[int]:
    """Run one program under test and return its port."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if name in {"silence", "silence, limited"}:
            config = our_config(port, backend_port, store if name != "silence" else None, folder)
            args = [str(Path(PYTHON).parent / "silence"), "run", "-c", str(config)]
            env = {}
        elif name == "envoy":
            text = (HERE / "peers" / "envoy.yaml").read_text()
            for key, value in {
                "PORT": port,
                "DESCRIPTORS": generated() / "shop.binpb",
                "BACKEND": backend_port,
            }.items():
                text = text.replace(f"@{key}@", str(value))
            (folder / "envoy.yaml").write_text(text)
            args = [
                str(Path(PYTHON).parent / "envoy"),
                "-c",
                str(folder / "envoy.yaml"),
                "--concurrency",
                "1",
                "--log-level",
                "error",
                "--disable-hot-restart",
            ]
            env = {}
        else:
            args = [
                PYTHON,
                "-m",
                "uvicorn",
                "--app-dir",
                str(HERE / "peers"),
                "fastapi_app:app",
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
            env = {"BENCH_GENERATED": str(generated()), "BENCH_BACKEND": f"127.0.0.1:{backend_port}"}
            if store and name.endswith("limits"):
                env["BENCH_VALKEY"] = store
        stack.enter_context(running(args, core=TESTED_CORE, port=port, env=env))
        yield port


def load(port: int, seconds: float) -> dict[str, float]:
    """Drive *port* with wrk from the load core."""
    done = subprocess.run(
        [
            "taskset",
            "-c",
            str(LOAD_CORE),
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{seconds:.0f}s",
            "--latency",
            "-s",
            "peers/post_item.lua",
            f"http://127.0.0.1:{port}",
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(
        r"RESULT requests=(\d+) duration_us=(\d+) errors=(\d+) p50_us=(\d+) p99_us=(\d+)", done.stdout
    )
    if found is None:
        raise SystemExit(f"wrk said:\n{done.stdout}\n{done.stderr}")
    requests, duration_us, errors, p50_us, p99_us = map(int, found.groups())
    return {
        "rps": requests / (duration_us / 1e6),
        "errors": errors,
        "p50_ms": p50_us / 1000,
        "p99_ms": p99_us / 1000,
    }


def measure(rounds: int, seconds: float, *, limited: bool) -> dict[str, object]:
    """Run part a (or b, *limited*) and return its results."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    names = ["silence", "envoy", "fastapi + grpcio.aio"]
    if limited:
        names = ["silence, limited", "envoy", "fastapi + grpcio.aio + limits"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        backend_port = stack.enter_context(backend())
        store = None
        if limited:
            store = f"redis://127.0.0.1:{stack.enter_context(valkey())}/0"
        for _, name in abba(names, rounds):
            with program(name, backend_port, store) as port:
                load(port, 2)
                result = load(port, seconds)
            runs[name].append(result)
            print(f"  {name:32} {result['rps']:9.0f} rps  p99 {result['p99_ms']:.1f} ms", file=sys.stderr)
    ours = [run["rps"] for run in runs[names[0]]]
    return {
        "runs": runs,
        "ratios": {
            f"{names[0]} / {name}": median_ratio(ours, [run["rps"] for run in runs[name]])
            for name in names[1:]
        },
    }


__all__ = ["load", "measure", "program", "wait_for_port"]
