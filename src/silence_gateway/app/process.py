"""What every process of the program needs: its loop, its log, its signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import uvloop

from silence_gateway.app.config.telemetry import TelemetryConfig
from silence_gateway.clock import Clock
from silence_gateway.events import Observer
from silence_gateway.watch.logs import EventLog, LogFormat, LogWriter

LOG_FD = 1
"""Logs go to standard output, one stream for events and requests, as containers and systemd expect."""
LAST_WORDS_S = 1.0
"""How long the end of a process waits for a reader of its log that does not keep up."""


def run_on_uvloop(work: Coroutine[Any, Any, int]) -> int:
    """Run *work* on a fresh uvloop and return its exit status."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def log_of(config: TelemetryConfig, clock: Clock) -> tuple[LogWriter, Observer]:
    """Return the process's log and the observer that writes events to it."""
    writer = LogWriter(LOG_FD)
    form: LogFormat = "text" if config.access_log == "text" or sys.stdout.isatty() else "json"
    return writer, EventLog(writer, clock, form, config.level)


class StopSignals:
    """
    SIGTERM and SIGINT, as events to wait for.

    Attributes:
        asked: Somebody wants the process to finish what runs and end.
        insisted: Somebody asked a second time: end now.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def ask(self) -> None:
        """Take one request to stop."""
        (self.insisted if self.asked.is_set() else self.asked).set()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Listen to the signals while the block runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def settle_garbage_collector() -> None:
    """
    Take what was made at the start out of the garbage collector's sight, and let it look less often.

    Everything of a request is freed by its reference count; what the collector is for, cycles of
    exceptions and tracebacks, is rare. With the defaults it walks the whole program every few hundred
    requests, and somebody waits 10 ms and more for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of *waits* has returned, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
