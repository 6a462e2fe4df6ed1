"""The page of keys: what engines leave in a real store is on it, and everything there ends."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
import redis

from silence_gateway.limiting.fleet_counts import CHANNEL
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.realtime.door import SessionHub
from silence_gateway.realtime.settings import RealtimeSettings
from silence_gateway.stores.limit_stats_contract import LimitCounts, NewUse
from silence_gateway.stores.limit_stats_valkey import ValkeyLimitStats
from silence_gateway.stores.session_contract import Presence, SessionRecord
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.valkey

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "keys.md"


def patterns() -> list[str]:
    """Return what the page writes in code, as regular expressions; `:l` continues the one before it."""
    found: list[str] = []
    for text in re.findall(r"`([^`]+)`", PAGE.read_text()):
        if text.startswith("edge:v2:"):
            found.append(text)
        elif re.fullmatch(r":[a-z0-9]", text) and found:
            found.append(found[-1].rpartition(":")[0] + text)
    plain = [text.replace("\\|", "|") for text in found]
    return [
        re.sub(r"<[^>]+>", ".+", re.escape(text).replace(r"\<", "<").replace(r"\>", ">")) for text in plain
    ]


async def use_everything(url: str) -> list[str]:
    """Use every engine on the store; returns the pub/sub channels that were in use meanwhile."""
    async with (
        RateLimiter(url, fleet="edge") as limiter,
        SessionHub(RealtimeSettings(anonymous=True), store=ValkeyStore(url, "edge")) as hub,
    ):
        await limiter.limit("window", "10/minute").acquire("alice")
        await limiter.limit("bucket", "10/minute", algorithm="token_bucket").acquire("alice")
        assert isinstance(limiter.store, ValkeyStore)
        await use_statistics(limiter.store)
        hub.subscribe("news", lambda _data: None)
        await hub.bus.ready("rt1:c:news")
        hub.bus.subscribe(CHANNEL, lambda _payload: None)
        await hub.bus.ready(CHANNEL)
        await hub.board.put("access", "deny 203.0.113.7/32", b"[]", 60)
        await hub.board.lead("upstreams/cafe", "check/10.0.0.1:1", 5)
        await hub.store.write([SessionRecord(id="s1", instance=hub.instance_id, user="alice")], 60)
        await hub.store.join("news", {"s1": Presence("alice", b"{}")}, 60)
        await hub.store.beat(hub.instance_id, 10, b"{}")
        with redis.Redis(unix_socket_path=url.removeprefix("valkey+unix://")) as client:
            return [name.decode() for name in await asyncio.to_thread(client.pubsub_channels)]


async def use_statistics(store: ValkeyStore) -> None:
    """Count something of every kind, and reset another limit."""
    stats = ValkeyLimitStats(store.general, "edge")
    once = {"192.0.2.1": 1}
    counts = LimitCounts(1, 1, 1, 1)
    await stats.add("window", NewUse(counts=counts, requests=once, refused=once, clients=[b"8 bytes."]), 0)
    await stats.reset("bucket")
    await stats.show(["window", "bucket"])


def test_every_key_and_channel_in_use_is_on_the_page_and_every_key_ends() -> None:
    with ValkeyServer() as server:
        channels = asyncio.run(use_everything(server.url))
        with redis.Redis(unix_socket_path=server.socket) as client:
            lives = {key.decode(): client.ttl(key) for key in client.keys("*")}

    known = patterns()
    unknown = [name for name in (*lives, *channels) if not any(re.fullmatch(one, name) for one in known)]
    assert unknown == []
    assert all(seconds > 0 for seconds in lives.values())
    assert {name.split(":")[2] for name in lives} >= {
        "board",
        "lease",
        "limit",
        "limit-index",
        "limit-stats",
        "session",
    }
    assert len(channels) >= 3
