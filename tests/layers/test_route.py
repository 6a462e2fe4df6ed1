"""Routing as a layer: found once, served at the end, and no way around what is configured by path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from silence_gateway.core.http import Request, Response, StreamingResponse
from silence_gateway.errors import MethodNotAllowed, NotFound, UpstreamUnavailable
from silence_gateway.layers.route import (
    FixedRoute,
    Matched,
    RouteMap,
    RouteRule,
    RouteSwitch,
    find_route,
    serve_found,
)
from silence_gateway.testing import FakeClock
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import FixedSource
from silence_gateway.transcoding.service import TranscodedService

PROTO = """
syntax = "proto3";
package shop;
import "google/api/annotations.proto";
message Item { string id = 1; }
service Shop {
  rpc Get(Item) returns (Item) { option (google.api.http) = {get: "/v1/items/{id}"}; }
  rpc Watch(Item) returns (stream Item) { option (google.api.http) = {get: "/v1/items/{id}:watch"}; }
  rpc Plain(Item) returns (Item);
  rpc Change(Item) returns (Item) {
    option (google.api.http) = {
      patch: "/v1/carts/{id}" body: "*"
      additional_bindings {put: "/v1/carts/{id}" body: "*"}
    };
  }
}
"""


async def echo(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


async def route_map(
    *rules: RouteRule, upstreams: tuple[str, ...] = ("shop",)
) -> tuple[RouteMap, LocalCaller]:
    caller = LocalCaller({b"/shop.Shop/Get": lambda message: message}, {b"/shop.Shop/Watch": echo})
    services = []
    for name in upstreams:
        source = FixedSource(compile_protos({"shop.proto": PROTO}))
        services.append(TranscodedService(name, caller, source, clock=FakeClock()))
        await services[-1].load()

    async def own(_request: Request) -> Response:
        return Response(200, [], b"own")

    return RouteMap.build(services, {"/own": FixedRoute(own, ("GET",))}, rules), caller


def found(method: str, target: str, *rules: RouteRule) -> Request:
    """Return a request after the routing layer has seen it."""

    async def scenario() -> Request:
        routes, _ = await route_map(*rules)

        async def end(request: Request) -> Response:
            return Response(200)

        request = Request(method, target, {})
        await find_route(RouteSwitch(routes))(end)(request)
        return request

    return asyncio.run(scenario())


def served(method: str, target: str) -> Response:
    async def scenario() -> Response:
        routes, _ = await route_map()
        switch = RouteSwitch(routes)
        return await find_route(switch)(serve_found(switch, {"shop": 5.0}, FakeClock()))(
            Request(method, target, {})
        )

    return asyncio.run(scenario())


def test_a_request_knows_its_route_and_its_method() -> None:
    request = found("GET", "/v1/items/7")

    assert (request.route, request.rpc) == ("/v1/items/{id}", "shop.Shop/Get")
    assert isinstance(request.matched, Matched)
    assert request.matched.variables == ("7",)


def test_a_path_that_is_not_served_passes_on_unmatched() -> None:
    request = found("GET", "/nothing")

    assert request.matched is None
    assert request.route == ""


def test_nothing_found_says_what_is_there() -> None:
    with pytest.raises(NotFound):
        served("GET", "/nothing")
    with pytest.raises(MethodNotAllowed) as refused:
        served("PUT", "/v1/items/7")
    assert "GET" in refused.value.allowed


def test_a_path_of_our_own_is_served_by_us_with_its_methods_only() -> None:
    assert served("GET", "/own").body == b"own"
    with pytest.raises(MethodNotAllowed):
        served("POST", "/own")


def test_a_rule_for_a_path_holds_for_the_method_called_by_its_name() -> None:
    rule = RouteRule(path="/v1/items/**", auth="required")

    by_path, by_name = found("GET", "/v1/items/7", rule), found("POST", "/shop.Shop/Get", rule)

    assert isinstance(by_path.matched, Matched)
    assert isinstance(by_name.matched, Matched)
    assert by_path.matched.rule is by_name.matched.rule is rule
    assert by_name.aliases == (("GET", "/v1/items/x"),)
    assert found("POST", "/shop.Shop/Plain", rule).aliases == ()


@pytest.mark.parametrize(
    ("patch", "put", "by_name"),
    [
        pytest.param(None, True, None, id="one-of-two-may-run-twice"),
        pytest.param(True, True, True, id="both-may"),
        pytest.param(None, False, False, id="one-of-two-may-not"),
        pytest.param(True, False, False, id="one-may-and-one-may-not"),
        pytest.param(None, None, None, id="nothing-is-said"),
    ],
)
def test_a_method_called_by_its_name_may_run_twice_where_all_its_paths_say_so(
    patch: bool | None, put: bool | None, by_name: bool | None
) -> None:
    rules = [
        RouteRule(path="/v1/carts/*", methods=(method,), timeout_s=3, idempotent=said)
        for method, said in (("PATCH", patch), ("PUT", put))
    ]
    request = found("POST", "/shop.Shop/Change", *rules)

    assert isinstance(request.matched, Matched)
    assert request.matched.rule is not None
    assert request.matched.rule.idempotent is by_name
    assert request.matched.rule.timeout_s == 3


def test_the_most_specific_rule_counts() -> None:
    wide, narrow = RouteRule(path="/v1/**", timeout_s=9), RouteRule(path="/v1/items/*", timeout_s=1)

    request = found("GET", "/v1/items/7", wide, narrow)

    assert isinstance(request.matched, Matched)
    assert request.matched.rule is narrow


def test_a_rule_may_name_the_upstream_that_is_meant() -> None:
    async def scenario() -> str:
        rule = RouteRule(path="/v1/**", upstream="second")
        routes, _ = await route_map(rule, upstreams=("first", "second"))

        async def end(request: Request) -> Response:
            return Response(200)

        request = Request("GET", "/v1/items/7", {})
        await find_route(RouteSwitch(routes))(end)(request)
        assert isinstance(request.matched, Matched)
        assert request.matched.binding is not None
        return request.matched.binding.upstream

    assert asyncio.run(scenario()) == "second"


@pytest.mark.parametrize(
    ("target", "rules", "deadline_s"),
    [
        pytest.param("/v1/items/7", (), 5.0, id="unary-takes-the-upstreams"),
        pytest.param("/v1/items/7:watch", (), None, id="a-stream-lives-on"),
        pytest.param(
            "/v1/items/7", (RouteRule(path="/v1/**", timeout_s=60),), 60.0, id="a-rule-may-be-longer"
        ),
        pytest.param(
            "/v1/items/7:watch", (RouteRule(path="/v1/**", timeout_s=2),), 2.0, id="a-rule-bounds-streams"
        ),
    ],
)
def test_how_long_a_call_may_take(
    target: str, rules: tuple[RouteRule, ...], deadline_s: float | None
) -> None:
    async def scenario() -> float | None:
        routes, caller = await route_map(*rules)
        switch, clock = RouteSwitch(routes), FakeClock()
        handler = find_route(switch)(serve_found(switch, {"shop": 5.0}, clock))

        response = await handler(Request("GET", target, {}))

        if isinstance(response, StreamingResponse):
            async for _ in response.chunks:
                pass
        at_s = caller.calls[-1].deadline_s
        return None if at_s is None else at_s - clock.monotonic_s()

    assert asyncio.run(scenario()) == deadline_s


def test_while_an_upstreams_methods_are_unknown_nothing_is_called_not_found() -> None:
    async def scenario() -> None:
        service = TranscodedService("late", LocalCaller(), FixedSource(b""), clock=FakeClock())
        switch = RouteSwitch(RouteMap.build([service]))
        await find_route(switch)(serve_found(switch, {}, FakeClock()))(Request("GET", "/v1/items/7", {}))

    with pytest.raises(UpstreamUnavailable, match="late"):
        asyncio.run(scenario())
