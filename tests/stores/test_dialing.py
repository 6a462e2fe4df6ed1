"""How often a server is knocked at, by whom first, and as whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.store_failover import Fault
from silence_gateway.stores.client import Login, StoreRefused
from silence_gateway.stores.dialing import (
    GENERAL,
    HOT,
    MAX_PASSWORD_BYTES,
    PROBE,
    SUBSCRIBER,
    Credentials,
    Dialer,
    Pace,
)
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.testing.clock import FakeClock, settle

LANES = (HOT, GENERAL, SUBSCRIBER, PROBE)


class Knocks:
    """Lanes that wait for their turn, and when each got it."""

    def __init__(self, draw: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = FakeClock()
        self.draw = draw
        self.pace = Pace(self.clock, draw)
        self.went: list[tuple[str, float]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def join(self) -> None:
        """The server joins a store that is in use."""
        self.pace = Pace(self.clock, self.draw, joins=True)

    def ask(self, *lanes: str) -> None:
        for lane in lanes:
            self.tasks.append(asyncio.get_running_loop().create_task(self.go(lane)))

    async def go(self, lane: str) -> None:
        await self.pace.wait(lane)
        self.went.append((lane, self.clock.monotonic_s()))

    @property
    def names(self) -> list[str]:
        return [lane for lane, _ in self.went]

    async def all_connected(self) -> None:
        """Every lane has had its first connection."""
        self.ask(*LANES)
        await settle()
        self.went.clear()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def knocking(scenario: Callable[[Knocks], Awaitable[None]], draw: Callable[[], float] = lambda: 0.0) -> None:
    async def run() -> None:
        knocks = Knocks(draw)
        try:
            await scenario(knocks)
        finally:
            await knocks.end()

    asyncio.run(run())


def test_the_first_connection_of_each_lane_waits_for_nothing() -> None:
    async def scenario(knocks: Knocks) -> None:
        knocks.ask(*LANES)
        await settle()

        assert set(knocks.names) == set(LANES)

    knocking(scenario)


def test_at_a_server_that_joins_the_first_connections_count_and_the_request_path_goes_at_once() -> None:
    async def scenario(knocks: Knocks) -> None:
        knocks.join()
        knocks.ask(GENERAL, SUBSCRIBER, HOT, PROBE)
        await settle()
        assert knocks.names == [HOT, PROBE]
        await knocks.clock.advance(0.9)
        assert knocks.names == [HOT, PROBE]
        await knocks.clock.advance(0.2)
        assert knocks.names == [HOT, PROBE, GENERAL, SUBSCRIBER]

    knocking(scenario)


def test_lanes_that_broke_together_come_back_two_a_second_the_most_urgent_first() -> None:
    async def scenario(knocks: Knocks) -> None:
        await knocks.all_connected()
        knocks.ask(PROBE, SUBSCRIBER, GENERAL, HOT)
        await knocks.clock.advance(0.1)
        assert knocks.names == [HOT, GENERAL]
        await knocks.clock.advance(0.8)
        assert knocks.names == [HOT, GENERAL]
        await knocks.clock.advance(0.2)
        assert knocks.names == [HOT, GENERAL, SUBSCRIBER, PROBE]

    knocking(scenario)


def test_while_the_server_is_away_the_probe_goes_first_and_has_one_of_two() -> None:
    async def scenario(knocks: Knocks) -> None:
        await knocks.all_connected()
        knocks.pace.set_away(True)
        knocks.ask(GENERAL, SUBSCRIBER, PROBE)
        await knocks.clock.advance(0.1)
        assert knocks.names == [PROBE]
        knocks.ask(PROBE)
        await knocks.clock.advance(0.5)
        assert knocks.names == [PROBE], "it has had its one of this second"
        knocks.ask(HOT)
        await knocks.clock.advance(0.1)
        assert knocks.names == [PROBE, HOT], "what the probe finds is of use at once"
        knocks.pace.set_away(False)
        await knocks.clock.advance(2.0)
        assert sorted(knocks.names) == sorted([PROBE, HOT, GENERAL, SUBSCRIBER, PROBE])

    knocking(scenario)


def test_another_server_owes_nothing_to_the_last_one() -> None:
    async def scenario(knocks: Knocks) -> None:
        await knocks.all_connected()
        knocks.ask(HOT, GENERAL, SUBSCRIBER, PROBE)
        await knocks.clock.advance(0.1)
        knocks.pace.begin_anew()
        await knocks.clock.advance(0.1)
        assert knocks.names == [HOT, GENERAL, SUBSCRIBER, PROBE]

    knocking(scenario)


def test_who_is_on_the_way_to_another_server_counts() -> None:
    async def scenario(knocks: Knocks) -> None:
        await knocks.all_connected()
        knocks.ask(HOT, GENERAL, SUBSCRIBER, PROBE)
        await knocks.clock.advance(0.1)
        knocks.pace.begin_anew([GENERAL])
        await knocks.clock.advance(0.1)
        assert knocks.names == [HOT, GENERAL, SUBSCRIBER]

    knocking(scenario)


def test_who_leaves_the_queue_takes_nobody_s_place() -> None:
    async def scenario(knocks: Knocks) -> None:
        await knocks.all_connected()
        knocks.ask(HOT, GENERAL, SUBSCRIBER)
        await settle()
        knocks.tasks[-3].cancel()
        await knocks.clock.advance(0.1)
        assert knocks.names == [GENERAL, SUBSCRIBER]

    knocking(scenario)


@given(st.lists(st.tuples(st.sampled_from(LANES), st.floats(0, 0.7)), max_size=25), st.randoms())
def test_whatever_breaks_when_no_second_has_more_than_two(
    breaks: Iterable[tuple[str, float]], random: st.DrawFn
) -> None:
    async def scenario(knocks: Knocks) -> None:
        await knocks.all_connected()
        for lane, wait_s in breaks:
            knocks.ask(lane)
            await knocks.clock.advance(wait_s)
        await knocks.clock.advance(20)
        times = [at_s for _, at_s in knocks.went]
        for index, at_s in enumerate(times):
            assert sum(at_s <= other < at_s + 1.0 for other in times[index:]) <= 2
        assert len(times) == len(list(breaks)), "and everybody had a turn"

    knocking(scenario, random.random)  # type: ignore[attr-defined] # a Random; hypothesis has no type for it


# -- credentials ----------------------------------------------------------------------------------


def credentials(path: Path | None, url: str = "valkey://user:in-url@host:6379/0") -> Credentials:
    return Credentials(StoreSettings(url=url, password_file=path))


def test_without_a_file_the_address_says_who_we_are() -> None:
    assert credentials(None).current() == Login("user", "in-url")


@pytest.mark.parametrize(
    ("content", "password"),
    [
        pytest.param(b"secret", "secret", id="as-it-is"),
        pytest.param(b"secret\r\n", "secret", id="without-the-line-end"),
        pytest.param(b" with spaces \n", " with spaces ", id="spaces-belong-to-it"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"x" * 10_000, "x" * MAX_PASSWORD_BYTES, id="no-more-than-a-page"),
    ],
)
def test_the_file_holds_the_password(tmp_path: Path, content: bytes, password: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)

    assert credentials(path).current() == Login("user", password)


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param(b"\xff", id="binary")])
def test_a_file_that_cannot_be_read_is_a_fault_of_credentials(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StoreRefused, match=r"store\.password_file: .*password cannot be read") as caught:
        credentials(path).current()
    assert caught.value.fault is Fault.CREDENTIALS


def dialer(settings: StoreSettings) -> Dialer:
    return Dialer(settings, FakeClock(), lambda: 0.5, fleet="shop", instance_id="one")


def test_proof_changes_with_every_file_that_proves_something(tmp_path: Path) -> None:
    ca, password = tmp_path / "ca.pem", tmp_path / "password"
    ca.write_text("one")
    own = dialer(StoreSettings(url="valkeys://user@host:1/0", tls=TlsSettings(ca=ca), password_file=password))
    seen = [own.proof()]
    password.write_text("it is there")
    seen.append(own.proof())
    ca.unlink()
    seen.append(own.proof())

    assert len(set(seen)) == 3
    assert own.proof() == seen[-1]


@pytest.mark.parametrize(
    ("url", "deadline_s", "patience_s"),
    [
        pytest.param("valkey://host:1/0", 0.025, 0.25, id="near"),
        pytest.param("valkeys://host:1/0", 0.025, 0.5, id="tls-has-more-trips"),
        pytest.param("valkey://host:1/0", 0.2, 0.8, id="far-away"),
        pytest.param("valkey://host:1/0", 5, 2.0, id="but-not-for-ever"),
    ],
)
def test_a_connection_may_take_longer_than_a_call(url: str, deadline_s: float, patience_s: float) -> None:
    assert dialer(StoreSettings(url=url, deadline_s=deadline_s)).deadline_s == pytest.approx(patience_s)
