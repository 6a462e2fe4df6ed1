"""Rate limits on requests, and places held until they are over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.core.http import Handler, Request, Response, StreamingResponse
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import BadRequest, RateLimited, RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.layers.limit import limit_rate
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limiters import local_limiter

RULE = LimitRule(name="l", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("1/minute"))
ONE_AT_ONCE = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=1)
HUNDRED = LimitRule(name="t", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("100/minute"))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


async def answer(_request: Request) -> Response:
    return Response(200, [(b"x-tokens", b"30")])


def request_of(path: str = "/") -> Request:
    return Request("GET", path, {}, peer="ann")


class World:
    """A handler with one place per caller, whose answers tell what they cost; 10 is reserved."""

    def __init__(self, handler: Handler) -> None:
        self.store = DistantLimitStore(FakeClock())
        tokens = Cost(amount=10, answer_header=b"x-tokens")
        self.limiter: Limiter = local_limiter(
            [LimitSpec(rule=ONE_AT_ONCE, any=True), LimitSpec(rule=HUNDRED, any=True, cost=tokens)],
            store=self.store,
            clock=self.store.clock,
        )
        self.handle = limit_rate(self.limiter)(handler)

    async def left(self) -> tuple[int, int]:
        """Return how many places are held and how many tokens are spent, once all is settled."""
        await settle()
        return self.store.used(ONE_AT_ONCE, "ann"), self.store.used(HUNDRED, "ann")


def test_a_request_is_limited_unless_it_is_freed_or_no_limit_is_about_it() -> None:
    limiter = local_limiter([LimitSpec(rule=RULE, path="/api/**")])
    handle = limit_rate(limiter)(answer)

    async def scenario() -> None:
        first, again, freed, other = (Request("GET", path, {}) for path in ("/api", "/api", "/api", "/x"))
        freed.unlimited = True
        await handle(first)
        with pytest.raises(RateLimited):
            await handle(again)
        await handle(freed)
        await handle(other)

        assert first.extra_headers == [
            (b"RateLimit-Policy", b'"l";q=1;w=60'),
            (b"RateLimit", b'"l";r=0;t=60'),
        ]
        assert freed.extra_headers == other.extra_headers == []
        assert limiter.statistics["l"].allowed == 1

    run(scenario)


def test_a_place_is_held_while_the_request_is_worked_on_and_the_answer_tells_its_cost() -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def slowly(request: Request) -> Response:
            await go.wait()
            return await answer(request)

        world = World(slowly)
        first = request_of()
        working = asyncio.ensure_future(world.handle(first))
        assert await world.left() == (1, 10)
        with pytest.raises(RateLimited) as refused:
            await world.handle(request_of())
        go.set()
        assert (await working).status == 200

        assert await world.left() == (0, 30)
        assert refused.value.limits == ("c",)
        assert first.extra_headers == [
            (b"RateLimit-Policy", b'"c";q=1;qu="concurrent-requests", "t";q=100;w=60'),
            (b"RateLimit", b'"c";r=0, "t";r=90;t=60'),
        ]

    run(scenario)


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        pytest.param(UpstreamUnavailable("nobody there", sent=False), 0, id="never-reached"),
        pytest.param(UpstreamTimeout("late"), 10, id="may-have-worked"),
        pytest.param(BadRequest("garbage"), 10, id="garbage"),
        pytest.param(RpcError(8, trailing_metadata=[(b"x-tokens", b"3")]), 3, id="an-error-that-tells"),
        pytest.param(ZeroDivisionError(), 10, id="a-bug"),
    ],
)
def test_a_request_that_fails_leaves_its_place(error: Exception, spent: int) -> None:
    async def scenario() -> None:
        async def fails(_request: Request) -> Response:
            raise error

        world = World(fails)
        with pytest.raises(type(error)):
            await world.handle(request_of())

        assert await world.left() == (0, spent)

    run(scenario)


class Pieces:
    """A stream of two pieces, whose cost comes behind them."""

    def __init__(self) -> None:
        self.pieces = [b"a", b"b"]
        self.trailers: list[tuple[bytes, bytes]] = []

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            self.trailers = [(b"grpc-trailer-x-tokens", b"44")]
            raise StopAsyncIteration
        return self.pieces.pop(0)


@pytest.mark.parametrize(("reads", "left"), [(2, (1, 10)), (3, (0, 44))])
def test_a_stream_keeps_its_place_to_its_end_and_its_trailer_tells_its_cost(
    reads: int, left: tuple[int, int]
) -> None:
    async def scenario() -> None:
        async def streams(_request: Request) -> Response:
            return StreamingResponse(200, [], Pieces())

        world = World(streams)
        response = await world.handle(request_of())
        assert isinstance(response, StreamingResponse)
        for _ in range(reads):
            await anext(response.chunks, b"")

        assert await world.left() == left

    run(scenario)


def test_a_client_that_leaves_leaves_its_place_and_pays_what_was_reserved() -> None:
    async def scenario() -> None:
        async def for_ever(_request: Request) -> Response:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        world = World(for_ever)
        working = asyncio.ensure_future(world.handle(request_of()))
        assert await world.left() == (1, 10)
        working.cancel()

        assert await world.left() == (0, 10)

    run(scenario)


def test_a_request_that_the_allow_list_frees_takes_no_place() -> None:
    async def scenario() -> None:
        world = World(answer)
        freed = request_of()
        freed.unlimited = True
        await world.handle(freed)

        assert world.store.trips == 0

    run(scenario)


def ask_in(form: HeaderForm, status: int) -> list[bytes]:
    """Return the names of the lines on an answer of *status*."""

    async def answers(request: Request) -> Response:
        request.extra_headers.append((b"X-Other", b"1"))
        return Response(status)

    limiter = local_limiter([LimitSpec(rule=RULE, any=True)], form=form)
    request = Request("GET", "/", {})
    asyncio.run(_awaited(limit_rate(limiter)(answers), request))
    return [name for name, _ in request.extra_headers]


async def _awaited(handle: Handler, request: Request) -> None:
    await handle(request)


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (HeaderForm.IETF, [b"RateLimit-Policy", b"RateLimit"]),
        (HeaderForm.LEGACY, [b"X-RateLimit-Limit", b"X-RateLimit-Remaining", b"X-RateLimit-Reset"]),
        (HeaderForm.NONE, []),
    ],
)
def test_answers_have_the_lines_of_the_form_asked_for_and_redirects_have_none(
    form: HeaderForm, names: list[bytes]
) -> None:
    assert ask_in(form, 200) == [*names, b"X-Other"]
    assert ask_in(form, 404) == [*names, b"X-Other"]
    assert ask_in(form, 301) == ask_in(form, 308) == [b"X-Other"]
