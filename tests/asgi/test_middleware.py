"""Limits around an app that knows nothing of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.asgi.driver import PEER, App, Scene, connect, headers, http_scope, request

from silence_gateway import LimitMiddleware, MessageLimit, RateLimiter, RouteLimit
from silence_gateway.asgi.protocol import Message, Receive, Scope, Send
from silence_gateway.testing.clock import FakeClock


def test_what_is_allowed_passes_and_is_told_what_is_left() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("2/minute", name="api"))
        answer = await scene.get()

        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.headers == {"ratelimit-policy": '"api";q=2;w=60', "ratelimit": '"api";r=1;t=60'}

    asyncio.run(scenario())


def test_what_is_over_a_limit_is_answered_as_the_gateway_does_and_never_reaches_the_app() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute", name="api"))
        await scene.get("/a")
        await scene.clock.advance(0.5)
        answer = await scene.get("/b")

        assert scene.app.seen == ["/a"]
        assert answer.status == 429
        assert answer.headers == {
            "content-type": "application/problem+json",
            "content-length": str(len(answer.body)),
            "ratelimit-policy": '"api";q=1;w=60',
            "ratelimit": '"api";r=0;t=60',
            "retry-after": "60",
        }
        assert answer.json == {
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "over the limit api; retry in 59.500 s",
            "code": "RESOURCE_EXHAUSTED",
            "violated-policies": ["api"],
            "retry_after_s": 59.5,
        }

    asyncio.run(scenario())


def test_who_waits_as_long_as_told_is_let_through() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/10s"))
        await scene.get()
        await scene.clock.advance(3.2)
        wait_s = int((await scene.get()).headers["retry-after"])
        await scene.clock.advance(wait_s)

        assert wait_s == 7
        assert (await scene.get()).status == 200

    asyncio.run(scenario())


def test_limits_decide_together_and_a_refused_request_spends_nothing() -> None:
    async def scenario() -> None:
        scene = Scene().limit(
            RouteLimit("3/minute", name="all", key="const"),
            RouteLimit("1/minute", name="login", path="/login", methods=["post"]),
        )
        await scene.get("/login", "POST")
        refused = await scene.get("/login", "POST")
        elsewhere = await scene.get("/login")

        assert refused.json["violated-policies"] == ["login"]
        assert elsewhere.headers["ratelimit"].startswith('"all";r=1;')

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("ietf", {"ratelimit-policy", "ratelimit"}),
        ("legacy", {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}),
        ("none", set()),
    ],
)
def test_headers_come_in_the_form_asked_for_and_a_refusal_always_says_when(
    form: str, names: set[str]
) -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute"), headers=form)

        assert (await scene.get()).headers.keys() == names
        assert (await scene.get()).headers.keys() == names | {"content-type", "content-length", "retry-after"}

    asyncio.run(scenario())


def test_a_redirect_tells_nothing_of_limits() -> None:
    async def scenario() -> None:
        scene = Scene(app=App(status=303, headers=[(b"location", b"/")])).limit(RouteLimit("9/s"))

        assert (await scene.get()).headers == {"location": "/"}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("template", "hit", "missed"),
    [
        ("/items/{id}", ["/items/1", "/items/1/", "//items/2"], ["/items", "/items/1/2"]),
        ("/items/{id:int}", ["/items/1"], ["/items"]),
        ("/files/{rest:path}", ["/files/a", "/files/a/b"], ["/file/a"]),
        ("/v1/**", ["/v1", "/v1/a/b"], ["/v2/a"]),
    ],
)
def test_a_template_is_about_the_paths_it_covers(template: str, hit: list[str], missed: list[str]) -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("100/s", path=template))

        for path in hit:
            assert "ratelimit" in (await scene.get(path)).headers, path
        for path in missed:
            assert (await scene.get(path)).headers == {}, path

    asyncio.run(scenario())


def test_below_a_mount_templates_see_what_the_routes_of_the_app_see() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("100/s", path="/items"))

        assert "ratelimit" in (await scene.get("/shop/items", root_path="/shop")).headers
        assert (await scene.get("/shopping/items", root_path="/shop")).headers == {}

    asyncio.run(scenario())


def test_get_includes_head_and_methods_count_together() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute", methods=["GET"]))

        assert await scene.statuses(1, method="HEAD") == [200]
        assert await scene.statuses(1) == [429]
        assert await scene.statuses(2, method="POST") == [200, 200]

    asyncio.run(scenario())


def test_nobody_is_believed_about_their_address_by_default() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute"))

        for number in range(3):
            lie = headers(x_forwarded_for=f"203.0.113.{number}", forwarded=f"for=203.0.113.{number}")
            assert (await scene.get(headers=lie)).status == (429 if number else 200)

    asyncio.run(scenario())


def test_trusted_proxies_are_believed_from_the_right() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute"), trusted_proxies=["192.0.2.0/24"])

        for invented in ("198.51.100.1", "198.51.100.2"):
            chain = headers(x_forwarded_for=f"{invented}, 203.0.113.9, 192.0.2.1")
            status = (await scene.get(headers=chain)).status
        assert status == 429
        assert (await scene.get(headers=headers(x_forwarded_for="203.0.113.10"))).status == 200
        assert (
            await scene.get(client=("198.51.100.5", 1), headers=headers(x_forwarded_for="203.0.113.9"))
        ).status == 200

    asyncio.run(scenario())


def test_neighbours_in_an_ipv6_network_are_one_client_of_the_size_asked_for() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute"))
        wide = Scene().limit(RouteLimit("1/minute", ipv6_prefix=48))

        assert (await scene.get(client=("2001:db8:0:1::1", 1))).status == 200
        assert (await scene.get(client=("2001:db8:0:1::2", 1))).status == 429
        assert (await scene.get(client=("2001:db8:0:2::1", 1))).status == 200
        assert (await wide.get(client=("2001:db8:0:1::1", 1))).status == 200
        assert (await wide.get(client=("2001:db8:0:2::1", 1))).status == 429

    asyncio.run(scenario())


def test_an_exempt_request_is_neither_counted_nor_told() -> None:
    async def scenario() -> None:
        async def inside(scope: Scope) -> bool:
            return bool(scope["client"][0].startswith("10."))

        scene = Scene().limit(RouteLimit("1/minute", exempt=inside), RouteLimit("9/minute", name="all"))

        for _ in range(2):
            assert '"all";q=9' in (await scene.get(client=("10.1.1.1", 1))).headers["ratelimit-policy"]
        assert "all-1-per-m" in (await scene.get()).headers["ratelimit-policy"]
        assert (await scene.get()).status == 429

    asyncio.run(scenario())


@pytest.mark.parametrize("wait", [False, True], ids=["plain", "async"])
def test_a_cost_may_depend_on_the_request(wait: bool) -> None:
    def plain(scope: Scope) -> int:
        return int(dict(scope["headers"])[b"x-size"])

    async def later(scope: Scope) -> int:
        return plain(scope)

    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("10/minute", cost=later if wait else plain))

        assert (await scene.get(headers=headers(x_size="0"))).headers["ratelimit"].split(";")[1] == "r=10"
        assert (await scene.get(headers=headers(x_size="8"))).headers["ratelimit"].split(";")[1] == "r=2"
        assert (await scene.get(headers=headers(x_size="3"))).status == 429
        never = await scene.get(headers=headers(x_size="11"))
        assert (never.status, "retry-after" in never.headers) == (429, False)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("cost", "error"), [(-1, ValueError), (10**7, ValueError), ("3", TypeError), (True, TypeError)]
)
def test_a_cost_that_is_none_is_a_mistake_of_the_app(cost: Any, error: type[Exception]) -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("10/minute", cost=lambda _scope: cost))

        with pytest.raises(error):
            await scene.get()
        assert scene.app.seen == []

    asyncio.run(scenario())


def test_limits_of_one_name_are_told_when_the_program_starts() -> None:
    with pytest.raises(ValueError, match="two limits here are called 'a-b-1-per-s'"):
        Scene().limit(RouteLimit("1/s", path="/a/b"), RouteLimit("1/s", path="/a-b"))
    with pytest.raises(ValueError, match="declared already"):
        Scene().limit(RouteLimit("1/s", name="a"), MessageLimit("2/s", name="a"))
    with pytest.raises(ValueError, match="nonsense"):
        Scene().limit(headers="nonsense")


def test_declared_limits_of_every_kind_can_be_used() -> None:
    async def scenario() -> None:
        scene = Scene()
        bucket = scene.limiter.limit("bucket", "1/s", algorithm="token_bucket", burst=3)
        scene.limit(RouteLimit(bucket))

        assert await scene.statuses(4) == [200, 200, 200, 429]
        assert (await bucket.peek(PEER[0])).remaining == 0

    asyncio.run(scenario())


def test_an_app_that_spends_for_itself_gets_the_same_answer() -> None:
    async def scenario() -> None:
        scene = Scene()
        jobs = scene.limiter.limit("jobs", "1/minute")

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            await jobs.acquire("ann")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        with scene.limit().answering(view):
            assert (await scene.get()).status == 200
            refused = await scene.get()
        assert (refused.status, refused.headers["retry-after"]) == (429, "60")
        assert refused.headers["ratelimit-policy"] == '"jobs";q=1;w=60'
        assert refused.headers["ratelimit"] == '"jobs";r=0;t=60'
        assert refused.json["violated-policies"] == ["jobs"]

    asyncio.run(scenario())


OLD_LINES = {"x-ratelimit-limit": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}
NEW_LINES = {"ratelimit-policy": '"jobs";q=1;w=60', "ratelimit": '"jobs";r=0;t=60'}


@pytest.mark.parametrize(
    ("form", "lines"),
    [("ietf", NEW_LINES), ("legacy", OLD_LINES), ("both", NEW_LINES | OLD_LINES), ("none", {})],
)
@pytest.mark.parametrize("wait", [False, True])
def test_a_refusal_to_the_app_itself_is_told_in_the_form_of_the_middleware(
    form: str, lines: dict[str, str], wait: bool
) -> None:
    async def scenario() -> None:
        scene = Scene()
        jobs = scene.limiter.limit("jobs", "1/minute")
        await jobs.acquire("ann")

        async def view(_scope: Scope, _receive: Receive, _send: Send) -> None:
            await jobs.acquire("ann", wait=wait, timeout_s=1)

        with scene.limit(headers=form).answering(view):
            told = (await scene.get()).headers
        assert {name: value for name, value in told.items() if "ratelimit" in name} == lines
        assert told["retry-after"] == "60"

    asyncio.run(scenario())


def test_what_is_refused_together_is_told_together_each_limit_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        user, everyone = scene.limiter.limit("user", "2/minute"), scene.limiter.limit("everyone", "9/s")
        places = scene.limiter.concurrency("places", 1)
        await user.acquire("bob", 2)

        async def several(_scope: Scope, _receive: Receive, _send: Send) -> None:
            await scene.limiter.acquire_all([(user, "ann", 1), (user, "bob", 1), (everyone, "", 1)])

        async def too_much(_scope: Scope, _receive: Receive, _send: Send) -> None:
            await everyone.acquire("", 10)

        async def full(_scope: Scope, _receive: Receive, _send: Send) -> None:
            async with places.hold("ann"), places.hold("ann"):
                raise AssertionError("there is one place")

        with scene.limit().answering(several):
            told = (await scene.get()).headers
        assert told["ratelimit-policy"] == '"user";q=2;w=60, "everyone";q=9;w=1'
        assert told["ratelimit"] == '"user";r=0;t=60'
        with scene.answering(too_much):
            told = (await scene.get()).headers
        assert (told["ratelimit"], "retry-after" in told) == ('"everyone";r=9', False)
        with scene.answering(full):
            told = (await scene.get()).headers
        assert (told["ratelimit"], told["retry-after"]) == ('"places";r=0', "1")

    asyncio.run(scenario())


# The life of the app ---------------------------------------------------------------------------


class Server:
    """The life of an app, as a server tells it."""

    def __init__(self, app: LimitMiddleware) -> None:
        self.app = app
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self.task = asyncio.get_running_loop().create_task(
            app({"type": "lifespan", "asgi": {"version": "3.0"}}, self.incoming.get, self.outgoing.put)
        )

    async def say(self, word: str) -> str:
        self.incoming.put_nowait({"type": f"lifespan.{word}"})
        return str((await asyncio.wait_for(self.outgoing.get(), 5))["type"])


async def lives(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})


def test_the_limiter_lives_as_long_as_the_app() -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        seen: list[bool] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(limiter.loop is not None)
            message = await receive()
            seen.append(limiter.loop is not None)
            await send({"type": message["type"] + ".complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        server = Server(LimitMiddleware(app, limiter=limiter))
        assert await server.say("startup") == "lifespan.startup.complete"
        assert limiter.starts == 1
        assert await server.say("shutdown") == "lifespan.shutdown.complete"
        await server.task

        assert (limiter.starts, limiter.loop, seen) == (0, None, [False, True])

    asyncio.run(scenario())


def test_a_limiter_that_the_app_starts_too_is_started_once_and_stopped_at_the_end() -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        outer = LimitMiddleware(LimitMiddleware(lives, limiter=limiter), limiter=limiter)
        server = Server(outer)
        await server.say("startup")
        async with limiter:
            assert limiter.starts == 3
        assert limiter.loop is asyncio.get_running_loop()
        await server.say("shutdown")
        await server.task

        assert limiter.loop is None

    asyncio.run(scenario())


def test_an_app_that_fails_to_start_leaves_no_limiter_running() -> None:
    async def scenario() -> None:
        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        limiter = RateLimiter()
        server = Server(LimitMiddleware(app, limiter=limiter))

        assert await server.say("startup") == "lifespan.startup.failed"
        await server.task
        assert limiter.loop is None

    asyncio.run(scenario())


def test_an_app_that_breaks_off_its_lifespan_without_a_word_is_served_all_the_same() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                assert (await receive())["type"] == "http.request", "this app knows of no lifespan"
            await App()(scope, receive, send)

        limiter = RateLimiter()
        limited = LimitMiddleware(app, limiter=limiter, limits=[RouteLimit("1/minute")])
        server = Server(limited)
        server.incoming.put_nowait({"type": "lifespan.startup"})
        with pytest.raises(AssertionError, match="no lifespan"):
            await server.task

        assert [(await request(limited)).status for _ in range(2)] == [200, 429]
        assert limiter.starts == 1

    asyncio.run(scenario())


def test_without_lifespan_the_limiter_starts_with_the_first_request() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "http", "this app knows of no lifespan"
            await App()(scope, receive, send)

        limiter = RateLimiter()
        limited = LimitMiddleware(app, limiter=limiter, limits=[RouteLimit("1/minute")])
        with pytest.raises(AssertionError, match="no lifespan"):
            await Server(limited).task
        assert limiter.loop is None

        assert (await request(limited)).status == 200
        assert limiter.loop is asyncio.get_running_loop()
        assert (await request(limited)).status == 429

    asyncio.run(scenario())


def test_a_limiter_in_memory_follows_its_app_from_loop_to_loop() -> None:
    """As test clients do that run every request in a loop of its own."""
    limiter = RateLimiter(clock=FakeClock())
    one = limiter.concurrency("one", 1)
    limited = LimitMiddleware(App(), limiter=limiter, limits=[RouteLimit(one), RouteLimit("2/minute")])

    assert [asyncio.run(request(limited)).status for _ in range(3)] == [200, 200, 429]


def test_a_limiter_with_connections_says_that_it_cannot_follow() -> None:
    limiter = RateLimiter("valkey://127.0.0.1:1/0")
    limited = LimitMiddleware(App(), limiter=limiter)
    asyncio.run(request(limited))

    with pytest.raises(RuntimeError, match=r"started in another event loop.*with TestClient"):
        asyncio.run(request(limited))


def test_no_request_fails_while_the_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with caplog.at_level(logging.ERROR):
            async with RateLimiter("valkey://127.0.0.1:1/0") as limiter:
                one = limiter.concurrency("one", 1)
                limited = LimitMiddleware(
                    App(),
                    limiter=limiter,
                    limits=[RouteLimit("2/minute"), RouteLimit(one), MessageLimit("1/minute")],
                )

                for expected in (200, 200, 429):
                    assert (await request(limited)).status == expected
                    await asyncio.sleep(0)  # releases of one turn of the loop leave at its end
                    await asyncio.gather(*limiter.engine.holds.background)
                client = connect(limited, client=("192.0.2.8", 1))
                client.say("one", "two")
                assert (await client.hear())["type"] == "websocket.accept"
                assert (await client.hear())["text"] == "one"
                assert (await client.hear())["code"] == 4029
        assert caplog.records == []

    asyncio.run(scenario())


def test_what_is_neither_http_nor_websocket_is_handed_through() -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope["type"])

        scope = http_scope()
        scope["type"] = "webtransport"

        async def receive() -> Message:
            return {}

        async def send(_message: Message) -> None:
            return

        await LimitMiddleware(app, limiter="memory://")(scope, receive, send)
        assert seen == ["webtransport"]

    asyncio.run(scenario())


def test_long_and_many_paths_do_not_fill_the_memory() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute", path="/**", key="path"))
        for number in range(5000):
            scene.limited.match("GET", http_scope(f"/{number}"))
        scene.limited.match("GET", http_scope("/" + "x" * 600))

        assert len(scene.limited.matches) <= 4096
        assert all(len(path) < 600 for _, path in scene.limited.matches)

    asyncio.run(scenario())
