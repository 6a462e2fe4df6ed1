"""The admin listener lets the right people in and says what the gateway says."""

import asyncio
import json

import pytest

from silence_gateway.admin.contracts import Answer, Ask, Readiness, worst
from silence_gateway.admin.handler import AdminHandler
from silence_gateway.admin.local import LocalInstance, pattern_of
from silence_gateway.core.http import Request, Response
from silence_gateway.errors import BadRequest, NotFound, StoreUnavailable
from silence_gateway.watch.families import Family, Sample


def instance(word: str = "ready") -> LocalInstance:
    made = LocalInstance(
        lambda: Readiness(word, {"store": "answers"}),  # type: ignore[arg-type]
        lambda: [Family("silence_x", "gauge", "X.", (Sample((), 1),))],
    )

    async def echo(ask: Ask) -> object:
        return {"captured": dict(ask.captured), "query": dict(ask.query)}

    async def fail(ask: Ask) -> object:
        raise {
            "missing": NotFound("no such key"),
            "bad": BadRequest("ttl"),
            "away": StoreUnavailable("late"),
        }[ask.captured["how"]]

    made.serve("GET", "limits/{name}/keys/{key}", echo)
    made.serve("PUT", "access/deny/{cidr*}", echo)
    made.serve("GET", "fail/{how}", fail)
    return made


def ask(target: str, method: str = "GET", token: str = "", word: str = "ready", **headers: str) -> Response:
    lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    lines.setdefault(b"host", b"127.0.0.1:9900")
    handler = AdminHandler(instance(word), token)
    return asyncio.run(handler(Request(method, target, lines, peer="127.0.0.1")))


@pytest.mark.parametrize(
    ("word", "status"), [("ready", 200), ("degraded", 200), ("starting", 503), ("draining", 503)]
)
def test_readiness_is_a_word_and_a_status(word: str, status: int) -> None:
    response = ask("/readyz", word=word)

    assert (response.status, response.body) == (status, f"{word}\n".encode())
    assert ask("/readyz?verbose", word=word).body == f"{word}\nstore: answers\n".encode()
    assert ask("/healthz", word=word).status == status
    assert ask("/livez", word=word).status == 200


def test_a_token_guards_everything_but_the_probes() -> None:
    assert ask("/livez", token="t").status == 200
    assert ask("/readyz", token="t").status == 200
    assert ask("/metrics", token="t").status == 401
    assert ask("/api/v1/fail/bad", token="t", authorization="Bearer wrong").status == 401
    assert ask("/metrics", token="t", authorization="Bearer t").status == 200


def test_a_wrong_token_is_counted() -> None:
    handler = AdminHandler(instance(), "t")
    asyncio.run(handler(Request("GET", "/metrics", {b"host": b"127.0.0.1"}, peer="127.0.0.1")))
    right = {b"host": b"127.0.0.1", b"authorization": b"Bearer t"}

    response = asyncio.run(handler(Request("GET", "/metrics", right, peer="127.0.0.1")))

    assert b"silence_admin_refused_total 1" in response.body
    assert b"silence_x 1" in response.body


def test_a_browser_cannot_be_tricked_into_it() -> None:
    assert ask("/metrics", host="evil.example").status == 403
    assert ask("/metrics", origin="http://evil.example").status == 403
    assert ask("/metrics", host="localhost:9900", origin="http://localhost:9900").status == 200
    assert ask("/metrics", host="[::1]:9900").status == 200


def test_paths_are_captured_and_decoded() -> None:
    key = json.loads(ask("/api/v1/limits/login/keys/a%2Fb?x=1").body)
    cidr = json.loads(ask("/api/v1/access/deny/203.0.113.0/24?ttl=5m", method="PUT").body)

    assert key == {"captured": {"name": "login", "key": "a/b"}, "query": {"x": "1"}}
    assert cidr["captured"] == {"cidr": "203.0.113.0/24"}
    assert pattern_of("a.b").fullmatch("axb") is None


def test_what_a_query_says_several_times_stands_in_lines() -> None:
    said = json.loads(ask("/api/v1/limits/login/keys/a?header=X-A:1&ip=::1&header=X-B:2").body)

    assert said["query"] == {"header": "X-A:1\nX-B:2", "ip": "::1"}


@pytest.mark.parametrize(("how", "status"), [("missing", 404), ("bad", 400), ("away", 503)])
def test_errors_are_answers(how: str, status: int) -> None:
    response = ask(f"/api/v1/fail/{how}")

    assert response.status == status
    assert "error" in json.loads(response.body)


def test_what_a_body_says_counts_as_if_the_query_said_it() -> None:
    def put(body: bytes) -> Response:
        request = Request("PUT", "/api/v1/access/deny/::1?ttl=5m", {b"host": b"127.0.0.1"}, body)
        return asyncio.run(AdminHandler(instance())(request))

    assert json.loads(put(b'{"reason":"spam"}').body)["query"] == {"ttl": "5m", "reason": "spam"}
    assert json.loads(put(b"").body)["query"] == {"ttl": "5m"}
    assert json.loads(put(b'{"blocked":true,"max":5}').body)["query"] == {
        "ttl": "5m",
        "blocked": "true",
        "max": "5",
    }
    for bad in (b"reason=spam", b"[]", b'{"ttl":null}', b'{"ttl":1.5}', b"[" * 100_000, b"\xff", b"7"):
        assert put(bad).status == 400


def test_a_list_is_for_whom_takes_one_and_he_is_told_who_sends_it() -> None:
    made = instance()
    seen: list[Ask] = []

    async def take(ask: Ask) -> object:
        seen.append(ask)
        return list(range(2000))

    made.serve("PUT", "many", take, takes_list=True)
    for peer in ("192.0.2.1", ""):
        request = Request("PUT", "/api/v1/many", {b"host": b"127.0.0.1"}, b'[{"a": 1}]', peer=peer)
        answer = asyncio.run(AdminHandler(made)(request))

    assert json.loads(answer.body) == list(range(2000))
    assert [(ask.items, ask.caller) for ask in seen] == [
        ([{"a": 1}], "admin API from 192.0.2.1"),
        ([{"a": 1}], "admin API"),
    ]


def test_what_only_shows_cannot_be_posted_to() -> None:
    for path in ("/", "/livez", "/readyz", "/metrics"):
        assert ask(path, method="DELETE").status == 405


def test_what_is_not_served_says_what_is() -> None:
    assert ask("/api/v1/limits/login/keys/a", method="PATCH").status == 405
    assert ask("/api/v1/nothing").status == 404
    assert ask("/nothing").status == 404
    assert b"/api/v1/limits" in ask("/").body
    too_many = "&".join(f"a{number}=1" for number in range(100))
    assert ask(f"/api/v1/limits/login/keys/a?{too_many}").status == 400


def test_workers_together_serve_while_one_does() -> None:
    ready, degraded = Readiness("ready", {"store": "answers"}), Readiness("degraded", {"store": "away"})

    assert worst([]).word == "starting"
    assert worst([ready, Readiness("starting")]).word == "ready"
    assert worst([ready, degraded]).word == "degraded"
    assert worst([ready, degraded]).parts["worker 1: store"] == "away"
    assert worst([degraded, Readiness("draining")]).word == "draining"


def test_an_answer_is_plain_data() -> None:
    assert asyncio.run(instance().call(Ask("GET", "nothing"))) == Answer(
        404, {"error": "nothing is served at /api/v1/nothing"}
    )
