"""Query parameters become fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protobuf import Registry

from silence_gateway.errors import BadRequest
from silence_gateway.transcoding.query import MAX_REMEMBERED, QueryPlan

if TYPE_CHECKING:
    from tests.transcoding.conftest import Desk


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        pytest.param("text=a+b%20c", {"text": "a b c"}, id="string"),
        pytest.param("text=", {}, id="empty-string"),
        pytest.param("text", {}, id="no-equals-sign"),
        pytest.param("&&text=a&", {"text": "a"}, id="empty-pieces"),
        pytest.param("text=a=b", {"text": "a=b"}, id="equals-sign-in-the-value"),
        pytest.param("i32=-2147483648&u32=4294967295", {"i32": -2147483648, "u32": 4294967295}, id="32-bit"),
        pytest.param("i64=-9223372036854775808", {"i64": "-9223372036854775808"}, id="64-bit"),
        pytest.param("u64=18446744073709551615", {"u64": "18446744073709551615"}, id="unsigned-64-bit"),
        pytest.param("d=1e3&f=-0.5", {"d": 1000.0, "f": -0.5}, id="floats"),
        pytest.param("d=NaN&f=-Infinity", {"d": "NaN", "f": "-Infinity"}, id="not-finite"),
        pytest.param("flag=true", {"flag": True}, id="true"),
        pytest.param("flag=1&flags=0&flags=true", {"flag": True, "flags": [False, True]}, id="one-and-zero"),
        pytest.param("blob=-_8", {"blob": "+/8="}, id="base64-url"),
        pytest.param("blob=%2B%2F8%3D", {"blob": "+/8="}, id="base64"),
        pytest.param("color=RED", {"color": "RED"}, id="enum-name"),
        pytest.param(
            "color=2&colors=1&colors=BLUE", {"color": "BLUE", "colors": ["RED", "BLUE"]}, id="enum-number"
        ),
        pytest.param("color=77", {"color": 77}, id="enum-number-nobody-named"),
        pytest.param("numbers=1&numbers=2", {"numbers": [1, 2]}, id="repeated"),
        pytest.param("inner.deep.name=x&inner.n=3", {"inner": {"n": 3, "deep": {"name": "x"}}}, id="nested"),
        pytest.param(
            "inner.deep.tags=a&inner.deep.tags=b", {"inner": {"deep": {"tags": ["a", "b"]}}}, id="nested-list"
        ),
        pytest.param("snakeCaseName=a", {"snakeCaseName": "a"}, id="json-name"),
        pytest.param("snake_case_name=a", {"snakeCaseName": "a"}, id="proto-name"),
        pytest.param("renamed=a", {"other": "a"}, id="proto-name-of-a-renamed-field"),
        pytest.param("other=a", {"other": "a"}, id="own-json-name"),
        pytest.param("maybe=0", {"maybe": 0}, id="zero-with-presence"),
        pytest.param("pick_number=5", {"pickNumber": "5"}, id="oneof"),
        pytest.param("pick_inner.name=x", {"pickInner": {"name": "x"}}, id="oneof-message"),
        pytest.param("at=2020-01-01T00:00:00Z", {"at": "2020-01-01T00:00:00Z"}, id="timestamp"),
        pytest.param("at=2020-01-01T02:00:00%2B02:00", {"at": "2020-01-01T00:00:00Z"}, id="timestamp-offset"),
        pytest.param("lasts=1.5s", {"lasts": "1.500s"}, id="duration"),
        pytest.param("mask=aB,c_d.e", {"mask": "aB,cD.e"}, id="field-mask-either-way"),
        pytest.param(
            "wrapped=5&wrapped_text=&wrapped_flag=false",
            {"wrapped": "5", "wrappedText": "", "wrappedFlag": False},
            id="wrappers",
        ),
        pytest.param(
            "times=1970-01-01T00:00:00Z&times=1970-01-01T00:00:01Z",
            {"times": ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"]},
            id="repeated-well-known-type",
        ),
        pytest.param("wrapped_blob=AAE", {"wrappedBlob": "AAE="}, id="bytes-wrapper"),
        pytest.param("at.seconds=5", {"at": "1970-01-01T00:00:05Z"}, id="inside-a-well-known-type"),
        pytest.param("text=%C3%A9%00", {"text": "é\x00"}, id="any-character"),
    ],
)
def test_a_parameter_sets_its_field(desk: Desk, query: str, sent: dict[str, Any]) -> None:
    desk.ask("GET", "/v1/query?" + query)

    assert json.loads(desk.sent().to_json()) == sent


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        pytest.param("nope=1", "'nope'.*no field 'nope'", id="unknown"),
        pytest.param("inner.nope=1", "'inner.nope'.*Inner has no field", id="unknown-inside"),
        pytest.param("text.x=1", "not a single message", id="inside-a-scalar"),
        pytest.param("inners.name=x", "not a single message", id="inside-repeated"),
        pytest.param("=x", "no field ''", id="no-name"),
        pytest.param("inner=x", "cannot be written as text", id="message"),
        pytest.param("inners=x", "cannot be written as text", id="repeated-message"),
        pytest.param("counts=x", "a map", id="map"),
        pytest.param("anything=x", "google.protobuf.Struct cannot", id="struct"),
        pytest.param("value=x", "google.protobuf.Value cannot", id="value"),
        pytest.param("any=x", "google.protobuf.Any cannot", id="any"),
        pytest.param("i32=1&i32=2", "'i32' is given 2 times", id="twice"),
        pytest.param("i32=x", "'i32' must be a whole number, not 'x'", id="not-a-number"),
        pytest.param("i32=1_0", "whole number", id="python-number"),
        pytest.param("i32=%D9%A1", "whole number", id="digits-of-another-script"),
        pytest.param("i32=1.0", "whole number", id="fraction"),
        pytest.param("i32=", "whole number", id="empty-number"),
        pytest.param("i32=2147483648", "between -2147483648 and 2147483647", id="range"),
        pytest.param("u32=-1", "between 0", id="negative"),
        pytest.param("i64=9223372036854775808", "between", id="64-bit-range"),
        pytest.param("d=1e999", "fit in a double", id="double-range"),
        pytest.param("f=1e39", "fit in a float", id="float-range"),
        pytest.param("d=nan", "must be a number", id="python-nan"),
        pytest.param("d=0x1", "must be a number", id="hex"),
        pytest.param("flag=yes", "true or false", id="bool"),
        pytest.param("flag=", "true or false", id="empty-bool"),
        pytest.param("blob=%21", "base64", id="base64"),
        pytest.param("color=GREEN", "one of COLOR_UNSPECIFIED, RED, BLUE", id="enum"),
        pytest.param("color=99999999999", "one of", id="enum-range"),
        pytest.param("at=yesterday", "Timestamp", id="timestamp"),
        pytest.param("lasts=5", "Duration", id="duration"),
        pytest.param("mask=a,,b", "field paths", id="mask"),
        pytest.param("wrapped=x", "Int64Value", id="wrapper"),
        pytest.param("text=%", "without two hex digits", id="half-an-escape"),
        pytest.param("text=%zz", "without two hex digits", id="bad-escape"),
        pytest.param("text=%FF", "not UTF-8", id="not-utf8"),
        pytest.param("&".join(["numbers=1"] * 1001), "1000 are the most", id="too-many"),
        pytest.param(".".join(["inner"] + ["deep"] * 40 + ["n"]) + "=1", "levels deep", id="too-deep"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_by_name(desk: Desk, query: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        desk.ask("GET", "/v1/query?" + query)


def test_what_is_remembered_is_bounded(registry: Registry) -> None:
    described = registry.message("library.v1.Rich")
    assert described is not None
    plan = QueryPlan(described, None, ignore_unknown=False)

    for number in range(3000):
        # The list inside is spelled in endless ways: any depth, any of two names for the first step.
        first = ("pickInner", "pick_inner", "inner")[number % 3]
        path = ".".join([first, *["deep"] * (number % 30), "n"])
        plan.apply(described.type(), f"{path}=1")
        with pytest.raises(BadRequest):
            plan.apply(described.type(), f"nope{number}=1")

    assert len(plan.remembered) <= MAX_REMEMBERED
    assert not any(name.startswith("nope") for name in plan.remembered)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(max_size=20),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "d": st.floats(allow_nan=False, allow_infinity=False),
    "inner.deep.name": st.text(max_size=10),
    "snakeCaseName": st.text(max_size=10),
    "wrapped_text": st.text(max_size=10),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_put_into_a_query_comes_out_of_it(desk: Desk, values: dict[str, Any]) -> None:
    desk.ask("GET", "/v1/query?" + urlencode(values, quote_via=quote))

    sent = desk.sent()
    for name in ("text", "i32", "u64", "d"):
        assert getattr(sent, name) == values.get(name, getattr(type(sent)(), name))
    assert sent.snake_case_name == values.get("snakeCaseName", "")
    if "inner.deep.name" in values:
        assert sent.inner.deep.name == values["inner.deep.name"]
    if "wrapped_text" in values:
        assert sent.wrapped_text.value == values["wrapped_text"]


@given(st.text(alphabet="abdfin3264.textrcol=&%+2F1-é\x00numbers_", max_size=40))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_accepted_or_a_bad_request(desk: Desk, query: str) -> None:
    before = len(desk.caller.calls)
    try:
        desk.ask("GET", "/v1/query?" + query)
    except BadRequest:
        assert len(desk.caller.calls) == before
    else:
        assert len(desk.caller.calls) == before + 1
