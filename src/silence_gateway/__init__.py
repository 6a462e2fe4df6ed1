"""
Silence Gateway: an API gateway whose three engines are also libraries for any asyncio program.

What is named in `__all__` is promised; everything else may change. Names are loaded when they are first
used, so that a program pays only for the engine it takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from silence_gateway.asgi.middleware import LimitMiddleware
    from silence_gateway.asgi.route_limit import MessageLimit, RouteLimit
    from silence_gateway.asgi.routes import LimitDependency, limited
    from silence_gateway.asgi.spent import Spent
    from silence_gateway.core.limits import Decision
    from silence_gateway.edge.listen import open_sockets
    from silence_gateway.edge.server import HttpServer
    from silence_gateway.edge.settings import ServerSettings
    from silence_gateway.errors import (
        AccessDenied,
        ConfigError,
        GatewayError,
        RateLimited,
        RpcError,
        StoreUnavailable,
        UpstreamFault,
        UpstreamProtocolError,
        UpstreamTimeout,
        UpstreamUnavailable,
    )
    from silence_gateway.limiting.limit import Limit
    from silence_gateway.limiting.rate_limiter import RateLimiter
    from silence_gateway.realtime.door import SessionHub
    from silence_gateway.realtime.settings import NamespaceSettings, RealtimeSettings, TokenSettings
    from silence_gateway.rpc_words import Code
    from silence_gateway.stores.open import open_store
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.tls import TlsSettings
    from silence_gateway.stores.valkey import ValkeyStore
    from silence_gateway.upstreams.balancing_settings import BalancingSettings
    from silence_gateway.upstreams.channel import Channel
    from silence_gateway.upstreams.connection import GrpcConnection, connect
    from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
    from silence_gateway.upstreams.interceptors import Interceptor, OutgoingCall
    from silence_gateway.upstreams.registry import Registration
    from silence_gateway.upstreams.retry_settings import RetrySettings
    from silence_gateway.upstreams.service_client import ServiceClient
    from silence_gateway.upstreams.settings import (
        BreakerSettings,
        EndpointSettings,
        HealthSettings,
        OutlierSettings,
        PoolSettings,
        UpstreamBreakerSettings,
        UpstreamSettings,
    )

__all__ = [  # noqa: RUF022 - grouped by what a reader looks for
    # limits
    "RateLimiter",
    "Limit",
    "Decision",
    # limits in ASGI apps
    "LimitMiddleware",
    "RouteLimit",
    "MessageLimit",
    "limited",
    "LimitDependency",
    "Spent",
    # realtime sessions
    "SessionHub",
    "RealtimeSettings",
    "NamespaceSettings",
    "TokenSettings",
    # gRPC upstreams
    "GrpcUpstream",
    "UpstreamSettings",
    "EndpointSettings",
    "HealthSettings",
    "BreakerSettings",
    "UpstreamBreakerSettings",
    "OutlierSettings",
    "BalancingSettings",
    "PoolSettings",
    "RetrySettings",
    "Registration",
    "Channel",
    "ServiceClient",
    "Interceptor",
    "OutgoingCall",
    "GrpcConnection",
    "connect",
    "Code",
    # the store that engines share
    "open_store",
    "StoreSettings",
    "TlsSettings",
    "ValkeyStore",
    # serving the hub's WebSockets
    "HttpServer",
    "ServerSettings",
    "open_sockets",
    # errors
    "GatewayError",
    "ConfigError",
    "RateLimited",
    "AccessDenied",
    "RpcError",
    "UpstreamFault",
    "UpstreamUnavailable",
    "UpstreamTimeout",
    "UpstreamProtocolError",
    "StoreUnavailable",
]

_HOMES = {
    "asgi.middleware": ("LimitMiddleware",),
    "asgi.route_limit": ("MessageLimit", "RouteLimit"),
    "asgi.routes": ("LimitDependency", "limited"),
    "asgi.spent": ("Spent",),
    "core.limits": ("Decision",),
    "edge.listen": ("open_sockets",),
    "edge.server": ("HttpServer",),
    "edge.settings": ("ServerSettings",),
    "errors": (
        "AccessDenied",
        "ConfigError",
        "GatewayError",
        "RateLimited",
        "RpcError",
        "StoreUnavailable",
        "UpstreamFault",
        "UpstreamProtocolError",
        "UpstreamTimeout",
        "UpstreamUnavailable",
    ),
    "limiting.limit": ("Limit",),
    "limiting.rate_limiter": ("RateLimiter",),
    "realtime.door": ("SessionHub",),
    "realtime.settings": ("NamespaceSettings", "RealtimeSettings", "TokenSettings"),
    "rpc_words": ("Code",),
    "stores.open": ("open_store",),
    "stores.settings": ("StoreSettings",),
    "stores.tls": ("TlsSettings",),
    "stores.valkey": ("ValkeyStore",),
    "upstreams.balancing_settings": ("BalancingSettings",),
    "upstreams.channel": ("Channel",),
    "upstreams.connection": ("GrpcConnection", "connect"),
    "upstreams.interceptors": ("Interceptor", "OutgoingCall"),
    "upstreams.grpc_upstream": ("GrpcUpstream",),
    "upstreams.registry": ("Registration",),
    "upstreams.retry_settings": ("RetrySettings",),
    "upstreams.service_client": ("ServiceClient",),
    "upstreams.settings": (
        "BreakerSettings",
        "EndpointSettings",
        "HealthSettings",
        "OutlierSettings",
        "PoolSettings",
        "UpstreamBreakerSettings",
        "UpstreamSettings",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name from its home when it is first asked for."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
