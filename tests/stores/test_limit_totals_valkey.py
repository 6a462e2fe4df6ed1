"""The fleet's counts of limits, on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
import redis.asyncio

from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limit_contract import LimitCounts
from silence_gateway.stores.limit_totals_valkey import MAX_LIMITS_PER_CALL, MAX_TOP, ValkeyLimitTotals
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

pytestmark = pytest.mark.valkey


class Runner:
    """A ScriptRunner over a plain client."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        return await self.client.eval(script.text, len(keys), *keys, *args)


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    with valkey_server() as server:
        yield server.socket


def run(socket: str, scenario: Callable[[Runner], Awaitable[None]]) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=socket) as client:
            await scenario(Runner(client))

    asyncio.run(main())


def test_counts_of_instances_add_up(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        one, other = ValkeyLimitTotals(runner, fleet), ValkeyLimitTotals(runner, fleet)
        await one.add({"a": LimitCounts(allowed=3, denied=1, top={"x": 3, "y": 1}), "b": LimitCounts()})
        await other.add({"a": LimitCounts(allowed=2, shadow_denied=4, top={"y": 9})})

        found = await one.read(["a", "b", "never"])

        assert found == {
            "a": LimitCounts(allowed=5, denied=1, shadow_denied=4, top={"y": 10, "x": 3}),
            "b": LimitCounts(),
            "never": LimitCounts(),
        }
        assert list(found["a"].top) == ["y", "x"]

    run(socket, scenario)


def test_odd_keys_come_back_as_they_were(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        totals = ValkeyLimitTotals(runner, fresh_fleet())
        top = {"ü,%2C {x}": 2, "": 1}
        await totals.add({"a": LimitCounts(top=top)})

        assert (await totals.read(["a"]))["a"].top == top

    run(socket, scenario)


def test_busiest_keys_are_bounded_and_everything_ends(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        totals = ValkeyLimitTotals(runner, fleet)
        await totals.add({"a": LimitCounts(allowed=1, top={f"k{n}": n + 1 for n in range(3 * MAX_TOP)})})

        top = (await totals.read(["a"]))["a"].top
        lives_s = [await runner.client.ttl(key) async for key in runner.client.scan_iter(f"{fleet}:*")]

        assert list(top.values()) == list(range(3 * MAX_TOP, 2 * MAX_TOP, -1))
        assert len(lives_s) == 3
        assert min(lives_s) > 0

    run(socket, scenario)


def test_many_limits_take_several_calls(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        totals = ValkeyLimitTotals(runner, fresh_fleet())
        counts = {f"l{n}": LimitCounts(allowed=n) for n in range(2 * MAX_LIMITS_PER_CALL + 3)}
        await totals.add(counts)

        assert await totals.read(list(counts)) == counts

    run(socket, scenario)


def test_a_sweep_forgets_unseen_limits_some_at_a_time_and_no_living_one(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        totals = ValkeyLimitTotals(runner, fresh_fleet())
        await totals.add({f"old{n}": LimitCounts(allowed=1) for n in range(3)})
        await runner.client.zadd(totals.seen, {f"old{n}": 1 for n in range(3)})
        await totals.add({"living": LimitCounts(allowed=1)})

        swept = [list(await totals.sweep(3600, 2)) for _ in range(3)]

        assert swept == [["old0", "old1"], ["old2"], []]
        assert await runner.client.hkeys(totals.counts) == [b"living allowed"]

    run(socket, scenario)
