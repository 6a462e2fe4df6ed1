"""
The limits of an app as ASGI middleware: no framework is needed, and any goes.

    limiter = RateLimiter("valkey://127.0.0.1:6379/0", fleet="shop")
    app.add_middleware(
        LimitMiddleware,
        limiter=limiter,
        limits=[RouteLimit("100/minute"), RouteLimit("5/minute", path="/login", methods=["POST"])],
    )

It starts and stops the limiter with the app. Where the server says nothing of an app's life, or a framework
keeps that from its middleware, the limiter starts with the first request and ends with the process.

Hot path. All of `asgi/` costs 11 us per request with one limit in memory, 3 of them the decision; what
it adds to a FastAPI app, beside others, is part l of `bench/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from silence_gateway.asgi.call import CURRENT, Call
from silence_gateway.asgi.desk import Desk
from silence_gateway.asgi.http_exchange import HttpExchange
from silence_gateway.asgi.limit_set import LimitSet
from silence_gateway.asgi.message_gate import MessageGate
from silence_gateway.asgi.protocol import (
    WEBSOCKET,
    AnyApp,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    route_path,
    steps_of,
)
from silence_gateway.asgi.route_limit import MessageLimit, RouteLimit
from silence_gateway.asgi.websocket_exchange import Phase, WebSocketExchange
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.rate_limiter import RateLimiter

MAX_MATCHES = 4096
"""Matches remembered: more than any app has of methods and busy paths."""

MAX_PATH_CHARS = 512
"""Matches of longer paths are not remembered, so that nobody fills the memory with them."""


class LimitMiddleware:
    """
    Limits requests, handshakes and messages of WebSockets; no request fails because the store is away.

    All limits that a request meets decide together: all of them spend, or none. A refused request never
    reaches the app: it is answered with 429, or its handshake is refused, or its WebSocket closed with 4029.
    So is a `RateLimited` that the app itself raises, by `await limit.acquire(...)` for example.

    Args:
        app: Any ASGI app, version 3.
        limiter: Counts; started and stopped with the app. An address makes one.
        limits: Limits on requests, and on messages of WebSockets.
        trusted_proxies: Networks whose `X-Forwarded-For` and `Forwarded` are believed; nobody's by default.
        headers: How callers are told: `ietf` (RateLimit-Policy, RateLimit), `legacy` (X-RateLimit-*),
            `both` or `none`. A refusal has Retry-After in each.

    Raises:
        ConfigError: The limiter's address cannot be read.
        ValueError: A value is wrong, or two limits have one name.
    """

    def __init__(
        self,
        app: AnyApp,
        *,
        limiter: RateLimiter | str,
        limits: Sequence[RouteLimit | MessageLimit] = (),
        trusted_proxies: Iterable[str] = (),
        headers: str = HeaderForm.IETF,
    ) -> None:
        self.app: ASGIApp = app
        self.limiter = RateLimiter(limiter) if isinstance(limiter, str) else limiter
        self.desk = Desk(self.limiter, trusted_proxies, HeaderForm(headers))
        self.requests = tuple(limit for limit in limits if isinstance(limit, RouteLimit))
        self.messages = tuple(limit for limit in limits if isinstance(limit, MessageLimit))
        if self.requests:
            # Joined once for its checks: names that collide are told when the program starts.
            self.desk.join(self.requests)
        for limit in self.messages:
            self.desk.know(limit.rule)
        self.by_path = any(limit.path is not None for limit in self.requests)
        self.matches: dict[tuple[str, str], LimitSet | None] = {}
        self.joined: dict[tuple[str, ...], LimitSet | None] = {(): None}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, one WebSocket, or the life of the app."""
        kind = scope["type"]
        if kind == "http":
            await self.serve_http(scope, receive, send)
        elif kind == "websocket":
            await self.serve_websocket(scope, receive, send)
        elif kind == "lifespan":
            await self.live(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.limiter.loop is not asyncio.get_running_loop():
            await self.limiter.be_started()
        call = Call(scope, self.desk)
        exchange = HttpExchange(call, receive, send)
        before = CURRENT.set(call)
        try:
            limits = self.match(scope["method"], scope)
            if limits is not None:
                await call.admit(limits)
            await self.app(scope, exchange.receive, exchange.send)
        except RateLimited as refused:
            if not exchange.started:
                await exchange.refuse(refused)
            elif not exchange.replaced:
                raise
        finally:
            CURRENT.reset(before)
            call.end()

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket."""
        if self.limiter.loop is not asyncio.get_running_loop():
            await self.limiter.be_started()
        gate = MessageGate(scope, self.desk)
        call = Call(scope, self.desk, gate)
        exchange = WebSocketExchange(call, gate, receive, send)
        before = CURRENT.set(call)
        try:
            limits = self.match(WEBSOCKET, scope)
            if limits is not None:
                await call.admit(limits)
            if self.messages:
                steps = steps_of(route_path(scope))
                await gate.add(
                    self, [limit for limit in self.messages if limit.spec.matches(WEBSOCKET, steps, "")]
                )
            await self.app(scope, exchange.receive, exchange.send)
        except RateLimited as refused:
            if exchange.phase is not Phase.OVER:
                await exchange.refuse(refused)
        finally:
            CURRENT.reset(before)
            call.end()

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the limiter before the app begins, and stop it when the app has ended."""
        running = begun = False

        async def take() -> Message:
            nonlocal running
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.limiter.start()
                running = True
            return message

        async def give(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] != "lifespan.startup.complete":
                await stop()
            await send(message)

        async def stop() -> None:
            nonlocal running
            if running:
                running = False
                await self.limiter.stop()

        try:
            await self.app(scope, take, give)
        finally:
            # An app that knows nothing of lifespan ends here without a word, and is served all the same.
            if begun:
                await stop()

    def match(self, method: str, scope: Scope) -> LimitSet | None:
        """Return the limits that a request meets; None if there are none."""
        place = (method, route_path(scope) if self.by_path else "")
        try:
            return self.matches[place]
        except KeyError:
            return self.find(place)

    def find(self, place: tuple[str, str]) -> LimitSet | None:
        """Do the work of `match`, and remember the answer."""
        method, path = place
        steps = steps_of(path)
        found = [limit for limit in self.requests if limit.spec.matches(method, steps, "")]
        names = tuple(limit.rule.name for limit in found)
        if names not in self.joined:
            self.joined[names] = self.desk.join(found)
        if len(path) <= MAX_PATH_CHARS:
            if len(self.matches) >= MAX_MATCHES:
                self.matches.clear()
            self.matches[place] = self.joined[names]
        return self.joined[names]
