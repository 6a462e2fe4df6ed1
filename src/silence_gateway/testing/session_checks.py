"""
What every session store must keep, as functions that anyone can run against a store of their own.

Each promise is one function with one message; none may look inside a store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from silence_gateway.stores.session_contract import Presence, PresenceStats, SessionRecord, SessionStore

LEASE_S = 0.2
LONG_S = 60.0
INFO = b'{"client":"a"}'


async def check_session_store(store: SessionStore, pass_time: Callable[[float], Awaitable[None]]) -> None:
    """
    Check any `SessionStore`, at first empty, against the contract.

    Args:
        store: What to check.
        pass_time: Lets that many seconds pass for the store.

    Raises:
        AssertionError: If a promise is broken; the message names it.
    """
    await check_records(store)
    await check_pages(store)
    await check_records_run_out(store, pass_time)
    await check_presence(store, pass_time)
    await check_odd_names(store)
    await check_instances(store, pass_time)


async def check_records(store: SessionStore) -> None:
    """What was written is read back whole, found by user and instance, and gone when removed."""
    record = SessionRecord(
        id="r1",
        instance="records",
        user="ann",
        authenticated=True,
        connected_us=1,
        seen_us=2,
        expires_us=3,
        name="js",
        version="5",
        channels=("a", "chat:b"),
        commands=4,
    )
    await store.write([record], LONG_S)
    assert await store.get("r1") == record, "a record is read back as it was written"
    assert (await store.list_by_user("ann", "", 10)).sessions == (record,), "a session is found by user"
    assert (await store.list_by_instance("records", "", 10)).sessions == (record,), "and by instance"
    await store.remove([record])
    await store.remove([record])
    assert await store.get("r1") is None, "a removed session is gone"
    assert (await store.list_by_user("ann", "", 10)).sessions == (), "a removed session leaves its user"
    assert (await store.list_by_instance("records", "", 10)).sessions == (), "and its instance"


async def check_pages(store: SessionStore) -> None:
    """Pages follow each other in the order of ids, each session once."""
    records = [SessionRecord(id=f"p{at}", instance="pages", user="bob") for at in range(7)]
    await store.write(records, LONG_S)
    for list_by, name in ((store.list_by_user, "bob"), (store.list_by_instance, "pages")):
        seen: list[str] = []
        cursor = ""
        for _ in range(4):
            page = await list_by(name, cursor, 3)
            seen += [record.id for record in page.sessions]
            cursor = page.cursor
            if not cursor:
                break
        assert seen == [record.id for record in records], "pages hold every session once, in order"
    await store.remove(records)


async def check_records_run_out(store: SessionStore, pass_time: Callable[[float], Awaitable[None]]) -> None:
    """A session that is not written again is gone when its time is over."""
    await store.write([SessionRecord(id="t1", instance="times", user="cid")], LEASE_S)
    await pass_time(2 * LEASE_S)
    assert await store.get("t1") is None, "a session ends with its time to live"
    assert (await store.list_by_user("cid", "", 10)).sessions == (), "and is not listed any more"


async def check_presence(store: SessionStore, pass_time: Callable[[float], Awaitable[None]]) -> None:
    """Who joined is there until it leaves or its lease ends; users are counted once."""
    ann, bob = Presence("ann", INFO), Presence("bob", b"{}")
    await store.join("room", {"a1": ann, "a2": ann, "b1": bob}, LONG_S)
    await store.join("room", {"a1": ann}, LONG_S)
    assert await store.presence("room", 10) == {"a1": ann, "a2": ann, "b1": bob}, "who joined is there"
    assert len(await store.presence("room", 2)) == 2, "no more than asked for are returned"
    assert await store.presence_stats("room") == PresenceStats(3, 2), "clients and users are counted"
    await store.leave("room", ["a1", "nobody"])
    assert await store.presence_stats("room") == PresenceStats(2, 2), "one client of a user may leave"
    await store.leave("room", ["a2", "b1"])
    assert await store.presence_stats("room") == PresenceStats(0, 0), "an empty channel has nobody"
    await store.join("room", {"a1": ann}, LEASE_S)
    await store.join("room", {"b1": bob}, LONG_S)
    await pass_time(2 * LEASE_S)
    assert await store.presence("room", 10) == {"b1": bob}, "a lease that ran out is not there"
    assert await store.presence_stats("room") == PresenceStats(1, 1), "nor is it counted"
    await store.leave("room", ["b1"])
    many = {f"m{at}": Presence(f"u{at % 10}", INFO) for at in range(600)}
    await store.join("crowd", many, LONG_S)
    assert await store.presence_stats("crowd") == PresenceStats(600, 10), "many join in one call"
    await store.leave("crowd", list(many))
    assert await store.presence("crowd", 10) == {}, "and leave in one"


async def check_odd_names(store: SessionStore) -> None:
    """Names that clients chose may hold anything and never meet in one place."""
    for name in ("ü{x}", "{x}", "a b", "x" * 255, "c:{a}:p", "9:nine"):
        odd = Presence(name, b'{"x":":"}')
        await store.join(name, {"o1": odd}, LONG_S)
        assert await store.presence(name, 10) == {"o1": odd}, "an odd name is kept as it is"
        await store.leave(name, ["o1"])
        record = SessionRecord(id="odd", instance="odds", user=name, channels=(name,))
        await store.write([record], LONG_S)
        assert (await store.list_by_user(name, "", 5)).sessions == (record,), "and found by it"
        await store.remove([record])


async def check_instances(store: SessionStore, pass_time: Callable[[float], Awaitable[None]]) -> None:
    """An instance is alive while it beats; it learns when it had been given up."""
    assert await store.beat("one", LONG_S, b"{}") is False, "a new instance is told to write everything"
    assert await store.beat("one", LONG_S, b'{"n":1}') is True, "a known one is not"
    assert await store.beat("two", LEASE_S, b"{}") is False, "instances are told apart"
    await store.write([SessionRecord(id="i1", instance="two")], LONG_S)
    await pass_time(2 * LEASE_S)
    one, two = await store.instances()
    assert (one.id, one.alive, one.info) == ("one", True, b'{"n":1}'), "a beating instance is alive"
    assert (two.id, two.alive, two.sessions) == ("two", False, 1), "a silent one is not, and stays listed"
    assert await store.beat("two", LONG_S, b"{}") is False, "an instance that was given up is told so"
    await store.remove([SessionRecord(id="i1", instance="two")])
    await store.forget_instance("two")
    assert [each.id for each in await store.instances()] == ["one"], "a forgotten instance is not listed"
    await store.forget_instance("one")
