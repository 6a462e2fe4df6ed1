"""A user with the rights of docs/how-to/valkey.md, read from that page: all that is needed, and no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from tests.stores.places import Place
from tests.stores.promises import check_everything

from silence_gateway.core.store_failover import State
from silence_gateway.errors import StoreFault
from silence_gateway.events import Event, StoreFound, StoreLost
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limit_stats_contract import LimitCounts, NewUse
from silence_gateway.stores.limit_stats_valkey import ValkeyLimitStats
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.valkey

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "valkey.md"
ECHO = Script("echo", "return ARGV[1]")
# What travels outside scripts: getting in, asking who is who, running scripts, the bus.
OUTSIDE = {
    *("ping", "select", "role", "client|setname", "cluster|slots", "asking", "evalsha", "script|load"),
    *("publish", "subscribe", "unsubscribe"),
}


def shipped_line(fleet: str, password: str) -> list[str]:
    """Return the words of the line on the page, for another fleet and password."""
    [line] = re.findall(r"^ACL SETUSER silence .*$", PAGE.read_text(), re.MULTILINE)
    words: list[str] = line.replace("shop:*", f"{fleet}:*").replace(">password", f">{password}").split()
    assert f"~{fleet}:*" in words
    assert f">{password}" in words
    return words


def tell(servers: Sequence[ValkeyServer], *command: str) -> None:
    for server in servers:
        server.call(*command)


def let_in(servers: Sequence[ValkeyServer], fleet: str, password: str = "secret") -> None:
    tell(servers, *shipped_line(fleet, password))


def test_the_shipped_line_has_every_command_that_is_used_and_no_other(valkey: ValkeyServer) -> None:
    """What scripts call is read from their text: every word in capitals that is a command."""
    scripts = files("silence_gateway.stores").joinpath("scripts")
    texts = [path.read_text() for path in Path(str(scripts)).rglob("*.lua")]
    words = sorted({word for text in texts for word in re.findall(r"""["']([A-Z]+)["']""", text)})
    known = valkey.call("COMMAND", "INFO", *words)
    inside = {word.lower() for word, info in zip(words, known, strict=True) if info is not None}

    allowed = {word[1:] for word in shipped_line("any", "any") if word.startswith("+")}

    assert len(inside) > 30
    assert allowed == inside | OUTSIDE


def test_a_user_with_the_shipped_rights_can_do_everything(where: Place, fleet: str) -> None:
    let_in(where.servers, fleet)
    settings = where.settings(tls=True, user="silence:secret")

    async def statistics() -> None:
        store = ValkeyStore(settings, fleet)
        await store.start()
        stats = ValkeyLimitStats(store.general, fleet)
        once = {"192.0.2.1": 1}
        use = NewUse(counts=LimitCounts(1, 1, 1, 1), requests=once, refused=once, clients=[b"8 bytes."])
        await stats.add("window", use, 0)
        await stats.reset("other")
        await stats.show(["window", "other"])
        async with RateLimiter(store, fleet=fleet) as limiter:
            limit = limiter.limit("window", "10/minute")
            assert (await limit.try_acquire("alice")).at_us >= 0, "decided by the store"
            assert await limit.reset("alice")
        await store.stop()

    asyncio.run(statistics())
    asyncio.run(check_everything(settings, fleet))


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "other:key"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "requirepass"),
        ("EVAL", "return 1", "0"),
        ("SCRIPT", "FLUSH"),
        ("PUBLISH", "other:channel", "x"),
        ("ACL", "LIST"),
    ],
    ids=lambda command: command[0].lower(),
)
def test_a_user_with_the_shipped_rights_can_do_nothing_else(
    valkey: ValkeyServer, fleet: str, command: tuple[str, ...]
) -> None:
    let_in([valkey], fleet)

    said = valkey.call("ACL", "DRYRUN", "silence", *command)

    assert b"no permissions" in said, said


def test_a_script_may_not_touch_the_keys_of_others(valkey: ValkeyServer, fleet: str) -> None:
    let_in([valkey], fleet)
    steals = Script("steals", "return redis.call('GET', KEYS[1])")

    async def scenario() -> None:
        url = valkey.url.replace("valkey+unix://", "valkey+unix://silence:secret@")
        store = ValkeyStore(url, fleet)
        await store.start()
        try:
            assert store.up
            assert await store.scripts.run(steals, [f"{fleet}:mine".encode()], []) is None
            with pytest.raises(StoreFault, match="NOPERM"):
                await store.scripts.run(steals, [b"other:key"], [])
            assert store.up, "one forbidden command blames nobody else"
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_password_is_changed_while_we_run_and_nobody_notices(
    where: Place, fleet: str, tmp_path: Path
) -> None:
    """Both passwords are good for a while; the file is written; the old one ends; connections are cut."""
    secret = tmp_path / "password"
    secret.write_text("old\n")
    let_in(where.servers, fleet, "old")
    settings = replace(where.settings(tls=False, user="silence:"), password_file=secret)

    async def scenario() -> None:
        store = ValkeyStore(settings, fleet)
        await store.start()
        try:
            assert store.up
            await asyncio.to_thread(tell, where.servers, "ACL", "SETUSER", "silence", ">new")
            secret.write_text("new\n")
            await asyncio.to_thread(tell, where.servers, "ACL", "SETUSER", "silence", "<old")
            assert await store.scripts.run(ECHO, [f"{fleet}:key".encode()], [b"x"]) == b"x"
            before = store.counts["hot"].connects
            await asyncio.to_thread(tell, where.servers, "CLIENT", "KILL", "USER", "silence")
            await eventually(
                lambda: (
                    store.counts["hot"].connects > before
                    and all(lane.connected for shard in store.shards for lane in shard.lanes)
                ),
                "every lane is connected again, with the new password",
            )
            assert await store.scripts.run(ECHO, [f"{fleet}:key".encode()], [b"x"]) == b"x"
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_password_that_was_changed_first_at_the_server_is_found_in_the_file(
    where: Place, fleet: str, tmp_path: Path
) -> None:
    """Without overlap there is an outage, which ends soon after the file is right; no password is logged."""
    secret = tmp_path / "password"
    secret.write_text("old-secret\n")
    let_in(where.servers, fleet, "old-secret")
    settings: StoreSettings = replace(where.settings(tls=False, user="silence:"), password_file=secret)
    events: list[Event] = []

    async def scenario() -> None:
        store = ValkeyStore(settings, fleet, observer=events.append)
        await store.start()
        try:
            assert store.up
            await asyncio.to_thread(
                tell, where.servers, "ACL", "SETUSER", "silence", "resetpass", ">new-secret"
            )
            await asyncio.to_thread(tell, where.servers, "CLIENT", "KILL", "USER", "silence")
            await eventually(lambda: store.state is State.OPEN, "it is away")
            secret.write_text("new-secret\n")
            await eventually(lambda: all(shard.up for shard in store.shards), "it is back")
            lost = [event.reason for event in events if isinstance(event, StoreLost)]
            assert any("WRONGPASS" in reason for reason in lost)
            assert sum(isinstance(event, StoreFound) for event in events) == len(lost)
            assert "secret" not in str(events)
        finally:
            await store.stop()

    asyncio.run(scenario())
