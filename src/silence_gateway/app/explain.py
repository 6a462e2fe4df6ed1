"""
Why one request would be served as it would: address, access, route, authentication, limits and keys.

The request goes through the same layers that real ones go through; nothing is called and nothing is
spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from silence_gateway.app.build import proxies_of
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import show_duration
from silence_gateway.app.engine_settings import limit_specs, route_rules, upstream_settings
from silence_gateway.app.identity import access_lists, door
from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request, Response, stack
from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.shedding import Importance
from silence_gateway.errors import BadRequest, Unauthenticated
from silence_gateway.layers.identify import identify
from silence_gateway.layers.proxy import IDEMPOTENT
from silence_gateway.layers.route import Matched, RouteMap, RouteRule, RouteSwitch, find_route
from silence_gateway.limiting.access_entry import Verdict
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.matched_limits import steps_of
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.upstreams.http_upstream import HttpUpstream

DENIED = "403 access denied"
UNAUTHENTICATED = "401 unauthenticated"


@dataclass(frozen=True, slots=True)
class Step:
    """
    One thing that is decided about the request, and why.

    Attributes:
        what: What is decided.
        decided: The decision.
        why: What it follows from.
        status: What the gateway answers by itself because of it; None if the request goes on.
    """

    what: str
    decided: str
    why: str = ""
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What a running gateway knows and its configuration does not: routes, and lists of addresses."""

    routes: RouteMap
    verdict: Callable[[str], Verdict]


async def explain_request(
    config: GatewayConfig,
    services: Sequence[TranscodedService],
    request: Request,
    *,
    live: Live | None = None,
) -> list[Step]:
    """
    Return every decision about *request*, in the order in which they are made.

    With *live* it is about a running gateway, and *services* are not looked at.

    Raises:
        BadRequest: The path cannot be decoded, as a caller would be told.
    """
    routes = live.routes if live is not None else _routes(config, services)

    async def end(_request: Request) -> Response:
        return Response(200)

    trusted = [str(network) for network in config.trusted_proxies]
    await stack(identify(trusted), find_route(RouteSwitch(routes)))(end)(request)
    steps = [*_who(config, request, live), *_where(config, routes, request)]
    if any(step.decided == DENIED for step in steps):
        return steps
    steps += await _auth(config, request)
    if steps and steps[-1].decided == UNAUTHENTICATED:
        return steps
    return [*steps, *_limits(config, request)]


def _routes(config: GatewayConfig, services: Sequence[TranscodedService]) -> RouteMap:
    clock = SystemClock()
    # Never started: they have their names, and nobody asks them anything.
    upstreams = {
        name: HttpUpstream(upstream_settings(name, upstream), clock=clock)
        for name, upstream in config.upstreams.items()
        if upstream.protocol == "http"
    }
    return RouteMap.build(services, rules=route_rules(config), proxies=proxies_of(config, upstreams, clock))


def _who(config: GatewayConfig, request: Request, live: Live | None) -> Iterator[Step]:
    forwarded = request.client_ip != request.peer
    yield Step(
        "client",
        request.client_ip,
        f"{request.peer} is in trusted_proxies, so its forwarding header counts" if forwarded else "the peer",
    )
    if live is not None:
        verdict = live.verdict(request.client_ip)
    else:
        verdict = access_lists(config, MemoryStore().board, SystemClock()).verdict(request.client_ip)
    if verdict is Verdict.NONE:
        return
    request.unlimited = verdict is Verdict.ALLOW
    yield Step(
        "access",
        "let in, no limit applies" if request.unlimited else DENIED,
        f"the most specific network that holds it is on access.{verdict.value}, or in one of its files",
        None if request.unlimited else 403,
    )


def _rewritten(rewrite: PathRewrite, request: Request) -> Step:
    try:
        asked = rewrite.of(request.target)
    except BadRequest as error:
        return Step("rewrite", "400 the path cannot be rewritten", str(error), 400)
    return Step("rewrite", asked, f"what the service is asked for; routes: {request.route}")


def _where(config: GatewayConfig, routes: RouteMap, request: Request) -> Iterator[Step]:
    realtime = config.realtime
    if realtime is not None and request.path == realtime.path:
        yield Step("route", "WebSocket sessions", "realtime.path")
        return
    matched = request.matched
    if isinstance(matched, Matched) and matched.fixed is not None:
        methods = matched.fixed.methods
        if request.method in methods:
            yield Step("route", f"{request.method} {request.route}", "a path of the gateway's own")
        else:
            yield not_with_this_method(methods)
        return
    if isinstance(matched, Matched) and matched.proxied is not None:
        name, rule = matched.proxied.upstream, matched.rule
        yield Step("route", f"{request.method} {request.route}", f"passed on to upstream {name}")
        if (rewrite := matched.rewrite) is not None:
            yield _rewritten(rewrite, request)
        if rule is not None and rule.timeout_s is not None:
            yield Step("timeout", show_duration(rule.timeout_s), f"routes: {rule.path}")
        else:
            until_head = show_duration(config.upstreams[name].timeout_s)
            yield Step("timeout", until_head, f"upstreams.{name}.timeout, until the answer begins")
        yield from _once_or_more(config, name, rule, request.method in IDEMPOTENT, "its HTTP method says so")
        return
    if not isinstance(matched, Matched) or matched.binding is None:
        allowed = routes.allowed(request.method, request.path)
        if allowed:
            yield not_with_this_method(allowed)
        elif routes.unknown:
            why = f"the methods of upstream {', '.join(routes.unknown)} are not known yet; they may serve it"
            yield Step("route", "503 upstream unavailable", why, 503)
        else:
            why = "no HTTP rule and no method name fits the path"
            yield Step("route", "404 nothing is served here", why, 404)
        return
    binding, rule = matched.binding, matched.rule
    yield Step("route", f"{request.method} {binding.route}", f"upstream {binding.upstream}")
    yield Step("rpc", binding.rpc, binding.refusal or binding.kind, 501 if binding.refusal else None)
    if rule is not None and rule.timeout_s is not None:
        yield Step("timeout", show_duration(rule.timeout_s), f"routes: {rule.path}")
    elif binding.kind == "unary":
        own = config.upstreams[binding.upstream].timeout_s
        yield Step("timeout", show_duration(own), f"upstreams.{binding.upstream}.timeout")
    if not binding.refusal:
        says = "its HTTP method, its idempotency_level or retry.methods says so"
        yield from _once_or_more(config, binding.upstream, rule, binding.repeatable, says)


def _once_or_more(
    config: GatewayConfig, upstream: str, rule: RouteRule | None, repeatable: bool, says: str
) -> Iterator[Step]:
    """Tell whether a call that may have been seen is made again, and whom it waits for."""
    told = config.upstreams[upstream]
    if told.retry.attempts > 1:
        if rule is not None and rule.idempotent is not None:
            repeatable, why = rule.idempotent, f"routes: {rule.path}, idempotent"
        else:
            why = says if repeatable else "nothing says that it may run twice"
        yield Step("retries", f"up to {told.retry.attempts - 1}" if repeatable else "none", why)
    if told.shedding is not None:
        importance = Importance.NORMAL if rule is None else rule.importance
        why = "no route says otherwise"
        if rule is not None and importance is not Importance.NORMAL:
            why = f"routes: {rule.path}"
        yield Step("importance", importance.name.lower(), why)


def not_with_this_method(allowed: Iterable[str]) -> Step:
    """Return what is decided about a path that is served with other methods."""
    return Step("route", "405 method not allowed", f"this path is served with {', '.join(allowed)}", 405)


async def _auth(config: GatewayConfig, request: Request) -> list[Step]:
    auth = config.auth
    asks = door(config, SystemClock(), mode_of=lambda _request: "optional")
    if auth is None or asks is None:
        return []
    parts = {"auth.jwt": auth.jwt, "auth.api_keys": auth.api_keys}
    says = {f"{name}.required": part.required for name, part in parts.items() if part is not None}
    mode = "required" if any(says.values()) else "optional"
    why = ", ".join(name for name, required in says.items() if required or mode == "optional")
    rule = request.matched.rule if isinstance(request.matched, Matched) else None
    if rule is not None and rule.auth:
        mode, why = rule.auth, f"routes: {rule.path}"
    steps = [Step("auth", mode, why)]
    if mode == "none":
        return steps

    async def end(_request: Request) -> Response:
        return Response(200)

    try:
        await asks.layer(end)(request)
    except Unauthenticated as exc:
        return [*steps, Step("caller", UNAUTHENTICATED, str(exc), 401)]
    proven = [f"{what} {who}" for what, who in (("user", request.user), ("key", request.api_key)) if who]
    if not proven and mode == "required":
        return [*steps, Step("caller", f"nobody: {UNAUTHENTICATED}", "it proves nothing; if it did:", 401)]
    return [*steps, Step("caller", ", ".join(proven) or "nobody", "what its headers prove")]


def _limits(config: GatewayConfig, request: Request) -> Iterator[Step]:
    ways = [(method, steps_of(path)) for method, path in ((request.method, request.path), *request.aliases)]
    for limit, spec in zip(config.limits, limit_specs(config), strict=True):
        if not any(spec.matches(*way, request.rpc) for way in ways):
            continue
        key = "(hidden)" if spec.hides_keys else spec.key_of(request)
        decided = f"{limit.name}: {spec.rule.size} by {', '.join(spec.key)} = {key or '(empty)'}"
        if request.unlimited:
            decided = f"{limit.name}: not asked"
        yield Step("limit", decided, why_met(spec))


def why_met(spec: LimitSpec) -> str:
    """Return in a few words which requests a limit is about."""
    if spec.rpc is not None:
        why = f"rpc {spec.rpc}"
    elif spec.path is not None:
        why = f"path {spec.path}"
    else:
        why = "any request"
    return why + (", shadow: refuses nothing" if spec.rule.shadow else "")


def read_header(text: str) -> tuple[bytes, bytes]:
    """
    Read `NAME:VALUE` as a header of a request.

    Raises:
        ValueError: It is none.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not name.isascii():
        raise ValueError(f"{text[:60]!r} is not a header: write NAME:VALUE")
    return name.strip().lower().encode(), value.strip().encode()
