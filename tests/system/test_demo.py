"""`silence demo` as a newcomer runs it: on a terminal, over a pipe, and killed in the middle."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.system.yard import SILENCE, alive, ask, children, free_port, until

pytestmark = pytest.mark.system


@dataclass
class Demo:
    """A running demo and both ends of what a person would sit at."""

    popen: subprocess.Popen[bytes]
    hear: int
    port: int
    said: bytearray = field(default_factory=bytearray)

    def says(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait until it has said *words*."""

        def heard() -> bool:
            with contextlib.suppress(
                BlockingIOError, OSError
            ):  # a terminal whose program has ended is an error
                self.said += os.read(self.hear, 65536)
            return words.encode() in self.said

        until(heard, lambda: f"{words!r}; it said:\n{self.said.decode()}", timeout_s)

    def everything(self) -> list[int]:
        """Return every process that it runs by."""
        return [self.popen.pid, *children(self.popen.pid)]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Yield a person's end and a program's end of a terminal."""
    person, program = pty.openpty()
    os.set_blocking(person, False)
    yield person, program
    os.close(person)
    os.close(program)


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """Yield where running demos are noted; each is ended."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.popen.kill()
        demo.popen.wait(10)


def start(demos: list[Demo], stdin: int, stdout: int, hear: int, *more: str) -> Demo:
    port = free_port()
    popen = subprocess.Popen(
        [*SILENCE, "demo", "--port", str(port), "--admin-port", str(free_port()), *more],
        stdin=stdin,
        stdout=stdout,
        stderr=stdout,
    )
    demos.append(Demo(popen, hear, port))
    return demos[-1]


def gone(processes: list[int]) -> bool:
    return not any(alive(pid) for pid in processes)


def test_keys_on_a_terminal_break_and_mend_things_and_end_it(
    terminal: tuple[int, int], demos: list[Demo]
) -> None:
    person, program = terminal
    before = termios.tcgetattr(program)
    demo = start(demos, program, program, person)
    demo.says("Keys: k stops")
    everything = demo.everything()
    assert ask(demo.port, "GET", "/v1/drinks/latte").json()["priceCents"] == 390
    assert len(everything) >= 5  # itself, three replicas, the store

    os.write(person, b"k")
    demo.says("the store is away")
    assert ask(demo.port, "GET", "/v1/drinks/latte").status == 200
    os.write(person, b"k")
    demo.says("the store is back")
    os.write(person, b"uu")
    demo.says("you killed replica one")
    demo.says("you started replica one")
    os.write(person, b"u")
    demo.says("its calls go to the others")
    os.write(person, b"q")
    demo.says("requests of the demo's own")

    assert demo.popen.wait(10) == 0
    # What may run twice never fails. A replica that is killed may take one order with it, and was twice.
    assert b"  0 failed" in demo.said
    lost = re.search(rb"(\d+) orders? (was|were) lost with a killed replica", demo.said)
    assert lost is None or int(lost[1]) <= 2
    assert termios.tcgetattr(program) == before
    assert gone(everything)


def test_a_pipe_can_press_keys_too(demos: list[Demo]) -> None:
    keys, press = os.pipe()
    hear, say = os.pipe()
    os.set_blocking(hear, False)
    try:
        demo = start(demos, keys, say, hear, "--workers", "2")
        demo.says("Send k (store), u (replica) or q (end)")
        everything = demo.everything()
        os.write(press, b"q")
        demo.says("requests of the demo's own")

        assert demo.popen.wait(10) == 0
        assert gone(everything)
    finally:
        for descriptor in (keys, press, hear, say):
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_running(number: int, demos: list[Demo]) -> None:
    hear, say = os.pipe()
    os.set_blocking(hear, False)
    try:
        demo = start(demos, subprocess.DEVNULL, say, hear)
        demo.says("Silence Gateway is serving")
        everything = demo.everything()
        demo.popen.send_signal(number)

        assert demo.popen.wait(10) == (0 if number == signal.SIGINT else -signal.SIGKILL)
        until(lambda: gone(everything), "everything has ended with it")
    finally:
        os.close(hear)
        os.close(say)
