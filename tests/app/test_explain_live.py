"""What a running gateway says it would decide about a request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import silence_gateway.app.sample
from silence_gateway.admin.contracts import Answer, Ask
from silence_gateway.admin.local import LocalInstance
from silence_gateway.app.build import build
from silence_gateway.app.config.load import load_text
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request
from silence_gateway.events import nobody
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.watch.logs import LogWriter

CAFE = Path(silence_gateway.app.sample.__file__).with_name("cafe.binpb")
CONFIG = f"""
store: {{url: "memory://"}}
upstreams: {{cafe: {{endpoints: ["unix:/nowhere/cafe.sock"], descriptors: {CAFE}}}}}
limits:
  - {{name: all, match: {{any: true}}, rate: 10/minute}}
  - {{name: drinks, match: {{path: "/v1/drinks/**"}}, rate: 5/m, mode: shadow,
     key: [client_ip, "header:X-A"]}}
  - {{name: costly, match: {{path: "/v1/drinks/**"}}, rate: 10/m, cost: "header:X-Cost"}}
  - {{name: secret, match: {{rpc: silence.cafe.v1.Cafe/GetDrink}}, rate: 5/m, key: "header:Authorization"}}
realtime: {{anonymous: true, api_key: k}}
trusted_proxies: [127.0.0.1]
"""


def asking(work: Callable[[Gateway, LocalInstance], Awaitable[None]]) -> None:
    async def scenario() -> None:
        loaded = load_text(CONFIG, "gateway.yaml", {})
        log = LogWriter(os.open(os.devnull, os.O_WRONLY))
        gateway = build(loaded, MemoryStore(), SystemClock(), nobody, log)
        gateway.access.start()
        await gateway.services[0].refresh()
        instance = local_instance(gateway, loaded, log, LoopLag(SystemClock()), lambda: None)
        try:
            await work(gateway, instance)
        finally:
            await gateway.stop()

    asyncio.run(scenario())


async def explained(instance: LocalInstance, **query: str) -> Any:
    answer = await instance.call(Ask("GET", "limits/explain", query))
    assert answer.status == 200, answer.body
    return answer.body


def test_what_each_limit_would_make_of_it_is_said_in_words() -> None:
    async def work(gateway: Gateway, instance: LocalInstance) -> None:
        limiter = gateway.limiter
        assert limiter is not None
        assert gateway.limit_engine is not None
        gateway.limit_engine.start()

        async def outcomes(**headers: str) -> dict[str, str]:
            lines = "\n".join(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())
            body = await explained(instance, path="/v1/drinks/tea", ip="198.51.100.7", header=lines)
            return {limit["name"]: limit["outcome"] for limit in body["limits"]}

        assert set((await outcomes()).values()) == {"passes"}
        never = "refuses: costs 11, the whole limit is 10; it can never pass"
        assert (await outcomes(x_cost="11"))["costly"] == never
        assert (await outcomes(x_cost="many"))["costly"].startswith("answers 400: the header x-cost")
        matched = limiter.match("GET", "/v1/drinks/tea", "")
        assert matched is not None
        for _ in range(5):
            await limiter.admit(
                Request("GET", "/v1/drinks/tea", {b"x-cost": b"1"}, peer="198.51.100.7"), matched
            )
        after = await outcomes(x_cost="6")
        assert after["costly"].startswith("refuses: costs 6, 5 left; passes in 1m, at 20")
        assert after["drinks"].startswith("would refuse, in shadow: costs 1, 0 left; passes in 1m, at 20")
        await limiter.put_override("all", "198.51.100.7", {"blocked": True}, "test")
        await limiter.put_override("costly", "198.51.100.7", {"unlimited": True}, "test")
        after = await outcomes(x_cost="6")
        assert (after["all"], after["costly"]) == (
            "refuses: its key is blocked for ever",
            "passes: its key is unlimited",
        )

    asking(work)


def test_the_verdict_is_what_the_caller_would_be_answered_and_when_it_passes() -> None:
    async def work(gateway: Gateway, instance: LocalInstance) -> None:
        limiter = gateway.limiter
        assert limiter is not None
        assert gateway.limit_engine is not None
        gateway.limit_engine.start()

        async def verdict(path: str = "/v1/drinks/tea", *, method: str = "GET", cost: str = "1") -> Any:
            return await explained(
                instance, method=method, path=path, ip="198.51.100.7", header=f"X-Cost: {cost}"
            )

        said = await verdict()
        assert (said["verdict"], said["allowed"], said["status"]) == ("allowed by its limits", True, None)
        assert (said["refused_by"], said["retry_after_s"], said["retry_at_us"]) == ([], None, None)
        said = await verdict(cost="many")
        assert (said["status"], said["allowed"], said["limits"][2]["cost"]) == (400, False, None)
        assert said["verdict"].startswith("answered 400 bad request: the header x-cost")
        said = await verdict("/nowhere")
        assert (said["status"], said["verdict"]) == (
            404,
            "allowed by its limits; then answered 404 nothing is served here",
        )
        for path in ("/v1/drinks/tea", "/api/publish"):
            said = await verdict(path, method="DELETE")
            assert (said["status"], said["allowed"]) == (405, False)

        matched = limiter.match("GET", "/v1/drinks/tea", "")
        assert matched is not None
        request = Request("GET", "/v1/drinks/tea", {b"x-cost": b"2"}, peer="198.51.100.7")
        for _ in range(5):
            await limiter.admit(request, matched)
        said = await verdict()
        assert (said["status"], said["allowed"], said["refused_by"]) == (429, False, ["costly"])
        assert 59 < said["retry_after_s"] <= 60
        assert said["verdict"].startswith("refused by costly; retry after 60 s, at 20")
        assert [limit["allowed"] for limit in said["limits"][:3]] == [True, False, False]
        await limiter.put_override("costly", "198.51.100.7", {"unlimited": True}, "test")
        said = await verdict()
        assert said["verdict"] == "allowed by its limits (drinks would refuse it, in shadow)"
        await limiter.put_override("costly", "198.51.100.7", {"blocked": True, "ttl": 600}, "test")
        said = await verdict()
        assert (said["limits"][2]["rate"], said["limits"][2]["own_rate"]) == ("blocked", "10/m")
        assert 599 < said["limits"][2]["blocked"]["left_s"] <= 600
        await limiter.put_override("all", "198.51.100.7", {"blocked": True}, "test")
        said = await verdict()
        assert (said["verdict"], said["retry_after_s"]) == (
            "refused by all, costly; no retry will pass",
            None,
        )

    asking(work)


def test_while_an_upstreams_methods_are_not_known_a_path_may_be_its_own() -> None:
    async def work(gateway: Gateway, instance: LocalInstance) -> None:
        assert gateway.routes is not None
        gateway.routes.now = replace(gateway.routes.now, unknown=("cafe",))
        said = await explained(instance, path="/nowhere")

        assert (said["status"], said["allowed"]) == (503, False)
        assert "cafe are not known yet" in said["steps"][1]["why"]

    asking(work)


def test_every_limit_that_counts_it_is_named_with_its_key_and_what_that_has_left() -> None:
    async def work(gateway: Gateway, instance: LocalInstance) -> None:
        headers = "X-Forwarded-For: 198.51.100.7\nx-a: b,c\nAuthorization: Bearer hunter2"
        assert gateway.limiter is not None
        body = await explained(instance, method="get", path="/v1/drinks/tea?x=1", header=headers)

        assert [(step["what"], step["decided"]) for step in body["steps"]][:3] == [
            ("client", "198.51.100.7"),
            ("route", "GET /v1/drinks/{name}"),
            ("rpc", "silence.cafe.v1.Cafe/GetDrink"),
        ]
        assert [(limit["name"], limit["key"], limit["remaining"]) for limit in body["limits"][:2]] == [
            ("all", "198.51.100.7", 10),
            ("drinks", "198.51.100.7,b%2Cc", 5),
        ]
        assert body["limits"][1]["why"] == "path /v1/drinks/**, shadow: refuses nothing"
        assert body["limits"][3]["hidden"] is True
        assert body["limits"][3]["key"] == gateway.limiter.statistics["secret"].shown("Bearer hunter2")
        assert "hunter2" not in str(body)

    asking(work)


def test_nothing_is_spent_by_asking_and_what_others_spent_shows() -> None:
    async def work(gateway: Gateway, instance: LocalInstance) -> None:
        assert gateway.limiter is not None
        matched = gateway.limiter.match("GET", "/nowhere", "")
        assert matched is not None
        for spent in range(3):
            for _ in range(2):
                [limit] = (await explained(instance, path="/nowhere", ip="192.0.2.1"))["limits"]
                assert (limit["limit"], limit["remaining"]) == (10, 10 - spent)
            await gateway.limiter.admit(Request("GET", "/nowhere", {}, peer="192.0.2.1"), matched)

    asking(work)


def test_lists_changed_at_run_time_decide() -> None:
    async def work(gateway: Gateway, instance: LocalInstance) -> None:
        await gateway.access.add("deny", "203.0.113.7")
        await gateway.access.add("allow", "198.51.100.0/24")
        denied = await explained(instance, path="/v1/drinks", ip="203.0.113.7")
        allowed = await explained(instance, path="/v1/drinks", ip="198.51.100.9")

        assert denied["limits"] == allowed["limits"] == []
        assert (denied["verdict"], denied["status"]) == ("answered 403 access denied", 403)
        assert allowed["verdict"] == "allowed: its address is on access.allow, so no limit applies"
        assert "403 access denied" in [step["decided"] for step in denied["steps"]]
        assert "let in, no limit applies" in [step["decided"] for step in allowed["steps"]]

    asking(work)


@pytest.mark.parametrize(
    ("path", "decided"),
    [
        ("/api/publish", "POST /api/publish"),
        ("/connection/websocket", "WebSocket sessions"),
        ("/nope", "404 nothing is served here"),
    ],
)
def test_what_the_gateway_serves_by_itself_is_known(path: str, decided: str) -> None:
    async def work(_gateway: Gateway, instance: LocalInstance) -> None:
        body = await explained(instance, method="POST", path=path)

        assert decided in [step["decided"] for step in body["steps"]]
        assert [limit["name"] for limit in body["limits"]] == ["all"]

    asking(work)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"path": "v1"}, "path begins with '/'"),
        ({}, "path begins with '/'"),
        ({"path": "/v1/%zz"}, ""),
        ({"path": "/", "method": "FETCH"}, "method is one of"),
        ({"path": "/", "ip": "here"}, "ip: 'here' is not an address"),
        ({"path": "/", "header": "X-A: 1\nnope"}, "header: 'nope' is not a header"),
    ],
)
def test_what_is_no_request_is_refused(query: dict[str, str], said: str) -> None:
    async def work(_gateway: Gateway, instance: LocalInstance) -> None:
        answer: Answer = await instance.call(Ask("GET", "limits/explain", query))

        assert answer.status == 400
        assert said in answer.body["error"]

    asking(work)
