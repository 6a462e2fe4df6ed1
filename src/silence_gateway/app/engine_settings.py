"""
From the configuration to what each engine wants to be told.

Pure translation: the configuration was checked when it was read, so nothing is decided here. The
engines know nothing of files; this is the one place that knows both.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.http import OF_ENDPOINT
from silence_gateway.app.config.limits import LimitConfig
from silence_gateway.app.config.realtime import RealtimeConfig
from silence_gateway.app.config.rls import RlsConfig, RlsHeadersConfig
from silence_gateway.app.config.upstream_retry import RetryConfig
from silence_gateway.app.config.upstreams import EndpointConfig, UpstreamConfig, UpstreamTlsConfig
from silence_gateway.core.concurrency_limit import ConcurrencyRules
from silence_gateway.core.limits import Algorithm, Alignment, LimitRule, Mode, WhenDown
from silence_gateway.core.path_rewrite import PathRewrite
from silence_gateway.core.shedding import Importance, SheddingRules
from silence_gateway.core.status import Code
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.errors import ConfigError
from silence_gateway.layers.proxy import ProxySettings
from silence_gateway.layers.route import RouteRule
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.realtime.settings import NamespaceSettings, RealtimeSettings, TokenSettings
from silence_gateway.rls.settings import HeaderNames, RlsSettings
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.upstreams.balancing_settings import BalancingSettings
from silence_gateway.upstreams.discovery_dns import DnsSettings
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    OutlierSettings,
    PoolSettings,
    UpstreamBreakerSettings,
    UpstreamSettings,
)

PROTOCOLS = {"grpc": "h2", "http": "http/1.1"}
"""What is offered to a service that speaks TLS (ALPN)."""

USUAL_POOLS = {
    "grpc": PoolSettings(),
    # Below what common servers keep (uvicorn, Node.js: 5 s), so that no request meets the end of its socket.
    "http": PoolSettings(max_connections=100, idle_timeout_s=4.0),
}
"""What counts where the file says nothing."""


def server_settings(config: GatewayConfig) -> ServerSettings:
    """Return the bounds of the main listener."""
    server = config.server
    return ServerSettings(
        header_timeout_s=server.header_timeout_s,
        body_timeout_s=server.body_timeout_s,
        idle_timeout_s=server.idle_timeout_s,
        max_header_bytes=server.max_header_bytes,
        max_body_bytes=server.max_body_bytes,
        max_connections=server.max_connections,
        drain_s=server.drain_s,
    )


def store_settings(config: GatewayConfig, url: str | None = None) -> StoreSettings:
    """Return where the store is; *url* replaces the configured one (an embedded server's socket)."""
    store = config.store
    tls = store.tls
    return StoreSettings(
        url=url or store.url,
        tls=TlsSettings()
        if tls is None
        else TlsSettings(
            ca=tls.ca,
            certificate=tls.certificate,
            key=tls.key,
            verify=tls.verify,
            server_name=tls.server_name or "",
        ),
        password_file=store.password_file,
        sentinel_username=store.sentinel.username or "",
        sentinel_password=store.sentinel.password.get_secret_value() if store.sentinel.password else "",
        compress_over=store.compress_over,
        deadline_s=store.deadline_s,
        failures=store.breaker.failures,
        cool_down_s=store.breaker.cool_down_s,
    )


def upstream_settings(
    name: str, config: UpstreamConfig, *, zone: str = "", instance: str = ""
) -> UpstreamSettings:
    """
    Return what the upstream *name* is told; *zone* and *instance* say where and who we are.

    Raises:
        ConfigError: A TLS file cannot be used.
    """
    return UpstreamSettings(
        name=name,
        endpoints=tuple(
            EndpointSettings(
                address=str(endpoint.address),
                weight=endpoint.weight,
                priority=endpoint.priority,
                zone=endpoint.zone or "",
            )
            for endpoint in config.endpoints
            if endpoint.address is not None
        ),
        balancer=config.balancer,
        balancing=BalancingSettings(
            max_load=config.balancing.max_load,
            decay_s=config.balancing.decay_s,
            slow_start_s=config.balancing.slow_start_s,
            overprovisioning=config.balancing.overprovisioning,
            panic_threshold=config.balancing.panic_threshold,
            zone=zone,
            subset=config.balancing.subset,
            instance=instance,
        ),
        concurrency=None
        if config.concurrency is None
        else ConcurrencyRules(
            initial=config.concurrency.begins_at,
            minimum=config.concurrency.min,
            maximum=config.concurrency.max,
            tolerance=config.concurrency.tolerance,
        ),
        shedding=None
        if config.shedding is None
        else SheddingRules(
            target_us=round(config.shedding.target_s * 1e6),
            interval_us=round(config.shedding.interval_s * 1e6),
        ),
        timeout_s=config.timeout_s,
        health=health_settings(config),
        breaker=BreakerSettings(
            failure_ratio=config.breaker.failure_ratio,
            min_calls=config.breaker.min_calls,
            window_s=config.breaker.window_s,
            consecutive=config.breaker.consecutive,
            cool_down_s=config.breaker.cool_down_s,
            slow_call_s=config.breaker.slow_call_s,
        ),
        upstream_breaker=None
        if config.upstream_breaker is None
        else UpstreamBreakerSettings(
            failure_ratio=config.upstream_breaker.failure_ratio,
            min_calls=config.upstream_breaker.min_calls,
            window_s=config.upstream_breaker.window_s,
            cool_down_s=config.upstream_breaker.cool_down_s,
            slow_call_s=config.upstream_breaker.slow_call_s,
        ),
        outliers=None
        if config.outliers is None
        else OutlierSettings(
            consecutive=config.outliers.consecutive,
            ejection_s=config.outliers.ejection_s,
            max_ejected=config.outliers.max_ejected,
        ),
        pool=pool_settings(config),
        retry=retry_settings(config.retry),
        tls=None if config.tls is None else upstream_tls(name, config.tls, PROTOCOLS[config.protocol]),
        server_name=server_name(config),
        max_message_bytes=config.max_message_bytes,
        compression=config.compression,
        compress_over_bytes=config.compress_over_bytes,
    )


def health_settings(config: UpstreamConfig) -> HealthSettings:
    """Return how endpoints are checked."""
    health = config.health
    return HealthSettings(
        interval_s=health.interval_s,
        timeout_s=health.timeout_s,
        unhealthy_after=health.unhealthy_after,
        healthy_after=health.healthy_after,
        service=health.service,
        watch=health.watch,
        path=health.path or "",
        host="" if health.host in {None, OF_ENDPOINT} else str(health.host),
        statuses=health.expect,
    )


def pool_settings(config: UpstreamConfig) -> PoolSettings:
    """Return what connections there are; those of HTTP are more and live shorter where nothing is said."""
    pool, usual = config.pool, USUAL_POOLS[config.protocol]
    return PoolSettings(
        min_connections=pool.min_connections,
        max_connections=pool.max_connections or usual.max_connections,
        max_streams=pool.max_streams,
        keepalive_s=pool.keepalive_s,
        silence_s=pool.silence_s,
        idle_timeout_s=pool.idle_timeout_s or usual.idle_timeout_s,
        max_connection_age_s=pool.max_connection_age_s,
        connect_timeout_s=pool.connect_timeout_s,
    )


def proxy_settings(config: GatewayConfig, upstream: UpstreamConfig) -> ProxySettings:
    """Return how requests are passed on to *upstream*, which speaks HTTP."""
    http = upstream.http
    most = config.server.max_body_bytes if http.max_body_bytes is None else http.max_body_bytes
    return ProxySettings(
        host=http.host, max_body_bytes=most, replay_bytes=http.replay_bytes, origins=http.origins
    )


def server_name(config: UpstreamConfig) -> str | None:
    """Return whose certificate is expected: as configured, else the name looked up; None: the address's."""
    if config.tls is not None and config.tls.server_name is not None:
        return config.tls.server_name
    names = {dns_settings(endpoint).host for endpoint in config.endpoints if endpoint.dns is not None}
    only_names = all(endpoint.dns is not None for endpoint in config.endpoints)
    return names.pop() if only_names and len(names) == 1 else None


def dns_settings(endpoint: EndpointConfig) -> DnsSettings:
    """Return how the name of *endpoint*, which has one, is looked up."""
    assert endpoint.dns is not None
    return DnsSettings(name=endpoint.dns, refresh_s=endpoint.refresh_s, family=endpoint.family)


def retry_settings(config: RetryConfig) -> RetrySettings:
    """Return how calls are made more than once."""
    after = config.hedge_after
    return RetrySettings(
        attempts=config.attempts,
        on=frozenset(Code[name] for name in config.on),
        budget=config.budget,
        budget_free_per_s=config.budget_free,
        wait_s=config.wait_s,
        max_wait_s=max(config.wait_s, config.max_wait_s),
        attempt_timeout_s=config.attempt_timeout_s,
        hedge_after_s=after.seconds if after is not None else None,
        hedge_quantile=after.share if after is not None else None,
        streams=config.streams,
        buffer_bytes=config.buffer_bytes,
        methods=frozenset(config.methods),
    )


def upstream_tls(name: str, config: UpstreamTlsConfig, protocol: str) -> ssl.SSLContext:
    """
    Return a client context that offers *protocol* (ALPN) and verifies the upstream: by its own CA, else by
    the system's.

    Raises:
        ConfigError: A file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=path_text(config.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([protocol])
        if config.certificate is not None:
            context.load_cert_chain(config.certificate, path_text(config.key))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"upstreams.{name}.tls: {exc}; the files must be PEM and readable") from exc
    return context


def path_text(path: Path | None) -> str | None:
    """Return *path* as text, None as None."""
    return None if path is None else str(path)


def limit_specs(config: GatewayConfig) -> list[LimitSpec]:
    """Return the limits, in the order configured."""
    return [limit_spec(config, limit) for limit in config.limits]


def limit_spec(config: GatewayConfig, limit: LimitConfig) -> LimitSpec:
    """
    Return one limit.

    Raises:
        ConfigError: Its numbers do not go together.
    """
    try:
        rule = LimitRule(
            name=limit.name,
            algorithm=Algorithm(limit.algorithm),
            rate=limit.rate,
            burst=limit.burst,
            max=limit.max,
            ttl_us=round(limit.ttl_s * 1_000_000),
            align=Alignment(limit.align),
            block_us=round(limit.block_for_s * 1_000_000),
            lease=limit.lease or 0,
            mode=Mode(limit.mode),
            when_down=WhenDown(limit.when_down or config.store.when_down),
        )
        return LimitSpec(
            rule=rule,
            key=limit.key,
            ipv6_prefix=limit.ipv6_prefix,
            path=limit.match.path,
            methods=limit.match.methods,
            rpc=limit.match.rpc,
            any=limit.match.any,
            cost=replace(limit.cost, amount=limit.reserve) if limit.cost.answer_header else limit.cost,
        )
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def route_rules(config: GatewayConfig) -> list[RouteRule]:
    """Return what the configuration says about paths."""
    return [
        RouteRule(
            path=route.match.path,
            methods=route.match.methods,
            upstream=route.upstream or "",
            timeout_s=route.timeout_s,
            auth=route.auth or "",
            idempotent=route.idempotent,
            importance=Importance[(route.importance or "normal").upper()],
            rewrite=None if route.rewrite is None else PathRewrite.between(route.match.path, route.rewrite),
        )
        for route in config.routes
    ]


def realtime_settings(config: RealtimeConfig) -> RealtimeSettings:
    """Return how WebSocket sessions behave."""
    tokens = config.tokens
    return RealtimeSettings(
        path=config.path,
        origins=config.origins,
        tokens=TokenSettings()
        if tokens is None
        else TokenSettings(
            hmac_secret=tokens.hmac_secret.get_secret_value() if tokens.hmac_secret is not None else "",
            audience=tokens.audience or "",
            issuer=tokens.issuer or "",
        ),
        anonymous=config.anonymous,
        ping_s=config.ping_s,
        pong_timeout_s=min(8.0, config.ping_s / 2),
        queue_bytes=config.queue_bytes,
        session_ttl_s=config.sessions.ttl_s,
        namespaces={
            name: NamespaceSettings(
                publish=rules.publish,
                presence=rules.presence,
                join_leave=rules.join_leave,
                max_subscriptions=rules.max_subscriptions,
            )
            for name, rules in config.namespaces.items()
        },
        api_key=config.api_key.get_secret_value() if config.api_key is not None else "",
    )


def rls_settings(config: RlsConfig) -> RlsSettings:
    """Return how the rate limit service behaves; its rules are read by `config.rls_files.load_rules`."""
    return RlsSettings(
        headers=header_names(config.headers),
        request_headers=header_names(config.request_headers),
        shadow_mode=config.shadow_mode,
        quota_mode=config.quota_mode,
        near_limit_ratio=config.near_limit_ratio,
        local_cache=config.local_cache,
        dynamic_metadata=config.dynamic_metadata,
        negative_hits=config.negative_hits,
    )


def header_names(config: RlsHeadersConfig) -> HeaderNames | None:
    """Return the names of three header lines, or None if they are not sent."""
    if not config.enabled:
        return None
    return HeaderNames(limit=config.limit, remaining=config.remaining, reset=config.reset)
