"""One real Valkey server per session, and fleets that never meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url(valkey: ValkeyServer) -> str:
    return valkey.url


@pytest.fixture
def fleet() -> str:
    return fresh_fleet()
