"""What the system tests start: a yard of processes for each test, and for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.realtime_fleet import Fleet, start_fleet
from tests.system.yard import Cafe, Yard

from silence_gateway.testing.valkey import ValkeyServer


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Yield a starter of processes; everything it started is gone afterwards."""
    made = Yard(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def shared_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Yield a starter of processes that all tests of a file may use."""
    made = Yard(tmp_path_factory.mktemp("yard"))
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def cafe(shared_yard: Yard) -> Cafe:
    """Return the one replica that most tests need, and none may break."""
    return shared_yard.cafe("cafe")


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    """Yield a real server that no test may break."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def realtime_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Yield gateways of one fleet that has just lost an instance; for the whole run, as the sweep is slow."""
    made = Yard(tmp_path_factory.mktemp("fleet"))
    with ValkeyServer() as server:
        try:
            yield start_fleet(made, server)
        finally:
            made.end()
