"""Exceptions for single keys, as callers of an app are told of them."""

from __future__ import annotations

import asyncio

from tests.asgi.driver import PEER, Scene

from silence_gateway import RouteLimit


def test_headers_tell_the_quota_and_the_window_that_hold_for_the_caller() -> None:
    """Also where a cost or a template make the set of limits another one each time."""

    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("2/minute", name="api"), RouteLimit("9/minute", name="a", path="/a"))
        assert (await scene.get("/a")).headers["ratelimit-policy"] == '"api";q=2;w=60, "a";q=9;w=60'
        overrides = scene.limiter.engine.overrides
        rule = scene.limiter.limits["api"].rule
        await overrides.put(rule, PEER[0], PEER[0], {"rate": "2/hour"}, "ops")

        assert (await scene.get("/a")).headers["ratelimit-policy"] == '"api";q=2;w=3600, "a";q=9;w=60'
        assert (await scene.get("/b")).headers["ratelimit-policy"] == '"api";q=2;w=3600'
        refused = await scene.get("/a")
        assert (refused.status, refused.headers["ratelimit-policy"]) == (
            429,
            '"api";q=2;w=3600, "a";q=9;w=60',
        )

    asyncio.run(scenario())
