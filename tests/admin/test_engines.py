"""What the engines tell through the admin API, and what it makes them do."""

from __future__ import annotations

import asyncio
from typing import Any

from silence_gateway.admin.contracts import Ask, Readiness
from silence_gateway.admin.engines import serve_upstreams
from silence_gateway.admin.local import LocalInstance
from silence_gateway.app.config.quantities import parse_duration
from silence_gateway.events import Event, OperatorSaid
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import FakeClock
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, UpstreamSettings


def instance() -> LocalInstance:
    return LocalInstance(lambda: Readiness("ready"), list)


def test_an_endpoint_can_be_drained_and_taken_back() -> None:
    async def scenario() -> None:
        upstream = GrpcUpstream(UpstreamSettings.of("127.0.0.1:1", name="shop"), clock=FakeClock())
        await upstream.start()
        made = instance()
        serve_upstreams(made, {"shop": upstream}, parse_duration)
        path = "upstreams/shop/endpoints/127.0.0.1:1"
        try:
            assert (await made.call(Ask("PUT", path, {"state": "drain"}))).status == 200
            (shown,) = (await made.call(Ask("GET", "upstreams"))).body
            assert shown["endpoints"][0]["active"] is False
            assert (await made.call(Ask("PUT", path, {"state": "active"}))).status == 200
            assert (await made.call(Ask("PUT", path, {"state": "gone"}))).status == 400
            assert (await made.call(Ask("PUT", path, {"state": "drain", "ttl": "1h"}))).status == 400
            assert (await made.call(Ask("PUT", path, {"state": "drain", "reason": "x" * 65}))).status == 400
            assert (
                await made.call(Ask("PUT", "upstreams/shop/endpoints/x", {"state": "drain"}))
            ).status == 404
            assert (
                await made.call(Ask("PUT", "upstreams/none/endpoints/x", {"state": "drain"}))
            ).status == 404
        finally:
            await upstream.stop()

    asyncio.run(scenario())


def test_a_breaker_can_be_held_and_left_to_itself() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        upstream = GrpcUpstream(UpstreamSettings.of("127.0.0.1:1", name="shop"), clock=clock)
        made = instance()
        serve_upstreams(made, {"shop": upstream}, parse_duration)
        path = "upstreams/shop/endpoints/127.0.0.1:1"

        async def put(where: str = path, **said: str) -> int:
            return (await made.call(Ask("PUT", where, said))).status

        async def shown() -> tuple[str, str]:
            (told,) = (await made.call(Ask("GET", "upstreams"))).body
            return told["endpoints"][0]["breaker"], told["endpoints"][0]["hold_reason"]

        await upstream.start()
        try:
            assert await put(breaker="open", reason="moving house", ttl="10m") == 200
            assert await shown() == ("held_open", "moving house")
            await clock.advance(600)
            assert await shown() == ("closed", "")
            assert await put(breaker="closed") == 200
            assert await shown() == ("held_closed", "")
            assert await put(breaker="auto") == 200
            assert await shown() == ("closed", "")
            assert await put(breaker="half") == 400
            assert await put(breaker="open", ttl="soon") == 400
            assert await put(breaker="open", ttl="0s") == 400
            assert await put(breaker="open", ttl="400d") == 400
            refused = await made.call(Ask("PUT", path, {"breaker": "open", "ttl": "400d"}))
            assert "ttl: a breaker is held for 1s to 30d, not for '400d'" in str(refused.body)
            assert await put(breaker="open", why="typo") == 400
            assert await put(breaker="open", reason="x" * 65) == 400
            assert await put(breaker="open", state="drain") == 400
            assert await put("upstreams/shop/endpoints/x", breaker="open") == 404
        finally:
            await upstream.stop()

    asyncio.run(scenario())


def test_the_breaker_of_a_whole_upstream_can_be_held_and_left_to_itself() -> None:
    async def scenario() -> None:
        upstream = GrpcUpstream(UpstreamSettings.of("127.0.0.1:1", name="shop"), clock=FakeClock())
        made = instance()
        serve_upstreams(made, {"shop": upstream}, parse_duration)

        async def put(where: str = "upstreams/shop", **said: str) -> int:
            return (await made.call(Ask("PUT", where, said))).status

        async def shown() -> tuple[str, str]:
            (told,) = (await made.call(Ask("GET", "upstreams"))).body
            assert told["endpoints"][0]["breaker"] == "closed"
            return told["breaker"], told["hold_reason"]

        await upstream.start()
        try:
            assert await put(breaker="open", reason="moving house", ttl="10m") == 200
            assert await shown() == ("held_open", "moving house")
            assert await put(breaker="auto") == 200
            assert await shown() == ("closed", "")
            assert await put(breaker="ajar") == 400
            assert await put(state="drain") == 400
            assert await put("upstreams/none", breaker="open") == 404
        finally:
            await upstream.stop()

    asyncio.run(scenario())


def test_who_changes_an_upstream_hears_whether_the_fleet_was_told_and_what_to_mind() -> None:
    async def scenario() -> None:
        clock, hub, events = FakeClock(), MemoryHub(), list[Event]()
        upstream = GrpcUpstream(
            UpstreamSettings.of("127.0.0.1:1", name="shop"),
            clock=clock,
            board=MemoryStore(hub).board,
            observer=events.append,
        )
        made = instance()
        serve_upstreams(made, {"shop": upstream}, parse_duration)
        path = "upstreams/shop/endpoints/127.0.0.1:1"

        async def put(where: str = path, **said: str) -> dict[str, Any]:
            answer = await made.call(Ask("PUT", where, said, caller="admin API from ::1"))
            assert answer.status == 200
            return dict(answer.body)

        await upstream.start()
        try:
            nobody_left = "no endpoint of upstream 'shop' is left that takes calls"
            until_us = clock.now_us() + 600_000_000
            told = await put(breaker="open", reason="moving house", ttl="10m")
            assert told == {
                "upstream": "shop",
                "endpoint": "127.0.0.1:1",
                "breaker": "open",
                "reason": "moving house",
                "until_us": until_us,
                "fleet": True,
                "warning": nobody_left,
            }
            said = next(event for event in events if isinstance(event, OperatorSaid))
            assert (said.who, said.reason, said.until_us) == ("admin API from ::1", "moving house", until_us)
            assert "every call" in (await put("upstreams/shop", breaker="open"))["warning"]
            hub.go_away()
            told = await put(state="drain", reason="new disk")
            assert (told["fleet"], told["warning"], told["reason"]) == (False, nobody_left, "new disk")
            told = await put(breaker="auto")
            assert (told["fleet"], told["warning"], told["until_us"]) == (False, "", 0)
            (shown,) = (await made.call(Ask("GET", "upstreams"))).body
            assert shown["endpoints"][0]["drain_reason"] == "new disk"
        finally:
            await upstream.stop()

    asyncio.run(scenario())


def test_an_endpoint_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    async def scenario() -> None:
        upstream = GrpcUpstream(UpstreamSettings.of("127.0.0.1:1", name="shop"), clock=FakeClock())
        made = instance()
        serve_upstreams(made, {"shop": upstream}, parse_duration)
        await upstream.start()
        try:
            answer = await made.call(Ask("PUT", "upstreams/shop/endpoints/127.0.0.1:2", {"state": "drain"}))
            assert answer.status == 404
            assert "there are 127.0.0.1:1" in str(answer.body)
            upstream.set_endpoints([EndpointSettings(address=f"127.0.0.1:{port}") for port in range(1, 13)])
            answer = await made.call(Ask("PUT", "upstreams/shop/endpoints/x:1", {"breaker": "open"}))
            assert "and 4 more" in str(answer.body)
        finally:
            await upstream.stop()

    asyncio.run(scenario())
