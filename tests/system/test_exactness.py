"""A hundred callers in four processes on one key: together they admit what one limit admits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

ASKER = Path(__file__).with_name("asker.py")
LIMIT = 20
WINDOW_US = 100_000
PROCESSES = 4
CALLERS = 25
SECONDS = 2.0
MANY_WINDOWS = 10
"""Of the 20 in the time; the processes neither begin nor end together."""


def admitted_by_four(server: ValkeyServer, algorithm: str) -> list[int]:
    """Return the store's time of every admission, in order."""
    rate = f"{LIMIT}/{WINDOW_US // 1000}ms"
    words = [
        sys.executable,
        str(ASKER),
        server.url,
        fresh_fleet(),
        algorithm,
        rate,
        str(CALLERS),
        str(SECONDS),
    ]
    askers = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    outputs = [asker.communicate(timeout=60)[0] for asker in askers]

    assert [asker.returncode for asker in askers] == [0] * PROCESSES
    return sorted(at_us for output in outputs for at_us in json.loads(output))


def test_no_fixed_window_admits_more_than_its_limit_and_those_that_are_asked_in_whole_admit_it(
    valkey: ValkeyServer,
) -> None:
    counts = Counter(at_us // WINDOW_US for at_us in admitted_by_four(valkey, "fixed_window"))

    assert max(counts.values()) == LIMIT
    assert sum(count == LIMIT for count in counts.values()) >= MANY_WINDOWS


def test_no_window_at_all_sees_more_than_the_limit_of_a_sliding_one(valkey: ValkeyServer) -> None:
    """A use counts until just before it is one window old, so N + 1 of them never lie closer than that."""
    times = admitted_by_four(valkey, "sliding_window")
    spans = [late - early for early, late in zip(times, times[LIMIT:], strict=False)]

    assert len(times) >= MANY_WINDOWS * LIMIT
    assert min(spans) >= WINDOW_US
