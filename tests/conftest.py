"""What holds for every test."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

# A slow machine is no failure, and CI tries the same examples every time: a new one that fails is found
# by somebody's `make test`, not by a push that has nothing to do with it.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_collection_finish() -> None:
    """Have the collector look at what was collected for the last time."""
    _freeze()


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """
    Begin each file with a heap that is looked through in no time, whatever ran before.

    A full collection of the 1.6 million objects of a whole run took half a second to a second, in which no
    event loop turns; tests that measure what a fault costs found it, and took it for the product's or the
    machine's.
    """
    _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()
