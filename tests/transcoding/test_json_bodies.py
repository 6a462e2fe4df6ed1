"""JSON of callers: what is refused, and that the rest means what protobuf says it means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protobuf import Message, Registry

from silence_gateway.errors import BadRequest
from silence_gateway.transcoding.json_bodies import MAX_DEPTH, check_json, depth_of, parse_json, parse_value


@pytest.fixture(scope="session")
def rich(registry: Registry) -> type[Message]:
    described = registry.message("library.v1.Rich")
    assert described is not None
    return described.type


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b'{"text":"a","text":"b"}', "'text' twice", id="double-key"),
        pytest.param(b'{"inner":{"n":1,"n":1}}', "'n' twice", id="double-key-inside"),
        pytest.param(b'{"text":"a","t\\u0065xt":"b"}', "'text' twice", id="double-key-escaped"),
        pytest.param(b'{"anything":{"a":1,"a":2}}', "'a' twice", id="double-key-in-a-struct"),
        pytest.param(b'{"counts":{"a":1,"a":2}}', "'a' twice", id="double-key-in-a-map"),
        pytest.param(b"[" * 101 + b"]" * 101, "100 levels", id="deep-list"),
        pytest.param(b"[" * 1_000_000, "100 levels", id="open-list"),
        pytest.param(b'{"a":' * 500_000, "100 levels", id="open-objects"),
        pytest.param(b'{"value":' + b"[" * 100 + b"]" * 100 + b"}", "100 levels", id="deep-value"),
        pytest.param(
            b'{"value":' + b"[" * 99 + b"]" * 99 + b"}", "recursion depth", id="deep-for-the-library"
        ),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{}{}", "trailing", id="two-values"),
        pytest.param(b"\xef\xbb\xbf{}", "not JSON", id="byte-order-mark"),
        pytest.param('{"text":"a"}'.encode("utf-16"), "not JSON", id="utf-16"),
        pytest.param(b'{"text":"\\ud800"}', "not JSON", id="half-a-surrogate-pair"),
        pytest.param(b'{"d":NaN}', "not JSON", id="nan"),
        pytest.param(b'{"i64":' + b"9" * 100_000 + b"}", "not JSON", id="endless-number"),
        pytest.param(b'{"i64":"' + b"9" * 100_000 + b'"}', "invalid integer", id="endless-quoted-number"),
        pytest.param(b'{"d":1e999}', "d$", id="double-range"),
        pytest.param(b'{"flag":"true"}', "flag", id="quoted-bool"),
        pytest.param(b'{"color":"GREEN"}', "GREEN", id="enum"),
        pytest.param(b'{"any":{"@type":"x/no.Such"}}', "no.Such", id="any-of-unknown-type"),
        pytest.param(b'{"numbers":[null]}', "numbers", id="null-in-a-list"),
        pytest.param(b'{"\\u0000":1}', "unknown", id="nul-key"),
    ],
)
def test_json_that_is_not_a_message_is_refused(
    rich: type[Message], registry: Registry, body: bytes, reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        parse_json(rich, body, registry)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "body",
    [
        b'{"inners":[{"n":1},{"n":1},{"n":1}]}',
        b'{"text":"{\\"text\\":1,\\"text\\":2}"}',
        b'{"text":"[[[[[[[[\\\\"}',
        b'{"text":"' + b"[" * 1000 + b'"}',
        b'{"text":"' + b'\\"[' * 1000 + b'"}',
        b'{"numbers":[' + b",".join([b"1"] * 1000) + b"]}",
        b'{"inners":[' + b",".join([b'{"deep":{}}'] * 1000) + b"]}",
        b'{"value":' + b"[" * 45 + b"]" * 45 + b"}",
        b'{"value":["a","a","b:","a"]}',
        b'{"pickText":"a","text":"a"}',
    ],
)
def test_json_that_only_looks_odd_is_accepted(rich: type[Message], registry: Registry, body: bytes) -> None:
    assert parse_json(rich, body, registry).to_binary()


JSON_TEXT = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(alphabet='ab"\\[]{}:,é', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet='ab"\\[', max_size=2), inner, max_size=3)
    ),
    max_leaves=30,
)


def true_depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max((true_depth(item) for item in value), default=0)
    if isinstance(value, dict):
        return 1 + max((true_depth(item) for item in value.values()), default=0)
    return 0


@given(JSON_TEXT, st.integers(80, 120), st.booleans())
@settings(max_examples=150)
def test_depth_is_measured_right_where_it_matters(value: Any, wrap: int, ascii_only: bool) -> None:
    for _ in range(wrap):
        value = [value, "]"]
    body = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert (depth_of(body) > MAX_DEPTH) is (true_depth(value) > MAX_DEPTH)


@given(JSON_TEXT)
@settings(max_examples=150)
def test_json_without_double_keys_passes_the_checks(value: Any) -> None:
    body = json.dumps(value).encode()

    check_json(body)
    assert parse_value(body) == value


@given(
    st.lists(
        st.tuples(st.text(alphabet='ab"\\', max_size=2), st.sampled_from(['"x"', "1", '["a","a"]', "{}"])),
        max_size=6,
    )
)
@settings(max_examples=150)
def test_double_keys_are_found_exactly_where_they_are(pairs: list[tuple[str, str]]) -> None:
    body = ("{" + ", ".join(f"{json.dumps(key)} : {value}" for key, value in pairs) + "}").encode()
    keys = [key for key, _ in pairs]

    if len(keys) == len(set(keys)):
        check_json(body)
    else:
        with pytest.raises(BadRequest, match="twice"):
            check_json(body)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\textinr01.eE-é ', max_size=30).map(str.encode))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_message_or_a_bad_request(
    rich: type[Message], registry: Registry, body: bytes
) -> None:
    try:
        message = parse_json(rich, body, registry)
    except BadRequest as error:
        accepted = str(error) == ""
    else:
        accepted = isinstance(message.to_binary(), bytes)
        json.loads(body)
    assert accepted is not None


@pytest.fixture(scope="session")
def peer(library_set: bytes) -> Any:
    """The same message as google.protobuf knows it."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(library_set).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("library.v1.Rich"))


TEXTS = st.text(max_size=8)
INNER: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries({}, optional={"name": TEXTS, "n": st.integers(-(2**31), 2**31 - 1)}),
    lambda inner: st.fixed_dictionaries({}, optional={"deep": inner, "tags": st.lists(TEXTS, max_size=3)}),
    max_leaves=4,
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
RICH = st.fixed_dictionaries(
    {},
    optional={
        "d": st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
        "f": FLOATS.filter(lambda number: abs(number) < 3e38),
        "i32": st.integers(-(2**31), 2**31 - 1),
        "i64": st.integers(-(2**63), 2**63 - 1).flatmap(lambda n: st.sampled_from([n, str(n)])),
        "u64": st.integers(0, 2**64 - 1).map(str),
        "s32": st.integers(-(2**31), 2**31 - 1),
        "fx64": st.integers(0, 2**64 - 1).map(str),
        "sfx32": st.integers(-(2**31), 2**31 - 1),
        "flag": st.booleans(),
        "text": TEXTS | st.none(),
        "blob": st.sampled_from(["", "AAE=", "-_8=", "+/8="]),
        "color": st.sampled_from(["RED", "BLUE", 0, 1, 77]),
        "inner": INNER,
        "numbers": st.lists(st.integers(-5, 5), max_size=4),
        "inners": st.lists(INNER, max_size=2),
        "counts": st.dictionaries(TEXTS, st.integers(-5, 5).map(str), max_size=1),
        "byId": st.dictionaries(st.integers(-5, 5).map(str), INNER, max_size=1),
        "pickText": TEXTS,
        "maybe": st.integers(-1, 1),
        "at": st.sampled_from(
            ["1970-01-01T00:00:00Z", "2020-02-29T12:00:00.123456789Z", "2020-01-01T00:00:00+01:00"]
        ),
        "lasts": st.sampled_from(["0s", "1.5s", "-3.000000001s"]),
        "mask": st.sampled_from(["", "a", "aB,c.dE"]),
        "wrapped": st.integers(-5, 5).map(str),
        "value": st.none() | st.booleans() | st.integers(-5, 5) | TEXTS | st.lists(st.booleans(), max_size=2),
        "wrappedText": TEXTS,
        "colors": st.lists(st.sampled_from(["RED", 2]), max_size=3),
        "snake_case_name": TEXTS,
        "other": TEXTS,
    },
)


@given(RICH)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_our_messages_are_those_of_google_protobuf(
    rich: type[Message], registry: Registry, peer: Any, value: dict[str, Any]
) -> None:
    body = json.dumps(value).encode()
    theirs = json_format.Parse(body, peer())

    ours = parse_json(rich, body, registry)

    # Bytes may differ in order only, so each side is read by the other's library.
    assert peer.FromString(ours.to_binary()).SerializeToString(
        deterministic=True
    ) == theirs.SerializeToString(deterministic=True)
    # Both spell floats differently (6 or 9 digits), but mean the same.
    assert json_format.Parse(ours.to_json(registry=registry), peer()) == theirs
