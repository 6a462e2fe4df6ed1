"""Processes pinned to cores, and what machine this is: what every part of the benchmark needs."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
TESTED_CORE = 0
LOAD_CORE = 1 if (os.cpu_count() or 1) > 1 else 0
PYTHON = sys.executable

ITEM_JSON = (
    b'{"id":"a-17","name":"espresso cup","quantity":12,"priceCents":"1290",'
    b'"active":true,"tags":["cups","new"]}'
)
ITEM_HEX = (
    "0a04612d3137"  # id
    "120c657370726573736f20637570"  # name
    "180c"  # quantity
    "208a0a"  # price_cents
    "2801"  # active
    "320463757073"  # tags
    "32036e6577"
)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], timeout_s: float = 30.0) -> None:
    """Return once something listens on *port*; raise if *process* ends or time runs out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not listen on port {port} within {timeout_s:.0f} s")


@contextlib.contextmanager
def running(
    args: Sequence[str], *, core: int, port: int | None = None, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *args* on *core* until the block ends; with *port*, enter once it listens."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process, below
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *args],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**os.environ, **(env or {})},
        cwd=HERE,
    )
    try:
        if port is not None:
            wait_for_port(port, process)
        yield process
    finally:
        if process.poll() is not None:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-2000:])
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


@contextlib.contextmanager
def backend(message: bytes = bytes.fromhex(ITEM_HEX)) -> Iterator[int]:
    """Run the constant-answer gRPC server on the load core and return its port."""
    port = free_port()
    args = [PYTHON, "responder.py", "--port", str(port), "--message-hex", message.hex()]
    with running(args, core=LOAD_CORE, port=port):
        yield port


@contextlib.contextmanager
def streaming_backend(*arguments: str) -> Iterator[int]:
    """Run the gRPC server for streams and large messages on the load core and return its port."""
    port = free_port()
    args = [PYTHON, "streaming_responder.py", "--port", str(port), *arguments]
    with running(args, core=LOAD_CORE, port=port):
        yield port


@contextlib.contextmanager
def valkey() -> Iterator[int]:
    """Run a Valkey server on the load core and return its port."""
    from silence_gateway.stores.server_process import find_server

    port = free_port()
    args = [
        str(find_server()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with running(args, core=LOAD_CORE, port=port):
        yield port


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that process *pid* has used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of process *pid* in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def abba(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield each round's programs, forwards and backwards in turn."""
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            yield number, name


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def describe_machine() -> dict[str, str]:
    """Say what this was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of *packages*."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
