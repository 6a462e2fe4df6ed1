"""One upstream's methods: loaded, reloaded, kept, and said when they cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from protobuf.wkt import FileDescriptorSet

from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, RpcError, UpstreamProtocolError, UpstreamUnavailable
from silence_gateway.events import DescriptorsLoaded, Event, Noticed, RuleUnusable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import FixedSource, RawDescriptors
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.transcoding.table import RouteTable

SHOP = """
syntax = "proto3";
package shop;
import "google/api/annotations.proto";
message M { string id = 1; }
service Shop {
  rpc Get(M) returns (M) { option (google.api.http) = { get: "/v1/{id}" }; }
  rpc Bad(M) returns (M) { option (google.api.http) = { get: "/v1/{nope}/x" }; }
  %s
}
service Till { rpc Pay(M) returns (M); }
"""


@pytest.fixture(scope="session")
def shop() -> bytes:
    return compile_protos({"shop.proto": SHOP % ""})


@pytest.fixture(scope="session")
def larger_shop() -> bytes:
    return compile_protos({"shop.proto": SHOP % "rpc More(M) returns (M);"})


class SteppedSource:
    """A source that gives one thing after the other; the last one stays."""

    def __init__(self, steps: Sequence[bytes | Exception], *, remote: bool = True) -> None:
        self.steps = list(steps)
        self.remote = remote
        self.reads = 0

    def describe(self) -> str:
        return "a test"

    async def read(self) -> RawDescriptors:
        self.reads += 1
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        await asyncio.sleep(0)
        if isinstance(step, Exception):
            raise step
        return await FixedSource(step).read()


class Room:
    """A service, and everything it says."""

    def __init__(
        self,
        *steps: bytes | Exception,
        services: Sequence[str] = (),
        remote: bool = True,
        name: str = "shop",
        repeatable: Sequence[str] = (),
    ) -> None:
        self.events: list[Event] = []
        self.changes = 0
        self.clock = FakeClock()
        self.source = SteppedSource(steps, remote=remote)
        self.service = TranscodedService(
            name,
            LocalCaller(),
            self.source,
            clock=self.clock,
            services=services,
            repeatable=repeatable,
            observer=self.events.append,
            changed=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    def rpcs(self) -> list[str]:
        return [binding.route for binding in self.service.bindings]


def test_methods_and_problems_are_known_after_loading(shop: bytes) -> None:
    room = Room(shop)

    asyncio.run(room.service.load())

    assert room.rpcs() == ["/shop.Shop/Get", "/v1/{id}", "/shop.Shop/Bad", "/shop.Till/Pay"]
    assert [(problem.method, problem.rule) for problem in room.service.problems] == [
        ("shop.Shop/Bad", "GET /v1/{nope}/x")
    ]
    loaded, unusable = room.events
    assert isinstance(loaded, DescriptorsLoaded)
    assert (loaded.services, loaded.methods) == (2, 3)
    assert isinstance(unusable, RuleUnusable)
    assert room.changes == 1


def test_only_the_services_asked_for_are_served(shop: bytes) -> None:
    room = Room(shop, services=["shop.Till", "shop.Gone"])

    asyncio.run(room.service.load())

    assert room.rpcs() == ["/shop.Till/Pay"]
    assert [problem.method for problem in room.service.problems] == ["shop.Gone"]
    assert "shop.Shop, shop.Till" in room.service.problems[0].reason


def test_a_method_that_may_run_twice_but_is_not_there_is_told_of(shop: bytes) -> None:
    named = ["shop.Shop/Get", "shop.Shop/Gte", "shop.Till/*", "shop.Tll/*"]
    room = Room(shop, repeatable=named)

    asyncio.run(room.service.load())

    said = {problem.method: problem.reason for problem in room.service.problems if not problem.rule}
    assert list(said) == ["shop.Shop/Gte", "shop.Tll/*"]
    assert "no such method is served" in said["shop.Tll/*"]


def test_loading_goes_on_until_the_upstream_is_there(shop: bytes) -> None:
    down = UpstreamUnavailable("nobody there")
    room = Room(down, down, down, shop)

    async def scenario() -> None:
        loading = asyncio.create_task(room.service.load())
        await room.clock.advance(30)
        await asyncio.wait_for(loading, 5)

    asyncio.run(scenario())

    assert room.source.reads == 4
    assert [type(event) for event in room.events] == [Noticed, DescriptorsLoaded, RuleUnusable]
    assert "nobody there" in str(room.events[0])


def test_a_service_without_reflection_is_told_with_the_way_out(shop: bytes) -> None:
    room = Room(shop, RpcError(Code.UNIMPLEMENTED, "Method not found!"))

    async def scenario() -> None:
        await room.service.load()
        room.service.reload()
        await settle()
        await room.service.close()

    asyncio.run(scenario())

    assert "turn server reflection on in the service, or name a file in `descriptors`" in str(room.events[-1])


def test_a_reload_ends_the_wait_between_two_attempts(shop: bytes) -> None:
    """An upstream that has just connected need not wait until its turn."""
    room = Room(UpstreamUnavailable("nobody there"), shop)

    async def scenario() -> None:
        loading = asyncio.create_task(room.service.load())
        await settle()
        assert room.source.reads == 1
        room.service.reload()
        await asyncio.wait_for(loading, 5)
        await room.service.close()

    asyncio.run(scenario())

    assert "/shop.Shop/Get" in room.rpcs()


def test_a_file_that_cannot_be_used_is_the_operators_and_not_waited_for() -> None:
    room = Room(ConfigError("cannot be read"), remote=False)

    with pytest.raises(ConfigError):
        asyncio.run(room.service.load())


@pytest.mark.parametrize(("remote", "kind"), [(True, UpstreamProtocolError), (False, ConfigError)])
def test_descriptors_that_do_not_fit_blame_whoever_gave_them(
    shop: bytes, *, remote: bool, kind: type[Exception]
) -> None:
    files = FileDescriptorSet.from_binary(shop)
    files.file[-1].message_type = []
    room = Room(files.to_binary(), remote=remote)

    with pytest.raises(kind, match="do not fit together"):
        asyncio.run(room.service.refresh())


def test_reading_the_same_again_changes_nothing(shop: bytes) -> None:
    room = Room(shop)

    async def scenario() -> None:
        await room.service.load()
        before = room.service.bindings
        assert await room.service.refresh() is False
        assert room.service.bindings is before

    asyncio.run(scenario())

    assert room.changes == 1


def test_a_reload_takes_over_what_is_new(shop: bytes, larger_shop: bytes) -> None:
    room = Room(shop, larger_shop)

    async def scenario() -> None:
        await room.service.load()
        for _ in range(5):
            room.service.reload()
        await settle()
        await room.service.close()

    asyncio.run(scenario())

    assert "/shop.Shop/More" in room.rpcs()
    assert room.changes == 2
    assert room.source.reads <= 3


def test_what_was_good_stays_when_a_reload_fails(shop: bytes) -> None:
    room = Room(shop, UpstreamUnavailable("gone"))

    async def scenario() -> None:
        await room.service.load()
        for _ in range(3):
            room.service.reload()
            await settle()
        await room.service.close()

    asyncio.run(scenario())

    assert "/shop.Shop/Get" in room.rpcs()
    assert room.service.last_failure == "gone"
    # Said once: the same reason again is no news.
    assert [type(event) for event in room.events] == [DescriptorsLoaded, RuleUnusable, Noticed]


def test_closing_ends_a_reload_that_waits(shop: bytes) -> None:
    room = Room(UpstreamUnavailable("gone"), shop)

    async def scenario() -> None:
        room.service.reload()
        await settle()
        await room.service.close()
        await room.clock.advance(60)

    asyncio.run(scenario())

    assert room.source.reads == 1
    assert room.service.bindings == ()


def test_a_table_of_nothing_serves_nothing() -> None:
    table = RouteTable.build([])

    assert table.find("GET", "/") is None
    assert table.allowed("/") == ()
    assert table.rows() == ()


def test_the_first_upstream_keeps_a_path_that_two_claim(shop: bytes) -> None:
    first, second = Room(shop, name="first"), Room(shop, name="second", services=["shop.Shop"])
    asyncio.run(first.service.load())
    asyncio.run(second.service.load())

    table = RouteTable.build([first.service, second.service])

    found = table.find("GET", "/v1/x")
    assert found is not None
    assert (found.binding.upstream, found.variables) == ("first", ("x",))
    clashes = [
        row for row in table.rows() if row.upstream == "second" and "has this path already" in row.problem
    ]
    assert [(row.method, row.path) for row in clashes] == [
        ("POST", "/shop.Shop/Get"),
        ("GET", "/v1/{id}"),
        ("POST", "/shop.Shop/Bad"),
    ]
    assert table.allowed("/v1/x") == ("GET", "HEAD")


def test_rows_show_every_route_and_every_rule_that_is_none(shop: bytes) -> None:
    room = Room(shop)
    asyncio.run(room.service.load())

    rows = RouteTable.build([room.service]).rows()

    assert [(row.method, row.path, row.rpc, bool(row.problem)) for row in rows] == [
        ("POST", "/shop.Shop/Get", "shop.Shop/Get", False),
        ("GET", "/v1/{id}", "shop.Shop/Get", False),
        ("POST", "/shop.Shop/Bad", "shop.Shop/Bad", False),
        ("POST", "/shop.Till/Pay", "shop.Till/Pay", False),
        ("", "GET /v1/{nope}/x", "shop.Shop/Bad", True),
    ]


def test_streaming_methods_are_shown_but_not_warned_of(library_set: bytes) -> None:
    room = Room(library_set)
    asyncio.run(room.service.load())

    refused = [row for row in RouteTable.build([room.service]).rows() if "streaming method" in row.problem]

    assert [(row.method, row.path) for row in refused] == [
        ("POST", "/library.v1.Library/Push"),
        ("POST", "/v1/push"),
        ("POST", "/library.v1.Library/Chat"),
    ]
    assert [type(event) for event in room.events] == [DescriptorsLoaded]


def test_a_method_whose_name_cannot_stand_in_a_path_takes_nothing_else_down(shop: bytes) -> None:
    files = FileDescriptorSet.from_binary(shop)
    files.file[-1].service[0].method[0].name = "G{t"
    room = Room(files.to_binary())

    asyncio.run(room.service.load())

    assert "/shop.Shop/Bad" in room.rpcs()
    assert any(problem.method == "shop.Shop/G{t" for problem in room.service.problems)


def test_services_about_the_server_are_served_only_when_asked_for(shop: bytes) -> None:
    health = compile_protos(
        {
            "h.proto": 'syntax = "proto3"; package grpc.health.v1; message M {}'
            "service Health { rpc Check(M) returns (M); }"
        }
    )
    both = FileDescriptorSet.from_binary(shop)
    both.file.extend(FileDescriptorSet.from_binary(health).file)
    quiet, asked = Room(both.to_binary()), Room(both.to_binary(), services=["grpc.health.v1.Health"])
    asyncio.run(quiet.service.load())
    asyncio.run(asked.service.load())

    assert not any("grpc.health" in route for route in quiet.rpcs())
    assert asked.rpcs() == ["/grpc.health.v1.Health/Check"]
