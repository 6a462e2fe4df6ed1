"""
The parent of several workers: owns the sockets, the store's server and the admin listener.

Each worker slot has sockets of its own on the shared addresses, opened here once and handed to whichever
process fills the slot. A worker is told everything over its standard input, a pickle of our own making
between our own processes; when that pipe closes, the parent is gone and the worker drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from silence_gateway.admin.contracts import Answer, Ask
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.listening import Door, Sockets, close_doors, describe_doors, open_doors, start_admin
from silence_gateway.app.process import StopSignals, first_of
from silence_gateway.app.store_place import StorePlace
from silence_gateway.app.supervisor import Supervisor
from silence_gateway.app.worker_admin import WorkersInstance
from silence_gateway.clock import Clock
from silence_gateway.errors import ConfigError
from silence_gateway.events import Noticed, Observer
from silence_gateway.watch.families import Family, Sample


@dataclass(frozen=True, slots=True)
class WorkerOrders:
    """
    All that a worker is told.

    Attributes:
        loaded: The configuration.
        store_url: Where the store is, when the parent runs it; else None and the configuration says.
        sockets: File descriptors of this worker's listening sockets.
        admin_path: Unix socket on which the worker answers the parent.
    """

    loaded: LoadedConfig
    store_url: str | None
    sockets: Mapping[Door, Sequence[int]]
    admin_path: str


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One running worker."""

    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def wait(self) -> int:
        """Return its exit status once it has ended."""
        return await self.process.wait()

    def terminate(self) -> None:
        """Ask it to drain and end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class WorkerYard:
    """Makes the workers and knows their private sockets."""

    def __init__(self, loaded: LoadedConfig, store_url: str | None, count: int) -> None:
        self._loaded = loaded
        self._store_url = store_url
        self._folder = Path(tempfile.mkdtemp(prefix="silence-workers-"))
        try:
            self._sockets = open_doors(loaded.config, count)
        except ConfigError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def admin_path(self, slot: int) -> str:
        """Return the private socket of a slot."""
        return str(self._folder / f"worker-{slot}.sock")

    async def spawn(self, slot: int) -> WorkerProcess:
        """
        Start a worker in *slot*.

        Raises:
            OSError: The process cannot be started.
        """
        descriptors: Mapping[Door, Sequence[int]] = {
            door: [sock.fileno() for sock in sockets] for door, sockets in self._sockets[slot].items()
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "silence_gateway.app.worker",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[each for door in descriptors.values() for each in door],
            # A Ctrl-C at the terminal is for the parent, which then stops its workers in order.
            start_new_session=True,
        )
        assert process.stdin is not None
        orders = WorkerOrders(self._loaded, self._store_url, descriptors, self.admin_path(slot))
        data = pickle.dumps(orders)
        process.stdin.write(len(data).to_bytes(8, "big") + data)
        return WorkerProcess(process)

    def close(self) -> None:
        """Close the listening sockets and remove the private ones."""
        close_doors(self._sockets)
        shutil.rmtree(self._folder, ignore_errors=True)


async def serve_with_workers(
    loaded: LoadedConfig, count: int, place: StorePlace, clock: Clock, observer: Observer, stop: StopSignals
) -> bool:
    """
    Keep *count* workers serving until *stop*; returns whether all of them ended in time.

    Raises:
        ConfigError: An address cannot be listened on.
    """
    config = loaded.config
    yard = WorkerYard(loaded, place.url, count)
    supervisor = Supervisor(count, yard.spawn, drain_s=config.server.drain_s, clock=clock, observer=observer)

    def own_families() -> list[Family]:
        return [
            Family("silence_workers", "gauge", "Workers alive.", (Sample((), len(supervisor.workers)),)),
            Family(
                "silence_worker_restarts_total",
                "counter",
                "Workers started to replace one that had died.",
                (Sample((), supervisor.restarts),),
            ),
        ]

    def begin_drain(_ask: Ask) -> Answer:
        stop.ask()
        return Answer(200, {"state": "draining"})

    instance = WorkersInstance(
        lambda: {
            f"{slot}/{worker.pid}": yard.admin_path(slot) for slot, worker in supervisor.workers.items()
        },
        stop.asked.is_set,
        own_families,
        {"config": lambda _ask: Answer(200, loaded.describe()), "drain": begin_drain},
        shared=place.shared,
    )
    admin = None
    try:
        admin = await start_admin(config, instance, clock, observer)
        supervisor.start()
        observer(
            Noticed(
                what=f"{count} workers serve on {describe_doors(config)}; "
                f"admin on {config.admin.listen}; store {place.described}"
            )
        )
        await stop.asked.wait()
        observer(Noticed(what=f"draining: at most {config.server.drain_s:g} s"))
        ended: list[bool] = []
        await first_of(_stop(supervisor, ended), stop.insisted.wait())
        return ended == [True]
    finally:
        for worker in supervisor.workers.values():
            worker.kill()
        yard.close()
        if admin is not None:
            await admin.abort()


async def _stop(supervisor: Supervisor, ended: list[bool]) -> None:
    ended.append(await supervisor.stop())


def adopted(descriptors: Mapping[Door, Sequence[int]]) -> Sockets:
    """Return the listening sockets behind inherited *descriptors*."""
    found = {
        door: [socket.socket(fileno=each) for each in inherited] for door, inherited in descriptors.items()
    }
    for sockets in found.values():
        for sock in sockets:
            sock.setblocking(False)
    return found
