"""
Every fault of `faults/table.py` under steady load: what requests notice of it, and how it ends.

All rows are run once, several at a time, and each promise is then looked at for each row. Bounds on time
have room for a busy machine of two cores; the figures themselves are measured by `bench/faults.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from tests.stores.faults.grounds import faketime
from tests.stores.faults.runner import Dialled, Figures, run_fault, until
from tests.stores.faults.table import FAULTS, Fault

from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.valkey

DEADLINE_S = 0.05
# Where the store is not to be given up: a busy machine answers late as well, and is no fault of its own.
CALM_DEADLINE_S = 0.2
# What a loop that runs six of these at once, among other processes, may be late by.
SLACK_S = 0.15
OPENS_WITHIN_S = 1.0
AFTER_S = 0.001
RECOVERS_WITHIN_S = 2.0
FAILOVER_WITHIN_S = 3.0
CONNECTS_PER_SECOND = 2
AT_ONCE = 6
HOLD_S = 1.5
RATE = 100
BY_NAME = {fault.name: fault for fault in FAULTS}


def deadline_of(fault: Fault[Any]) -> float:
    return CALM_DEADLINE_S if fault.opens is False else DEADLINE_S


async def run_all(faults: list[Fault[Any]]) -> dict[str, Figures | BaseException]:
    """Run some rows, a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(fault: Fault[Any]) -> Figures:
        async with room:
            return await run_fault(fault, deadline_s=deadline_of(fault), hold_s=HOLD_S, rate=RATE)

    results = await asyncio.gather(*map(one, faults), return_exceptions=True)
    return {fault.name: result for fault, result in zip(faults, results, strict=True)}


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest) -> dict[str, Figures | BaseException]:
    """Run every row that any of the selected tests is about."""
    wanted = {
        item.callspec.params["row"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and "matrix" in item.fixturenames
        and "row" in item.callspec.params
    }
    faults = [
        fault
        for fault in FAULTS
        if fault.name in wanted and not (fault.needs_another_clock and faketime() is None)
    ]
    return asyncio.run(run_all(faults))


@pytest.fixture
def figures(matrix: dict[str, Figures | BaseException], row: str) -> Figures:
    if BY_NAME[row].needs_another_clock and faketime() is None:
        pytest.skip("NOT TESTED: no libfaketime wheel for this machine, so no server's clock can be stepped")
    found = matrix[row]
    if isinstance(found, BaseException):
        raise found
    return found


def rows(*, opens: bool | None = None, of: type | None = None) -> pytest.MarkDecorator:
    """Return the rows, or those whose breaker opens, or those of one kind of ground."""
    names = [
        fault.name
        for fault in FAULTS
        if (opens is None or fault.opens is opens) and (of is None or fault.ground is of)
    ]
    return pytest.mark.parametrize("row", names)


@rows()
def test_no_request_fails(figures: Figures, row: str) -> None:
    assert figures.errors == []
    assert figures.failed == 0
    assert figures.requests > 100


@rows()
def test_no_request_is_counted_twice(figures: Figures, row: str) -> None:
    """However replies were lost: the store has at most one increment per request."""
    assert figures.twice == 0


@rows()
def test_no_decision_takes_longer_than_the_deadline(figures: Figures, row: str) -> None:
    assert figures.worst_before_s <= deadline_of(BY_NAME[row]) + SLACK_S


@rows(opens=True)
def test_the_breaker_opens_within_a_second(figures: Figures, row: str) -> None:
    assert figures.opened_s is not None
    assert figures.opened_s <= OPENS_WITHIN_S
    assert figures.lost_said, "the log says why"


@rows(opens=True)
def test_an_open_breaker_adds_nothing(figures: Figures, row: str) -> None:
    """Of each quarter of a second the 99th percentile; of those the middle one."""
    assert figures.after_s is not None
    assert figures.after_s <= AFTER_S


@rows(opens=False)
def test_a_store_that_answers_is_not_given_up(figures: Figures, row: str) -> None:
    assert figures.lost_said == []


@rows()
def test_a_store_that_is_well_again_is_used_again(figures: Figures, row: str) -> None:
    assert figures.recovered_s <= (FAILOVER_WITHIN_S if BY_NAME[row].failover else RECOVERS_WITHIN_S)


@rows()
def test_nobody_knocks_more_often_than_twice_a_second(figures: Figures, row: str) -> None:
    """Also not at a new primary of a cluster, which every lane has to meet."""
    assert figures.reconnects <= CONNECTS_PER_SECOND


@pytest.mark.parametrize("row", ["Cluster: a primary killed", "Cluster: a primary hung"])
def test_other_shards_are_not_touched(figures: Figures, row: str) -> None:
    """Their decisions stay exact, and are not late; one in a hundred may meet a busy machine."""
    assert figures.elsewhere > 50
    assert figures.elsewhere_local <= figures.elsewhere // 100
    assert figures.elsewhere_worst_s <= DEADLINE_S + SLACK_S
    assert len(figures.lost_said) == 1, "said once, and not again when others have its slots"


@pytest.mark.parametrize("row", ["Cluster: slots moved key by key"])
def test_slots_move_key_by_key_and_the_store_goes_on_deciding(figures: Figures, row: str) -> None:
    assert figures.decided_locally <= figures.requests // 20


@pytest.mark.parametrize("row", [fault.name for fault in FAULTS if "clock" in fault.name])
def test_a_clock_that_is_stepped_changes_no_decision(figures: Figures, row: str) -> None:
    assert figures.decided_locally == 0


def test_fifty_workers_that_lose_their_store_do_not_storm_it() -> None:
    """A server that hangs up on everybody: each worker knocks at most twice a second, and not in step."""
    asyncio.run(storm(50))


async def storm(workers: int) -> None:
    with ValkeyServer() as server, FaultProxy(server.socket) as proxy:
        fleet = fresh_fleet()
        stores = [ValkeyStore(StoreSettings(url=proxy.url, deadline_s=0.25), fleet) for _ in range(workers)]
        dialled = [Dialled(store) for store in stores]
        for store in stores:
            await store.start()
        try:
            await until(lambda: all(store.up for store in stores), 10, "all are up")
            await asyncio.sleep(0.5)
            lost_s = time.monotonic()
            server.kill()
            await asyncio.sleep(3.5)
            server.start()
            back_s = time.monotonic()
            await until(lambda: all(store.up for store in stores), 10, "all are back")
            took_s = time.monotonic() - back_s
        finally:
            for store in stores:
                await store.stop()
    assert all(each.begun[-1][0] > lost_s for each in dialled), "each has knocked"
    assert max(each.most_in_a_second(lost_s) for each in dialled) <= CONNECTS_PER_SECOND
    assert took_s <= 5.0, "all are back in five seconds"
    # They lost it at one moment and knocked in step once; then no more: in step would be all in one step.
    begun = [at_s - lost_s for each in dialled for at_s, _ in each.begun if lost_s + 0.9 <= at_s < back_s]
    assert max(Counter(int(at_s * 10) for at_s in begun).values()) <= 0.4 * CONNECTS_PER_SECOND * workers
