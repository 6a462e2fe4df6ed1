"""Where faults happen: one server behind a proxy, sentinels with their servers, or a cluster."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.stores.server_process import ServerProcess
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.valkey import Line, ValkeyServer, server_program
from silence_gateway.testing.valkey_cluster import ValkeyCluster
from silence_gateway.testing.valkey_sentinel import SentinelSet

USER, PASSWORD = "gateway", "first"
# A server that is started again knows them still.
OPTIONS = ("--user", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")


class SteppedClock(SystemClock):
    """A wall clock that may be set, as an operator or a time daemon does."""

    def __init__(self) -> None:
        self.off_us = 0

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, as this clock has it."""
        return super().now_us() + self.off_us


def faketime() -> Path | None:
    """Return the library that shows a program another time; None where there is none."""
    spec = importlib.util.find_spec("libfaketime")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        library = Path(place) / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        if library.is_file():
            return library
    return None


class ServerOnAnotherClock(ServerProcess):
    """A server whose wall clock can be stepped, as it runs, by writing to `offset`."""

    @property
    def offset(self) -> Path:
        return self.directory / "offset"

    def command(self) -> list[str]:
        self.offset.write_text("+0\n")
        shown = {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in shown.items()), *super().command()]


class SteppedServer(ValkeyServer):
    """A `ValkeyServer` on another clock."""

    def __init__(self) -> None:
        self.process: ServerOnAnotherClock = ServerOnAnotherClock(
            server_program(), options=OPTIONS, max_memory_mb=128
        )
        self.start()

    def step(self, seconds: int) -> None:
        """Step its clock to so much before or after ours."""
        fresh = self.process.offset.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self.process.offset)


class Single:
    """
    One server behind a proxy.

    Attributes:
        clock: The gateway's.
        line: A connection that is held open, for when the server takes no more.
    """

    def __init__(self, server: ValkeyServer | None = None) -> None:
        self.server = server or ValkeyServer(*OPTIONS)
        self.proxy = FaultProxy(self.server.socket)
        self.folder = Path(tempfile.mkdtemp())
        self.secret = self.folder / "password"
        self.secret.write_text(PASSWORD)
        self.clock: Clock = SteppedClock()
        self.line: Line | None = None

    def let_in(self, password: str) -> None:
        """Give the gateway's user this password, and no other."""
        self.server.call("ACL", "SETUSER", USER, "on", "resetpass", f">{password}", "~*", "&*", "+@all")

    def settings(self, deadline_s: float) -> StoreSettings:
        """Return how a store gets here."""
        url = f"valkey://{USER}@127.0.0.1:{self.proxy.port}/0"
        return StoreSettings(url=url, password_file=self.secret, deadline_s=deadline_s)

    def close(self) -> None:
        """End everything."""
        if self.line is not None:
            self.line.close()
        self.proxy.close()
        self.server.stop()
        shutil.rmtree(self.folder)


def single_on_another_clock() -> Single:
    """One server whose clock can be stepped."""
    return Single(SteppedServer())


class Watched:
    """A primary and a replica, watched by sentinels."""

    def __init__(self) -> None:
        self.set = SentinelSet(down_after_ms=1000)
        self.clock: Clock = SteppedClock()
        self.failed = self.set.primary

    def settings(self, deadline_s: float) -> StoreSettings:
        """Return how a store gets here."""
        return StoreSettings(url=self.set.url, deadline_s=deadline_s)

    def close(self) -> None:
        """End everything."""
        self.set.stop()


class Clustered:
    """Three primaries with a replica each."""

    def __init__(self) -> None:
        self.cluster = ValkeyCluster(primaries=3, replicas=1, node_timeout_ms=1000)
        self.clock: Clock = SteppedClock()
        self.failed = self.cluster.nodes[0]
        self.slots: Sequence[tuple[int, int]] = ()

    def settings(self, deadline_s: float) -> StoreSettings:
        """Return how a store gets here."""
        return StoreSettings(url=self.cluster.url, deadline_s=deadline_s)

    def slots_of_failed(self) -> Sequence[tuple[int, int]]:
        """Return the ranges that `failed` serves."""
        node = self.failed
        told = node.call("CLUSTER", "SLOTS")
        return [(first, last) for first, last, primary, *_rest in told if primary[1] == node.open_port]

    def close(self) -> None:
        """End everything."""
        self.cluster.stop()


def lower_priority(pid: int) -> None:
    """Let everybody else of this machine go first."""
    os.setpriority(os.PRIO_PROCESS, pid, 19)
