"""
One of three replicas is killed, stopped or drained under load, with two gateways on one store.

The load is of calls that may run twice (GET). `bench/replicas.py` does the same at 70 % of what a gateway
can take; here the rate is fixed and small.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.system.load import Load
from tests.system.test_upstreams import becomes, endpoint
from tests.system.yard import Cafe, Gateway, Yard, until

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = [pytest.mark.system, pytest.mark.valkey]

ATTEMPT_S = 0.5
RATE = 60
OFF_WITHIN_S = 2.0
DESCRIBED = Path(__file__).parents[2] / "src/silence_gateway/app/sample/cafe.binpb"

CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s"}
telemetry: {access_log: none}
upstreams:
  cafe:
    endpoints: [%s]
    descriptors: %s
    retry: {attempt_timeout: 500ms}
"""


@dataclass
class Fleet:
    """Gateways of one fleet in front of three replicas."""

    gateways: list[Gateway]
    cafes: list[Cafe]

    def sent_to(self, cafe: Cafe) -> list[int]:
        """Return how many calls each gateway has begun at *cafe*, ever."""
        told = [endpoint(gateway, cafe) for gateway in self.gateways]
        return [each["in_flight"] + each["calls"] for each in told]

    def used(self, cafe: Cafe) -> None:
        """Wait until every gateway sends calls to *cafe*."""
        before = self.sent_to(cafe)
        until(
            lambda: all(now > then for now, then in zip(self.sent_to(cafe), before, strict=True)),
            lambda: f"every gateway uses {cafe.name}: {[endpoint(one, cafe) for one in self.gateways]}",
        )


@pytest.fixture(scope="module")
def fleet(shared_yard: Yard, valkey: ValkeyServer) -> Fleet:
    cafes = [shared_yard.cafe(name) for name in ("one", "two", "three")]
    text = CONFIG % (fresh_fleet(), valkey.url, ", ".join(cafe.address for cafe in cafes), DESCRIBED)
    fleet = Fleet([shared_yard.gateway(text, words=("ready",)) for _ in range(2)], cafes)
    for gateway in fleet.gateways:
        for cafe in cafes:
            becomes(gateway, cafe, "state", "ready")
    return fleet


@contextmanager
def under_load(fleet: Fleet) -> Iterator[list[Load]]:
    """Send GETs to both gateways, and let none of them fail."""
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(gateway.port, RATE)) for gateway in fleet.gateways]
        for cafe in fleet.cafes:
            fleet.used(cafe)
        yield loads
    assert [failed for load in loads for failed in load.failed()] == []


def last_sent_s(fleet: Fleet, victim: Cafe, began_s: float) -> float:
    """Watch what the *victim*, stopped at *began_s*, is sent; return when that was for the last time."""
    left_s, sent = began_s, fleet.sent_to(victim)

    def stays_away() -> bool:
        nonlocal left_s, sent
        now = fleet.sent_to(victim)
        if now != sent:
            left_s, sent = time.monotonic(), now
        return time.monotonic() - began_s > 1.5 * OFF_WITHIN_S

    until(stays_away, "the replica has been stopped for a while")
    return left_s


def more(loads: list[Load], count: int) -> None:
    """Wait until *count* more requests have ended at each gateway."""
    wanted = [len(load.sent) + count for load in loads]
    until(
        lambda: all(len(load.sent) >= enough for load, enough in zip(loads, wanted, strict=True)),
        "requests are answered",
        timeout_s=20,
    )


def test_no_get_fails_when_a_replica_is_killed_and_when_it_comes_back(
    fleet: Fleet, shared_yard: Yard
) -> None:
    victim = fleet.cafes[0]
    with under_load(fleet) as loads:
        victim.signal(signal.SIGKILL)
        victim.wait()
        more(loads, RATE)
        fleet.cafes[0] = shared_yard.cafe("one", victim.port)
        fleet.used(fleet.cafes[0])


def test_a_stopped_replica_makes_no_get_later_than_one_attempt_and_is_left_by_all_within_two_seconds(
    fleet: Fleet,
) -> None:
    victim = fleet.cafes[0]
    with under_load(fleet) as loads:
        began_s = time.monotonic()
        victim.signal(signal.SIGSTOP)
        try:
            left_s = last_sent_s(fleet, victim, began_s)
        finally:
            victim.signal(signal.SIGCONT)
        fleet.used(victim)
    for load in loads:
        # Its first attempt, the wait before the second, and that one on a busy machine.
        assert load.worst_s() < ATTEMPT_S + 0.5
    assert left_s - began_s < OFF_WITHIN_S


def test_by_default_too_a_stopped_replica_is_left_within_two_seconds(fleet: Fleet, shared_yard: Yard) -> None:
    """It does not answer pings. In turn, because the default balancer avoids who owes many answers anyway."""
    victim = fleet.cafes[0]
    addresses = ", ".join(cafe.address for cafe in fleet.cafes)
    text = (CONFIG % ("alone", "memory://", addresses, DESCRIBED)).replace(
        "    retry: {attempt_timeout: 500ms}\n", "    balancer: round_robin\n"
    )
    alone = Fleet([shared_yard.gateway(text, words=("ready",))], fleet.cafes)
    with under_load(alone) as loads:
        began_s = time.monotonic()
        victim.signal(signal.SIGSTOP)
        try:
            left_s = last_sent_s(alone, victim, began_s)
            assert endpoint(alone.gateways[0], victim)["state"] == "doubtful"
        finally:
            victim.signal(signal.SIGCONT)
        becomes(alone.gateways[0], victim, "state", "ready")
        alone.used(victim)
    assert left_s - began_s < OFF_WITHIN_S
    late = [each for each in loads[0].sent if each.took_s > 1 and each.at_s > began_s + OFF_WITHIN_S]
    assert late == []


def test_no_get_fails_when_a_replica_is_drained_for_the_fleet_and_used_again(fleet: Fleet) -> None:
    victim, (one, _) = fleet.cafes[0], fleet.gateways
    path = f"/api/v1/upstreams/cafe/endpoints/{victim.address}"
    with under_load(fleet) as loads:
        assert one.admin("PUT", f"{path}?state=drain").json()["fleet"] is True
        for gateway in fleet.gateways:
            becomes(gateway, victim, "state", "out", timeout_s=OFF_WITHIN_S)
        until(lambda: all(endpoint(each, victim)["in_flight"] == 0 for each in fleet.gateways), "it is idle")
        sent = fleet.sent_to(victim)
        more(loads, RATE)
        assert fleet.sent_to(victim) == sent

        assert one.admin("PUT", f"{path}?state=active").json()["fleet"] is True
        fleet.used(victim)
