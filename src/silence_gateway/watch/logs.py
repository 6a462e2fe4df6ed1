"""
Log lines: events as they happen, and one line per request.

Lines of one loop tick leave in one write. A log that cannot be written (a full disk, a closed pipe, a
reader that hangs) never stops a request: the lines are dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import select
import stat
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.events import Event, Noticed

LogFormat: TypeAlias = Literal["json", "text", "none"]
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# More than this waiting for one tick means that something is very wrong: keep the process alive instead.
MAX_WAITING_LINES = 10_000
RETRY_S = 0.05  # how soon a reader that did not keep up is tried again
PIPE_BUF = select.PIPE_BUF

_WORD_START = re.compile(r"(?<!^)(?=[A-Z])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class LogWriter:
    """
    Writes lines to a file descriptor, all lines of a loop tick at once.

    A reader that stops reading (a hung log collector, Ctrl-S in a terminal) is not waited for: lines wait
    for it, up to a bound, and then they are dropped.

    Attributes:
        dropped: Lines that could not be written.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: list[str] = []
        self._unsent = memoryview(b"")
        self._unsent_lines = 0
        self._scheduled = False
        self._room: select.poll | None = None  # None: a file, which always takes what is written
        # A descriptor that is closed cannot be asked what it is; writing to it fails, and counts.
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                self._room = select.poll()
                self._room.register(fd, select.POLLOUT)
        self.dropped = 0

    def line(self, text: str) -> None:
        """Write *text* and a line feed, soon; at once where no event loop runs."""
        if len(self._waiting) >= MAX_WAITING_LINES:
            self.dropped += 1
            return
        self._waiting.append(text)
        if not self._scheduled:
            try:
                asyncio.get_running_loop().call_soon(self._flush_later)
                self._scheduled = True
            except RuntimeError:
                self.flush()

    def flush(self, patience_s: float = 0.0) -> None:
        """Write what waits, and wait up to *patience_s* whenever the reader does not keep up."""
        while self._unsent or self._waiting:
            if not self._unsent:
                lines, self._waiting = self._waiting, []
                self._unsent = memoryview(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
                self._unsent_lines = len(lines)
            try:
                if self._room is None:
                    self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
                    continue
                if not self._room.poll(patience_s * 1000):
                    return
                # A pipe that has room at all takes this much without blocking (POSIX).
                self._unsent = self._unsent[os.write(self._fd, self._unsent[:PIPE_BUF]) :]
            except OSError:
                # Nowhere is left to say it; the metric silence_log_lines_dropped_total does.
                self.dropped += self._unsent_lines
                self._unsent = memoryview(b"")

    def _flush_later(self) -> None:
        self._scheduled = False
        self.flush()
        if self._unsent:
            self._scheduled = True
            asyncio.get_running_loop().call_later(RETRY_S, self._flush_later)


class EventLog:
    """The observer that writes every event at or above *level* as one line."""

    def __init__(
        self, writer: LogWriter, clock: Clock, form: LogFormat = "json", level: str = "info"
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._form = form
        self._threshold = LEVELS[level]

    def __call__(self, event: Event, /) -> None:
        """Write *event*."""
        if LEVELS[event.level] < self._threshold:
            return
        stamp = timestamp(self._clock.now_us())
        if self._form == "text":
            self._writer.line(f"{stamp} {event.level:7} {in_words(event)}")
        else:
            name, fields = taken_apart(event)
            line = {"time": stamp, "level": event.level, "event": name, **fields}
            self._writer.line(json.dumps(line, default=str, separators=(",", ":")))


def taken_apart(event: Event) -> tuple[str, dict[str, Any]]:
    """Return what happened, and what there is to know about it by name."""
    fields = {item.name: getattr(event, item.name) for item in dataclasses.fields(event)}
    for key in [key for key in fields if key.endswith("_us")]:
        at_us = fields.pop(key)
        fields[key.removesuffix("_us")] = "" if at_us is None else timestamp(at_us)
    if isinstance(event, Noticed):
        del fields["loudness"]
        return fields.pop("what"), fields
    return _WORD_START.sub(" ", type(event).__name__).lower(), fields


def in_words(event: Event) -> str:
    """Return *event* as people read it, on one line."""
    name, fields = taken_apart(event)
    return " ".join([clean(name), *(f"{key}={clean(str(value))}" for key, value in fields.items())])


def timestamp(now_us: int) -> str:
    """Return RFC 3339 with milliseconds, in UTC."""
    at = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def clean(text: str) -> str:
    r"""Return *text* with control characters as `\xNN`, so that nobody can forge a line."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def json_line(fields: dict[str, Any]) -> str:
    """Return one JSON line."""
    return json.dumps(fields, separators=(",", ":"))
