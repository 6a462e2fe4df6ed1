"""Deciding about calls with a store that has to be waited for."""

from __future__ import annotations

import asyncio

import pytest
from tests.asgi.driver import Scene, headers

from silence_gateway import LimitDependency, RouteLimit
from silence_gateway.asgi.protocol import Receive, Scope, Send
from silence_gateway.testing.distant_limits import DistantLimitStore


def distant(scene: Scene) -> DistantLimitStore:
    """Put the store of *scene* some way off."""
    store = DistantLimitStore(scene.clock)
    scene.limiter.engine.decider.store = store
    scene.limiter.engine.holds.store = store
    return store


def test_all_limits_of_a_request_are_asked_in_one_trip() -> None:
    async def scenario() -> None:
        scene = Scene()
        store = distant(scene)
        scene.limit(
            RouteLimit("9/minute", name="a"),
            RouteLimit("9/minute", name="b", key=lambda scope: scope["path"]),
            RouteLimit(scene.limiter.limit("c", "9/s", algorithm="token_bucket"), cost=lambda _scope: 2),
        )

        assert (await scene.get()).headers["ratelimit"] == '"a";r=8;t=60, "b";r=8;t=60, "c";r=7;t=1'
        assert store.trips == 1

    asyncio.run(scenario())


def test_who_leaves_while_the_store_is_asked_holds_no_place() -> None:
    async def scenario() -> None:
        scene = Scene()
        store = distant(scene)
        one = scene.limiter.concurrency("one", 1)
        scene.limit(RouteLimit(one))
        store.back_s = 1
        task = asyncio.create_task(scene.get())
        await scene.clock.advance(0.5)
        assert store.used(one.rule, "192.0.2.7") == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await scene.clock.advance(2)

        assert store.used(one.rule, "192.0.2.7") == 0
        assert scene.limiter.engine.holds.held == {}

    asyncio.run(scenario())


def test_a_key_that_an_exception_frees_is_not_settled() -> None:
    async def scenario() -> None:
        scene = Scene()
        tokens = scene.limiter.limit("tokens", "100/minute")
        spends = LimitDependency(tokens, key="const", cost=50)
        overrides = scene.limiter.engine.overrides
        await overrides.put(tokens.rule, "const", "const", {"unlimited": True}, "test", cost=1)
        seen: list[int] = []

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            spent = await spends()
            spent.settle(90)
            seen.append(spent.decision.remaining)
            await send({"type": "http.response.start", "status": 200, "headers": headers(a="b")})
            await send({"type": "http.response.body", "body": b""})

        async with scene.limiter:
            scene.limit().app.instead = view
            assert await scene.statuses(3) == [200] * 3
        assert seen == [100] * 3
        await overrides.remove("tokens", "const", "const", "test")
        assert (await tokens.peek("const")).remaining == 100

    asyncio.run(scenario())


def test_headers_of_many_combinations_do_not_fill_the_memory() -> None:
    scene = Scene().limit()
    for number in range(1100):
        scene.limited.desk.headers_of([RouteLimit("1/s", name=f"n{number}").rule])

    assert len(scene.limited.desk.headers) <= 1024
