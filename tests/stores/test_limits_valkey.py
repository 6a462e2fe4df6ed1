"""Limits that a fleet shares, on a real Valkey."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.crc import key_slot

from silence_gateway.core.limits import Algorithm, Ask, Decision, LimitRule
from silence_gateway.core.rates import Rate
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores import limit_names
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limits_valkey import ValkeyLimitStore
from silence_gateway.testing.limit_checks import check_limit_store
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

HOURLY = LimitRule(name="h", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(100, 3_600_000_000))


class Runner:
    """A ScriptPoster over a plain client, that remembers what it was asked."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self.calls: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        self.calls.append((script.name.split()[0], len(keys)))
        return await self.client.eval(script.text, len(keys), *keys, *args)

    def post(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[bytes | int],
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        async def work() -> None:
            try:
                answer = await self.run(script, keys, args)
            except StoreFault as exc:
                on_failure(exc)
            else:
                on_answer(answer)

        self.tasks.append(asyncio.get_running_loop().create_task(work()))


class AnsweringRunner(Runner):
    """A ScriptPoster that gives one answer, or raises it."""

    def __init__(self, answer: Any) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # no server is asked
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
def test_decisions_of_one_tick_leave_in_two_calls_so_that_both_sides_work(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        store = ValkeyLimitStore(runner, fresh_fleet())
        await asyncio.gather(*(store.decide([Ask(HOURLY, str(n))]) for n in range(20)))

        assert runner.calls == [("limits_decide", 10), ("limits_decide", 10)]
        assert (store.batches, store.decisions, store.in_flight) == (2, 20, 0)

    run(socket, scenario)


@pytest.mark.valkey
def test_few_decisions_travel_together(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        store = ValkeyLimitStore(runner, fresh_fleet())
        await asyncio.gather(*(store.decide([Ask(HOURLY, str(n))]) for n in range(4)))

        assert runner.calls == [("limits_decide", 4)]

    run(socket, scenario)


@pytest.mark.valkey
def test_no_call_is_larger_than_its_cap(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        store = ValkeyLimitStore(runner, fresh_fleet(), max_batch=8)
        await asyncio.gather(*(store.decide([Ask(HOURLY, str(n))]) for n in range(60)))

        assert max(size for _, size in runner.calls) == 8
        assert sum(size for _, size in runner.calls) == 60

    run(socket, scenario)


@pytest.mark.valkey
def test_every_stored_key_is_ours_hashed_and_ends(socket: str) -> None:
    async def scenario(runner: Runner) -> None:
        fleet = fresh_fleet()
        await ValkeyLimitStore(runner, fleet).decide([Ask(HOURLY, "a secret {of} mine")])
        keys = [key async for key in runner.client.scan_iter(f"{fleet}:*")]

        assert len(keys) == 1
        assert re.fullmatch(rf"{fleet}:v[0-9]:limit:{{[A-Za-z0-9_-]{{22}}}}h:w".encode(), keys[0])
        assert 3_600_000 < await runner.client.pttl(keys[0]) <= 4_052_000

    run(socket, scenario)


def test_all_limits_of_one_client_share_a_slot_and_clients_do_not() -> None:
    store = ValkeyLimitStore(AnsweringRunner([]), "f")
    bucket = LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(1, 1_000_000))
    slots = {key_slot(store.names.name_of(rule, "alice")) for rule in (HOURLY, bucket)}

    assert len(slots) == 1
    assert len({key_slot(store.names.name_of(HOURLY, str(number))) for number in range(50)}) > 40


@pytest.mark.parametrize("key", ["", "const"])
def test_limits_that_count_everything_together_do_not_all_lie_in_one_slot(key: str) -> None:
    store = ValkeyLimitStore(AnsweringRunner([]), "f")
    rules = [
        LimitRule(name=f"l{n}", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 1_000_000))
        for n in range(50)
    ]

    assert len({key_slot(store.names.name_of(rule, key)) for rule in rules}) > 40


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
        store = ValkeyLimitStore(AnsweringRunner([5, 99, 0, 7, 98, 0, 7]), "f")
        left, stayed = store.decide([Ask(HOURLY, "k")]), store.decide([Ask(HOURLY, "k")])
        await asyncio.sleep(0)
        left.cancel()

        assert await stayed == [Decision(True, 100, 98, 0, 7, 5)]

    asyncio.run(scenario())


def test_who_left_before_anything_was_sent_is_not_asked_for() -> None:
    async def scenario() -> None:
        store = ValkeyLimitStore(AnsweringRunner([5, 99, 0, 7]), "f")
        left, stayed = store.decide([Ask(HOURLY, "k")]), store.decide([Ask(HOURLY, "k")])
        left.cancel()
        assert await stayed == [Decision(True, 100, 99, 0, 7, 5)]

        store.decide([Ask(HOURLY, "k")]).cancel()
        await asyncio.sleep(0)
        assert (store.batches, store.decisions, store.waiting) == (1, 1, [])

    asyncio.run(scenario())


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_names, "MAX_NAMES", 10)
    store = ValkeyLimitStore(AnsweringRunner([]), "f")
    names = {store.names.name_of(HOURLY, str(number)) for number in range(25)}

    assert len(names) == 25
    assert store.names.kept <= 10
    kept = store.names.kept
    assert store.names.name_of(HOURLY, "x" * 5000) == store.names.name_of(HOURLY, "x" * 5000)
    assert store.names.kept == kept, "a long key would fill the memory"
