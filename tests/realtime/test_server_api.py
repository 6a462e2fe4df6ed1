"""The server API: keys, shapes and errors as its client libraries know them."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silence_gateway.core.http import Request
from silence_gateway.errors import BadRequest, MethodNotAllowed, NotFound, Unauthenticated
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.realtime.server_api import encode_answer, server_api
from silence_gateway.realtime.server_methods import METHODS, ServerMethods
from silence_gateway.testing.clock import settle


def request(method: str, body: object, key: str = "key", verb: str = "POST", **headers: str) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request(verb, f"/api/{method}", {b"x-api-key": key.encode(), **named}, data)


async def call(hub: RealtimeHub, method: str, body: object, **headers: str) -> Any:
    response = await server_api(hub)(request(method, body, **headers))
    assert response.status == 200
    return json.loads(response.body)


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_publish_reaches_subscribers_and_answers_an_empty_result(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            client = await world.connected(two, "ann", "news")
            answer = await call(one, "publish", {"channel": "news", "data": {"a": "ü"}, "tags": {"t": "1"}})
            encoded = base64.b64encode(b'{"b":2}').decode()
            await call(one, "publish", {"channel": "news", "b64data": encoded})
            await settle()

            assert answer == {"result": {}}
            heard = [each["push"]["pub"] for each in client.heard()]
            assert heard == [{"data": {"a": "ü"}, "tags": {"t": "1"}}, {"data": {"b": 2}}]

    run(scenario)


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("publish", {"channel": "nowhere:a", "data": 1}, 102),
        ("publish", {"channel": "", "data": 1}, 107),
        ("publish", {"data": 1}, 107),
        ("publish", {"channel": "a"}, 107),
        ("publish", {"channel": "a", "b64data": "?"}, 107),
        ("publish", {"channel": "a", "data": 1, "tags": {"x": 1}}, 107),
        ("publish", {"channel": ["a"], "data": 1}, 107),
        ("publish", {}, 107),
        ("publish", {"channel": "a", "data": "x" * 600_000}, 106),
        ("broadcast", {"channels": "a", "data": 1}, 107),
        ("presence", {"channel": "quiet:a"}, 108),
        ("presence", {"channel": "nowhere:a"}, 102),
        ("presence_stats", {}, 107),
        ("unsubscribe", {"channel": "a"}, 107),
        ("unsubscribe", {"user": "a", "channel": "nowhere:a"}, 102),
        ("disconnect", {}, 107),
        ("disconnect", {"user": "a", "disconnect": {"code": 7}}, 107),
        ("channels", {"pattern": 7}, 107),
        ("history", {"channel": "a"}, 108),
        ("subscribe", {"channel": "a", "user": "b"}, 108),
        ("batch", {"commands": 1}, 107),
    ],
)
def test_each_error_has_its_code(make_world: Any, method: str, body: object, code: int) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            assert (await call(await world.hub(), method, body))["error"]["code"] == code

    run(scenario)


def test_an_unknown_channel_is_said_in_the_words_clients_expect(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            body = {"channel": "nowhere:a", "data": 1}
            response = await server_api(hub)(request("publish", body, x_centrifugo_error_mode="transport"))

            assert await call(hub, "publish", body) == {"error": {"code": 102, "message": "unknown channel"}}
            assert response.status == 404

    run(scenario)


@pytest.mark.parametrize("key", ["", "wrong", "keyy"])
def test_a_wrong_key_is_refused_and_counted(make_world: Any, key: str) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            with pytest.raises(Unauthenticated):
                await server_api(hub)(request("info", {}, key))

            assert hub.statistics.refused_keys == 1

    run(scenario)


def test_without_a_key_in_the_settings_there_is_no_api(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            hub.settings = replace(hub.settings, api_key="")
            with pytest.raises(NotFound):
                await server_api(hub)(request("info", {}, ""))

    run(scenario)


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b"7", b"\xff", b"[" * 5000, b'{"a":' * 100 + b"1" + b"}" * 100]
)
def test_a_body_that_is_no_object_is_a_bad_request(make_world: Any, body: bytes) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            with pytest.raises(BadRequest):
                await server_api(await world.hub())(request("publish", body))

    run(scenario)


def test_other_paths_and_verbs_are_not_served(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            api = server_api(await world.hub())
            with pytest.raises(NotFound):
                await api(request("teleport", {}))
            with pytest.raises(MethodNotAllowed):
                await api(request("info", b"", verb="GET"))

    run(scenario)


def test_broadcast_answers_for_each_channel(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            answer = await call(await world.hub(), "broadcast", {"channels": ["a", "nowhere:b"], "data": 1})

            assert answer["result"]["responses"] == [
                {"result": {}},
                {"error": {"code": 102, "message": "unknown channel"}},
            ]

    run(scenario)


def test_presence_info_and_channels_tell_who_is_where(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            client = await world.connected(one, "ann", "news", "chat:a")
            await world.connected(two, "ann", "news")
            await world.clock.advance(4)

            presence = await call(one, "presence", {"channel": "news"})
            assert presence["result"]["presence"][client.id] == {"client": client.id, "user": "ann"}
            stats = await call(one, "presence_stats", {"channel": "news"})
            assert stats == {"result": {"num_clients": 2, "num_users": 1}}
            assert await call(one, "channels", {"pattern": "chat:*"}) == {
                "result": {"channels": {"chat:a": {"num_clients": 1}}}
            }
            nodes = (await call(one, "info", b""))["result"]["nodes"]
            assert {each["uid"]: each["num_clients"] for each in nodes} == {
                one.instance_id: 1,
                two.instance_id: 1,
            }

    run(scenario)


def test_clients_are_taken_out_and_disconnected_fleet_wide(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            client = await world.connected(two, "ann", "news")
            unsubscribed = await call(one, "unsubscribe", {"user": "ann", "channel": "news"})
            body = {"user": "ann", "disconnect": {"code": 4500, "reason": "bye"}}
            disconnected = await call(one, "disconnect", body)
            await settle()

            assert unsubscribed == disconnected == {"result": {}}
            assert client.heard()[0]["push"]["unsubscribe"]["code"] == 2000
            assert client.socket.closed == (4500, "bye")

    run(scenario)


def test_a_batch_answers_each_command(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            commands = [{"publish": {"channel": "a", "data": 1}}, {"history": {}}, {"batch": {}}, 7, {}]
            answer = await call(await world.hub(), "batch", {"commands": commands, "parallel": True})
            replies = answer["result"]["replies"]

            assert replies[0] == {"publish": {}}
            assert [each["error"]["code"] for each in replies[1:]] == [108, 107, 107, 107]

    run(scenario)


def test_while_the_store_is_away_the_error_is_a_temporary_one(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            world.take_store_away()
            for method in ("publish", "presence", "presence_stats"):
                answer = await call(hub, method, {"channel": "news", "data": 1})
                assert answer["error"]["code"] == 100
            assert len((await call(hub, "info", {}))["result"]["nodes"]) == 1

    run(scenario)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "channel",
    "channels",
    "data",
    "b64data",
    "tags",
    "user",
    "client",
    "disconnect",
    "whitelist",
    "commands",
]


@given(
    method=st.sampled_from(METHODS),
    params=st.dictionaries(st.sampled_from(NAMES), anything | st.sampled_from(["news", ["news"]])),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_asked_has_an_answer(make_world: Any, method: str, params: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            answer = await ServerMethods(hub).call(method, params)
            assert json.loads(encode_answer(answer)).keys() <= {"result", "error"}

    run(scenario)
