"""From an HTTP request to a message and back, over every kind of rule."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from protobuf import Registry

from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request
from silence_gateway.core.status import Code
from silence_gateway.errors import (
    BadRequest,
    RpcError,
    UnsupportedMedia,
    UpstreamProtocolError,
    UpstreamUnavailable,
)
from silence_gateway.testing.clock import settle
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.transcoding.request_plan import Strictness

if TYPE_CHECKING:
    from tests.transcoding.conftest import Desk

WHOLE = b"/library.v1.Library/Whole"


def message(registry: Registry, kind: str, /, **fields: Any) -> bytes:
    described = registry.message(kind)
    assert described is not None
    return described.type(**fields).to_binary()


@pytest.mark.parametrize(
    ("method", "target", "body", "sent"),
    [
        pytest.param("POST", "/v1/whole", b'{"text":"a","i64":"5"}', {"text": "a", "i64": "5"}, id="whole"),
        pytest.param("POST", "/v1/whole", b"", {}, id="empty-body-is-an-empty-message"),
        pytest.param(
            "POST", "/v1/whole", b'{"snake_case_name":"x"}', {"snakeCaseName": "x"}, id="proto-name"
        ),
        pytest.param(
            "PUT", "/v1/whole/path", b'{"text":"body","u32":1}', {"text": "path", "u32": 1}, id="path-wins"
        ),
        pytest.param("GET", "/v1/query", b"", {}, id="nothing-at-all"),
        pytest.param("GET", "/v1/query", b" {} ", {}, id="empty-object-where-no-body-belongs"),
        pytest.param(
            "GET", "/v1/at/a%20b?i32=3&text=query", b"", {"text": "a b", "i32": 3}, id="path-beats-query"
        ),
        pytest.param(
            "GET",
            "/v1/at/-7/names/x",
            b"",
            {"i32": -7, "inner": {"deep": {"name": "names/x"}}},
            id="nested-path",
        ),
        pytest.param("GET", "/v1/rest/a/b%2Fc:read", b"", {"inner": {"name": "a/b%2Fc"}}, id="rest-and-verb"),
        pytest.param("DELETE", "/v1/at/BLUE", b"", {"color": "BLUE"}, id="enum-by-name"),
        pytest.param("DELETE", "/v1/at/1", b"", {"color": "RED"}, id="enum-by-number"),
        pytest.param(
            "PURGE", "/v1/at/2020-01-01T00:00:00Z", b"", {"at": "2020-01-01T00:00:00Z"}, id="custom-kind"
        ),
        pytest.param("LOCK", "/v1/any/true", b"", {"flag": True}, id="any-kind"),
        pytest.param("HEAD", "/v1/at/x", b"", {"text": "x"}, id="head-as-get"),
        pytest.param(
            "PATCH",
            "/v1/named/from-path?i32=4",
            b'{"name":"from-body","n":2}',
            {"inner": {"name": "from-path", "n": 2}, "i32": 4},
            id="named-body-path-and-query",
        ),
        pytest.param("POST", "/v1/numbers", b"[1,2]", {"numbers": [1, 2]}, id="repeated-as-body"),
        pytest.param("POST", "/v1/counts", b'{"a":"1"}', {"counts": {"a": "1"}}, id="map-as-body"),
        pytest.param("POST", "/v1/text", b'"hi"', {"text": "hi"}, id="scalar-as-body"),
        pytest.param("POST", "/v1/text", b"", {}, id="no-scalar-as-body"),
        pytest.param(
            "POST", "/v1/when", b'"2020-01-01T00:00:00Z"', {"at": "2020-01-01T00:00:00Z"}, id="wkt-as-body"
        ),
        pytest.param("POST", "/v1/when", b"", {}, id="no-wkt-as-body"),
        pytest.param("PATCH", "/v1/named/x", b"", {"inner": {"name": "x"}}, id="no-message-as-body"),
        pytest.param("POST", "/library.v1.Library/Query", b'{"text":"a"}', {"text": "a"}, id="by-name"),
    ],
)
def test_a_request_becomes_a_message(
    desk: Desk, method: str, target: str, body: bytes, sent: dict[str, Any]
) -> None:
    desk.ask(method, target, body)

    assert json.loads(desk.sent().to_json()) == sent


@pytest.mark.parametrize(
    ("method", "target", "body", "reason"),
    [
        pytest.param("POST", "/v1/whole", b"{", "not JSON.*line 1 column 2", id="not-json"),
        pytest.param("POST", "/v1/whole", b'{"text":"\xff"}', "not JSON", id="not-utf8"),
        pytest.param("POST", "/v1/whole", b"[]", "does not fit", id="array"),
        pytest.param("POST", "/v1/whole", b"null", "does not fit", id="null"),
        pytest.param("POST", "/v1/whole", b'{"nope":1}', "'nope' is unknown", id="unknown-key"),
        pytest.param("POST", "/v1/whole", b'{"i32":2147483648}', "out of range.*i32", id="range"),
        pytest.param("POST", "/v1/whole", b'{"inner":{"n":"x"}}', "Inner.n", id="type"),
        pytest.param("POST", "/v1/whole?x=1", b"{}", "'x'.*whole message", id="query-beside-whole-body"),
        pytest.param("GET", "/v1/query", b'{"text":"a"}', "takes no body", id="body-where-none-belongs"),
        pytest.param("GET", "/v1/query?nope=1", b"", "'nope'.*no field", id="unknown-parameter"),
        pytest.param(
            "GET", "/v1/at/x/names/y", b"", "'i32' in the path must be a whole number", id="path-type"
        ),
        pytest.param("DELETE", "/v1/at/GREEN", b"", "one of COLOR_UNSPECIFIED, RED, BLUE", id="path-enum"),
        pytest.param(
            "PATCH", "/v1/named/x?inner.n=3", b"{}", "taken from the body", id="query-into-the-body"
        ),
        pytest.param("POST", "/v1/numbers", b'[1,"x"]', "numbers", id="element-type"),
        pytest.param("POST", "/v1/text", b'"a","i32":1', "not JSON", id="body-that-breaks-out"),
        pytest.param("POST", "/v1/text", b"NaN", "NaN", id="constant"),
        pytest.param("POST", "/v1/text", b'"\xff"', "does not fit|not JSON", id="value-not-utf8"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_reason(
    desk: Desk, method: str, target: str, body: bytes, reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason):
        desk.ask(method, target, body)
    assert desk.caller.calls == []


def test_a_lenient_upstream_drops_what_leads_nowhere(make_desk: Callable[..., Desk]) -> None:
    lenient = Strictness(ignore_unknown_query=True, ignore_unknown_body=True, ignore_excess_body=True)
    desk = make_desk(LocalCaller({b"/library.v1.Library/Query": bytes, WHOLE: bytes}), strictness=lenient)

    desk.ask("GET", "/v1/query?nope=1&text=a&inners=x", b'{"i32":1}')
    assert json.loads(desk.sent().to_json()) == {"text": "a"}
    desk.ask("POST", "/v1/whole?nope=1", b'{"nope":1,"text":"b"}')
    assert json.loads(desk.sent().to_json()) == {"text": "b"}


@pytest.mark.parametrize(
    "content_type", [None, b"application/json", b"Application/JSON; charset=UTF-8", b"application/vnd.x+json"]
)
def test_json_by_any_name_is_accepted(desk: Desk, content_type: bytes | None) -> None:
    headers = {} if content_type is None else {b"content-type": content_type}

    assert desk.ask("POST", "/v1/whole", b'{"text":"a"}', headers).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain",
        b"application/grpc",
        b"application/x-www-form-urlencoded",
        b"application/json; charset=latin-1",
        b"",
        b"text/x+json",
    ],
)
def test_other_media_types_are_refused(desk: Desk, content_type: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        desk.ask("POST", "/v1/whole", b'{"text":"a"}', {b"content-type": content_type})


def test_the_answer_is_json(desk: Desk) -> None:
    response = desk.ask("POST", "/v1/whole", b'{"text":"\xc3\xa9","i64":"5"}')

    assert response.status == 200
    assert response.headers == [(b"content-type", b"application/json")]
    assert response.body == b'{"i64":"5","text":"\xc3\xa9"}'


@pytest.mark.parametrize(
    ("method", "target", "answer", "body"),
    [
        ("PATCH", "/v1/named/x", {"inner": {"n": 5}}, {"n": 5}),
        ("PATCH", "/v1/named/x", {}, {}),
        ("POST", "/v1/numbers", {"numbers": [1, 2]}, [1, 2]),
        ("POST", "/v1/numbers", {}, []),
        ("POST", "/v1/counts", {"counts": {"a": "1"}}, {"a": "1"}),
        ("POST", "/v1/counts", {}, {}),
        ("POST", "/v1/text", {"text": "hi"}, "hi"),
        ("POST", "/v1/text", {}, ""),
        ("POST", "/v1/when", {"text": "hi"}, {"text": "hi"}),
    ],
)
def test_response_body_names_the_part_that_is_sent(
    make_desk: Callable[..., Desk], registry: Registry, method: str, target: str, answer: Any, body: Any
) -> None:
    part = registry.message("library.v1.Part")
    assert part is not None
    reply = part.type.from_json(json.dumps(answer)).to_binary()
    desk = make_desk(LocalCaller({b"/library.v1.Library/Named": lambda _: reply}))

    assert json.loads(desk.ask(method, target, b"").body) == body


def test_garbage_from_the_upstream_is_the_upstreams_fault(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(LocalCaller({WHOLE: lambda _: b"\xff\xff"}))

    with pytest.raises(UpstreamProtocolError, match=r"not a library\.v1\.Rich"):
        desk.ask("POST", "/v1/whole", b"{}")


def test_an_any_of_an_unknown_type_is_the_upstreams_fault(
    make_desk: Callable[..., Desk], registry: Registry
) -> None:
    held = registry.message("google.protobuf.Any")
    assert held is not None
    unknown = message(
        registry, "library.v1.Rich", any=held.type(type_url="type.googleapis.com/no.Such", value=b"x")
    )
    desk = make_desk(LocalCaller({WHOLE: lambda _: unknown}))

    with pytest.raises(UpstreamProtocolError, match=r"no\.Such"):
        desk.ask("POST", "/v1/whole", b"{}")


def raising(error: Exception) -> Callable[[bytes], bytes]:
    def method(_: bytes) -> bytes:
        raise error

    return method


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.NOT_FOUND, 404), (Code.RESOURCE_EXHAUSTED, 429), (Code.CANCELLED, 499), (77, 500)],
)
def test_an_error_of_the_upstream_is_status_json(
    make_desk: Callable[..., Desk], code: int, status: int
) -> None:
    error = RpcError(code, "no “book”", trailing_metadata=[(b"reason", b"gone")])
    desk = make_desk(LocalCaller({WHOLE: raising(error)}))

    response = desk.ask("POST", "/v1/whole", b"{}")

    assert response.status == status
    known = code if code in list(Code) else Code.UNKNOWN
    assert json.loads(response.body) == {"code": known, "message": "no “book”", "details": []}
    assert (b"grpc-trailer-reason", b"gone") in response.headers


def test_details_are_shown_where_their_type_is_known_and_carried_where_it_is_not(
    make_desk: Callable[..., Desk], registry: Registry
) -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/library.v9.Unheard", value=b"\x0a\x01X")
    status = status_pb2.Status(code=5, message="m", details=[unknown])
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="X"))
    known = status.details.add()
    known.type_url = "type.googleapis.com/library.v1.Inner"
    known.value = message(registry, "library.v1.Inner", name="n")
    broken = status.details.add()
    broken.type_url = "type.googleapis.com/library.v1.Inner"
    broken.value = b"\xff"
    duration = status.details.add()
    duration.type_url = "type.googleapis.com/google.protobuf.Duration"
    duration.value = b"\x08\x05"
    error = RpcError(5, "m", status_details=status.SerializeToString())
    desk = make_desk(LocalCaller({WHOLE: raising(error)}))

    details = json.loads(desk.ask("POST", "/v1/whole", b"{}").body)["details"]

    assert details == [
        {"@type": "type.googleapis.com/library.v9.Unheard", "value": "CgFY"},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "X"},
        {"@type": "type.googleapis.com/library.v1.Inner", "name": "n"},
        {"@type": "type.googleapis.com/library.v1.Inner", "value": "/w=="},
        {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "5s"},
    ]


def test_details_that_cannot_be_read_do_not_hide_the_error(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(LocalCaller({WHOLE: raising(RpcError(3, "m", status_details=b"\xff\xff"))}))

    response = desk.ask("POST", "/v1/whole", b"{}")

    assert response.status == 400
    assert json.loads(response.body)["message"] == "m"


def test_a_fault_of_the_upstream_passes_through(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(LocalCaller({WHOLE: raising(UpstreamUnavailable("no endpoint"))}))

    with pytest.raises(UpstreamUnavailable, match="no endpoint"):
        desk.ask("POST", "/v1/whole", b"{}")


QUERY = b"/library.v1.Library/Query"


UNRULY = b"/library.v1.Library/Unruly"
WHOLE = b"/library.v1.Library/Whole"


@pytest.mark.parametrize(
    ("method", "target", "said", "repeated"),
    [
        pytest.param("GET", "/v1/query", None, True, id="a-get"),
        pytest.param("POST", "/library.v1.Library/Query", None, False, id="the-same-method-by-its-name"),
        pytest.param("POST", "/v1/whole", None, False, id="a-post"),
        pytest.param("POST", "/library.v1.Library/Unruly", None, True, id="idempotency-level"),
        pytest.param("POST", "/v1/whole", True, True, id="the-operator-says-yes"),
        pytest.param("GET", "/v1/query", False, False, id="the-operator-says-no"),
    ],
)
def test_only_calls_that_may_run_twice_are_given_to_who_repeats_them(
    make_desk: Callable[..., Desk], method: str, target: str, said: bool | None, repeated: bool
) -> None:
    answers = dict.fromkeys((QUERY, UNRULY, WHOLE), bytes)
    once, often = LocalCaller(answers), LocalCaller(answers)
    desk = make_desk(once, repeating=often)
    request = Request(method, target, {}, b"{}" if method == "POST" else b"")
    found = desk.table.find(method, request.path)
    assert found is not None

    response = asyncio.run(found.binding.answer(request, found.variables, None, said))

    assert response.status == 200
    assert (len(once.calls), len(often.calls)) == ((0, 1) if repeated else (1, 0))


@pytest.mark.parametrize(
    ("target", "said", "repeated"),
    [
        pytest.param("/v1/whole", None, True, id="by-its-rule"),
        pytest.param("/library.v1.Library/Whole", None, True, id="by-its-name"),
        pytest.param("/v1/whole", False, False, id="the-route-says-no"),
        pytest.param("/library.v1.Library/Query", None, False, id="another-one"),
    ],
)
def test_a_method_that_the_operator_named_may_run_twice_unless_its_route_may_not(
    make_desk: Callable[..., Desk], target: str, said: bool | None, repeated: bool
) -> None:
    answers = dict.fromkeys((QUERY, WHOLE), bytes)
    once, often = LocalCaller(answers), LocalCaller(answers)
    desk = make_desk(once, repeating=often, repeatable=["library.v1.Library/Whole"])
    request = Request("POST", target, {}, b"{}")
    found = desk.table.find("POST", request.path)
    assert found is not None

    asyncio.run(found.binding.answer(request, found.variables, None, said))

    assert (len(once.calls), len(often.calls)) == ((0, 1) if repeated else (1, 0))


@pytest.mark.parametrize("said", [True, False])
def test_what_makes_the_caller_of_a_request_is_told_whether_its_call_may_run_twice(
    make_desk: Callable[..., Desk], said: bool
) -> None:
    never, asked = LocalCaller({}), LocalCaller(dict.fromkeys((QUERY, UNRULY, WHOLE), bytes))
    told: list[tuple[str, bool]] = []

    def caller_for(request: Request, repeatable: bool) -> LocalCaller:
        told.append((request.path, repeatable))
        return asked

    desk = make_desk(never, repeating=never, caller_for=caller_for)
    request = Request("GET", "/v1/query", {}, b"")
    found = desk.table.find("GET", request.path)
    assert found is not None

    assert asyncio.run(found.binding.answer(request, found.variables, None, said)).status == 200

    assert told == [("/v1/query", said)]
    assert len(asked.calls) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_than_safe_ones_run_once_unless_they_say_otherwise(
    make_desk: Callable[..., Desk], method: str
) -> None:
    desk = make_desk(LocalCaller({}))
    found = [
        binding for binding in desk.service.bindings if method in binding.methods or "*" in binding.methods
    ]

    assert found
    assert not any(binding.repeatable for binding in found if not binding.rpc.endswith("/Unruly"))


@pytest.mark.parametrize("target", ["/v1/push", "/library.v1.Library/Push", "/library.v1.Library/Chat"])
def test_methods_that_take_a_stream_say_that_json_cannot_call_them(desk: Desk, target: str) -> None:
    response = desk.ask("POST", target, b"{}")

    assert response.status == 501
    assert json.loads(response.body)["code"] == Code.UNIMPLEMENTED
    assert "streaming method" in json.loads(response.body)["message"]


def test_http_bodies_travel_as_they_are(make_desk: Callable[..., Desk], registry: Registry) -> None:
    file = message(registry, "google.api.HttpBody", content_type="image/png", data=b"\x89PNG")
    evil = message(registry, "google.api.HttpBody", content_type="a\r\nset-cookie: x", data=b"x")
    desk = make_desk(
        LocalCaller(
            {
                b"/library.v1.Library/Download": lambda asked: evil if b"evil" in asked else file,
                b"/library.v1.Library/Upload": lambda _: b"",
            }
        )
    )

    response = desk.ask("GET", "/v1/file/x")
    assert (response.headers, response.body) == ([(b"content-type", b"image/png")], b"\x89PNG")
    assert desk.ask("GET", "/v1/file/evil").headers == [(b"content-type", b"application/octet-stream")]

    desk.ask("POST", "/v1/file", b"\x00\xffraw", {b"content-type": b"image/gif"})
    uploaded = desk.sent("google.api.HttpBody")
    assert (uploaded.content_type, uploaded.data) == ("image/gif", b"\x00\xffraw")


def test_the_earliest_deadline_counts(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(LocalCaller({WHOLE: bytes}), timeout_s=5.0)
    now_s = SystemClock().monotonic_s()

    def remaining_s(headers: dict[bytes, bytes], deadline_s: float | None) -> float:
        asyncio.run(desk.send("POST", "/v1/whole", b"{}", headers, deadline_s))
        found_s = desk.caller.calls[-1].deadline_s
        assert found_s is not None
        return found_s - now_s

    assert remaining_s({}, None) == pytest.approx(5.0, abs=0.5)
    assert remaining_s({}, now_s + 2) == pytest.approx(2.0, abs=0.001)
    assert remaining_s({}, now_s + 60) == pytest.approx(5.0, abs=0.5)
    assert remaining_s({b"grpc-timeout": b"1S"}, now_s + 2) == pytest.approx(1.0, abs=0.5)
    assert remaining_s({b"grpc-timeout": b"1H"}, now_s + 2) == pytest.approx(2.0, abs=0.001)
    assert remaining_s({b"grpc-timeout": b"3000m"}, None) == pytest.approx(3.0, abs=0.5)


@pytest.mark.parametrize("value", [b"", b"5", b"S", b"123456789S", b"5x", b"-1S", b"1.5S"])
def test_a_bad_grpc_timeout_is_refused(desk: Desk, value: bytes) -> None:
    with pytest.raises(BadRequest, match="Grpc-Timeout"):
        desk.ask("POST", "/v1/whole", b"{}", {b"grpc-timeout": value})


def test_leaving_cancels_the_call(make_desk: Callable[..., Desk]) -> None:
    async def scenario() -> None:
        task = asyncio.create_task(desk.send("POST", "/v1/whole", b"{}"))
        await settle(1)
        assert desk.caller.calls
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    desk = make_desk(LocalCaller({WHOLE: bytes}))
    asyncio.run(scenario())

    assert desk.caller.calls[0].cancelled


def test_a_binding_says_what_it_is(desk: Desk) -> None:
    found = desk.table.find("GET", "/v1/at/x")
    assert found is not None
    by_name = desk.table.find("POST", "/library.v1.Library/Watch")
    assert by_name is not None

    binding = found.binding
    assert (binding.route, binding.rpc, binding.upstream) == (
        "/v1/at/{text}",
        "library.v1.Library/At",
        "shelves",
    )
    assert (binding.methods, binding.kind) == (("GET",), "unary")
    assert (by_name.binding.route, by_name.binding.kind) == ("/library.v1.Library/Watch", "server_streaming")


def test_time_spent_waiting_is_noted_on_the_request(desk: Desk) -> None:
    request = Request("POST", "/v1/whole", {}, b"{}")
    found = desk.table.find("POST", "/v1/whole")
    assert found is not None

    asyncio.run(found.binding.answer(request))

    assert request.upstream_s > 0


def test_an_upload_of_nothing_is_an_empty_answer(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(LocalCaller({b"/library.v1.Library/Download": lambda _: b""}))

    response = desk.ask("GET", "/v1/file/x")

    assert (response.headers, response.body) == ([(b"content-type", b"application/octet-stream")], b"")


def test_the_empty_message_is_an_empty_object(desk: Desk) -> None:
    assert desk.ask("DELETE", "/v1/nothing").body == b"{}"
    assert desk.ask("POST", "/library.v1.Library/Nothing").body == b"{}"
