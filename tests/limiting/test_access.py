"""Allow and deny lists of a fleet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.errors import BadRequest, StoreMisconfigured, StoreUnavailable
from silence_gateway.events import Event
from silence_gateway.limiting import access, access_bulk
from silence_gateway.limiting.access import AccessLists
from silence_gateway.limiting.access_entry import (
    ROOMS,
    AccessChanged,
    AccessEntry,
    AccessEntryUnreadable,
    Verdict,
    WantedEntry,
    room_of,
)
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle


@pytest.mark.parametrize(
    ("ip", "verdict"),
    [
        ("10.9.9.9", Verdict.DENY),
        ("10.1.2.3", Verdict.ALLOW),
        ("10.1.6.6", Verdict.DENY),
        ("::ffff:10.1.2.3", Verdict.ALLOW),
        ("192.0.2.1", Verdict.DENY),
        ("203.0.113.1", Verdict.NONE),
        ("2001:db8::1", Verdict.ALLOW),
        ("", Verdict.NONE),
        ("garbage", Verdict.NONE),
    ],
)
def test_the_most_specific_entry_decides_and_deny_wins_a_tie(ip: str, verdict: Verdict) -> None:
    lists = AccessLists(
        MemoryStore(MemoryHub(FakeClock())).board,
        FakeClock(),
        allow=["10.1.0.0/16", "192.0.2.1", "2001:db8::/32"],
        deny=["10.0.0.0/8", "10.1.6.6", "192.0.2.1"],
    )

    assert lists.verdict(ip) is verdict
    assert lists.verdict(ip) is verdict


def test_what_one_instance_adds_holds_on_all_and_leaves_a_line_for_the_audit() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        seen: list[Event] = []
        here = AccessLists(MemoryStore(hub).board, clock, observer=seen.append)
        told: list[Event] = []
        there = AccessLists(MemoryStore(hub).board, clock, observer=told.append)
        for lists in (here, there):
            lists.start()
        assert there.verdict("203.0.113.7") is Verdict.NONE

        entry = await here.add("deny", "203.0.113.0/24", ttl_s=60, reason="scraper", by="ops")
        await settle()

        assert here.verdict("203.0.113.7") is there.verdict("203.0.113.7") is Verdict.DENY
        assert there.list("deny") == [entry]
        assert (entry.reason, entry.by, entry.until_us - entry.added_us) == ("scraper", "ops", 60_000_000)
        assert seen == [
            AccessChanged(
                change="added", list="deny", network="203.0.113.0/24", reason="scraper", by="ops", ttl_s=60
            )
        ]

        assert await there.remove("deny", "203.0.113.0/24", by="dev")
        await settle()

        assert here.verdict("203.0.113.7") is Verdict.NONE
        assert here.list("deny") == []
        assert not await here.remove("deny", "203.0.113.0/24")
        assert told == [
            AccessChanged(change="removed", list="deny", network="203.0.113.0/24", reason="scraper", by="dev")
        ]

    asyncio.run(scenario())


def test_an_entry_with_a_ttl_ends_by_itself() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        lists = AccessLists(MemoryStore(MemoryHub(clock)).board, clock)
        lists.start()
        await lists.add("allow", "10.0.0.1", ttl_s=5)
        assert lists.verdict("10.0.0.1") is Verdict.ALLOW

        await clock.advance(6)

        assert lists.verdict("10.0.0.1") is Verdict.NONE

    asyncio.run(scenario())


def test_what_was_added_before_is_known_from_the_start() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        first = AccessLists(MemoryStore(hub).board, clock)
        first.start()
        await first.add("deny", "10.0.0.1")
        late = AccessLists(MemoryStore(hub).board, clock)
        late.start()
        await settle()

        assert late.verdict("10.0.0.1") is Verdict.DENY

    asyncio.run(scenario())


def test_while_the_store_is_away_a_change_holds_here() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        lists = AccessLists(MemoryStore(hub).board, clock)
        lists.start()
        hub.go_away()

        with pytest.raises(StoreUnavailable):
            await lists.add("deny", "10.0.0.1")

        assert lists.verdict("10.0.0.1") is Verdict.DENY

    asyncio.run(scenario())


def test_the_file_is_listed_and_only_the_file_changes_it() -> None:
    async def scenario() -> None:
        lists = AccessLists(MemoryStore().board, FakeClock(), deny=["10.0.0.0/8"])

        assert [(entry.network, entry.origin) for entry in lists.list("deny")] == [("10.0.0.0/8", "file")]
        with pytest.raises(BadRequest, match="by the configuration file"):
            await lists.remove("deny", "10.0.0.0/8")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("list_name", "cidr", "ttl_s", "reason", "hint"),
    [
        ("block", "10.0.0.1", None, "", "there are allow and deny"),
        ("deny", "10.0.0.1/8", None, "", "did you mean 10.0.0.0/8"),
        ("deny", "10.0.0.1", 0, "", "ttl is above 0s"),
        ("deny", "10.0.0.1", None, "x" * 300, "at most 200 characters"),
    ],
)
def test_a_bad_change_is_refused(
    list_name: str, cidr: str, ttl_s: float | None, reason: str, hint: str
) -> None:
    async def scenario() -> None:
        lists = AccessLists(MemoryStore().board, FakeClock())
        with pytest.raises(BadRequest, match=hint):
            await lists.add(list_name, cidr, ttl_s=ttl_s, reason=reason)

    asyncio.run(scenario())


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lists = AccessLists(MemoryStore().board, FakeClock())
        lists.start()
        monkeypatch.setattr(access, "MAX_ENTRIES", 2)
        await lists.add("deny", "10.0.0.1")
        await lists.add("deny", "10.0.0.2")
        await lists.add("deny", "10.0.0.2", reason="again")

        with pytest.raises(BadRequest, match="2 entries already"):
            await lists.add("deny", "10.0.0.3")
        with pytest.raises(BadRequest, match="2 entries already"):
            await lists.add_many("allow", wanted("10.0.0.1", "10.0.0.2"))
        assert await lists.add_many("deny", wanted("10.0.0.1", "10.0.0.2")) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deny nowhere", b"[]"),
        ("deny 10.0.0.1", b"{"),
        ("x", b"[1]"),
        ("block 10.0.0.1", b"[]"),
        ("deny 10.0.0.1", b'["", "", 0, 0]'),
        ("deny 10.0.0.1/32", b'["", "", "", ""]'),
        ("deny 10.0.0.1/32", b"[" * 100_000),
    ],
)
def test_garbage_on_the_board_is_reported_and_not_applied(name: str, value: bytes) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        seen: list[Event] = []
        lists = AccessLists(store.board, FakeClock(), observer=seen.append)
        lists.start()
        await store.board.put(ROOMS[7], name, value[:60_000])

        assert seen == [AccessEntryUnreadable(name=name)]
        assert not lists.list("deny")
        assert lists.verdict("10.0.0.1") is Verdict.NONE

    asyncio.run(scenario())


def wanted(*cidrs: str) -> list[WantedEntry]:
    return [WantedEntry(cidr=cidr, reason="bulk") for cidr in cidrs]


def test_many_are_added_at_once_each_with_a_line_for_the_audit() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        seen: list[Event] = []
        here = AccessLists(MemoryStore(hub).board, clock, observer=seen.append)
        there = AccessLists(MemoryStore(hub).board, clock)
        for lists in (here, there):
            lists.start()
        many = [WantedEntry(cidr=f"10.0.{n // 250}.{n % 250}", ttl_s=60, reason=str(n)) for n in range(1000)]

        assert await here.add_many("deny", many, by="ops") == 1000
        await settle()

        assert there.verdict("10.0.3.249") is Verdict.DENY
        assert there.verdict("10.0.4.0") is Verdict.NONE
        assert len(there.list("deny")) == 1000
        assert len(seen) == 1000
        assert seen[77] == AccessChanged(
            change="added", list="deny", network="10.0.0.77/32", reason="77", by="ops", ttl_s=60
        )
        assert len({room_of(f"deny {entry.network}") for entry in there.list("deny")}) == len(ROOMS)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (WantedEntry(cidr="10.0.0.1/8"), "entry 3: .*did you mean 10.0.0.0/8"),
        (WantedEntry(cidr="10.0.0.9", ttl_s=-1), "entry 3: ttl"),
        (WantedEntry(cidr="10.0.0.1/32"), "entry 3: 10.0.0.1/32 is entry 1 already"),
    ],
)
def test_one_that_is_wrong_keeps_all_out(bad: WantedEntry, says: str) -> None:
    async def scenario() -> None:
        lists = AccessLists(MemoryStore().board, FakeClock())
        lists.start()
        with pytest.raises(BadRequest, match=says):
            await lists.add_many("deny", [*wanted("10.0.0.1", "10.0.0.2"), bad])

        assert lists.list("deny") == []

    asyncio.run(scenario())


def test_mistakes_are_named_up_to_a_bound_and_a_bulk_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lists = AccessLists(MemoryStore().board, FakeClock())
        with pytest.raises(BadRequest, match=r"entry 20: .*; and 5 more: nothing was added"):
            await lists.add_many("deny", wanted(*["x"] * 25))
        monkeypatch.setattr(access_bulk, "MAX_BULK", 2)
        with pytest.raises(BadRequest, match="one call takes 2 entries, not 3"):
            await lists.add_many("deny", wanted("10.0.0.1", "10.0.0.2", "10.0.0.3"))

    asyncio.run(scenario())


def test_while_the_store_is_away_all_of_a_bulk_hold_here() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        lists = AccessLists(MemoryStore(hub).board, clock)
        there = AccessLists(MemoryStore(hub).board, clock)
        lists.start()
        there.start()
        hub.go_away()

        with pytest.raises(StoreUnavailable):
            await lists.add_many("deny", wanted(*[f"10.0.0.{n}" for n in range(200)]))

        assert len(lists.list("deny")) == 200
        hub.come_back()
        await settle()
        assert len(there.list("deny")) == 200

    asyncio.run(scenario())


def test_what_the_store_refuses_is_not_on_the_list() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        put = store.memory_board.put

        async def refuse(room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
            if name.endswith("3/32"):
                raise StoreMisconfigured("this room of the board is full")
            await put(room, name, value, ttl_s)

        store.memory_board.put = refuse  # type: ignore[method-assign]
        seen: list[Event] = []
        lists = AccessLists(store.board, FakeClock(), observer=seen.append)
        lists.start()
        with pytest.raises(StoreMisconfigured):
            await lists.add_many("deny", wanted("10.0.0.1", "10.0.0.3"))

        assert [entry.network for entry in lists.list("deny")] == ["10.0.0.1/32"]

        async def refuse_removal(room: str, name: str) -> None:
            raise StoreMisconfigured("it is read-only")

        store.memory_board.remove = refuse_removal  # type: ignore[method-assign]
        with pytest.raises(StoreMisconfigured):
            await lists.remove("deny", "10.0.0.1", by="ops")

        told = [(event.change, event.network) for event in seen if isinstance(event, AccessChanged)]
        assert told == [
            ("added", "10.0.0.1/32"),
            ("added", "10.0.0.3/32"),
            ("refused", "10.0.0.3/32"),
            ("removed", "10.0.0.1/32"),
            ("refused", "10.0.0.1/32"),
        ]

    asyncio.run(scenario())


def test_a_list_is_read_in_pages_by_address_and_by_what_holds_an_address() -> None:
    async def scenario() -> None:
        lists = AccessLists(
            MemoryStore().board, FakeClock(), deny=["10.0.0.0/8", "2001:db8::/32"], allow=["10.2.0.0/16"]
        )
        lists.start()
        for cidr in ("10.0.0.0/8", "10.1.0.0/16", "9.0.0.0/8"):
            await lists.add("deny", cidr, reason="r")

        def page(**asked: Any) -> list[tuple[str, str]]:
            return [(entry.network, entry.origin) for entry in lists.list("deny", **asked)]

        whole = [
            ("9.0.0.0/8", "api"),
            ("10.0.0.0/8", "file"),
            ("10.0.0.0/8", "api"),
            ("10.1.0.0/16", "api"),
            ("2001:db8::/32", "file"),
        ]
        assert page() == whole
        assert page(limit=2) == whole[:3]
        assert page(limit=2, after="10.0.0.0/8") == whole[3:]
        assert page(after="2001:db8::/32") == []
        assert page(ip="10.1.2.3") == whole[1:4]
        assert page(ip="10.2.0.1") == whole[1:3]
        assert page(ip="::1") == []
        for bad in ({"limit": 0}, {"limit": 10_001}, {"after": "x"}, {"ip": "x"}):
            with pytest.raises(BadRequest):
                page(**bad)

    asyncio.run(scenario())


def test_the_end_of_an_entry_is_told_by_one_instance() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        told: list[Event] = []
        fleet = [AccessLists(MemoryStore(hub).board, clock, observer=told.append) for _ in range(3)]
        for lists in fleet:
            lists.start()
        await settle()
        await fleet[2].add("deny", "10.0.0.1", ttl_s=30, reason="scraping", by="ops")
        await fleet[1].add("deny", "10.0.0.2", ttl_s=30)
        await fleet[0].remove("deny", "10.0.0.2")
        told.clear()

        await clock.advance(31)

        assert told == [
            AccessChanged(
                change="ended", list="deny", network="10.0.0.1/32", reason="scraping", by="ops", ttl_s=30
            )
        ]
        assert sum(lists.duty.ours for lists in fleet) == 1

    asyncio.run(scenario())


def test_there_are_two_lists() -> None:
    with pytest.raises(BadRequest, match="there are allow and deny"):
        AccessLists(MemoryStore().board, FakeClock()).list("block")


def test_an_entry_of_no_end_has_no_ttl() -> None:
    assert AccessEntry(network="10.0.0.0/8").ttl_s is None


def test_what_is_remembered_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_VERDICTS", 10)
    lists = AccessLists(MemoryStore().board, FakeClock(), deny=["10.0.0.0/8"])

    assert {lists.verdict(f"10.0.0.{number}") for number in range(50)} == {Verdict.DENY}
    assert len(lists.verdicts) <= 10
