"""
Real processes for the system tests: the sample cafe, and `silence run` as a user starts it.

Polling is allowed here and nowhere else: a process of its own has no event that a test could wait for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SILENCE = [str(Path(sys.executable).with_name("silence"))]
START_DEADLINE_S = 30.0


taken: set[int] = set()


def free_port() -> int:
    """
    Return a port that is free now and was not given out before.

    It is below the range that the kernel takes ports from by itself: no outgoing connection of anybody
    can take it before the process that it is meant for, nor while that process is down.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        if port in taken:
            continue
        taken.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], object], what: str | Callable[[], str], timeout_s: float = 10.0) -> None:
    """Return once *condition* holds; fail with *what* when it does not within *timeout_s* seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)  # polls a real process: there is no event to wait for


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended and was not yet fetched by its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def children(pid: int) -> list[int]:
    """Return the processes that *pid* started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] not in {"Z", "X"}:
                    found.append(int(entry.name))
    return found


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def ask(
    port: int,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    try:
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@dataclass
class Process:
    """A child process with its output in a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        return self.popen.wait(timeout_s)

    def end(self) -> None:
        """Stop it for good, however it is."""
        if self.popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(signal.SIGCONT)
                self.popen.kill()
        self.popen.wait(10)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Cafe(Process):
    """One replica of the sample service."""

    name: str = ""
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass
class Gateway(Process):
    """A running gateway."""

    port: int = 0
    admin_port: int = 0

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        return ask(self.port, method, path, body, headers)

    def admin(self, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        return ask(self.admin_port, method, path, headers=headers)

    def events(self) -> list[dict[str, Any]]:
        """Return what it logged, without the lines of requests; needs `access_log: json` or `none`."""
        lines = [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] != "request"]

    def readiness(self) -> str:
        """Return the word of /readyz."""
        try:
            return self.admin("GET", "/readyz").body.decode().strip()
        except OSError:
            return "unreachable"

    def becomes(self, word: str, timeout_s: float = 10.0) -> None:
        """Wait until /readyz says *word*."""
        until(
            lambda: self.readiness() == word,
            lambda: f"the gateway is {word}; it says {self.admin('GET', '/readyz?verbose').body.decode()}",
            timeout_s,
        )

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = self.admin("GET", "/metrics").body.decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + "{", name + " "))
        )


@dataclass
class Yard:
    """Starts processes and ends every one of them."""

    folder: Path
    started: list[Process] = field(default_factory=list)

    def cafe(self, name: str = "one", port: int = 0) -> Cafe:
        """Start a replica, on the *port* of one that is gone if there is one, and wait until it listens."""
        return self._upstream(name, ["-m", "silence_gateway.app.sample.server", name, "--port"], port)

    def service(self, descriptors: bytes, port: int = 0) -> Cafe:
        """Start a server of what *descriptors* describe (`any_service.py`) and wait until it listens."""
        path = self.folder / f"described-{len(self.started)}.binpb"
        path.write_bytes(descriptors)
        return self._upstream("service", [str(Path(__file__).with_name("any_service.py")), str(path)], port)

    def _upstream(self, name: str, command: list[str], port: int) -> Cafe:
        port = port or free_port()
        log = self.folder / f"{name}-{len(self.started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, *command, str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
            )
        made = Cafe(popen, log, name, port)
        self.started.append(made)
        assert popen.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(popen.stdout, selectors.EVENT_READ)
            assert selector.select(START_DEADLINE_S), f"{name} did not start: {made.output()}"
        line = popen.stdout.readline()
        assert line.startswith(b"listening on "), made.output()
        return made

    def gateway(
        self,
        config: str,
        *args: str,
        wait: bool = True,
        env: dict[str, str] | None = None,
        port: int | None = None,
        words: tuple[str, ...] = ("ready", "degraded"),
    ) -> Gateway:
        """Start `silence run` with *config*, where `@listen@` and `@admin@` stand for free addresses."""
        port, admin_port = port or free_port(), free_port()
        number = len(self.started)
        path = self.folder / f"gateway-{number}.yaml"
        path.write_text(
            config.replace("@listen@", f"127.0.0.1:{port}").replace("@admin@", f"127.0.0.1:{admin_port}")
        )
        log = self.folder / f"gateway-{number}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [*SILENCE, "run", "-c", str(path), *args],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                process_group=0,  # as a shell does: a test can press Ctrl-C on this one alone
            )
        made = Gateway(popen, log, port, admin_port)
        self.started.append(made)
        if wait:
            until(
                lambda: made.readiness() in words or popen.poll() is not None,
                lambda: f"the gateway is ready; it said:\n{made.output()}",
                START_DEADLINE_S,
            )
            assert popen.poll() is None, made.output()
        return made

    def end(self) -> None:
        """End everything that was started, the last first."""
        for process in reversed(self.started):
            process.end()
        self.started.clear()
