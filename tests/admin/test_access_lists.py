"""What the admin API tells of the allow and deny lists, and how it changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from silence_gateway.admin.access_lists import serve_access
from silence_gateway.admin.contracts import Ask, Readiness
from silence_gateway.admin.local import LocalInstance
from silence_gateway.errors import StoreMisconfigured
from silence_gateway.limiting.access import AccessLists
from silence_gateway.limiting.access_entry import Verdict
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import FakeClock


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
        made = LocalInstance(lambda: Readiness("ready"), list)
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


def test_many_are_put_on_a_list_and_who_did_it_is_kept() -> None:
    async def work(made: LocalInstance, lists: AccessLists, _hub: MemoryHub) -> None:
        items = [{"cidr": "198.51.100.0/24", "ttl": "60s", "reason": "abuse"}, {"cidr": "2001:db8::1"}]
        put = await made.call(Ask("PUT", "access/deny", items=items, caller="admin API from ::1"))
        assert (put.status, put.body) == (200, {"added": 2})
        assert lists.verdict("198.51.100.7") is lists.verdict("2001:db8::1") is Verdict.DENY
        first = (await made.call(Ask("GET", "access/deny", {"ip": "198.51.100.7"}))).body
        assert [(one["network"], one["reason"], one["by"]) for one in first] == [
            ("198.51.100.0/24", "abuse", "admin API from ::1")
        ]
        assert first[0]["until_us"] - first[0]["added_us"] == 60_000_000
        pages = [
            (await made.call(Ask("GET", "access/deny", {"limit": "2", "after": after}))).body
            for after in ("", "203.0.113.0/24")
        ]
        assert [[one["network"] for one in page] for page in pages] == [
            ["198.51.100.0/24", "203.0.113.0/24"],
            ["2001:db8::1/128"],
        ]

    with_access(work)


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (None, "send a list of entries"),
        (["10.0.0.1"], "entry 1: write a list"),
        ([{"cidr": "10.0.0.1", "ttl": 5}], "entry 1: write a list"),
        ([{"cidr": "10.0.0.1"}, {"cidr": "10.0.0.2", "tll": "1s"}], "entry 2: tll is not known here"),
        ([{"cidr": "10.0.0.1", "ttl": "soon"}], "entry 1: ttl: 'soon'"),
        ([{"reason": "x"}], "entry 1: '' is not an address"),
        ([{"cidr": "10.0.0.1"}, {"cidr": "10.0.0.300"}], "entry 2: '10.0.0.300' is not"),
    ],
)
def test_a_body_with_a_mistake_changes_nothing(items: list[Any] | None, says: str) -> None:
    async def work(made: LocalInstance, lists: AccessLists, _hub: MemoryHub) -> None:
        answer = await made.call(Ask("PUT", "access/deny", items=items))

        assert answer.status == 400
        assert says in answer.body["error"]
        assert lists.verdict("10.0.0.1") is Verdict.NONE

    with_access(work)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (Ask("PUT", "access/deny", {"ttl": "1s"}, items=[]), "ttl is not known here; there are none"),
        (Ask("PUT", "access/deny/10.0.0.1", {"tll": "1s"}), "there are reason and ttl"),
        (Ask("GET", "access/deny", {"page": "2"}), "there are after and ip and limit"),
        (Ask("GET", "access/deny", {"limit": "x"}), "'x' is no whole number"),
        (Ask("PUT", "access/deny/10.0.0.1", items=[]), "may be a list only where"),
    ],
)
def test_what_nobody_reads_is_refused(ask: Ask, says: str) -> None:
    async def work(made: LocalInstance, _lists: AccessLists, _hub: MemoryHub) -> None:
        answer = await made.call(ask)

        assert (answer.status, says in answer.body["error"]) == (400, True), answer

    with_access(work)


def test_while_the_store_is_away_many_hold_here_and_a_removal_too() -> None:
    async def work(made: LocalInstance, lists: AccessLists, hub: MemoryHub) -> None:
        hub.go_away()
        items = [{"cidr": f"10.0.0.{number}"} for number in range(100)]
        put = await made.call(Ask("PUT", "access/deny", items=items))
        removed = await made.call(Ask("DELETE", "access/deny/10.0.0.1"))
        assert (put.status, removed.status) == (503, 503)
        assert "all 100 are on the deny list of this instance" in put.body["error"]
        assert "is off the deny list of this instance" in removed.body["error"]
        assert lists.verdict("10.0.0.2") is Verdict.DENY
        assert lists.verdict("10.0.0.1") is Verdict.NONE

    with_access(work)


def test_what_the_store_refuses_is_not_said_to_hold() -> None:
    async def work(made: LocalInstance, lists: AccessLists, _hub: MemoryHub) -> None:
        async def refuse(room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
            raise StoreMisconfigured("this room of the board is full")

        lists.board.put = refuse  # type: ignore[method-assign]
        answer = await made.call(Ask("PUT", "access/deny/10.0.0.1"))
        assert (answer.status, answer.body["error"]) == (503, "this room of the board is full")

    with_access(work)
