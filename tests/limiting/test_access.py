"""Allow and deny lists of a fleet."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.errors import BadRequest, StoreUnavailable
from silence_gateway.events import Event
from silence_gateway.limiting import access
from silence_gateway.limiting.access import AccessChanged, AccessEntryUnreadable, AccessLists, Verdict
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
        there = AccessLists(MemoryStore(hub).board, clock)
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

        assert await there.remove("deny", "203.0.113.0/24")
        await settle()

        assert here.verdict("203.0.113.7") is Verdict.NONE
        assert here.list("deny") == []
        assert not await here.remove("deny", "203.0.113.0/24")

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

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deny nowhere", b"[]"),
        ("deny 10.0.0.1", b"{"),
        ("x", b"[1]"),
        ("block 10.0.0.1", b"[]"),
        ("deny 10.0.0.1", b'["", "", "", ""]'),
    ],
)
def test_garbage_on_the_board_is_reported_and_not_applied(name: str, value: bytes) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        seen: list[Event] = []
        lists = AccessLists(store.board, FakeClock(), observer=seen.append)
        lists.start()
        await store.board.put("access", name, value)

        assert seen == [AccessEntryUnreadable(name=name)]
        assert lists.verdict("10.0.0.1") is Verdict.NONE

    asyncio.run(scenario())


def test_there_are_two_lists() -> None:
    with pytest.raises(BadRequest, match="there are allow and deny"):
        AccessLists(MemoryStore().board, FakeClock()).list("block")


def test_what_is_remembered_of_verdicts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_VERDICTS", 10)
    lists = AccessLists(MemoryStore().board, FakeClock(), deny=["10.0.0.0/8"])

    assert {lists.verdict(f"10.0.0.{number}") for number in range(50)} == {Verdict.DENY}
    assert len(lists.verdicts) <= 10
