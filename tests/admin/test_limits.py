"""What the admin API says about limits, and what it makes them forget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.admin.contracts import Ask, Readiness
from silence_gateway.admin.limit_keys import serve_keys
from silence_gateway.admin.limits import serve_limits
from silence_gateway.admin.local import LocalInstance
from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.testing import FakeClock
from silence_gateway.testing.limiters import local_limiter


def limits_of(*key: str, names: tuple[str, ...] = ("login",)) -> tuple[LocalInstance, Limiter]:
    specs = []
    for name in names:
        rule = LimitRule(name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("2/minute"))
        specs.append(LimitSpec(rule=rule, key=key, any=True))
    limiter = local_limiter(specs)
    made = LocalInstance(lambda: Readiness("ready"), list)
    serve_limits(made, limiter, FleetCounts(limiter.statistics, None, FakeClock(), lambda: True))
    serve_keys(made, limiter, seconds)
    return made, limiter


def seconds(text: str) -> float:
    if not text.endswith("s"):
        raise ValueError(f"{text!r} is not a duration")
    return float(text[:-1])


async def meet(limiter: Limiter, times: int = 1, ip: str = "192.0.2.1", **headers: str) -> None:
    lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    matched = limiter.match("GET", "/", "")
    assert matched is not None
    for _ in range(times):
        try:
            await limiter.admit(Request("GET", "/", lines, peer=ip), matched)
        except RateLimited:
            continue


async def body(made: LocalInstance, path: str, method: str = "GET", **query: str) -> Any:
    answer = await made.call(Ask(method, path, query))
    assert answer.status == 200, answer.body
    return answer.body


def test_a_limit_is_listed_with_how_it_is_used_and_its_busiest_keys() -> None:
    async def scenario() -> Any:
        made, limiter = limits_of("client_ip")
        await meet(limiter, 3)
        await meet(limiter, ip="192.0.2.2")
        return await body(made, "limits")

    (limit,) = asyncio.run(scenario())

    assert (limit["name"], limit["rate"], limit["counted_by"]) == ("login", "2/m", "this instance")
    assert {name: limit[name] for name in ("allowed", "denied", "shadow_denied", "near")} == {
        "allowed": 3, "denied": 1, "shadow_denied": 0, "near": 1,
    }  # fmt: skip
    assert limit["unique_clients"] == {"1m": 2, "1h": 2}
    assert limit["top"] == [{"key": "192.0.2.1", "requests": 3}, {"key": "192.0.2.2", "requests": 1}]


def test_one_limit_is_shown_with_both_windows() -> None:
    async def scenario() -> tuple[Any, Any]:
        made, limiter = limits_of("client_ip")
        await meet(limiter, 3)
        return await body(made, "limits/login"), (await body(made, "limits"))[0]

    limit, listed = asyncio.run(scenario())

    assert limit["windows"] == {
        window: {
            "allowed": 2,
            "denied": 1,
            "shadow_denied": 0,
            "near": 1,
            "unique_clients": 1,
            "top": [{"key": "192.0.2.1", "requests": 3}],
            "top_denied": [{"key": "192.0.2.1", "denied": 1}],
        }
        for window in ("1m", "1h")
    }
    assert limit.items() >= listed.items()


@pytest.mark.parametrize(
    ("query", "top"),
    [
        ({}, [("a", 5), ("b", 3), ("c", 1)]),
        ({"by": "denied", "window": "1m"}, [("a", 3), ("b", 1)]),
        ({"limit": "1"}, [("a", 5)]),
    ],
)
def test_the_top_of_a_limit_is_by_window_and_by_what_is_asked(
    query: dict[str, str], top: list[tuple[str, int]]
) -> None:
    async def scenario() -> Any:
        made, limiter = limits_of("header:x-tenant")
        for tenant, times in (("b", 3), ("a", 5), ("c", 1)):
            await meet(limiter, times, x_tenant=tenant)
        return await body(made, "limits/top", name="login", **query)

    said = asyncio.run(scenario())

    word = query.get("by", "requests")
    assert [(item["key"], item[word]) for item in said.pop("top")] == top
    assert said == {
        "name": "login",
        "window": query.get("window", "1h"),
        "by": word,
        "counted_by": "this instance",
        "unique_clients": 3,
    }


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"name": "login", "window": "2h"}, 400, "window is 1m or 1h, not '2h'"),
        ({"name": "login", "by": "name"}, 400, "by is requests or denied"),
        ({"name": "login", "limit": "0"}, 400, "limit is 1 to 100"),
        ({"name": "login", "limit": "101"}, 400, "limit is 1 to 100"),
        ({"name": "login", "limit": "x"}, 400, "'x' is no whole number"),
        ({"name": "none"}, 404, "there is no limit 'none'; there are: login"),
        ({}, 400, "say of which limit"),
    ],
)
def test_a_top_that_cannot_be_told_is_refused(query: dict[str, str], status: int, said: str) -> None:
    made, _ = limits_of("client_ip")

    answer = asyncio.run(made.call(Ask("GET", "limits/top", query)))

    assert answer.status == status
    assert said in answer.body["error"]


@pytest.mark.parametrize(
    ("path", "reset"), [("limits/login/stats", ["login"]), ("limits/stats", ["login", "other"])]
)
def test_statistics_are_reset_and_what_was_spent_is_not(path: str, reset: list[str]) -> None:
    async def scenario() -> None:
        made, limiter = limits_of("client_ip", names=("login", "other"))
        await meet(limiter, 2)
        assert await body(made, path, "DELETE") == {"reset": reset}
        for limit in await body(made, "limits"):
            assert limit["allowed"] == (0 if limit["name"] in reset else 2)
            assert len(limit["top"]) == (0 if limit["name"] in reset else 1)
        assert (await body(made, "limits/login/keys/192.0.2.1"))["remaining"] == 0
        assert limiter.statistics["login"].allowed == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "limits/signup/keys/a"),
        ("DELETE", "limits/signup/keys/a"),
        ("GET", "limits/signup"),
        ("DELETE", "limits/signup/stats"),
    ],
)
def test_a_limit_that_does_not_exist_says_which_do(method: str, path: str) -> None:
    made, _ = limits_of("client_ip")

    answer = asyncio.run(made.call(Ask(method, path)))

    assert answer.status == 404
    assert "login" in answer.body["error"]
