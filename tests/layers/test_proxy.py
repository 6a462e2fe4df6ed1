"""Requests go on to an HTTP origin, and its answers come back, re-framed and with nothing of the hop."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from tests.edge.test_heads import CORPUS
from tests.layers.proxy_scene import Exchange, Origin, front, request

from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.layers.proxy import ProxySettings
from silence_gateway.layers.route import RouteRule

if TYPE_CHECKING:
    from tests.layers.conftest import Run


def status_of(answer: bytes) -> int:
    return int(answer[9:12])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def lines_of(answer: bytes) -> list[bytes]:
    return answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]


def test_a_request_goes_on_byte_for_byte_with_our_own_framing_and_origin(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            answer = await gateway.get("/a//b%20c/%41?q=%2F&q=1", "X-Custom: 1\r\nCookie: a=b\r\n")

            assert status_of(answer) == 200
            assert body_of(answer) == b"ok"
            got = Exchange(origin.heads[0], None, None)  # type: ignore[arg-type]
            assert got.line == b"GET /a//b%20c/%41?q=%2F&q=1 HTTP/1.1"
            headers = got.headers()
            assert headers.pop(b"x-request-id")
            assert headers == {
                b"host": b"shop",
                b"x-custom": b"1",
                b"cookie": b"a=b",
                b"via": b"1.1 silence",
                b"x-forwarded-for": b"127.0.0.1",
                b"x-forwarded-proto": b"http",
                b"x-forwarded-host": b"shop",
                b"forwarded": b'for=127.0.0.1;host="shop";proto=http',
            }

    run(main())


def test_what_belongs_to_one_hop_stays_there_in_both_directions(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(
                extra=b"Connection: X-Inner, keep-alive\r\nX-Inner: 1\r\nKeep-Alive: timeout=9\r\n"
                b"Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nServer: origin\r\nX-Request-Id: its-own\r\n"
                b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Kept: 1\r\n"
            )

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.exchange(
                b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close, X-Secret, Te\r\nX-Secret: 1\r\n"
                b"Te: gzip\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy: evil\r\nX-Real-Ip: 6.6.6.6\r\n"
                b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=6.6.6.6\r\n"
                b"Upgrade: h2c\r\nHttp2-Settings: AA\r\nX-Request-Id: mine-1\r\n\r\n"
            )

            headers = Exchange(origin.heads[0], None, None).headers()  # type: ignore[arg-type]
            assert headers.pop(b"x-request-id") == b"mine-1"
            assert set(headers) == {
                b"host", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded",
            }  # fmt: skip
            assert headers[b"x-forwarded-for"] == b"127.0.0.1"
            names = [line.partition(b":")[0].lower() for line in lines_of(answer)]
            assert sorted(names) == sorted(
                [b"server", b"date", b"set-cookie", b"set-cookie", b"x-kept", b"x-request-id", b"connection",
                 b"content-length"]
            )  # fmt: skip
            assert b"server: silence" in lines_of(answer)
            assert b"X-Request-Id: mine-1" in lines_of(answer)

    run(main())


def test_a_trusted_proxy_s_words_about_earlier_hops_go_on_with_ours(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, trusted=("127.0.0.0/8",)) as gateway:
            await gateway.get(
                "/",
                "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.shop\r\n"
                "Forwarded: for=203.0.113.9\r\nX-Real-Ip: 203.0.113.9\r\nVia: 1.1 edge\r\n",
            )

            headers = Exchange(origin.heads[0], None, None).headers()  # type: ignore[arg-type]
            assert headers[b"x-forwarded-for"] == b"203.0.113.9, 127.0.0.1"
            assert headers[b"x-forwarded-proto"] == b"https"
            assert headers[b"x-forwarded-host"] == b"www.shop"
            assert headers[b"x-real-ip"] == b"203.0.113.9"
            assert headers[b"forwarded"] == b'for=203.0.113.9, for=127.0.0.1;host="shop";proto=http'
            assert headers[b"via"] == b"1.1 edge, 1.1 silence"

    run(main())


LEGACY = (RouteRule(path="/legacy/**", upstream="web", rewrite=PathRewrite.between("/legacy/**", "/")),)


@pytest.mark.parametrize(
    ("trusted", "prefix"), [((), b"/legacy"), (("127.0.0.0/8",), b"/outer/legacy")], ids=["stranger", "ours"]
)
def test_a_route_may_take_its_beginning_away_and_says_so(
    run: Run, trusted: tuple[str, ...], prefix: bytes
) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, rules=LEGACY, trusted=trusted) as gateway:
            await gateway.get("/legacy/a%2Fb//c?q=/legacy", "X-Forwarded-Prefix: /outer/\r\n")

            got = Exchange(origin.heads[0], None, None)  # type: ignore[arg-type]
            assert got.line == b"GET /a%2Fb//c?q=/legacy HTTP/1.1"
            assert got.headers()[b"x-forwarded-prefix"] == prefix

    run(main())


@pytest.mark.parametrize(
    "target",
    [
        "/legacy//evil.com/x", "/legacy/../admin", "/legacy/%2e%2e/admin", "/legacy/..%2fadmin",
        "/legacy/..;/x", "/legacy/%2e%2e%5cadmin", "/legacy/./x", "//legacy/../x",
    ],
)  # fmt: skip
def test_nobody_climbs_out_of_what_a_route_leads_to(run: Run, target: str) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, rules=LEGACY) as gateway:
            assert status_of(await gateway.get(target)) == 400
            assert not origin.heads

    run(main())


@pytest.mark.parametrize(
    ("host", "sent"), [("keep", b"shop"), ("endpoint", None), ("inner.shop:81", b"inner.shop:81")]
)
def test_host_is_kept_or_written_as_configured(run: Run, host: str, sent: bytes | None) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin, proxy=ProxySettings(host=host)) as gateway:
            await gateway.get()

            headers = Exchange(origin.heads[0], None, None).headers()  # type: ignore[arg-type]
            assert headers[b"host"] == (sent or origin.address.encode())
            assert headers[b"x-forwarded-host"] == b"shop"

    run(main())


def test_http_1_0_is_served_and_asked_for_as_1_1(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            answer = await gateway.exchange(b"GET / HTTP/1.0\r\n\r\n")

            assert body_of(answer) == b"ok"
            assert origin.heads[0].startswith(b"GET / HTTP/1.1\r\nhost: 127.0.0.1:")

    run(main())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_method_with_an_empty_body_says_so(run: Run, method: str) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            await gateway.get(method=method)

            assert b"\r\ncontent-length: 0\r\n" in origin.heads[0]

    run(main())


@pytest.mark.parametrize(
    ("said", "body", "framing"),
    [
        pytest.param(b"Content-Length: 3\r\n\r\nabc", b"abc", b"content-length: 3", id="length"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            b"abc",
            b"content-length: 3",
            id="chunks-that-came-at-once",
        ),
        pytest.param(b"\r\nabc", b"3\r\nabc\r\n0\r\n\r\n", b"transfer-encoding: chunked", id="until-close"),
    ],
)
def test_an_answer_is_framed_anew(run: Run, said: bytes, body: bytes, framing: bytes) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\n" + said)
            exchange.end()

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get()

            assert framing in lines_of(answer)
            assert body_of(answer) == body

    run(main())


def test_head_has_the_length_and_no_body(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n")

        async with Origin(script) as origin, front(origin) as gateway:
            first = await gateway.get(method="HEAD")
            again = await gateway.get(method="HEAD")

            assert b"content-length: 123456" in lines_of(first)
            assert body_of(first) == body_of(again) == b""
            assert origin.connections == 1, "the socket goes on after it"

    run(main())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body_have_none_and_no_length(run: Run, status: bytes) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 %b\r\nETag: x\r\nContent-Length: 5\r\n\r\n" % status)

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get()
            await gateway.get()

            assert status_of(answer) == int(status[:3])
            assert not any(line.startswith(b"content-length") for line in lines_of(answer))
            assert origin.connections == 1

    run(main())


def test_heads_before_the_real_one_are_left_out(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            exchange.answer()

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get()

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Link" not in answer

    run(main())


def test_connections_are_used_again_and_no_more_are_opened_than_needed(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            for _ in range(10):
                assert status_of(await gateway.get()) == 200

            assert origin.connections == 1
            assert gateway.upstream.statistics.endpoints[0].connections == 1
            assert gateway.upstream.statistics.calls_by_code == {"200": 10}

    run(main())


def test_trailers_reach_a_client_that_reads_them_and_no_other(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                b"1\r\na\r\n0\r\nX-Sum: 7\r\nSet-Cookie: evil\r\n\r\n"
            )

        async with Origin(script) as origin, front(origin) as gateway:
            reads = await gateway.exchange(
                b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close, TE\r\nTE: trailers\r\n\r\n"
            )
            does_not = await gateway.get()

            assert body_of(reads) == b"1\r\na\r\n0\r\nx-sum: 7\r\n\r\n"
            assert b"\r\nte: trailers\r\nconnection: te\r\n" in origin.heads[0]
            assert b"x-sum" not in does_not
            assert b"\r\nte:" not in origin.heads[1]

    run(main())


def test_what_goes_wrong_behind_us_is_told_apart(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            what = exchange.line.split(b" ")[1]
            if what == b"/broken":
                exchange.reset()
            elif what == b"/garbage":
                exchange.say(b"SMTP ready\r\n\r\n")
            elif what == b"/slow":
                await exchange.reader.read()

        async with Origin(script) as origin, front(origin, timeout_s=0.2) as gateway:
            await gateway.ready()
            broken = await gateway.get("/broken", method="POST")
            garbage = await gateway.get("/garbage")
            slow = await gateway.get("/slow")
            await origin.stop()
            gone = await gateway.get("/gone")

            assert [status_of(one) for one in (broken, garbage, slow, gone)] == [502, 502, 504, 503]
            for one in (broken, garbage, slow, gone):
                assert b"content-type: application/problem+json" in lines_of(one)
                assert b"127.0.0.1" not in one, "where the origin is, is nobody's business"
            assert [json.loads(body_of(one))["code"] for one in (broken, garbage, slow, gone)] == [
                "UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "UNAVAILABLE",
            ]  # fmt: skip

    run(main())


def test_an_origin_s_own_errors_go_on_as_they_are(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"<h1>mine</h1>", status=b"500 Oops")

        async with Origin(script) as origin, front(origin) as gateway:
            answer = await gateway.get()

            assert status_of(answer) == 500
            assert body_of(answer) == b"<h1>mine</h1>"

    run(main())


def test_a_route_says_which_methods_go_on(run: Run) -> None:
    async def main() -> None:
        rules = (RouteRule(path="/only/**", methods=("GET",), upstream="web"),)
        async with Origin() as origin, front(origin, rules=rules) as gateway:
            assert status_of(await gateway.get("/only/x")) == 200
            assert status_of(await gateway.get("/only/x", method="HEAD")) == 200
            refused = await gateway.get("/only/x", method="POST")
            assert status_of(refused) == 405
            assert b"allow: GET, HEAD" in lines_of(refused)
            assert status_of(await gateway.get("/other")) == 404

    run(main())


def test_a_route_s_timeout_bounds_the_whole_answer(run: Run) -> None:
    async def main() -> None:
        async def script(exchange: Exchange) -> None:
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nbegun")
            await exchange.reader.read()

        rules = (RouteRule(path="/**", upstream="web", timeout_s=0.2),)
        async with Origin(script) as origin, front(origin, rules=rules) as gateway:
            answer = await gateway.get()

            assert status_of(answer) == 200
            assert body_of(answer) == b"begun", "less than was promised, so nobody takes it for the whole"
            await asyncio.wait_for(origin.ended.wait(), 5)

    run(main())


@pytest.mark.parametrize("path", ["/a/..%2fb", "/a/%2e%2e%5cb", "/a/..;x/b", "/a%5c..%5cb"])
def test_a_path_that_may_lead_elsewhere_behind_us_is_refused(run: Run, path: str) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            assert status_of(await gateway.get(path)) == 400
            assert origin.heads == []

    run(main())


def test_requests_on_one_client_connection_follow_each_other(run: Run) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            first = b"GET /1 HTTP/1.1\r\nHost: shop\r\n\r\n"
            second = b"POST /2 HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi"
            answer = await gateway.exchange(first + second + request(target="/3"))

            assert answer.count(b"HTTP/1.1 200 OK") == 3
            assert [head.split(b" ")[1] for head in origin.heads] == [b"/1", b"/2", b"/3"]

    run(main())


@pytest.mark.parametrize("head", [pytest.param(head, id=name) for name, head, _ in CORPUS])
def test_nothing_that_could_be_smuggled_reaches_the_origin(run: Run, head: bytes) -> None:
    async def main() -> None:
        async with Origin() as origin, front(origin) as gateway:
            answer = await gateway.exchange(head + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")

            assert status_of(answer) >= 400
            assert answer.count(b"server: silence") == 1
            assert origin.heads == []

    run(main())
