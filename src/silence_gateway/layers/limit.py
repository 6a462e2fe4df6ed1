"""Rate limits on requests."""

from __future__ import annotations

from silence_gateway.core.http import Handler, Layer, Request, Response
from silence_gateway.limiting.limiter import Limiter, MatchedLimits


def limit_rate(limiter: Limiter) -> Layer:
    """
    Refuse with RateLimited what a limit does not allow, and tell other callers what they have left.

    Needs `client_ip`, `user` and `rpc` of the request, so it comes after the layers that find them. A
    request that the allow list marked `unlimited` passes and is not counted.
    """

    def layer(inner: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            if not request.unlimited:
                matched = limiter.match(request.method, request.path, request.rpc, request.aliases)
                if matched is not None:
                    if not matched.fixed:
                        return await until_over(request, matched)
                    request.extra_headers += await limiter.admit(request, matched)
            return await inner(request)

        async def until_over(request: Request, matched: MatchedLimits) -> Response:
            admission = await limiter.admit_for_now(request, matched)
            request.extra_headers += admission.lines
            try:
                return admission.of(await inner(request))
            except BaseException as error:
                admission.fail(error)
                raise

        return handle

    return layer
