"""One real Valkey server per session, every kind of place for stores, and fleets that never meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.stores.places import KINDS, Place, place

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


@pytest.fixture(scope="session", params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One server, sentinels, or a cluster; whoever changes something about it puts it back."""
    with place(request.param, tmp_path_factory.mktemp("where")) as found:
        yield found
