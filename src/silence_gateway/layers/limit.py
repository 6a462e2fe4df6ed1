"""Rate limits on requests."""

from __future__ import annotations

from silence_gateway.core.http import Handler, HeaderList, Layer, Request, Response
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.limiting.matched_limits import MatchedLimits


def limit_rate(limiter: Limiter) -> Layer:
    """
    Refuse with RateLimited what a limit does not allow, and tell other callers what they have left.

    Needs `client_ip`, `user` and `rpc` of the request, so it comes after the layers that find them. A
    request that the allow list marked `unlimited` passes and is not counted. A redirect says nothing of
    limits: a client that reads `r=0` there would wait before it follows.
    """

    def layer(inner: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            if request.unlimited:
                return await inner(request)
            matched = limiter.match(request.method, request.path, request.rpc, request.aliases)
            if matched is None:
                return await inner(request)
            if not matched.fixed:
                return await until_over(request, matched)
            lines = await limiter.admit(request, matched)
            request.extra_headers += lines
            return told(request, await inner(request), lines)

        async def until_over(request: Request, matched: MatchedLimits) -> Response:
            admission = await limiter.admit_for_now(request, matched)
            request.extra_headers += admission.lines
            try:
                return told(request, admission.of(await inner(request)), admission.lines)
            except BaseException as error:
                admission.fail(error)
                raise

        return handle

    return layer


def told(request: Request, response: Response, lines: HeaderList) -> Response:
    """Return *response*, which tells *lines* unless it is a redirect."""
    if 300 <= response.status < 400:
        request.extra_headers = [line for line in request.extra_headers if line not in lines]
    return response
