"""
Files that are read again when they change, off the request path.

Looking, reading and making sense of them happens in a thread, so that a slow disk or a long list holds up
no request. A change counts when a file looks the same twice in a row, so that one that is just being
written is not read by halves; with the usual interval that is one to two seconds. A file that cannot be
used keeps what it said before, and is told of once.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from silence_gateway.clock import Clock
from silence_gateway.errors import ConfigError
from silence_gateway.events import Event, Observer, nobody
from silence_gateway.periodic import Periodic

Part = TypeVar("Part")
Whole = TypeVar("Whole")

EVERY_S = 1.0
"""How often each file is looked at: one question to the file system."""

SHOWN_PROBLEMS = 10
"""Problems of one file in one event; `silence check` shows them all."""

Look: TypeAlias = "tuple[int, int, int] | None"
"""What a file looks like: when it changed, its size, which file it is; None if it cannot be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReread(Event):
    """A file that the configuration names has changed and is in force."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUnusable(Event):
    """A file that the configuration names has changed and cannot be used; what it said before holds."""

    path: str
    problems: tuple[str, ...]

    @property
    def level(self) -> str:
        """Somebody has to correct it."""
        return "error"


class FileWatch(Generic[Part, Whole]):
    """
    Some files that together say one thing.

    Args:
        paths: The files.
        read: Makes sense of one file's bytes; raises ConfigError with every problem. Runs in a thread.
        join: Makes one thing of what all files say. Runs in a thread.
        use: Is given that thing, on the event loop: by `load`, and after every change.
        clock: Asked for the next look.
        max_bytes: A larger file cannot be used.
        observer: Told of every change.

    Attributes:
        unusable: What is wrong with files that changed and are not in force, by their path.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        read: Callable[[Path, bytes], Part],
        join: Callable[[Mapping[Path, Part]], Whole],
        use: Callable[[Whole], None],
        clock: Clock,
        max_bytes: int,
        observer: Observer = nobody,
    ) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self.read = read
        self.join = join
        self.use = use
        self.clock = clock
        self.max_bytes = max_bytes
        self.observer = observer
        self.unusable: dict[str, tuple[str, ...]] = {}
        self.parts: dict[Path, Part] = {}
        self.looked: dict[Path, Look] = {}
        self.known: dict[Path, Look] = {}
        self.periodic = Periodic(clock, EVERY_S, self.look)

    def load(self) -> None:
        """
        Read every file now, before there is anything to hold up.

        Raises:
            ConfigError: With every problem of every file; nothing is in force.
        """
        problems: list[str] = []
        for path in self.paths:
            self.known[path] = self.looked[path] = look_of(path)
            try:
                self.parts[path] = self.read(path, content_of(path, self.max_bytes))
            except ConfigError as exc:
                problems += exc.problems
        if problems:
            raise ConfigError(problems)
        self.use(self.join(self.parts))

    def start(self) -> None:
        """Look at the files from now on."""
        if self.paths:
            self.periodic.start()

    async def stop(self) -> None:
        """Look no more; what was read stays in force."""
        await self.periodic.stop()

    async def keep_looking(self) -> None:
        """Look at the files until cancelled: for those who have a task for it."""
        await self.periodic.keep_on()

    async def look(self) -> None:
        """Look once, and put into force what has changed."""
        events, whole = await asyncio.to_thread(self.look_now)
        for made in whole:
            self.use(made)
        for event in events:
            if isinstance(event, FileUnusable):
                self.unusable[event.path] = event.problems
            elif isinstance(event, FileReread):
                self.unusable.pop(event.path, None)
            self.observer(event)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with files that changed and are not in force; none if all are."""
        return tuple(problem for problems in self.unusable.values() for problem in problems)

    def look_now(self) -> tuple[list[Event], list[Whole]]:
        """Do the work of `look` apart from using its result, which is a list of one or none."""
        events: list[Event] = []
        changed = False
        for path in self.paths:
            seen = look_of(path)
            settled = seen == self.looked[path]
            self.looked[path] = seen
            if not settled or seen == self.known[path]:
                continue
            self.known[path] = seen
            try:
                self.parts[path] = self.read(path, content_of(path, self.max_bytes))
            except ConfigError as exc:
                events.append(FileUnusable(path=str(path), problems=exc.problems[:SHOWN_PROBLEMS]))
            except Exception as exc:  # noqa: BLE001 - told, without its text, which may quote a secret
                said = f"{path}: {type(exc).__name__} while it was read"
                events.append(FileUnusable(path=str(path), problems=(said,)))
            else:
                events.append(FileReread(path=str(path)))
                changed = True
        return events, [self.join(self.parts)] if changed else []


def look_of(path: Path) -> Look:
    """Return what *path* looks like from outside."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def content_of(path: Path, max_bytes: int) -> bytes:
    """
    Return what *path* holds.

    Raises:
        ConfigError: It cannot be read, is no file or is larger than *max_bytes*.
    """
    try:
        # Asked first: opening a pipe or a device could wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path} is not a regular file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    if len(data) > max_bytes:
        raise ConfigError(f"{path} is larger than {max_bytes >> 20} MiB")
    return data
