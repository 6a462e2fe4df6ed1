"""
The demo itself: starts everything, shows it, lets a person break things, and ends with a summary.

Everything it starts ends with it: replicas when their standard input closes, the embedded store by its
own guard, workers when their parent is gone.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from importlib.resources import files
from typing import Any

from silence_gateway.app.config.load import load_text
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.app.demo.keys import Keys
from silence_gateway.app.demo.replicas import Replica, require_demo_packages
from silence_gateway.app.demo.report import KEYS, PIPE, WELCOME, Report
from silence_gateway.app.demo.trickle import Trickle
from silence_gateway.app.demo.watcher import Watcher
from silence_gateway.app.exit_codes import OK
from silence_gateway.app.process import StopSignals, first_of, run_on_uvloop
from silence_gateway.app.run import serve_alone
from silence_gateway.app.store_place import StorePlace
from silence_gateway.app.worker_pool import serve_with_workers
from silence_gateway.clock import SystemClock
from silence_gateway.watch.logs import LogWriter

REPLICAS = ("one", "two", "three")
READY_DEADLINE_S = 20.0


def demo(port: int, admin_port: int, workers: int) -> int:
    """
    Run the demo until it is ended; returns the exit code.

    Raises:
        ConfigError: The demo's packages are missing, or a port is taken.
    """
    require_demo_packages()
    return run_on_uvloop(Demo(port or free_port(), admin_port or free_port(), workers).run())


def free_port() -> int:
    """Return a port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Demo:
    """One run of the demo."""

    def __init__(self, port: int, admin_port: int, workers: int) -> None:
        self.port = port
        self.admin_port = admin_port
        self.workers = workers
        self.replicas = [Replica(name) for name in REPLICAS]
        self.stop = StopSignals()
        self.report = Report(self.say)
        self.trickle = Trickle(port)
        self.keys = Keys(self.on_key)
        self.work: set[asyncio.Task[None]] = set()
        self.place: StorePlace | None = None
        self.store_down = False
        self.one_key_at_a_time = asyncio.Lock()

    def say(self, text: str) -> None:
        """Tell the person in front of it."""
        print(text, flush=True)

    async def run(self) -> int:
        """Start everything, serve until it is ended, sum up."""
        clock = SystemClock()
        started_s = time.monotonic()
        with self.stop.installed():
            try:
                self.say("starting a store, three replicas and a gateway ...")
                await asyncio.gather(*(replica.start() for replica in self.replicas))
                loaded = load_text(demo_config(), "demo.yaml", self.environment())
                async with StorePlace(loaded.config, clock, self.report) as place:
                    self.place = place
                    self.keys.open()
                    self.begin(self.welcome_when_ready(place))
                    await self.serve(loaded, place, clock)
            finally:
                self.keys.close()
                for task in self.work:
                    task.cancel()
                await asyncio.gather(*self.work, return_exceptions=True)
                await asyncio.gather(*(replica.stop() for replica in self.replicas))
        trickle, lasted_s = self.trickle, time.monotonic() - started_s
        self.say(self.report.summary(trickle.statuses, trickle.orders_lost, lasted_s))
        return OK

    async def serve(self, loaded: LoadedConfig, place: StorePlace, clock: SystemClock) -> None:
        """Serve, in this process or in workers, until the demo is ended."""
        if self.workers > 1:
            self.begin(Watcher(self.admin_port, self.report).run())
            await serve_with_workers(loaded, self.workers, place, clock, self.report, self.stop)
        else:
            await serve_alone(loaded, place, clock, self.report, LogWriter(sys.stdout.fileno()), self.stop)

    def environment(self) -> Mapping[str, str]:
        """Return what the demo's configuration takes from the environment."""
        return {
            **os.environ,
            "SILENCE_DEMO_LISTEN_PORT": str(self.port),
            "SILENCE_DEMO_ADMIN_LISTEN_PORT": str(self.admin_port),
            # What workers would log is told in words here; only their mistakes are shown as they are.
            "SILENCE_DEMO_LOG_LEVEL": "error",
            **{f"SILENCE_DEMO_REPLICA_{n}": str(each.port) for n, each in enumerate(self.replicas, 1)},
        }

    async def welcome_when_ready(self, place: StorePlace) -> None:
        """Say what to try once a first request was answered, then keep a little traffic going."""
        deadline_s = time.monotonic() + READY_DEADLINE_S
        while (await self.trickle.ask("GET", "/v1/drinks/latte", b""))[0] != 200:
            if time.monotonic() > deadline_s:
                self.say(f"the gateway did not answer within {READY_DEADLINE_S:.0f} s; see above")
                self.stop.ask()
                return
            await asyncio.sleep(0.05)
        # As it was called, because a fresh virtual environment is seldom on the PATH.
        silence = shlex.quote(sys.argv[0])
        self.say(
            WELCOME.format(port=self.port, admin_port=self.admin_port, store=place.described, silence=silence)
        )
        self.say(KEYS if self.keys.on_terminal else PIPE)
        # Requests that meet a gateway which was told to end would count as failed, and say nothing.
        await first_of(self.trickle.run(), self.stop.asked.wait())

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self.work.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Tell what went wrong with work in the background."""
        self.work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.say(f"that did not work: {task.exception()}")

    def on_key(self, key: str) -> None:
        """Do what a key asks for."""
        if key == "q":
            self.stop.ask()
        elif key == "k":
            self.toggle_store()
        elif key == "u":
            self.begin(self.toggle_replica())

    def toggle_store(self) -> None:
        """Kill the store, or start it again."""
        embedded = self.place.embedded if self.place is not None else None
        if embedded is None:
            self.say("this demo runs without an embedded store (memory://): there is nothing to stop")
            return
        self.store_down = not self.store_down
        if self.store_down:
            self.say("you stopped the store")
            embedded.take_down()
        else:
            self.say("you started the store")
            embedded.bring_up()

    async def toggle_replica(self) -> None:
        """Kill the first replica, or start it again."""
        replica = self.replicas[0]
        # A second key while a process starts or ends means what comes after that.
        async with self.one_key_at_a_time:
            if replica.running:
                self.say(f"you killed replica {replica.name}")
                await replica.kill()
            else:
                self.say(f"you started replica {replica.name}")
                await replica.start()


def demo_config() -> str:
    """Return the demo's configuration file."""
    return (files("silence_gateway.app.sample") / "demo.yaml").read_text()
