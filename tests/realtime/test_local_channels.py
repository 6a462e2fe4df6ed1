"""The fan-out: one encoding per channel and tick, however much arrives."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.websocket_reader import FrameReader
from silence_gateway.realtime.local_channels import BUS_PREFIX, MAX_JOINED_BYTES, joined_frames
from silence_gateway.testing.clock import settle


@given(st.lists(st.integers(1, 20_000).map(lambda size: b"x" * size), min_size=1, max_size=12))
def test_joined_frames_hold_every_push_once_in_order_and_stay_small(pushes: list[bytes]) -> None:
    frames = joined_frames(pushes)

    texts = []
    while frames:
        size, at = frames[1], 2
        if size == 126:
            size, at = int.from_bytes(frames[2:4], "big"), 4
        texts.append(frames[at : at + size])
        frames = frames[at + size :]
    assert [push for text in texts for push in text.split(b"\n")] == pushes
    assert all(len(text) <= MAX_JOINED_BYTES + 12 for text in texts)


def test_a_server_frame_is_not_masked() -> None:
    # Our own reader reads what clients send, and refuses a frame without a mask.
    reader = FrameReader(1000)
    reader.feed(joined_frames([b"{}"]))

    assert reader.failure is not None


def test_bus_messages_of_a_kind_we_do_not_know_are_skipped(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "", "news")
            for payload in (b"", b"z{}", b"\xff", b'p{"data":1}'):
                await hub.bus.publish(BUS_PREFIX + "news", payload)
            await settle()

            assert client.heard() == [{"push": {"channel": "news", "pub": {"data": 1}}}]

    asyncio.run(scenario())


def test_a_socket_that_leaves_while_others_are_written_to_disturbs_nobody(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            first, second, third = [await world.connected(hub, "", "quiet:a") for _ in range(3)]
            send = first.socket.send_frames

            def break_second(frames: bytes) -> None:
                send(frames)
                second.gone()

            first.socket.send_frames = break_second
            await hub.publish("quiet:a", 1)
            await settle()

            assert json.loads(third.socket.written[0][2:])["push"]["pub"] == {"data": 1}
            assert hub.statistics.subscriptions == 2

    asyncio.run(scenario())


def test_a_subscription_and_its_channel_survive_quick_changes_of_mind(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "")
            for _ in range(3):
                client.send(
                    {"subscribe": {"channel": "news"}},
                    {"unsubscribe": {"channel": "news"}},
                    {"subscribe": {"channel": "news"}},
                    {"unsubscribe": {"channel": "news"}},
                )
            client.send({"subscribe": {"channel": "news"}})
            await settle()
            replies = client.heard()
            await hub.publish("news", 1)
            await settle()

            assert [each["id"] for each in replies] == list(range(2, 15))
            assert not [each for each in replies if "error" in each]
            assert len(client.heard()) == 1
            assert hub.channels.channels["news"].users == 1

    asyncio.run(scenario())
