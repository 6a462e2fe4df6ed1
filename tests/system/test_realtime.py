"""WebSocket sessions on two gateway processes and one Valkey: stock clients and raw frames."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from centrifuge import Client, PublicationContext, SubscriptionEventHandler
from tests.system.realtime_fleet import PATIENCE_S, Fleet, call_api, presence, raw_client, session_ids, token
from tests.system.yard import Gateway, until
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.system


class Heard(SubscriptionEventHandler):  # type: ignore[misc] # the library is not typed
    """Collects what a subscription hears."""

    def __init__(self) -> None:
        self.publications: asyncio.Queue[Any] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        await self.publications.put(ctx.pub.data)


@asynccontextmanager
async def stock_client(gateway: Gateway, user: str) -> AsyncIterator[Client]:
    client = Client(f"ws://127.0.0.1:{gateway.port}/connection/websocket", token=token(user))
    await client.connect()
    await client.ready(PATIENCE_S)
    try:
        yield client
    finally:
        await client.disconnect()


def test_stock_clients_on_two_gateways_talk(realtime_fleet: Fleet) -> None:
    async def scenario() -> None:
        async with (
            stock_client(realtime_fleet.one, "ann") as ann,
            stock_client(realtime_fleet.two, "bob") as bob,
        ):
            heard = {"ann": Heard(), "bob": Heard()}
            rooms = [
                client.new_subscription("chat:room", heard[name])
                for name, client in (("ann", ann), ("bob", bob))
            ]
            for room in rooms:
                await room.subscribe()
                await room.ready(PATIENCE_S)
            await rooms[0].publish({"text": "grüß dich"})
            for each in heard.values():
                said = await asyncio.wait_for(each.publications.get(), PATIENCE_S)
                assert said == {"text": "grüß dich"}
            found = await rooms[1].presence()
            assert {info.user for info in found.clients.values()} == {"ann", "bob"}
            answer = await asyncio.to_thread(realtime_fleet.api, "publish", channel="chat:room", data=[1, 2])
            assert answer == {"result": {}}
            for each in heard.values():
                assert await asyncio.wait_for(each.publications.get(), PATIENCE_S) == [1, 2]

        # The clients close their sockets in the background, after they have said goodbye.
        closing = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), PATIENCE_S)

    asyncio.run(scenario())


def both_listed(gateway: Gateway) -> bool:
    return len(session_ids(gateway, channel="chat:raw")) == 2


def test_raw_frames_on_two_gateways(realtime_fleet: Fleet) -> None:
    with raw_client(realtime_fleet.one) as ann, raw_client(realtime_fleet.two) as bob:
        hello = ann.connected("ann-raw")
        assert hello["client"]
        assert hello["ping"] == 25
        bob.connected("bob-raw")
        # One after the other: two gateways tell of their joins at the same time in either order.
        for raw, user in ((ann, "ann-raw"), (bob, "bob-raw")):
            raw.say(subscribe={"channel": "chat:raw"})
            assert ann.push("join")["join"]["info"]["user"] == user

        assert bob.say(publish={"channel": "chat:raw", "data": {"n": 1}})["publish"] == {}
        heard = ann.push("pub")
        assert (heard["channel"], heard["pub"]["data"]) == ("chat:raw", {"n": 1})
        assert heard["pub"]["info"]["user"] == "bob-raw"

        one, two = realtime_fleet.one, realtime_fleet.two
        until(lambda: presence(one, "chat:raw") == {"ann-raw", "bob-raw"}, "both are present")
        for gateway in (one, two):
            until(partial(both_listed, gateway), "both sessions are listed in the channel")
        (record,) = two.admin("GET", "/api/v1/sessions?user=ann-raw").json()["sessions"]
        assert record["id"] == hello["client"]
        assert record["channels"] == ["chat:raw"]

        bob.say(unsubscribe={"channel": "chat:raw"})
        assert ann.push("leave")["leave"]["info"]["user"] == "bob-raw"
        until(lambda: presence(realtime_fleet.one, "chat:raw") == {"ann-raw"}, "the one that left is gone")


def test_many_commands_in_one_frame(realtime_fleet: Fleet) -> None:
    with raw_client(realtime_fleet.one) as raw:
        raw.socket.send(
            '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}\n'
            '{"id":3,"subscribe":{"channel":"nowhere:x"}}\n{"id":4,"publish":{"channel":"news","data":1}}\n'
            '{"id":5,"rpc":{"method":"x"}}'
        )
        replies: dict[int, dict[str, Any]] = {}
        while len(replies) < 5:
            replies.update({message["id"]: message for message in raw.frame()})

    assert "connect" in replies[1]
    assert "subscribe" in replies[2]
    assert replies[3]["error"] == {"code": 102, "message": "unknown channel"}
    assert replies[4]["error"]["code"] == 103
    assert replies[5]["error"]["code"] in {104, 108}


def test_the_server_api(realtime_fleet: Fleet) -> None:
    assert realtime_fleet.api("publish", channel="nowhere:x", data=1)["error"] == {
        "code": 102,
        "message": "unknown channel",
    }
    assert call_api(realtime_fleet.one, "publish", {}, key="wrong").status == 401
    assert realtime_fleet.one.ask("POST", "/api/publish", {}).status == 401
    until(lambda: len(realtime_fleet.api("info")["result"]["nodes"]) >= 2, "both instances are known")
    with raw_client(realtime_fleet.two) as raw:
        raw.connected("dora")
        raw.say(subscribe={"channel": "chat:x"})
        answer = realtime_fleet.api("broadcast", channels=["chat:x", "news"], data={"all": True})
        assert [each["result"] for each in answer["result"]["responses"]] == [{}, {}]
        assert raw.push("pub")["pub"]["data"] == {"all": True}
        realtime_fleet.api("disconnect", user="dora")
        assert raw.closed_with() == 3503


def test_an_operator_ends_a_session_of_another_gateway(realtime_fleet: Fleet) -> None:
    with raw_client(realtime_fleet.two) as raw:
        session = raw.connected("gina")["client"]
        until(lambda: session_ids(realtime_fleet.one, user="gina") == [session], "the session is known")

        assert realtime_fleet.one.admin("DELETE", f"/api/v1/sessions/{session}").status == 200
        assert raw.closed_with() >= 3000
        until(lambda: session_ids(realtime_fleet.one, user="gina") == [], "the session is gone")
        assert realtime_fleet.one.admin("GET", f"/api/v1/sessions/{session}").status == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param(None, 101, id="a-program"),
        pytest.param("https://app.example.com", 101, id="listed"),
        pytest.param("https://evil.example.com", 403, id="foreign"),
        pytest.param("https://app.example.com.evil.org", 403, id="looks-alike"),
        pytest.param("null", 403, id="sandboxed"),
    ],
)
def test_pages_of_other_sites_may_not_connect(realtime_fleet: Fleet, origin: str | None, status: int) -> None:
    refused = realtime_fleet.one.metric("silence_session_refused_origins_total")
    if status == 101:
        with raw_client(realtime_fleet.one, origin) as raw:
            assert raw.connected()["client"]
        return
    with pytest.raises(InvalidStatus) as raised, raw_client(realtime_fleet.one, origin):
        pass

    assert raised.value.response.status_code == status
    assert realtime_fleet.one.metric("silence_session_refused_origins_total") == refused + 1


def test_bad_tokens_and_bad_frames_have_their_codes(realtime_fleet: Fleet) -> None:
    with raw_client(realtime_fleet.one) as raw:
        raw.socket.send(json.dumps({"id": 1, "connect": {"token": "x.y.z"}}))
        assert raw.closed_with() == 3500
    with raw_client(realtime_fleet.one) as raw:
        raw.socket.send(json.dumps({"id": 1, "connect": {"token": token("ann", -60)}}))
        assert raw.frame()[0]["error"]["code"] == 109
    for nonsense in ("no JSON", '{"id":1,"subscribe":{"channel":"news"}}', "[]"):
        with raw_client(realtime_fleet.one) as raw:
            raw.socket.send(nonsense)
            assert raw.closed_with() == 3501, nonsense
    assert realtime_fleet.one.metric("silence_ws_closes_total") >= 4


def test_a_drained_gateway_sends_its_clients_elsewhere(realtime_fleet: Fleet) -> None:
    """Last in this file: it ends one of the two."""
    with raw_client(realtime_fleet.two) as raw:
        raw.connected("hugo")
        realtime_fleet.two.signal(signal.SIGTERM)

        assert raw.closed_with() == 3001
    assert realtime_fleet.two.wait(10) == 0
    until(lambda: session_ids(realtime_fleet.one, user="hugo") == [], "its session is gone")
