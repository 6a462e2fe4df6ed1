"""
Passes requests on to an HTTP upstream, and its answers back.

What goes on of a head is `core/forwarding.py`, where it goes `upstreams/http_upstream.py`; this file turns
a request of the edge into one for there, and an answer from there into one of the edge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from silence_gateway.clock import Clock
from silence_gateway.core.client_address import ProxyWalker
from silence_gateway.core.forwarding import answered_fields, check_path, forwarded_lines
from silence_gateway.core.http import (
    BodyRule,
    HeaderList,
    Request,
    Response,
    StreamingResponse,
    TunnelResponse,
)
from silence_gateway.core.origins import origin_allowed
from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.websocket_handshake import accept_key, asks_for_websocket
from silence_gateway.errors import AccessDenied
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.http_contracts import HttpAsk, KeptBody
from silence_gateway.upstreams.http_tunnel import UpstreamTunnel
from silence_gateway.upstreams.steering import Steering

KEPT = "keep"
OF_ENDPOINT = "endpoint"

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""Methods that may run twice (RFC 9110 section 9.2.2); TRACE is refused at the edge."""

HTTP_VERSION = b" HTTP/1.1\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """
    How requests are passed on to one upstream.

    Attributes:
        host: What Host says: `keep` as the caller sent it, `endpoint` for the endpoint's address, or a name.
        max_body_bytes: The longest body of a request.
        replay_bytes: How much of a body is kept so that the request can be made again. One that says that it
            is no longer is read whole before an endpoint is asked.
        origins: Pages that may open WebSockets, besides those of the same host; `*` for all.
    """

    host: str = KEPT
    max_body_bytes: int = 4 * 1024 * 1024
    replay_bytes: int = 64 * 1024
    origins: tuple[str, ...] = ()


class Exchanger(Protocol):
    """What carries requests: `upstreams.http_upstream.HttpUpstream`."""

    def exchange(
        self, ask: HttpAsk, deadline_s: float | None = None, steering: Steering | None = None
    ) -> Awaitable[HttpAnswer]:
        """Send *ask* and return its answer as soon as the head is here."""


class AnswerPieces:
    """
    The body of an answer as the edge wants it.

    Its first piece is empty if none has come yet, so that the head goes out at once.

    Attributes:
        trailers: Header lines behind it, once it has ended.
    """

    __slots__ = ("_answer", "_begun")

    def __init__(self, answer: HttpAnswer) -> None:
        self._answer = answer
        self._begun = False

    @property
    def trailers(self) -> HeaderList:
        """Header lines behind it, once it has ended."""
        return self._answer.trailers

    def __aiter__(self) -> AnswerPieces:
        return self

    async def __anext__(self) -> bytes:
        answer = self._answer
        if not self._begun:
            self._begun = True
            if not answer.has_piece and not answer.ended:
                return b""
        return await anext(answer)

    async def aclose(self) -> None:
        """Take no more of it."""
        self._answer.close()


class HttpProxy:
    """Serves requests with *upstream*. *steering_of* says where a request belongs; None if nobody asks."""

    def __init__(
        self,
        name: str,
        upstream: Exchanger,
        settings: ProxySettings,
        trusted: ProxyWalker,
        clock: Clock,
        steering_of: Callable[[Request], Steering] | None = None,
    ) -> None:
        self.upstream = name
        self.body_rule = BodyRule(settings.max_body_bytes, settings.replay_bytes)
        self._exchanger = upstream
        self._settings = settings
        self._host = None if settings.host in {KEPT, OF_ENDPOINT} else settings.host.encode("ascii")
        self._keeps_host = settings.host == KEPT
        self._trusted = trusted
        self._monotonic_s = clock.monotonic_s
        self._steering_of = steering_of

    async def answer(
        self,
        request: Request,
        deadline_s: float | None,
        repeatable: bool | None,
        rewrite: PathRewrite | None = None,
    ) -> Response:
        """
        Pass *request* on; see `layers.route.Proxied`.

        Raises:
            BadRequest: Its path may mean something else behind us, or nothing once it is rewritten.
            AccessDenied: A page of another host asks for a WebSocket.
            UpstreamFault: There was no answer.
            ClientFault: Its body could not be read.
        """
        check_path(request.path)
        ask = self._ask(request, repeatable, rewrite)
        steering = None if self._steering_of is None else self._steering_of(request)
        began_s = self._monotonic_s()
        try:
            answer = await self._exchanger.exchange(ask, deadline_s, steering)
        finally:
            request.upstream_s += self._monotonic_s() - began_s
        head = answer.head
        fields = answered_fields(head, request.extra_headers)
        if answer.switched is not None:
            return TunnelResponse(UpstreamTunnel(answer), fields)
        if answer.done and request.method != "HEAD" and not answer.trailers:
            return Response(head.status, fields, answer.whole())
        return StreamingResponse(head.status, fields, AnswerPieces(answer), head.length)

    def _ask(self, request: Request, repeatable: bool | None, rewrite: PathRewrite | None) -> HttpAsk:
        upgrade = b""
        if asks_for_websocket(request):
            self._check_origin(request)
            upgrade = accept_key(request.headers[b"sec-websocket-key"])
        peer = request.peer
        trusted = self._trusted.trusts_anybody and self._trusted.believes(peer)
        incoming = request.incoming
        target, prefix = request.target, ""
        if rewrite is not None:
            target, prefix = rewrite.of(target), rewrite.prefix
        return HttpAsk(
            request.method,
            b"%b %b%b" % (request.method.encode(), target.encode(), HTTP_VERSION),
            request.headers.get(b"host") if self._keeps_host else self._host,
            forwarded_lines(request, trusted=trusted, upgrade=bool(upgrade), prefix=prefix.encode()),
            request.body,
            None if incoming is None else KeptBody(incoming, self._settings.replay_bytes),
            repeatable=request.method in IDEMPOTENT if repeatable is None else repeatable,
            upgrade=upgrade,
        )

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        host = request.headers.get(b"host", b"").decode("latin-1")
        if not origin_allowed(origin, host, self._settings.origins):
            raise AccessDenied(
                f"pages of {origin[:100]} may not connect here; if they should, add it to http.origins "
                f"of upstream {self.upstream}"
            )
