"""Rate limits on requests."""

from __future__ import annotations

from silence_gateway.core.http import Handler, Layer, Request, Response
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.limiting.limiter import Limiter


def limit_rate(limiter: Limiter, form: HeaderForm = HeaderForm.IETF) -> Layer:
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
            if matched.headers.form is not form:
                matched.headers = matched.headers.in_form(form)
            lines = await limiter.admit(request, matched)
            request.extra_headers += lines
            response = await inner(request)
            if 300 <= response.status < 400:
                request.extra_headers = [line for line in request.extra_headers if line not in lines]
            return response

        return handle

    return layer
