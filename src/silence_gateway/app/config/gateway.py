"""The root of the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.admin import AdminConfig
from silence_gateway.app.config.auth import AuthConfig
from silence_gateway.app.config.kinds import ListenAddress, Name, Networks, choice, whole
from silence_gateway.app.config.limits import AccessConfig, LimitConfig
from silence_gateway.app.config.quantities import Address
from silence_gateway.app.config.realtime import RealtimeConfig
from silence_gateway.app.config.rls import RlsConfig
from silence_gateway.app.config.routes import RouteConfig
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.server import ServerConfig, ServerTlsConfig
from silence_gateway.app.config.store import StoreConfig
from silence_gateway.app.config.telemetry import TelemetryConfig
from silence_gateway.app.config.upstreams import UpstreamConfig

HeaderForm = Literal["ietf", "legacy", "both", "none"]
HEADER_FORM = choice("ietf", "legacy", "both", "none")


class GatewayConfig(Section):
    """Everything that a gateway is told."""

    version: Annotated[Literal["1"], choice("1")] = Field(
        default="1", description="Version of this file's form."
    )
    name: Name = Field(
        default="edge", description="Name of the fleet; every key in the store starts with it."
    )
    zone: Name | None = Field(
        default=None,
        description="Where this instance is; calls stay with endpoints of this zone as far as possible.",
    )
    listen: tuple[ListenAddress, ...] = Field(
        default=(Address("127.0.0.1", 8080),),
        description=(
            "Addresses that clients connect to; `unix:PATH` works too. `[]`: none, where rls is all there is."
        ),
    )
    workers: Annotated[int, whole(1, 1024)] = Field(
        default=1, description="Worker processes; they share the port and nothing but the store."
    )
    tls: ServerTlsConfig | None = Field(
        default=None, description="TLS of the main listener; absent: plain text."
    )
    admin: AdminConfig = Field(default=AdminConfig(), description="The admin listener.")
    trusted_proxies: Networks = Field(
        default=(),
        description="Proxies whose X-Forwarded-For and Forwarded are believed, walked from right to left.",
    )
    store: StoreConfig = Field(default=StoreConfig(), description="The state that all instances share.")
    upstreams: dict[str, UpstreamConfig] = Field(
        default={}, description="The services behind the gateway, by name."
    )
    routes: tuple[RouteConfig, ...] = Field(
        default=(), description="What is special about requests to a path."
    )
    limits: tuple[LimitConfig, ...] = Field(
        default=(), description="Limits on the rate of requests; all that match are decided together."
    )
    limit_headers: Annotated[HeaderForm, HEADER_FORM] = Field(
        default="ietf",
        description=(
            "How answers tell callers about their limits: `ietf` is RateLimit-Policy and RateLimit, `legacy` "
            "is X-RateLimit-Limit, -Remaining and -Reset. A 429 has Retry-After in any case."
        ),
    )
    access: AccessConfig = Field(default=AccessConfig(), description="Addresses with special rights.")
    rls: RlsConfig | None = Field(
        default=None, description="Envoy's rate limit service; absent: it is not served."
    )
    realtime: RealtimeConfig | None = Field(
        default=None, description="WebSocket sessions; absent: none are served."
    )
    auth: AuthConfig | None = Field(
        default=None, description="How callers prove who they are; absent: nobody has to."
    )
    server: ServerConfig = Field(default=ServerConfig(), description="Bounds of client connections.")
    telemetry: TelemetryConfig = Field(default=TelemetryConfig(), description="Logs.")
