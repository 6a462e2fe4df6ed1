"""The replicas of the sample service, as processes that can be stopped and started."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys

from silence_gateway.errors import ConfigError, GatewayError

START_DEADLINE_S = 15.0
STOP_DEADLINE_S = 3.0


class ReplicaFailed(GatewayError):
    """A replica did not start."""


def require_demo_packages() -> None:
    """
    Check that the sample service can run.

    Raises:
        ConfigError: The `demo` extra is not installed.
    """
    missing = [
        name for name in ("grpc", "grpc_reflection", "grpc_health") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ConfigError(
            f"the demo's sample service needs {', '.join(missing)}: pip install 'silence-gateway[demo]'"
        )


class Replica:
    """
    One replica. It ends when its standard input closes, so it never outlives this process.

    Attributes:
        name: What it calls itself in its answers.
        port: Port on 127.0.0.1; chosen at the first start and kept from then on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id; 0 when it does not run."""
        return self._process.pid if self._process is not None and self.running else 0

    async def start(self) -> None:
        """
        Start it and wait until it listens.

        Raises:
            ReplicaFailed: It did not come up within START_DEADLINE_S seconds.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "silence_gateway.app.sample.server",
            self.name,
            "--port",
            str(self.port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # A Ctrl-C at the terminal is for the demo, which then stops its replicas in order.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.startswith(b"listening on "):
            await self.stop()
            raise ReplicaFailed(
                f"replica {self.name} did not start: {line.decode(errors='replace').strip()!r}"
            )
        self.port = int(line.rpartition(b":")[2])

    async def stop(self) -> None:
        """Stop it; harmless when it does not run."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_DEADLINE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def kill(self) -> None:
        """End it without warning, as a crash would."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
