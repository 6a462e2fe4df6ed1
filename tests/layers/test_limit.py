"""Rate limits on requests."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.http import Request, Response
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
