"""Limits that a fleet shares, on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from silence_gateway.core.limits import Algorithm, Ask, Decision, LimitRule
from silence_gateway.core.rates import Rate
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores import limits_valkey
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limits_valkey import ValkeyLimitStore
from silence_gateway.testing.limit_checks import check_limit_store
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

HOURLY = LimitRule(name="h", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(100, 3_600_000_000))


class Runner:
    """A ScriptRunner over a plain client, that remembers what it was asked."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self.calls: list[tuple[str, int]] = []

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        self.calls.append((script.name, len(keys)))
        return await self.client.eval(script.text, len(keys), *keys, *args)


class AnsweringRunner:
    """A ScriptRunner that gives one answer, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    with valkey_server() as server:
        yield server.socket


@asynccontextmanager
async def opened(socket: str) -> Any:
    async with redis.asyncio.Redis(unix_socket_path=socket) as client:
        yield Runner(client)


async def pass_real_time(seconds: float) -> None:
    """The server's own clock decides here, so time has to pass for real."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds + 0.002, over.set)
    await over.wait()


def run(socket: str, scenario: Callable[[Runner], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened(socket) as runner:
            await scenario(runner)

    asyncio.run(main())


@pytest.mark.valkey
def test_it_keeps_every_promise(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        await check_limit_store(ValkeyLimitStore(runner, fresh_fleet()), pass_real_time)

    run(socket, scenario)


@pytest.mark.valkey
def test_two_instances_share_one_limit(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        stores = [ValkeyLimitStore(runner, fleet) for _ in range(2)]
        answers = await asyncio.gather(*(stores[n % 2].decide([Ask(HOURLY, "k")]) for n in range(150)))

        assert sum(decision.allowed for [decision] in answers) == 100

    run(socket, scenario)


@pytest.mark.valkey
def test_all_decisions_of_one_tick_are_one_call_up_to_a_cap(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        store = ValkeyLimitStore(runner, fresh_fleet(), max_batch=8)
        await asyncio.gather(*(store.decide([Ask(HOURLY, str(n))]) for n in range(8)))
        assert runner.calls == [("limits", 8)]

        runner.calls.clear()
        await asyncio.gather(*(store.decide([Ask(HOURLY, str(n))]) for n in range(20)))

        assert sorted(size for _, size in runner.calls) == [4, 8, 8]
        assert (store.batches, store.decisions) == (4, 28)

    run(socket, scenario)


@pytest.mark.valkey
def test_every_stored_key_is_ours_hashed_and_ends(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        await ValkeyLimitStore(runner, fleet).decide([Ask(HOURLY, "a secret {of} mine")])
        keys = [key async for key in runner.client.scan_iter(f"{fleet}:*")]

        assert len(keys) == 1
        assert keys[0].startswith(f"{fleet}:v2:limit:{{h:w|".encode())
        assert b"secret" not in keys[0]
        assert 3_600_000 < await runner.client.pttl(keys[0]) <= 4_051_000

    run(socket, scenario)


def test_a_fault_reaches_everyone_who_waits() -> None:
    async def scenario() -> None:
        store = ValkeyLimitStore(AnsweringRunner(StoreUnavailable("gone")), "f")
        answers = await asyncio.gather(
            *(store.decide([Ask(HOURLY, "k")]) for _ in range(3)), return_exceptions=True
        )

        assert [type(answer) for answer in answers] == [StoreUnavailable] * 3

    asyncio.run(scenario())


def test_a_caller_who_left_is_no_trouble_to_the_others() -> None:
    async def scenario() -> None:
        store = ValkeyLimitStore(AnsweringRunner([1, 99, 0, 7, 1, 98, 0, 7]), "f")
        left, stayed = store.decide([Ask(HOURLY, "k")]), store.decide([Ask(HOURLY, "k")])
        left.cancel()

        assert await stayed == [Decision(True, 100, 98, 0, 7)]

    asyncio.run(scenario())


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_valkey, "MAX_NAMES", 10)
    store = ValkeyLimitStore(AnsweringRunner([]), "f")
    names = {store.name_of(HOURLY, str(number)) for number in range(25)}

    assert len(names) == 25
    assert store.names_kept <= 10
