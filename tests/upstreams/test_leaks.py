"""What many calls with random ends leave behind: nothing. `make bench` does it with a million (part p)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

LEAKS = Path(__file__).parents[2] / "bench" / "leaks.py"


def test_twenty_thousand_calls_cancelled_late_or_left_leave_nothing() -> None:
    done = subprocess.run(
        [sys.executable, str(LEAKS), "20000"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "calls 20,000" in done.stderr
