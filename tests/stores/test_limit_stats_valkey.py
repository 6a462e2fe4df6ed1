"""Statistics of the fleet's limits, on a real Valkey."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import blake2b
from socket import create_server
from typing import Any

import pytest
import redis.asyncio
from redis.crc import key_slot

from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limit_stats_contract import (
    MAX_TOP,
    By,
    LimitCounts,
    LimitUse,
    NewUse,
    WindowName,
    WindowUse,
)
from silence_gateway.stores.limit_stats_valkey import NAMES_PER_CALL, RING, ValkeyLimitStats
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

pytestmark = pytest.mark.valkey

WINDOWS: tuple[WindowName, ...] = ("1m", "1h")
BY: tuple[By, ...] = ("requests", "refused")
BOTH = {(window, by): 50 for window in WINDOWS for by in BY}


class Runner:
    """A ScriptRunner over a plain client, which remembers the keys of every call."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self.calls: list[tuple[str, list[bytes]]] = []

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        self.calls.append((script.name, list(keys)))
        return await self.client.eval(script.text, len(keys), *keys, *args)


@pytest.fixture(scope="module", params=["alone", "in-a-cluster"])
def socket(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server; one in a cluster has every slot, and refuses calls whose keys are in several."""
    clustered = request.param == "in-a-cluster"
    with create_server(("127.0.0.1", 0)) as taken:
        bus_port = taken.getsockname()[1]
    options = ["--cluster-enabled", "yes", "--bind", "127.0.0.1", "--cluster-port", str(bus_port)]
    with valkey_server(options if clustered else []) as server:
        if clustered:
            with redis.Redis(unix_socket_path=server.socket) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                end_s = time.monotonic() + 10
                while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                    assert time.monotonic() < end_s
        yield server.socket


def run(socket: str, scenario: Callable[[Runner], Awaitable[None]]) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(unix_socket_path=socket) as client:
            await scenario(Runner(client))

    asyncio.run(main())


def clients(first: int, last: int) -> list[bytes]:
    return [blake2b(str(number).encode(), digest_size=8).digest() for number in range(first, last)]


def test_what_instances_count_adds_up(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        one, other = ValkeyLimitStats(runner, fleet), ValkeyLimitStats(runner, fleet)
        generation = await one.add(
            "a",
            NewUse(
                counts=LimitCounts(3, 1, 0, 2),
                requests={"x": 3, "y": 1},
                refused={"y": 1},
                clients=clients(0, 2),
            ),
            0,
        )
        await other.add(
            "a",
            NewUse(counts=LimitCounts(2, 0, 4), requests={"y": 9}, refused={"y": 4}, clients=clients(1, 3)),
            0,
        )

        found = await one.read("a", BOTH)

        window = WindowUse(
            counts=LimitCounts(5, 1, 4, 2),
            unique_clients=3,
            requests={"y": 10, "x": 3},
            refused={"y": 5},
        )
        assert found == LimitUse(
            counts=LimitCounts(5, 1, 4, 2), since_us=generation, windows={"1m": window, "1h": window}
        )
        assert list(found.windows["1h"].requests) == ["y", "x"]
        assert await one.read("never", BOTH) == LimitUse(windows={"1m": WindowUse(), "1h": WindowUse()})

    run(socket, scenario)


def test_only_the_tops_asked_for_are_read(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        stats = ValkeyLimitStats(runner, fresh_fleet())
        await stats.add("a", NewUse(requests={f"k{n}": n for n in range(1, 9)}, refused={"k1": 1}), 0)

        windows = (await stats.read("a", {("1h", "requests"): 3})).windows

        assert windows["1h"].requests == {"k8": 8, "k7": 7, "k6": 6}
        assert windows["1m"].requests == windows["1h"].refused == {}

    run(socket, scenario)


def test_odd_keys_come_back_as_they_were(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        stats = ValkeyLimitStats(runner, fresh_fleet())
        odd = {"ü,%2C {x}": 2, "": 1}
        await stats.add("a", NewUse(requests=odd), 0)

        assert (await stats.read("a", BOTH)).windows["1m"].requests == odd

    run(socket, scenario)


def test_unique_clients_are_about_right_however_many_and_however_often(socket: str) -> None:
    """The server's HyperLogLog has a standard error of 0.81 %."""

    async def scenario(runner: Runner) -> None:
        stats = ValkeyLimitStats(runner, fresh_fleet())
        for start in [*range(0, 20_000, 250), *range(0, 5_000, 250)]:
            await stats.add("a", NewUse(clients=clients(start, start + 250)), 0)

        windows = (await stats.read("a", {})).windows

        assert windows["1h"].unique_clients == pytest.approx(20_000, rel=0.03)

    run(socket, scenario)


def test_lists_are_bounded_and_everything_ends_when_its_window_is_over(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        stats = ValkeyLimitStats(runner, fleet)
        many = {f"k{n}": n + 1 for n in range(3 * MAX_TOP)}
        new = NewUse(counts=LimitCounts(1), requests=many, refused=many, clients=clients(0, 9))
        await stats.add("a", new, 0)
        await stats.show(["a"])

        top = (await stats.read("a", {("1m", "requests"): 1000})).windows["1m"].requests
        assert list(top.values()) == list(range(3 * MAX_TOP, 2 * MAX_TOP, -1))
        lives_s = {
            key.decode(): await runner.client.ttl(key)
            async for key in runner.client.scan_iter(f"{fleet}:*", count=1000)
        }
        bounds = {"1m": (59, 70), "1h": (3599, 4200)}
        slots = [key.split("}:")[1].split(":") for key in lives_s if ":1" in key]
        assert sorted((window, kind) for window, _, kind in slots) == sorted(
            (window, kind) for window in bounds for kind in ("counts", "clients", "requests", "refused")
        )
        for key, seconds in lives_s.items():
            found = re.search(r":(1m|1h):", key)
            low, high = bounds[found[1]] if found else (86_400, 31 * 86_400)
            assert low <= seconds <= high, key

    run(socket, scenario)


def test_a_window_is_all_its_slots_that_have_not_ended(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        stats = ValkeyLimitStats(runner, fresh_fleet())
        await stats.add("a", NewUse(counts=LimitCounts(1), requests={"k": 1}, clients=clients(0, 1)), 0)
        names = {
            kind: [key for key in stats.keys_of("a") if b":1m:" in key and key.endswith(kind)]
            for kind in (b"counts", b"clients", b"requests")
        }
        assert all(len(places) == RING for places in names.values())
        for places in zip(*names.values(), strict=True):
            if not await runner.client.exists(*places):
                await runner.client.hset(places[0], "allowed", 2)
                await runner.client.pfadd(places[1], *clients(0, 2))
                await runner.client.zincrby(places[2], 5, "k")
                await runner.client.pexpire(places[2], 1 if places[2].endswith(b"0:requests") else 60_000)

        window = (await stats.read("a", BOTH)).windows["1m"]

        assert (window.counts.allowed, window.unique_clients) == (1 + 2 * (RING - 1), 2)
        assert window.requests["k"] in (1 + 5 * (RING - 1), 1 + 5 * (RING - 2))

    run(socket, scenario)


def test_a_reset_forgets_everything_and_refuses_what_was_counted_before(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        stats = ValkeyLimitStats(runner, fleet)
        new = NewUse(counts=LimitCounts(1), requests={"k": 1}, refused={"k": 1}, clients=clients(0, 1))
        before = await stats.add("a", new, 0)
        await stats.add("b", new, 0)
        after = await stats.reset("a")

        assert after > before
        assert await stats.add("a", new, before) == after  # in force, and larger: nothing was added
        found = await stats.read("a", BOTH)
        assert found == LimitUse(since_us=found.since_us, windows={"1m": WindowUse(), "1h": WindowUse()})
        assert await stats.add("a", new, after) == after
        assert await stats.add("a", new, 0) == after  # somebody who has just come
        assert (await stats.read("a", BOTH)).counts.allowed == 2
        assert (await stats.read("b", BOTH)).counts.allowed == 1
        assert await stats.reset("a") > after

    run(socket, scenario)


def test_a_store_that_lost_its_memory_is_told_the_generation(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        stats = ValkeyLimitStats(runner, fleet)
        known = await stats.reset("a")
        await runner.client.delete(*stats.keys_of("a"))

        assert await stats.add("a", NewUse(counts=LimitCounts(7)), known) == known
        assert await stats.add("a", NewUse(counts=LimitCounts(1)), known - 1) == known
        found = await stats.read("a", {})
        assert found.counts.allowed == 7
        assert found.since_us > known

    run(socket, scenario)


def test_every_call_stays_in_one_slot_of_a_cluster_and_limits_spread_over_it(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        stats = ValkeyLimitStats(runner, fresh_fleet())
        names = [f"limit-{number}" for number in range(20)]
        for name in names:
            await stats.add(name, NewUse(counts=LimitCounts(1)), 0)
            await stats.read(name, BOTH)
            await stats.reset(name)
        await stats.show(names)
        await runner.client.zadd(stats.index, dict.fromkeys(names, 1))
        assert len(await stats.sweep(3600, 100)) == 20

        assert {name for name, _ in runner.calls} == {
            "limit_stats_add",
            "limit_stats_read",
            "limit_stats_top",
            "limit_stats_reset",
            "limit_index_show",
            "limit_index_sweep",
        }
        assert all(len({key_slot(key) for key in keys}) == 1 for _, keys in runner.calls)
        assert len({key_slot(keys[0]) for name, keys in runner.calls if name == "limit_stats_add"}) == 20

    run(socket, scenario)


def test_scripts_write_only_what_they_declare_and_touch_nothing_of_other_limits(socket: str) -> None:
    """The server itself forbids every other key, by ACL."""

    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        allowed = [f"{fleet}:v2:limit-stats:{{a}}:*"]
        await runner.client.acl_setuser(
            "bounded", enabled=True, nopass=True, keys=allowed, commands=["+@all"]
        )
        async with redis.asyncio.Redis(unix_socket_path=socket, username="bounded", password="") as client:
            stats = ValkeyLimitStats(Runner(client), fleet)
            counts, once = LimitCounts(1, 1, 1, 1), {"k": 1}
            new = NewUse(counts=counts, requests=once, refused=once, clients=clients(0, 1))
            await stats.add("a", new, 0)
            assert (await stats.read("a", BOTH)).counts == counts
            written = {key async for key in runner.client.scan_iter(f"{fleet}:*", count=1000)}
            assert written
            assert written <= set(stats.keys_of("a"))
            await stats.reset("a")
            with pytest.raises(redis.exceptions.NoPermissionError):
                await stats.reset("b")

    run(socket, scenario)


def test_a_sweep_forgets_unseen_limits_some_at_a_time_and_no_living_one(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        stats = ValkeyLimitStats(runner, fleet)
        gone = [f"old{number}" for number in range(3)]
        for name in [*gone, "living"]:
            await stats.add(name, NewUse(counts=LimitCounts(1), clients=clients(0, 1)), 0)
        await stats.show([*gone, "living"])
        await runner.client.zadd(stats.index, dict.fromkeys(gone, 1))

        swept = [list(await stats.sweep(3600, 2)) for _ in range(3)]

        assert swept == [["old0", "old1"], ["old2"], []]
        left = {key.decode() async for key in runner.client.scan_iter(f"{fleet}:*", count=1000)}
        assert {key.partition("}")[0] for key in left} == {
            f"{fleet}:v2:limit-index", f"{fleet}:v2:limit-stats:{{living",
        }  # fmt: skip
        assert await runner.client.zrange(stats.index, 0, -1) == [b"living"]

    run(socket, scenario)


def test_many_limits_are_shown_in_several_calls(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        stats = ValkeyLimitStats(runner, fresh_fleet())
        names = [f"l{number}" for number in range(2 * NAMES_PER_CALL + 3)]
        await stats.show(names)

        assert await runner.client.zcard(stats.index) == len(names)
        assert [len(keys) for _, keys in runner.calls] == [1, 1, 1]

    run(socket, scenario)
