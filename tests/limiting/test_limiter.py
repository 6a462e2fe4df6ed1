"""The limiter of a gateway, on a memory store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm, LimitRule, Mode
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import NotFound, RateLimited
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import MAX_MATCHES, Limiter
from silence_gateway.testing.limiters import local_limiter


def spec(name: str, rate: str = "2/minute", *, mode: Mode = Mode.ENFORCE, **where: Any) -> LimitSpec:
    rule = LimitRule(name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate(rate), mode=mode)
    return LimitSpec(rule=rule, **(where or {"any": True}))


def limiter_of(*specs: LimitSpec) -> Limiter:
    return local_limiter(specs)


def names(limiter: Limiter, method: str, path: str, rpc: str = "") -> list[str]:
    matched = limiter.match(method, path, rpc)
    return [] if matched is None else [one.rule.name for one in matched.specs]


async def ask(limiter: Limiter, ip: str = "10.0.0.1", path: str = "/") -> list[tuple[bytes, bytes]]:
    matched = limiter.match("GET", path, "")
    assert matched is not None
    return await limiter.admit(Request("GET", path, {}, peer=ip), matched)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/api/login", "/api/login", True),
        ("/api/login", "/api/%6Cogin", True),
        ("/api/login", "/api/login/", False),
        ("/api/login", "/api", False),
        ("/api/*/x", "/api/7/x", True),
        ("/api/{id}/x", "/api/7/x", True),
        ("/api/*/x", "/api//x", False),
        ("/api/**", "/api", True),
        ("/api/**", "/api/a/b/c", True),
        ("/api/**", "/apis", False),
        ("/**", "/", True),
        ("/things/*:sell", "/things/7:sell", True),
        ("/things/*:sell", "/things/7", False),
        ("/things/*", "/things/7:sell", True),
        ("/api/**", "/api/%zz", False),
    ],
)
def test_a_path_pattern_covers_what_the_router_would_serve(pattern: str, path: str, matches: bool) -> None:
    assert names(limiter_of(spec("l", path=pattern)), "GET", path) == (["l"] if matches else [])


def test_limits_are_found_by_method_rpc_or_for_all_in_the_order_configured() -> None:
    limiter = limiter_of(
        spec("all", any=True),
        spec("get", path="/a", methods=("GET",)),
        spec("rpc", rpc="pkg.Service/Do"),
        spec("posts", any=True, methods=("POST",)),
    )

    assert names(limiter, "GET", "/a") == ["all", "get"]
    assert names(limiter, "HEAD", "/a") == ["all", "get"]
    assert names(limiter, "POST", "/a") == ["all", "posts"]
    assert names(limiter, "POST", "/b", "pkg.Service/Do") == ["all", "rpc", "posts"]


def test_no_limit_is_none() -> None:
    assert limiter_of(spec("l", path="/a")).match("GET", "/b", "") is None


def test_what_is_remembered_of_matches_is_bounded() -> None:
    limiter = limiter_of(spec("l", path="/a/**"))
    for number in range(MAX_MATCHES + 10):
        assert names(limiter, "GET", f"/a/{number}") == ["l"]

    assert len(limiter.matches) <= MAX_MATCHES
    assert len(limiter.sets) == 2


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ({"path": "/a", "any": True}, "one of path, rpc or any"),
        ({"key": ("client_ip",)}, "one of path, rpc or any"),
        ({"any": True, "cost": Cost(amount=3)}, "never fits in 2"),
        ({"any": True, "key": ("nobody",)}, "no part of a key"),
        ({"path": "api"}, "starts with"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(where: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        spec("l", **where)


def test_two_limits_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        limiter_of(spec("l"), spec("l"))


def test_a_caller_learns_what_is_left_and_then_when_to_come_back() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("l"))

        assert (b"RateLimit", b'"l";r=1;t=60') in await ask(limiter)
        await ask(limiter)
        with pytest.raises(RateLimited) as refused:
            await ask(limiter)
        await ask(limiter, "10.0.0.2")

        assert refused.value.limits == ("l",)
        assert refused.value.retry_after_s == 60.0
        assert (b"Retry-After", b"60") in refused.value.headers

    asyncio.run(scenario())


def test_a_refusal_by_one_limit_spends_nothing_of_the_others() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("tight", "1/minute"), spec("wide", "9/minute"))
        await ask(limiter)
        for _ in range(5):
            with pytest.raises(RateLimited):
                await ask(limiter)

        assert (await limiter.state("wide", "10.0.0.1")).remaining == 8

    asyncio.run(scenario())


def test_a_shadow_limit_counts_and_refuses_nothing() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("s", "1/minute", mode=Mode.SHADOW))
        for _ in range(3):
            assert await ask(limiter) == []

        counts = limiter.statistics["s"]
        assert (counts.allowed, counts.denied, counts.shadow_denied) == (1, 0, 2)
        assert counts.take() == [({"10.0.0.1": 3}, {"10.0.0.1": 2})]  # whom it would have refused

    asyncio.run(scenario())


def test_decisions_are_counted_with_the_busiest_clients() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("l", "3/minute"))
        for _ in range(5):
            try:
                await ask(limiter)
            except RateLimited:
                continue
        await ask(limiter, "10.0.0.2")

        counts = limiter.statistics["l"]
        assert (counts.allowed, counts.denied, counts.near) == (4, 2, 1)
        assert counts.take() == [({"10.0.0.1": 5, "10.0.0.2": 1}, {"10.0.0.1": 2})]

    asyncio.run(scenario())


def test_an_operator_may_look_at_a_key_and_reset_it() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("l"))
        await ask(limiter)

        assert (await limiter.state("l", "10.0.0.1")).remaining == 1
        assert await limiter.reset("l", "10.0.0.1")
        assert (await limiter.state("l", "10.0.0.1")).remaining == 2
        with pytest.raises(NotFound, match="there are: l"):
            await limiter.state("x", "10.0.0.1")

    asyncio.run(scenario())


def test_a_limit_on_a_path_is_not_passed_by_calling_the_method_by_its_name() -> None:
    limiter = limiter_of(
        spec("login", path="/v1/login", methods=("POST",)),
        spec("orders", path="/v1/orders/**"),
        spec("x", path="/x"),
    )
    aliases = (("POST", "/v1/login"), ("GET", "/v1/orders/x"))

    matched = limiter.match("POST", "/auth.Auth/Login", "auth.Auth/Login", aliases)

    assert matched is not None
    assert [one.rule.name for one in matched.specs] == ["login", "orders"]
    assert limiter.match("POST", "/auth.Auth/Login", "auth.Auth/Login") is None
