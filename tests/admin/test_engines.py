"""What the engines tell through the admin API, and what it makes them do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from silence_gateway.admin.contracts import Ask, Readiness
from silence_gateway.admin.engines import serve_access, serve_upstreams
from silence_gateway.admin.local import LocalInstance
from silence_gateway.limiting.access import AccessLists, Verdict
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import FakeClock
from silence_gateway.upstreams.pool import GrpcUpstream
from silence_gateway.upstreams.settings import UpstreamSettings


def instance() -> LocalInstance:
    return LocalInstance(lambda: Readiness("ready"), list)


def seconds(text: str) -> float:
    if not text.endswith("s"):
        raise ValueError(f"{text!r} is not a duration")
    return float(text[:-1])


def with_access(work: Callable[[LocalInstance, AccessLists, MemoryHub], Any]) -> Any:
    async def scenario() -> Any:
        hub = MemoryHub(FakeClock())
        store = MemoryStore(hub)
        await store.start()
        lists = AccessLists(store.board, FakeClock(), deny=["203.0.113.0/24"])
        lists.start()
        made = instance()
        serve_access(made, lists, seconds)
        try:
            return await work(made, lists, hub)
        finally:
            await store.stop()

    return asyncio.run(scenario())


def test_an_address_is_put_on_a_list_and_taken_off() -> None:
    async def work(made: LocalInstance, lists: AccessLists, _hub: MemoryHub) -> None:
        put = await made.call(Ask("PUT", "access/deny/198.51.100.7/32", {"ttl": "60s", "reason": "abuse"}))
        assert put.status == 200
        assert put.body["reason"] == "abuse"
        assert lists.verdict("198.51.100.7") is Verdict.DENY
        assert len((await made.call(Ask("GET", "access/deny"))).body) == 2
        assert (await made.call(Ask("DELETE", "access/deny/198.51.100.7/32"))).status == 200
        assert lists.verdict("198.51.100.7") is Verdict.NONE
        assert (await made.call(Ask("DELETE", "access/deny/198.51.100.7/32"))).status == 404

    with_access(work)


@pytest.mark.parametrize(
    ("path", "query"), [("access/deny/nonsense", {}), ("access/deny/192.0.2.1", {"ttl": "soon"})]
)
def test_what_cannot_be_put_on_a_list_is_refused(path: str, query: dict[str, str]) -> None:
    async def work(made: LocalInstance, _lists: AccessLists, _hub: MemoryHub) -> None:
        assert (await made.call(Ask("PUT", path, query))).status == 400

    with_access(work)


def test_while_the_store_is_away_a_change_holds_here_and_says_so() -> None:
    async def work(made: LocalInstance, lists: AccessLists, hub: MemoryHub) -> None:
        hub.go_away()
        answer = await made.call(Ask("PUT", "access/deny/198.51.100.7"))
        assert answer.status == 503
        assert "of this instance" in answer.body["error"]
        assert lists.verdict("198.51.100.7") is Verdict.DENY

    with_access(work)


def test_an_endpoint_can_be_drained_and_taken_back() -> None:
    async def scenario() -> None:
        upstream = GrpcUpstream(UpstreamSettings.of("127.0.0.1:1", name="shop"), clock=FakeClock())
        await upstream.start()
        made = instance()
        serve_upstreams(made, {"shop": upstream})
        path = "upstreams/shop/endpoints/127.0.0.1:1"
        try:
            assert (await made.call(Ask("PUT", path, {"state": "drain"}))).status == 200
            (shown,) = (await made.call(Ask("GET", "upstreams"))).body
            assert shown["endpoints"][0]["active"] is False
            assert (await made.call(Ask("PUT", path, {"state": "active"}))).status == 200
            assert (await made.call(Ask("PUT", path, {"state": "gone"}))).status == 400
            assert (
                await made.call(Ask("PUT", "upstreams/shop/endpoints/x", {"state": "drain"}))
            ).status == 404
            assert (
                await made.call(Ask("PUT", "upstreams/none/endpoints/x", {"state": "drain"}))
            ).status == 404
        finally:
            await upstream.stop()

    asyncio.run(scenario())
