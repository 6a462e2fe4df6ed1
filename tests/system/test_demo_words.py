"""What `silence demo` says is true: of its workers, and of the commands that it suggests."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.yard import SILENCE, alive, ask, children, until

pytestmark = pytest.mark.system

START_S = 20.0


class Demo:
    """A running demo, its words and its keyboard."""

    def __init__(self, *options: str) -> None:
        self.started_s = time.monotonic()
        self.popen = subprocess.Popen(
            [*SILENCE, "demo", "--port", "0", "--admin-port", "0", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.said = ""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.popen.stdout is not None
        while data := os.read(self.popen.stdout.fileno(), 65_536):
            self.said += data.decode()

    def press(self, key: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(key.encode())
        self.popen.stdin.flush()

    def says(self, text: str, timeout_s: float = 10.0) -> None:
        until(
            lambda: text in self.said or self.popen.poll() is not None,
            lambda: f"it says {text!r}; it said:\n{self.said}",
            timeout_s,
        )
        assert text in self.said, self.said

    def port(self, of: str) -> int:
        found = re.search(rf"{of} +http://127\.0\.0\.1:(\d+)", self.said)
        assert found is not None, self.said
        return int(found[1])

    def family(self) -> list[int]:
        """Return every process that it started, and theirs."""
        found = children(self.popen.pid)
        return [*found, *(grandchild for child in found for grandchild in children(child))]

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(10)
        self.reader.join(5)
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.end()


def test_the_demo_survives_all_that_its_keys_do_to_it(demos: list[Demo]) -> None:
    demo = Demo("--workers", "2")
    demos.append(demo)
    demo.says("Silence Gateway is serving.", START_S)
    first_s = time.monotonic() - demo.started_s
    print(f"{first_s:.2f} s from the start to the first answered request")
    assert first_s < START_S
    demo.says("Send k (store)")
    port, admin_port = demo.port("gateway"), demo.port("admin")

    demo.press("k")
    demo.says("the store is away")
    assert {ask(port, "GET", "/v1/drinks/latte").status for _ in range(20)} == {200}
    assert ask(admin_port, "GET", "/readyz").body == b"degraded\n"
    demo.press("k")
    demo.says("the store is back")
    demo.press("u")
    demo.says("is out")
    assert {ask(port, "GET", "/v1/drinks/latte").status for _ in range(20)} == {200}
    demo.press("u")
    demo.says("takes calls again")
    statuses = [ask(port, "POST", "/v1/orders", {"drink": "tea"}).status for _ in range(12)]
    assert set(statuses) == {200, 429}
    family = demo.family()
    demo.press("q")

    assert demo.popen.wait(20) == 0
    demo.reader.join(5)
    summary = demo.said[demo.said.index("requests of the demo's own") :]
    assert re.search(r"[1-9][0-9]* answered", summary)
    assert "\n  0 failed\n" in summary
    # A busy machine may have been an outage of the store's own.
    assert re.search(r"The store was lost (once|twice|\d+ times), a replica once\.", summary)
    assert "{" not in demo.said.replace("%{http_code}", "").replace('{"', "")
    until(lambda: not any(alive(pid) for pid in family), "nothing is left running", 5)


def test_the_commands_that_the_demo_suggests_work(demos: list[Demo], tmp_path: Path) -> None:
    """They are copied from what it prints, and run as they are."""
    demo = Demo()
    demos.append(demo)
    demo.says("Send k (store)", START_S)
    commands = re.findall(
        r"^  (curl .*|\S+ upstreams .*|for .*\n(?:    .*\n)+  done)$", demo.said, re.MULTILINE
    )
    assert len(commands) >= 7

    for command in commands:
        done = subprocess.run(
            ["bash", "-euc", command], capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        assert "problem" not in done.stdout, (command, done.stdout)
        if " upstreams " in command:
            assert "cafe: 3 of 3 ready" in done.stdout
        if command.startswith("for"):
            assert set(done.stdout.split()) <= {"200", "429"}, done.stdout
            assert "429" in done.stdout
