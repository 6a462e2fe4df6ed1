"""One client's conversation: lifecycle, order, limits, time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.channels import NamespaceRules
from silence_gateway.core.session import MAX_PENDING, MAX_WAITING, Session
from silence_gateway.core.session_effects import (
    AskPresence,
    AskPresenceStats,
    Attach,
    Close,
    Connected,
    Effect,
    Join,
    Leave,
    Publish,
    Refreshed,
    Send,
    Verify,
)
from silence_gateway.core.session_rules import Identity, SessionRules
from silence_gateway.core.session_state import State

SECOND_US = 1_000_000
RULES = SessionRules(
    namespaces={
        "": NamespaceRules(max_subscriptions=3),
        "chat": NamespaceRules(publish=True, presence=False, max_subscriptions=2),
    }
)
ANN = Identity(user="ann", authenticated=True)


def frame(*commands: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in commands)


def sent(effects: list[Effect]) -> list[dict[str, Any]]:
    return [json.loads(each.payload) for each in effects if isinstance(each, Send)]


def closed_with(effects: list[Effect]) -> int | None:
    return next((each.why.code for each in effects if isinstance(each, Close)), None)


def new_session(rules: SessionRules = RULES) -> Session:
    return Session(rules, "c1", 0, 20 * SECOND_US)


def connected(rules: SessionRules = RULES, identity: Identity = ANN) -> Session:
    session = new_session(rules)
    session.on_frame(frame({"id": 1, "connect": {"token": "t"}}))
    session.on_verified(1, identity, 0)
    assert session.state is State.CONNECTED
    return session


def subscribed(session: Session, channel: str, command_id: int = 2) -> Session:
    session.on_frame(frame({"id": command_id, "subscribe": {"channel": channel}}))
    session.on_attached(command_id)
    assert session.channels[channel] is True
    return session


def test_connect_is_verified_and_answered_with_what_clients_read() -> None:
    session = new_session()

    asked = session.on_frame(frame({"id": 1, "connect": {"token": "t", "name": "js", "version": "5"}}))
    effects = session.on_verified(1, Identity(user="ann", ttl_us=90 * SECOND_US), 0)

    assert asked == [Verify(1, "t")]
    assert sent(effects) == [
        {
            "id": 1,
            "connect": {
                "client": "c1",
                "version": "1",
                "expires": True,
                "ttl": 90,
                "ping": 25,
                "pong": True,
            },
        }
    ]
    assert effects[-1] == Connected()
    assert (session.name, session.version) == ("js", "5")


@pytest.mark.parametrize(
    "first",
    [
        {"id": 1, "subscribe": {"channel": "a"}},
        {"id": 1, "ping": {}},
        {"send": {"data": 1}},
        {},
        {"id": 1, "connect": {"token": 7}},
        {"id": 1, "connect": []},
        {"id": 1},
    ],
)
def test_the_first_command_must_be_a_connect(first: dict[str, Any]) -> None:
    assert closed_with(new_session().on_frame(frame(first))) == 3501


def test_a_second_connect_ends_the_connection() -> None:
    assert closed_with(connected().on_frame(frame({"id": 2, "connect": {}}))) == 3501


def test_after_a_refused_connect_only_the_end_can_follow() -> None:
    session = new_session()
    session.on_frame(frame({"id": 1, "connect": {"token": "old"}}))

    refused = session.on_failed(1, codes.TOKEN_EXPIRED)

    assert sent(refused) == [{"id": 1, "error": {"code": 109, "message": "token expired"}}]
    assert closed_with(session.on_frame(frame({"id": 2, "connect": {}}))) == 3501


def test_subscribes_sent_with_the_connect_wait_for_it_and_keep_their_order() -> None:
    session = new_session()
    pipelined = [{"id": at, "subscribe": {"channel": f"ch{at}"}} for at in (2, 3, 4)]

    first = session.on_frame(frame({"id": 1, "connect": {}}, *pipelined))
    then = session.on_verified(1, ANN, 0)

    assert first == [Verify(1, "")]
    assert [type(each) for each in then] == [Send, Connected, Attach, Attach, Attach]


def test_a_subscribe_reply_comes_before_the_channel_may_speak() -> None:
    session = connected()
    session.on_frame(frame({"id": 2, "subscribe": {"channel": "a"}}))

    assert session.on_attached(2) == [Send(b'{"id":2,"subscribe":{}}'), Join("a")]


def test_commands_on_a_channel_wait_until_it_is_settled_and_others_do_not() -> None:
    session = connected()

    effects = session.on_frame(
        frame(
            {"id": 2, "subscribe": {"channel": "chat:a"}},
            {"id": 3, "subscribe": {"channel": "chat:b"}},
            {"id": 4, "publish": {"channel": "chat:a", "data": 1}},
            {"id": 5, "ping": {}},
        )
    )
    later = session.on_attached(2)

    assert effects == [Attach(2, "chat:a"), Attach(3, "chat:b")]
    assert [type(each) for each in later] == [Send, Join, Publish, Send]


def test_a_channel_that_could_not_be_reached_can_be_subscribed_again() -> None:
    session = connected()
    session.on_frame(frame({"id": 2, "subscribe": {"channel": "a"}}))

    failed = session.on_failed(2, codes.INTERNAL)
    again = session.on_frame(frame({"id": 3, "subscribe": {"channel": "a"}}))

    assert failed[0] == Leave("a", joined=False)
    assert sent(failed)[0]["error"]["temporary"] is True
    assert again == [Attach(3, "a")]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"subscribe": {"channel": "a"}}, 105),
        ({"subscribe": {"channel": ""}}, 107),
        ({"subscribe": {}}, 107),
        ({"subscribe": {"channel": 5}}, 107),
        ({"subscribe": {"channel": "x" * 300}}, 107),
        ({"subscribe": {"channel": "nowhere:a"}}, 102),
        ({"subscribe": {"channel": "$a"}}, 103),
        ({"subscribe": {"channel": "a#bob"}}, 103),
        ({"publish": {"channel": "a", "data": 1}}, 103),
        ({"publish": {"channel": "chat:a"}}, 107),
        ({"publish": {"channel": "chat:x#bob", "data": 1}}, 103),
        ({"presence": {"channel": "chat:a"}}, 108),
        ({"presence_stats": {"channel": "chat:a"}}, 108),
        ({"presence": {"channel": "a#bob"}}, 103),
        ({"history": {"channel": "a"}}, 108),
        ({"history": {"channel": "nowhere:a"}}, 102),
        ({"rpc": {"method": "x"}}, 108),
        ({"sub_refresh": {"token": "x"}}, 107),
        ({"unsubscribe": {}}, 107),
        ({"refresh": {}}, 107),
        ({"teleport": {}}, 104),
    ],
)
def test_each_refusal_has_its_error(command: dict[str, Any], code: int) -> None:
    session = subscribed(connected(), "a")

    effects = session.on_frame(frame({"id": 9, **command}))

    assert [each["error"]["code"] for each in sent(effects)] == [code]
    assert session.state is State.CONNECTED
    assert session.refusals == 1


def test_a_number_that_json_cannot_say_is_not_published() -> None:
    session = connected()

    effects = session.on_frame(b'{"id":2,"publish":{"channel":"chat:a","data":1e999}}')

    assert sent(effects)[0]["error"]["code"] == 107


def test_a_message_nobody_takes_ends_the_connection() -> None:
    assert closed_with(connected().on_frame(frame({"send": {"data": 1}}))) == 3508


def test_binary_ends_the_connection() -> None:
    assert closed_with(connected().on_binary()) == 3506


def test_each_namespace_has_its_own_number_of_subscriptions() -> None:
    session = connected()
    for at, channel in enumerate(["a", "b", "c", "chat:a", "chat:b"], start=2):
        subscribed(session, channel, at)

    refused = session.on_frame(
        frame({"id": 20, "subscribe": {"channel": "d"}}, {"id": 21, "subscribe": {"channel": "chat:c"}})
    )

    assert [each["error"]["code"] for each in sent(refused)] == [106, 106]


def test_publications_carry_who_published() -> None:
    session = connected(identity=Identity(user="ann", info=b'{"n":1}'))

    (effect,) = session.on_frame(frame({"id": 2, "publish": {"channel": "chat:a", "data": {"x": [1]}}}))

    assert isinstance(effect, Publish)
    assert json.loads(effect.body) == {
        "data": {"x": [1]},
        "info": {"user": "ann", "client": "c1", "conn_info": {"n": 1}},
    }
    assert sent(session.on_answer(2, b"{}")) == [{"id": 2, "publish": {}}]


def test_presence_is_asked_of_the_outside() -> None:
    session = connected()

    effects = session.on_frame(
        frame({"id": 2, "presence": {"channel": "a"}}, {"id": 3, "presence_stats": {"channel": "a"}})
    )

    assert effects == [AskPresence(2, "a"), AskPresenceStats(3, "a")]


def test_leaving_a_channel_is_answered_and_leaving_none_is_no_error() -> None:
    session = subscribed(connected(), "a")

    effects = session.on_frame(
        frame({"id": 3, "unsubscribe": {"channel": "a"}}, {"id": 4, "unsubscribe": {"channel": "b"}})
    )

    assert [each["id"] for each in sent(effects)] == [3, 4]
    assert [each for each in effects if isinstance(each, Leave)] == [Leave("a", joined=True)]


def test_the_server_may_end_a_subscription() -> None:
    session = subscribed(connected(), "a")

    effects = session.unsubscribe("a", 2000, "moved")

    assert sent(effects)[0]["push"]["unsubscribe"] == {"code": 2000, "reason": "moved"}
    assert session.unsubscribe("a", 2000, "again") == []


def test_a_silent_newcomer_is_stale() -> None:
    session = new_session()

    assert session.next_us == 10 * SECOND_US
    assert session.on_tick(9 * SECOND_US) == []
    assert closed_with(session.on_tick(10 * SECOND_US)) == 3502


def test_pings_are_sent_and_must_be_answered() -> None:
    session = connected()

    first = session.on_tick(20 * SECOND_US)
    answered = session.on_frame(b"{}")
    second = session.on_tick(45 * SECOND_US)

    assert first == second == [Send(b"{}")]
    assert answered == []
    assert session.next_us == 53 * SECOND_US
    assert closed_with(session.on_tick(53 * SECOND_US)) == 3012


def test_a_pong_nobody_asked_for_ends_the_connection() -> None:
    session = connected()
    session.on_tick(20 * SECOND_US)

    assert closed_with(session.on_frame(b"{}\n{}")) == 3501


def test_without_pings_nothing_is_ever_due() -> None:
    session = connected(SessionRules(namespaces=RULES.namespaces, ping_us=0))

    assert session.next_us == 0
    assert session.on_tick(10**15) == []


def test_an_expired_connection_ends_after_its_grace_unless_it_is_refreshed() -> None:
    session = connected(identity=Identity(user="ann", ttl_us=5 * SECOND_US))
    kept = connected(identity=Identity(user="ann", ttl_us=5 * SECOND_US))

    assert kept.on_frame(frame({"id": 2, "refresh": {"token": "new"}})) == [Verify(2, "new", refresh=True)]
    effects = kept.on_verified(2, Identity(user="ann", ttl_us=60 * SECOND_US), 6 * SECOND_US)

    assert sent(effects)[0]["refresh"] == {"client": "c1", "version": "1", "expires": True, "ttl": 60}
    assert effects[-1] == Refreshed()
    for each in (session, kept):
        each.on_tick(20 * SECOND_US)
        each.on_frame(b"{}")
    assert closed_with(session.on_tick(30 * SECOND_US)) == 3005
    assert closed_with(kept.on_tick(30 * SECOND_US)) is None


def test_a_refresh_with_a_token_of_somebody_else_ends_the_connection() -> None:
    session = connected()
    session.on_frame(frame({"id": 2, "refresh": {"token": "new"}}))

    assert closed_with(session.on_verified(2, Identity(user="bob"), 0)) == 3500


def test_the_end_leaves_every_channel_and_nothing_happens_after_it() -> None:
    session = subscribed(connected(), "a")
    session.on_frame(frame({"id": 3, "subscribe": {"channel": "b"}}))

    effects = session.close(codes.SHUTDOWN)

    assert effects == [Close(codes.SHUTDOWN), Leave("a", joined=True), Leave("b", joined=False)]
    assert session.on_attached(3) == []
    assert session.on_frame(frame({"id": 4, "ping": {}})) == []
    assert session.on_tick(10**12) == session.lost() == session.close(codes.SLOW) == []


def test_a_client_that_asks_faster_than_it_is_answered_is_held_back_then_closed() -> None:
    session = connected()
    asks = [{"id": at, "presence": {"channel": "a"}} for at in range(2, 2 + MAX_PENDING)]
    session.on_frame(frame(*asks))
    more = frame(*({"id": 1000 + at, "ping": {}} for at in range(500)))

    assert session.on_frame(more) == []
    assert session.paused
    assert session.on_frame(more) == []
    assert closed_with(session.on_frame(more)) == 3013
    assert MAX_WAITING == 1024


def test_what_was_held_back_is_done_when_there_is_room() -> None:
    session = connected()
    asks = [{"id": at, "presence": {"channel": "a"}} for at in range(2, 3 + MAX_PENDING)]
    session.on_frame(frame(*asks, {"id": 999, "ping": {}}))

    effects = session.on_answer(2, b"{}")

    assert [type(each) for each in effects] == [Send, AskPresence]
    assert [type(each) for each in session.on_answer(3, b"{}")] == [Send, Send]
    assert not session.paused


def test_an_id_in_use_waits_for_its_first_command() -> None:
    session = connected()

    effects = session.on_frame(
        frame({"id": 2, "presence": {"channel": "a"}}, {"id": 2, "presence_stats": {"channel": "a"}})
    )

    assert effects == [AskPresence(2, "a")]
    assert [type(each) for each in session.on_answer(2, b"{}")] == [Send, AskPresenceStats]
