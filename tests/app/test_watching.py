"""Watching shows the latest in place on a terminal, one after the other elsewhere, until Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from silence_gateway.app.watching import repeat, watch
from silence_gateway.errors import GatewayError

NOW_US = 1_800_000_000_000_000


class Viewer:
    """Whoever watches: what was said to them, and how long they were left waiting before they leave."""

    def __init__(self, rounds: int) -> None:
        self.said: list[str] = []
        self.waits: list[float] = []
        self._rounds = rounds

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == self._rounds:
            raise KeyboardInterrupt

    def watch(self, draw: Callable[[], str], *, on_screen: bool = False) -> str:
        watch(
            draw, every_s=2.0, on_screen=on_screen, say=self.said.append, sleep=self.sleep,
            now_us=lambda: NOW_US,
        )  # fmt: skip
        return "".join(self.said)


def in_turn(*texts: str | Exception) -> Callable[[], str]:
    left: Iterator[Any] = iter(texts)

    def draw() -> str:
        text = next(left)
        if isinstance(text, Exception):
            raise text
        return str(text)

    return draw


def test_without_a_terminal_pictures_follow_each_other() -> None:
    viewer = Viewer(2)

    said = viewer.watch(in_turn("one", "two"))

    assert said == "-- 08:00:00Z, every 2 s\none\n\n-- 08:00:00Z, every 2 s\ntwo\n\n"
    assert viewer.waits == [2.0, 2.0]
    assert "\x1b" not in said


def test_on_a_terminal_each_picture_covers_the_last() -> None:
    said = Viewer(2).watch(in_turn("one\nmore", "two"), on_screen=True)

    assert said.startswith("\x1b[H\x1b[2J\x1b[H")
    assert said.endswith("\x1b[H08:00:00Z, every 2 s; Ctrl-C ends\x1b[K\ntwo\x1b[K\n\x1b[J\n")


def test_what_does_not_fit_on_the_screen_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "6")

    said = Viewer(1).watch(in_turn("\n".join("abcdefg")), on_screen=True)

    assert "b\x1b[K\n(5 more lines)\x1b[K\n" in said
    assert "c\x1b" not in said


def test_a_gateway_that_goes_away_is_shown_as_such_and_asked_again() -> None:
    said = Viewer(3).watch(in_turn("one", GatewayError("nothing listens there"), "three"))

    assert [line for line in said.splitlines() if line and not line.startswith("--")] == [
        "one", "nothing listens there", "three",
    ]  # fmt: skip


def test_one_that_never_was_there_is_an_error() -> None:
    with pytest.raises(GatewayError):
        Viewer(3).watch(in_turn(GatewayError("nothing listens there")))


def test_for_programs_there_is_a_line_each_and_errors_are_theirs() -> None:
    viewer = Viewer(2)
    repeat(in_turn("{}", "[]"), every_s=1.0, say=viewer.said.append, sleep=viewer.sleep)

    assert viewer.said == ["{}\n", "[]\n"]
    with pytest.raises(GatewayError):
        repeat(
            in_turn("{}", GatewayError("gone")), every_s=1.0, say=viewer.said.append, sleep=Viewer(9).sleep
        )
