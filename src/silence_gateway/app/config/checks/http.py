"""Upstreams that speak HTTP: keys that mean nothing to them, or only to them, and routes that lead there."""

from __future__ import annotations

from collections.abc import Iterator

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.http import KEPT
from silence_gateway.app.config.quantities import quoted, show_size
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.upstreams import UpstreamConfig
from silence_gateway.core.path_rewrite import PathRewrite

ONLY_GRPC: tuple[tuple[str, str, str], ...] = (
    ("", "descriptors", "HTTP is passed on without being understood"),
    ("", "services", "HTTP is passed on without being understood"),
    ("", "max_message_bytes", "answers are passed on as they come, however long"),
    ("", "compression", "bodies are passed on as they come"),
    ("", "compress_over_bytes", "bodies are passed on as they come"),
    ("pool", "max_streams", "a connection of HTTP/1.1 carries one request at a time"),
    ("pool", "keepalive_s", "HTTP/1.1 has no pings"),
    ("pool", "silence_s", "HTTP/1.1 has no pings"),
    ("pool", "min_connections", "connections of HTTP/1.1 are opened by requests, and unused ones close soon"),
    ("pool", "max_connection_age_s", "connections of HTTP/1.1 close when they are not used for seconds"),
    ("health", "service", "health is asked for with `path`"),
    ("health", "watch", "HTTP servers cannot say when their health changes"),
    ("retry", "methods", "requests may run twice by their HTTP method, or by `idempotent` of a route"),
    ("retry", "hedge_after", "requests are not hedged"),
    ("retry", "streams", "an answer goes on as soon as its head is here"),
    ("retry", "buffer_bytes", "what is kept of a body is `replay` of `http`"),
)
"""Section, field, and why a service that speaks HTTP does not have it."""

ENDS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNKNOWN")
"""What requests to such a service can end with (`upstreams.outcomes`), in the words of `retry.on`."""

ONLY_HTTP: tuple[tuple[str, str], ...] = (
    ("", "http"),
    ("health", "path"),
    ("health", "expect"),
    ("health", "host"),
)
"""Section and field that only a service which speaks HTTP has."""


def check_http(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find what is said of upstreams that does not go with what they speak."""
    led_to = {route.upstream for route in config.routes}
    for name, upstream in config.upstreams.items():
        at: Steps = ("upstreams", name)
        if upstream.protocol == "http":
            yield from check_http_upstream(at, upstream, config)
            if name not in led_to:
                yield Finding(
                    at=at,
                    says=(
                        f"no route leads to {quoted(name)}, and HTTP is served by routes alone: add "
                        f"routes: [{{match: {{path: /**}}, upstream: {name}}}]"
                    ),
                    about=(("routes",),),
                )
            continue
        for section, field in ONLY_HTTP:
            if is_set(upstream, section, field):
                yield Finding(
                    at=(*at, *key_of(upstream, section, field)),
                    says=f"{key_of(upstream, section, field)[-1]} is for protocol: http: remove it",
                    about=((*at, "protocol"),),
                )


def check_rewrites(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find routes that rewrite what is not theirs to rewrite."""
    for index, route in enumerate(config.routes):
        if route.rewrite is None:
            continue
        at: Steps = ("routes", index, "rewrite")
        if route.upstream is None:
            says = "rewrite needs an upstream that is asked: name it, on this route"
            yield Finding(at=at, says=says, about=(("routes", index, "upstream"), at))
        elif route.upstream in config.upstreams and config.upstreams[route.upstream].protocol != "http":
            says = "gRPC methods are called by their names: rewrite is for protocol: http; remove it"
            yield Finding(at=at, says=says, about=(("upstreams", route.upstream, "protocol"),))
        try:
            PathRewrite.between(route.match.path, route.rewrite)
        except ValueError as error:
            yield Finding(at=at, says=str(error), about=(("routes", index, "match", "path"), at))


def check_http_upstream(at: Steps, upstream: UpstreamConfig, config: GatewayConfig) -> Iterator[Finding]:
    """Find what means nothing to *upstream*, which speaks HTTP, or cannot work."""
    for section, field, why in ONLY_GRPC:
        if is_set(upstream, section, field):
            key = key_of(upstream, section, field)
            yield Finding(
                at=(*at, *key), says=f"{key[-1]} is for gRPC: {why}; remove it", about=((*at, "protocol"),)
            )
    for index, code in enumerate(upstream.retry.on):
        if code not in ENDS:
            here = (*at, "retry", "on", index)
            says = f"no HTTP answer counts as {code}: choose from {', '.join(ENDS)}"
            yield Finding(at=here, says=says, about=((*at, "protocol"),))
    if upstream.health.path is None:
        for field in ("expect", "host"):
            if is_set(upstream, "health", field):
                yield Finding(
                    at=(*at, "health", field),
                    says=f"without `path` nothing is asked, so {field} means nothing: add path, or remove it",
                    about=((*at, "health", "path"),),
                )
    if upstream.health.host == KEPT:
        yield Finding(
            at=(*at, "health", "host"), says="a check has no caller whose Host could be kept: write a name"
        )
    if not upstream.health.expect:
        here = (*at, "health", "expect")
        yield Finding(at=here, says="the list is empty: no answer would be good", about=(here,))
    most = upstream.http.max_body_bytes
    most = config.server.max_body_bytes if most is None else most
    if is_set(upstream, "http", "replay_bytes") and upstream.http.replay_bytes > most:
        yield Finding(
            at=(*at, "http", "replay"),
            says=f"no body is longer than {show_size(most)}: make it smaller",
            about=((*at, "http", "max_body"),),
            warning=True,
        )


def is_set(upstream: UpstreamConfig, section: str, field: str) -> bool:
    """Whether the file says something for *field* of *section* that is not said anyway."""
    part = part_of(upstream, section)
    return bool(getattr(part, field) != type(part).model_fields[field].default)


def part_of(upstream: UpstreamConfig, section: str) -> Section:
    """Return the *section* of *upstream*; its own keys for an empty name."""
    if not section:
        return upstream
    part = getattr(upstream, section)
    assert isinstance(part, Section)
    return part


def key_of(upstream: UpstreamConfig, section: str, field: str) -> tuple[str, ...]:
    """Return where the file says it."""
    alias = type(part_of(upstream, section)).model_fields[field].alias or field
    return (section, alias) if section else (alias,)
