"""The sample service as newcomers start it: in a terminal, in the background, from a script."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

pytestmark = pytest.mark.system

PATIENCE_S = 20.0
SERVER = [sys.executable, "-m", "silence_gateway.app.sample.server", "one"]


@pytest.fixture
def terminal() -> Iterator[int]:
    """The end of a terminal that a program gets as its standard input."""
    ours, theirs = os.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


def serving(stdin: int) -> subprocess.Popen[str]:
    """Start the service with that standard input and wait until it says where it listens."""
    process = subprocess.Popen(SERVER, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert within_reach(process.stdout), "it said nothing"
    assert process.stdout.readline().startswith("listening on ")
    return process


def within_reach(pipe: IO[str]) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(PATIENCE_S))


@pytest.mark.parametrize("kind", ["no-input", "terminal"])
def test_it_serves_until_ctrl_c(kind: str, terminal: int) -> None:
    """With & its input is /dev/null or a terminal that it may not read: neither ends or stops it."""
    process = serving(subprocess.DEVNULL if kind == "no-input" else terminal)

    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0
    assert "served for" in said
    assert complained == ""


def test_it_ends_with_the_pipe_that_is_its_input() -> None:
    """So it never outlives a program that started it."""
    process = serving(subprocess.PIPE)

    said, complained = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, complained) == (0, "")
    assert "served for" in said


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    """What grpcio raises is a page of its own code."""
    first = subprocess.Popen(SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    port = first.stdout.readline().rpartition(":")[2].strip()

    second = subprocess.run(
        [*SERVER, "--port", port], check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    first.communicate(timeout=PATIENCE_S)

    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "Traceback" not in second.stderr
