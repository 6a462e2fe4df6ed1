"""Files that are read again when they change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from silence_gateway.errors import ConfigError
from silence_gateway.events import Event
from silence_gateway.file_watch import SHOWN_PROBLEMS, FileReread, FileUnusable, FileWatch
from silence_gateway.testing.clock import FakeClock


class Reading:
    """What a program knows of some files whose every line is a number."""

    def __init__(self, *paths: Path, clock: FakeClock | None = None) -> None:
        self.used: list[int] = []
        self.told: list[Event] = []
        self.reads = 0
        self.heard = asyncio.Event()
        self.watch: FileWatch[list[int], int] = FileWatch(
            paths,
            read=self.numbers,
            join=self.total,
            use=self.used.append,
            clock=clock or FakeClock(),
            max_bytes=1 << 20,
            observer=self.on_event,
        )

    def numbers(self, path: Path, data: bytes) -> list[int]:
        self.reads += 1
        try:
            return [int(line) for line in data.split()]
        except ValueError as exc:
            raise ConfigError([f"{path}: {exc}"] * 20) from exc

    def total(self, parts: Mapping[Path, list[int]]) -> int:
        return sum(sum(part) for part in parts.values())

    def on_event(self, event: Event) -> None:
        self.told.append(event)
        self.heard.set()


def write(path: Path, text: str) -> None:
    """Replace a file as careful people do; also where two writes fall into one tick of its clock."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_change_counts_when_the_file_looks_the_same_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.write_text("1")
        two.write_text("10")
        reading = Reading(one, two)
        reading.watch.load()
        assert reading.used == [11]

        await reading.watch.look()
        assert (reading.used, reading.reads) == ([11], 2)
        write(one, "2")
        await reading.watch.look()
        assert reading.used == [11]
        await reading.watch.look()
        assert reading.used == [11, 12]
        assert reading.told == [FileReread(path=str(one))]
        await reading.watch.look()
        assert (reading.used, reading.reads) == ([11, 12], 3)

    asyncio.run(scenario())


def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "one"
        path.write_text("1")
        reading = Reading(path)
        reading.watch.load()
        for size in range(2, 6):
            path.write_text("1" * size)
            await reading.watch.look()

        assert (reading.used, reading.reads) == ([1], 1)
        await reading.watch.look()
        assert reading.used == [1, 11111]

    asyncio.run(scenario())


@pytest.mark.parametrize("spoil", ["content", "gone", "folder", "large"])
def test_a_file_that_cannot_be_used_keeps_what_it_said_and_is_told_of_once(
    tmp_path: Path, spoil: str
) -> None:
    async def scenario() -> None:
        path = tmp_path / "one"
        path.write_text("1")
        reading = Reading(path)
        reading.watch.load()
        if spoil == "content":
            write(path, "x")
        elif spoil == "large":
            path.write_bytes(b"1 " * (1 << 20))
        else:
            path.unlink()
            if spoil == "folder":
                path.mkdir()
        for _ in range(5):
            await reading.watch.look()

        assert reading.used == [1]
        [event] = reading.told
        assert isinstance(event, FileUnusable)
        assert (event.path, event.level) == (str(path), "error")
        assert 1 <= len(event.problems) <= SHOWN_PROBLEMS
        if spoil == "folder":
            path.rmdir()
        write(path, "7")
        for _ in range(2):
            await reading.watch.look()
        assert reading.used == [1, 7]
        assert reading.told[1:] == [FileReread(path=str(path))]

    asyncio.run(scenario())


def test_whatever_a_file_does_to_its_reader_it_is_looked_at_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "one"
        path.write_text("1")
        reading = Reading(path)
        reading.watch.load()
        reading.watch.read = lambda _path, data: [1 // int(data)]
        write(path, "0")
        for _ in range(2):
            await reading.watch.look()
        assert reading.told == [
            FileUnusable(path=str(path), problems=(f"{path}: ZeroDivisionError while it was read",))
        ]
        write(path, "1")
        for _ in range(2):
            await reading.watch.look()
        assert reading.used == [1, 1]

    asyncio.run(scenario())


def test_at_the_start_every_file_must_be_good_and_every_problem_is_named(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("1")
    (tmp_path / "bad").write_text("x")
    reading = Reading(*(tmp_path / name for name in ("good", "bad", "missing", ".")))

    with pytest.raises(ConfigError) as caught:
        reading.watch.load()

    assert len(caught.value.problems) == 22
    assert caught.value.problems[-2] == f"{tmp_path}/missing cannot be read: No such file or directory"
    assert caught.value.problems[-1] == f"{tmp_path} is not a regular file"
    assert reading.used == []


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    """Opening one waits until somebody writes, which may be never."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match="is not a regular file"):
        Reading(tmp_path / "pipe").watch.load()


def test_looking_goes_by_the_clock_until_it_is_stopped(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        path = tmp_path / "one"
        path.write_text("1")
        reading = Reading(path, clock=clock)
        reading.watch.load()
        reading.watch.start()
        reading.watch.start()
        write(path, "2")
        while not reading.told:
            await clock.advance(1)
        assert reading.used == [1, 2]

        await reading.watch.stop()
        await reading.watch.stop()
        write(path, "3")
        await clock.advance(10)
        assert reading.used == [1, 2]

    asyncio.run(scenario())


def test_without_files_nothing_is_looked_at(tmp_path: Path) -> None:
    async def scenario() -> None:
        reading = Reading()
        reading.watch.load()
        reading.watch.start()

        assert not reading.watch.periodic.started
        assert reading.used == [0]

    asyncio.run(scenario())
