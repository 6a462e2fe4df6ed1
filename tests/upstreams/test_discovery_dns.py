"""Endpoints by name: what an answer changes, what a failure leaves, and when there is a next look."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Self

import pytest
from tests.upstreams.dns_server import DnsServer, dns_server
from tests.upstreams.pool_bench import run

from silence_gateway.core.dns_refresh import ServiceRecord
from silence_gateway.errors import ConfigError, UpstreamUnavailable
from silence_gateway.events import Event, Noticed
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.upstreams.discovery_dns import DnsSettings, DnsSource
from silence_gateway.upstreams.dns_resolver import DnsResolver, Found
from silence_gateway.upstreams.settings import EndpointSettings


class FakeNames:
    """A `Resolver` that answers from two tables; what is in `failing` is not answered."""

    def __init__(self) -> None:
        self.hosts: dict[tuple[str, str], tuple[str, ...]] = {}
        self.srv: dict[str, tuple[ServiceRecord, ...]] = {}
        self.failing: set[str] = set()
        self.ttl_s: float | None = 5.0
        self.asked: list[tuple[str, str]] = []
        self.clock: FakeClock | None = None
        self.slow_s = 0.0

    async def addresses(self, name: str, kind: str) -> Found:
        self.asked.append((name, kind))
        if self.clock is not None and name.startswith("slow"):
            await self.clock.sleep(self.slow_s)
            raise UpstreamUnavailable(f"{kind} of {name}: no answer", sent=False)
        if kind in self.failing or name in self.failing:
            raise UpstreamUnavailable(f"{kind} of {name}: no answer", sent=False)
        return Found(self.hosts.get((name, kind), ()), self.ttl_s)

    async def services(self, name: str) -> Found:
        self.asked.append((name, "SRV"))
        if "SRV" in self.failing:
            raise UpstreamUnavailable(f"SRV of {name}: no answer", sent=False)
        return Found(self.srv.get(name, ()), self.ttl_s)


class Desk:
    """A source on fake names and a fake clock, and what it said."""

    def __init__(
        self, name: str = "auth.internal:9001", refresh_s: float = 10.0, family: str = "auto"
    ) -> None:
        self.clock = FakeClock()
        self.names = FakeNames()
        self.events: list[Event] = []
        self.heard: list[list[EndpointSettings]] = []
        settings = DnsSettings(name=name, refresh_s=refresh_s, family=family)
        self.source = DnsSource(
            settings,
            self.names,
            upstream="auth",
            clock=self.clock,
            rng=Random(3),
            observer=self.events.append,
        )
        self.task: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        self.task = asyncio.ensure_future(self.source.follow(lambda found: self.heard.append(list(found))))
        await settle()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    @property
    def addresses(self) -> list[str]:
        return [endpoint.address for endpoint in self.heard[-1]] if self.heard else []


def test_every_address_of_a_name_is_an_endpoint() -> None:
    async def scenario() -> None:
        async with Desk() as desk:
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.1", "10.0.0.2", "10.0.0.1")
            await desk.follow()

            assert desk.addresses == ["10.0.0.1:9001", "10.0.0.2:9001"]

    run(scenario)


@pytest.mark.parametrize(
    ("family", "v4", "expected"),
    [
        ("auto", True, ["10.0.0.1:9001"]),
        ("auto", False, ["[fd00::1]:9001"]),
        ("ipv6", True, ["[fd00::1]:9001"]),
        ("both", True, ["10.0.0.1:9001", "[fd00::1]:9001"]),
        ("ipv4", False, []),
    ],
)
def test_the_family_is_chosen(family: str, v4: bool, expected: list[str]) -> None:
    async def scenario() -> None:
        async with Desk(family=family) as desk:
            if v4:
                desk.names.hosts["auth.internal", "A"] = ("10.0.0.1",)
            desk.names.hosts["auth.internal", "AAAA"] = ("fd00::1",)
            await desk.follow()

            assert desk.addresses == expected

    run(scenario)


@pytest.mark.parametrize("failing", [True, False], ids=["no-answer", "an-empty-answer"])
def test_a_name_that_is_gone_takes_nobody_away_and_is_told_of_once(failing: bool) -> None:
    async def scenario() -> None:
        async with Desk() as desk:
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.1",)
            await desk.follow()
            if failing:
                desk.names.failing.add("auth.internal")
            desk.names.hosts.clear()
            await desk.clock.advance(60)

            assert desk.addresses == ["10.0.0.1:9001"]
            assert desk.source.failures > 3
            assert "auth.internal" in desk.source.problem
            assert [event.level for event in desk.events if isinstance(event, Noticed)] == ["warning"]

            desk.names.failing.clear()
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.9",)
            await desk.clock.advance(15)
            assert desk.addresses == ["10.0.0.9:9001"]
            assert desk.source.problem == ""
            assert [event.level for event in desk.events] == ["warning", "info"]

    run(scenario)


def test_a_problem_that_changes_its_words_is_no_news_but_can_be_seen() -> None:
    async def scenario() -> None:
        async with Desk() as desk:
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.1",)
            await desk.follow()
            desk.names.failing.add("A")
            await desk.clock.advance(20)
            assert "A of auth.internal" in desk.source.problem
            desk.names.failing.clear()
            desk.names.failing.add("AAAA")
            desk.names.hosts.clear()
            await desk.clock.advance(20)

            assert "AAAA of auth.internal" in desk.source.problem
            assert len(desk.events) == 1

    run(scenario)


def test_targets_of_a_service_that_are_not_answered_for_wait_beside_each_other() -> None:
    async def scenario() -> None:
        async with Desk(name="_grpc._tcp.auth.internal") as desk:
            records = [ServiceRecord(f"slow{number}.internal", 9001, 0, 1) for number in range(6)]
            records.append(ServiceRecord("well.internal", 9001, 0, 1))
            desk.names.srv["_grpc._tcp.auth.internal"] = tuple(records)
            desk.names.hosts["well.internal", "A"] = ("10.0.0.1",)
            desk.names.slow_s, desk.names.clock = 5.0, desk.clock
            await desk.follow()
            await desk.clock.advance(10.1)

            assert desk.addresses == ["10.0.0.1:9001"]
            assert "slow5.internal" in desk.source.problem

    run(scenario)


def test_one_family_may_fail_alone() -> None:
    async def scenario() -> None:
        async with Desk(family="both") as desk:
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.1",)
            desk.names.hosts["auth.internal", "AAAA"] = ("fd00::1",)
            await desk.follow()
            desk.names.failing.add("AAAA")
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.2",)
            await desk.clock.advance(15)

            assert desk.addresses == ["10.0.0.2:9001", "[fd00::1]:9001"]

    run(scenario)


def test_a_look_follows_when_the_ttl_is_over_or_at_the_latest_after_refresh() -> None:
    async def scenario() -> None:
        async with Desk(refresh_s=10) as desk:
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.1",)
            await desk.follow()
            await desk.clock.advance(4.4)
            assert desk.source.looks == 1
            desk.names.ttl_s = 600.0
            await desk.clock.advance(1.2)
            assert desk.source.looks == 2
            await desk.clock.advance(8.9)
            assert desk.source.looks == 2
            await desk.clock.advance(2.2)
            assert desk.source.looks == 3

    run(scenario)


def test_a_lost_endpoint_hurries_the_next_look_but_a_storm_of_them_is_one_look_a_second() -> None:
    async def scenario() -> None:
        async with Desk(refresh_s=60) as desk:
            desk.names.ttl_s = None
            desk.names.hosts["auth.internal", "A"] = ("10.0.0.1",)
            await desk.follow()
            for _ in range(50):
                desk.source.hurry()
                await desk.clock.advance(0.1)

            assert 4 <= desk.source.looks <= 6

    run(scenario)


@pytest.mark.parametrize("failing", [True, False], ids=["no-answer", "an-empty-answer"])
def test_a_first_look_that_finds_nobody_says_so_once(failing: bool) -> None:
    async def scenario() -> None:
        async with Desk() as desk:
            if failing:
                desk.names.failing.add("auth.internal")
            await desk.follow()
            assert desk.heard == [[]]
            await desk.clock.advance(60)
            assert desk.heard == [[]]

    run(scenario)


def test_of_records_that_mean_one_address_the_most_wanted_counts() -> None:
    async def scenario() -> None:
        async with Desk("_grpc._tcp.auth.internal") as desk:
            desk.names.srv["_grpc._tcp.auth.internal"] = (
                ServiceRecord("a.internal", 9001, 10, 5),
                ServiceRecord("b.internal", 9001, 20, 7),
            )
            desk.names.hosts["a.internal", "A"] = desk.names.hosts["b.internal", "A"] = ("10.0.0.1",)
            await desk.follow()

            assert desk.heard[-1] == [EndpointSettings(address="10.0.0.1:9001", weight=5, priority=0)]

    run(scenario)


def test_service_records_bring_ports_weights_and_priorities() -> None:
    async def scenario() -> None:
        async with Desk("_grpc._tcp.auth.internal") as desk:
            desk.names.srv["_grpc._tcp.auth.internal"] = (
                ServiceRecord("a.internal", 9001, 10, 200),
                ServiceRecord("b.internal", 9002, 20, 100),
                ServiceRecord("c.internal", 9003, 20, 100),
            )
            desk.names.hosts["a.internal", "A"] = ("10.0.0.1",)
            desk.names.hosts["b.internal", "A"] = ("10.0.0.2",)
            desk.names.failing.add("c.internal")
            await desk.follow()

            assert desk.heard[-1] == [
                EndpointSettings(address="10.0.0.1:9001", weight=100, priority=0),
                EndpointSettings(address="10.0.0.2:9002", weight=100, priority=1),
            ]
            desk.names.failing.add("SRV")
            await desk.clock.advance(30)
            assert desk.addresses == ["10.0.0.1:9001", "10.0.0.2:9002"]

    run(scenario)


def test_a_target_without_addresses_stays_as_it_was_and_is_told_of() -> None:
    async def scenario() -> None:
        async with Desk("_grpc._tcp.auth.internal", refresh_s=60) as desk:
            desk.names.srv["_grpc._tcp.auth.internal"] = (
                ServiceRecord("a.internal", 9001, 0, 1),
                ServiceRecord("b.internal", 9002, 0, 1),
            )
            desk.names.hosts["a.internal", "A"] = ("10.0.0.1",)
            desk.names.hosts["b.internal", "A"] = ("10.0.0.2",)
            await desk.follow()
            del desk.names.hosts["b.internal", "A"]
            await desk.clock.advance(60)
            assert desk.addresses == ["10.0.0.1:9001", "10.0.0.2:9002"]
            assert desk.source.problem == "b.internal has no addresses"
            # What was answered is still asked for again when its time is over.
            before = desk.source.looks
            await desk.clock.advance(60)
            assert desk.source.looks >= before + 10

            desk.names.srv["_grpc._tcp.auth.internal"] = (ServiceRecord("a.internal", 9001, 0, 1),)
            await desk.clock.advance(60)
            assert desk.addresses == ["10.0.0.1:9001"]
            assert desk.source.problem == ""

    run(scenario)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "auth.internal"},
        {"name": "_grpc._tcp.auth:1"},
        {"name": "_grpc._tcp"},
        {"name": "a:1", "refresh_s": 0.5},
        {"name": "a:1", "family": "ipv5"},
    ],
)
def test_settings_that_make_no_sense_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DnsSettings(**more)


def test_certificates_are_expected_to_be_made_out_to_the_name() -> None:
    assert DnsSettings(name="auth.internal:9001").host == "auth.internal"
    assert DnsSettings(name="_grpc._tcp.auth.internal").host == "auth.internal"


@pytest.mark.system
def test_a_real_server_is_asked_and_understood() -> None:
    async def scenario(server: DnsServer) -> None:
        resolver = DnsResolver(server.address)
        server.records["auth.internal", "A"] = ["10.0.0.1", "10.0.0.2"]
        server.records["_grpc._tcp.internal", "SRV"] = ["1 5 9001 auth.internal."]
        server.records["none.internal", "SRV"] = ["0 0 0 ."]

        found = await resolver.addresses("auth.internal", "A")
        assert (sorted(found.records), found.ttl_s) == (["10.0.0.1", "10.0.0.2"], 30.0)
        assert (await resolver.addresses("auth.internal", "AAAA")).records == ()
        assert (await resolver.addresses("other.internal", "A")).records == ()
        assert (await resolver.services("_grpc._tcp.internal")).records == (
            ServiceRecord("auth.internal", 9001, 1, 5),
        )
        assert (await resolver.services("none.internal")).records == ()
        server.aliases["moves.internal"] = ("auth.internal", 3)
        moving = await resolver.addresses("moves.internal", "A")
        assert (sorted(moving.records), moving.ttl_s) == (["10.0.0.1", "10.0.0.2"], 3.0)
        server.failing.add("A")
        with pytest.raises(UpstreamUnavailable, match=rf"^A of auth\.internal: {server.address}: SERVFAIL$"):
            await resolver.addresses("auth.internal", "A")

    async def with_server() -> None:
        async with dns_server() as server:
            await scenario(server)

    run(with_server)


@pytest.mark.system
def test_names_of_the_hosts_file_are_known_too() -> None:
    async def scenario() -> None:
        found = await DnsResolver().addresses("localhost", "A")

        assert "127.0.0.1" in found.records

    run(scenario)
