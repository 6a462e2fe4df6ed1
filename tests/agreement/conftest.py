"""A real Valkey for the agreement tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from silence_gateway.testing.valkey import valkey_server


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[str]:
    """Path of a running server's socket."""
    with valkey_server() as server:
        yield server.socket


@pytest.fixture
def valkey(valkey_socket: str) -> Iterator[redis.Redis]:
    """A client of an empty server."""
    with redis.Redis(unix_socket_path=valkey_socket) as client:
        client.flushall()
        yield client
