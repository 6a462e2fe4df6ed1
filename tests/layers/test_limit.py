"""Rate limits on requests."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.http import Handler, Request, Response
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.layers.limit import limit_rate
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.testing.limiters import local_limiter

RULE = LimitRule(name="l", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("1/minute"))


async def answer(_request: Request) -> Response:
    return Response(200)


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

    asyncio.run(scenario())


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
