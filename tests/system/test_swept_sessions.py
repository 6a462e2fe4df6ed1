"""
What a killed gateway leaves in the store is removed by another.

That takes ten to twenty seconds, so it is looked at in a file that runs long after `test_realtime.py`,
whose gateways these are.
"""

from __future__ import annotations

import time

import pytest
from tests.system.realtime_fleet import Fleet, presence, session_ids
from tests.system.yard import until

pytestmark = pytest.mark.system


def test_sessions_of_a_killed_gateway_are_swept(realtime_fleet: Fleet) -> None:
    """Nobody stays present who is not there: soon after twice ten seconds at the latest."""
    left_s = max(1.0, realtime_fleet.killed_s + 35 - time.monotonic())
    until(lambda: session_ids(realtime_fleet.one, user="eve") == [], "its session is gone", left_s)
    until(lambda: presence(realtime_fleet.one, "chat:attic") == set(), "its presence is gone", 5)

    assert realtime_fleet.one.admin("GET", f"/api/v1/sessions/{realtime_fleet.left_behind}").status == 404
