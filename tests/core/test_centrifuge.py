"""The client protocol as bytes: what a frame may hold, and what is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import centrifuge as wire
from silence_gateway.core import centrifuge_codes as codes

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_commands_of_one_frame_are_read_in_order() -> None:
    frame = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a","flag":1}}\n'

    commands = wire.decode_commands(frame)

    assert [(each.id, each.method) for each in commands] == [(1, "connect"), (2, "subscribe")]
    assert commands[1].params == {"channel": "a", "flag": 1}


def test_an_empty_object_is_a_pong() -> None:
    assert wire.decode_commands(b"{}") == [wire.PONG]
    assert wire.decode_commands(b'{}\n{"unknown":1}') == [wire.PONG, wire.PONG]


def test_unknown_fields_are_ignored_and_an_unknown_method_is_a_command_without_one() -> None:
    (known,) = wire.decode_commands(b'{"id":3,"new":7,"ping":{"newer":1}}')
    (unknown,) = wire.decode_commands(b'{"id":4,"teleport":{}}')

    assert (known.id, known.method) == (3, "ping")
    assert (unknown.id, unknown.method) == (4, "?")


def test_of_several_methods_the_first_of_the_protocol_counts() -> None:
    (command,) = wire.decode_commands(b'{"id":1,"publish":{},"subscribe":{"channel":"a"},"rpc":null}')

    assert command.method == "subscribe"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n \n", id="only-blanks"),
        pytest.param(b"{", id="half"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"7", id="number"),
        pytest.param(b'{"id":0,"connect":{}}', id="id-zero"),
        pytest.param(b'{"connect":{}}', id="no-id"),
        pytest.param(b'{"id":4294967296,"ping":{}}', id="id-above-uint32"),
        pytest.param(b'{"id":-1,"ping":{}}', id="id-below-zero"),
        pytest.param(b'{"id":1.0,"ping":{}}', id="id-not-whole"),
        pytest.param(b'{"id":true,"ping":{}}', id="id-boolean"),
        pytest.param(b'{"id":"1","ping":{}}', id="id-text"),
        pytest.param(b'{"id":' + b"9" * 5000 + b',"ping":{}}', id="id-huge"),
        pytest.param(b'{"id":1,"subscribe":"a"}', id="params-text"),
        pytest.param(b'{"id":1,"subscribe":["a"]}', id="params-list"),
        pytest.param(b'{"id":1,"publish":{"data":NaN}}', id="nan"),
        pytest.param(b'{"id":1,"publish":{"data":-Infinity}}', id="infinity"),
        pytest.param(b'{"id":1,"ping":{}}\xff', id="not-utf8"),
        pytest.param(b'{"id":1,"publish":{"data":' + b"[" * 100 + b"]" * 100 + b"}}", id="100-deep"),
        pytest.param(b'{"id":1,"publish":{"data":' + b"[" * 20000 + b"]" * 20000 + b"}}", id="very-deep"),
        pytest.param(b'{"id":1,"publish":{"data":' + b'{"a":' * 80 + b"1" + b"}" * 80 + b"}}", id="objects"),
        pytest.param(b"\n".join([b'{"id":1,"ping":{}}'] * 513), id="too-many-commands"),
        pytest.param(b"\n" * 60_000, id="too-many-lines"),
        pytest.param(b'{"id":1,"publish":{"data":"' + b"x" * 70_000 + b'"}}', id="too-big"),
        pytest.param(b'{"id":1,"ping":{}}{"id":2,"ping":{}}', id="not-separated"),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused(frame: bytes) -> None:
    with pytest.raises(wire.BadFrame):
        wire.decode_commands(frame)


def test_brackets_in_a_string_are_not_depth() -> None:
    (command,) = wire.decode_commands(b'{"id":1,"publish":{"data":"' + b"[{" * 200 + b'"}}')

    assert command.params["data"] == "[{" * 200


def test_as_many_commands_as_allowed_are_read() -> None:
    assert len(wire.decode_commands(b"\n".join([b'{"id":1,"ping":{}}'] * 512))) == 512


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
@settings(max_examples=200)
def test_any_bytes_are_commands_or_a_bad_frame(payload: bytes) -> None:
    try:
        commands = wire.decode_commands(payload)
    except wire.BadFrame:
        return
    assert commands


@given(st.lists(st.dictionaries(st.sampled_from(["id", *wire.METHODS, "x"]), json_values), max_size=4))
@settings(max_examples=200)
def test_any_objects_are_commands_or_a_bad_frame(objects: list[dict[str, object]]) -> None:
    frame = b"\n".join(json.dumps(each).encode() for each in objects)
    try:
        commands = wire.decode_commands(frame)
    except wire.BadFrame:
        return
    assert len(commands) == len(objects)
    assert all(each.method in {"", "?", *wire.METHODS} and 0 <= each.id <= wire.MAX_ID for each in commands)


@given(json_values)
def test_data_passes_through_unchanged_and_in_one_line(value: object) -> None:
    (command,) = wire.decode_commands(json.dumps({"id": 1, "publish": {"data": value}}).encode())

    written = wire.encode_json(command.params["data"])

    assert json.loads(written) == value
    assert b"\n" not in written


def test_a_lone_surrogate_travels_as_an_escape() -> None:
    (command,) = wire.decode_commands(b'{"id":1,"publish":{"data":"\\ud800"}}')

    assert wire.encode_json(command.params["data"]) == b'"\\ud800"'


def test_a_number_too_large_for_json_cannot_be_written() -> None:
    (command,) = wire.decode_commands(b'{"id":1,"publish":{"data":1e999}}')

    with pytest.raises(wire.BadFrame, match="cannot be written"):
        wire.encode_json(command.params["data"])


def test_replies_hold_their_result_even_when_it_is_empty() -> None:
    assert wire.reply(7, "unsubscribe") == b'{"id":7,"unsubscribe":{}}'


@pytest.mark.parametrize("error", codes.ERRORS.values(), ids=lambda error: str(error.code))
def test_error_replies_say_whether_trying_again_helps(error: codes.ReplyError) -> None:
    sent = json.loads(wire.error_reply(1, error))

    assert sent["error"]["code"] == error.code
    assert sent["error"].get("temporary", False) is (error.code in {100, 111, 113})


def test_a_publication_push_is_made_of_encoded_parts() -> None:
    info = wire.client_info("c1", "ann", b'{"n":1}')
    body = wire.publication(b'{"x":1}', info, b'{"t":"1"}')

    assert json.loads(wire.push('a"b', "pub", body)) == {
        "push": {
            "channel": 'a"b',
            "pub": {
                "data": {"x": 1},
                "info": {"user": "ann", "client": "c1", "conn_info": {"n": 1}},
                "tags": {"t": "1"},
            },
        }
    }


def test_goodbyes_always_carry_code_and_reason() -> None:
    unsubscribed = json.loads(wire.unsubscribe_push("a", 2000, ""))
    disconnected = json.loads(wire.disconnect_push(3001, "shutdown"))

    assert unsubscribed["push"]["unsubscribe"] == {"code": 2000, "reason": ""}
    assert disconnected["push"]["disconnect"] == {"code": 3001, "reason": "shutdown"}
