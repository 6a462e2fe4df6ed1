"""The services behind the gateway: where they are and how they are called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from silence_gateway.app.config.balancing import (
    BALANCER,
    Balancer,
    BalancingConfig,
    ConcurrencyConfig,
    SheddingConfig,
)
from silence_gateway.app.config.http import CHECK_PATH, HOST, STATUSES, HttpConfig
from silence_gateway.app.config.kinds import (
    NAME,
    RATIO,
    EndpointAddress,
    FilePath,
    Flag,
    Kind,
    Name,
    Text,
    choice,
    duration,
    pattern,
    size,
    whole,
)
from silence_gateway.app.config.quantities import parse_address, quoted
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.upstream_retry import RetryConfig

REFLECTION = "reflection"


def _parse_descriptors(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("name a FileDescriptorSet file, or write reflection")
    return text


DESCRIPTORS = Kind(
    "reflection \\| path of a file",
    _parse_descriptors,
    str,
    {"type": "string"},
    (REFLECTION, "api.binpb"),
    place=lambda value, base: value if value == REFLECTION else str(base / value),
)
SERVICE_NAME = pattern(
    "service name",
    r"(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*",
    "auth.AuthService",
    "write it as in the .proto file, with its package: auth.AuthService",
)
COMPRESSION = choice("identity", "gzip", "zstd")
PROTOCOL = choice(
    "grpc",
    "http",
    slips={"https": "'https' is http with TLS: write protocol: http, and tls: {}"},
)
Protocol = Literal["grpc", "http"]


Family = Literal["auto", "ipv4", "ipv6", "both"]
SERVICE = re.compile(r"_[A-Za-z0-9-]{1,62}(?:\.[A-Za-z0-9_-]{1,63}){2,10}")


def _parse_dns(text: str) -> str:
    if SERVICE.fullmatch(text):
        return text
    if text.startswith("_"):
        raise ValueError(
            f"{quoted(text)} names no service: write SRV names as _name._tcp.domain, without a port"
        )
    try:
        address = parse_address(text, any_port=False)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is no name to look up: write host:port, or _name._tcp.domain"
        ) from None
    if address.unix_path or text[0] == "[" or text.rpartition(":")[0].replace(".", "").isdigit():
        raise ValueError(f"{quoted(text)} is an address and no name: write it without `dns`")
    return text


DNS_NAME = Kind(
    "host:port, or name of SRV records", _parse_dns, str, {"type": "string"}, ("auth.internal:9001",)
)


class EndpointConfig(Section):
    """
    One address of a service, or one place where its addresses are found: exactly one of `address`, `dns`,
    `file` and `registry`.
    """

    SHORTHAND: ClassVar[str] = "address"
    ALONE: ClassVar[bool] = True

    address: EndpointAddress | None = Field(default=None, description="Host and port of one replica.")
    dns: Annotated[str, DNS_NAME] | None = Field(
        default=None,
        description="Name to look up: `host:port` for A and AAAA records, `_name._tcp.domain` for SRV.",
    )
    refresh_s: Annotated[float, duration("1s", "24h")] = Field(
        default=10.0,
        alias="refresh",
        description="Longest time between two look-ups of `dns`; a shorter TTL makes it sooner.",
    )
    family: Annotated[Family, choice("auto", "ipv4", "ipv6", "both")] = Field(
        default="auto", description="Which addresses of `dns` to use; `auto`: IPv6 where there is no IPv4."
    )
    server: EndpointAddress | None = Field(
        default=None, description="DNS server to ask for `dns`; absent: those of /etc/resolv.conf."
    )
    file: FilePath | None = Field(
        default=None, description="File with one address a line, followed while the gateway runs."
    )
    registry: Annotated[str, NAME] | None = Field(
        default=None, description="Name under which replicas register themselves in the store."
    )
    weight: Annotated[int, whole(1, 100)] = Field(
        default=1, description="Its share of the calls, in proportion to the others'."
    )
    priority: Annotated[int, whole(0, 100)] = Field(
        default=0, description="Endpoints of the lowest number take the calls as far as they can."
    )
    zone: Name | None = Field(
        default=None, description="Where it is; calls stay in the instance's own `zone` as far as possible."
    )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of the four ways to say where replicas are is used; one, in a file that was checked."""
        ways = ("address", "dns", "file", "registry")
        return tuple(way for way in ways if getattr(self, way) is not None)


class UpstreamTlsConfig(Section):
    """TLS towards a service; an empty mapping means TLS checked against the system's CAs."""

    ca: FilePath | None = Field(
        default=None,
        description="CA certificates in PEM form that signed the service's; absent: the system's.",
    )
    certificate: FilePath | None = Field(
        default=None, description="Our own certificate chain in PEM form, for services that ask for one."
    )
    key: FilePath | None = Field(default=None, description="Private key of that certificate.")
    server_name: Text | None = Field(
        default=None, description="Name to expect in the service's certificate; absent: the endpoint's host."
    )


class HealthConfig(Section):
    """Active checks: by grpc.health.v1; of `protocol: http` by GET of `path`, or without it by connecting."""

    interval_s: Annotated[float, duration("100ms", "1h")] = Field(
        default=5.0, alias="interval", description="Time between two checks of an endpoint."
    )
    timeout_s: Annotated[float, duration("10ms", "1m")] = Field(
        default=1.0, alias="timeout", description="Longest time one check may take."
    )
    unhealthy_after: Annotated[int, whole(1, 100)] = Field(
        default=3, description="Failed checks in a row that take an endpoint out."
    )
    healthy_after: Annotated[int, whole(1, 100)] = Field(
        default=2, description="Good checks in a row that bring it back."
    )
    service: Annotated[str, Kind("text", str, str, {"type": "string"}, ("auth.AuthService",))] = Field(
        default="", description="gRPC: service name to ask about; empty asks about the server as a whole."
    )
    path: Annotated[str, CHECK_PATH] | None = Field(
        default=None, description="HTTP: what to GET; absent: it is enough that it accepts connections."
    )
    expect: tuple[Annotated[range, STATUSES], ...] = Field(
        default=(range(200, 400),), description="HTTP: statuses that say that all is well."
    )
    host: Annotated[str, HOST] | None = Field(
        default=None, description="HTTP: what Host says in a check; absent: the endpoint's address."
    )
    watch: Flag = Field(
        default=True,
        description="Watch servers that can say when their health changes; `false` asks each by `Check`.",
    )


class BreakerConfig(Section):
    """When to stop calling an endpoint that keeps failing."""

    failure_ratio: Annotated[float, RATIO] = Field(
        default=0.5, description="Share of failed calls in the window that opens the breaker."
    )
    min_calls: Annotated[int, whole(1, 1_000_000)] = Field(
        default=20, description="Calls needed in the window before the ratio counts."
    )
    window_s: Annotated[float, duration("100ms", "1h")] = Field(
        default=10.0, alias="window", description="How far back calls are counted."
    )
    consecutive: Annotated[int, whole(1, 1_000_000)] = Field(
        default=5, description="Failed calls in a row that open the breaker, whatever the ratio."
    )
    cool_down_s: Annotated[float, duration("10ms", "1h")] = Field(
        default=5.0, alias="cool_down", description="How long the breaker stays open before one trial call."
    )
    slow_call_s: Annotated[float, duration("1ms", "1h")] | None = Field(
        default=None,
        alias="slow_call",
        description="Answers that took longer count as failed in the ratio; absent: only failures do.",
    )


class UpstreamBreakerConfig(Section):
    """When to stop calling an upstream whose calls fail wherever they go; its worst endpoint is left out."""

    failure_ratio: Annotated[float, RATIO] = Field(
        default=0.5, description="Share of failed calls in the window that opens the breaker."
    )
    min_calls: Annotated[int, whole(1, 1_000_000)] = Field(
        default=50, description="Calls needed in the window, in the whole fleet, before the ratio counts."
    )
    window_s: Annotated[float, duration("100ms", "1h")] = Field(
        default=10.0, alias="window", description="How far back calls are counted."
    )
    cool_down_s: Annotated[float, duration("10ms", "1h")] = Field(
        default=5.0, alias="cool_down", description="How long the breaker stays open before one trial call."
    )
    slow_call_s: Annotated[float, duration("1ms", "1h")] | None = Field(
        default=None,
        alias="slow_call",
        description="Answers that took longer count as failed; absent: only failures do.",
    )


class OutliersConfig(Section):
    """When an endpoint is left alone because it fails where its peers do not."""

    consecutive: Annotated[int, whole(1, 1_000_000)] = Field(
        default=5, description="Failed calls in a row that eject an endpoint."
    )
    ejection_s: Annotated[float, duration("1s", "1h")] = Field(
        default=30.0,
        alias="ejection",
        description="How long the first time; twice as long the second time, and so on, up to ten times.",
    )
    max_ejected: Annotated[float, RATIO] = Field(
        default=0.5,
        description="Share of the endpoints that may be ejected at once; one may be, and one always stays.",
    )


class PoolConfig(Section):
    """Connections to one endpoint."""

    min_connections: Annotated[int, whole(0, 1000)] = Field(
        default=1,
        description="Connections opened ahead of need and kept; 0: none while nobody calls the endpoint.",
    )
    max_connections: Annotated[int, whole(1, 100_000)] | None = Field(
        default=None,
        description=(
            "Most connections of one worker to one endpoint; absent: 4, or 100 of HTTP, where one carries "
            "one request at a time, or one WebSocket."
        ),
    )
    max_streams: Annotated[int, whole(1, 1_000_000)] = Field(
        default=100,
        description="Calls at once on one connection before another is opened; the server may allow fewer.",
    )
    keepalive_s: Annotated[float, duration("1s", "24h")] = Field(
        default=30.0,
        alias="keepalive",
        description="Time between pings that keep a connection alive and prove it is.",
    )
    silence_s: Annotated[float, duration("10ms", "1h")] | None = Field(
        default=0.5,
        alias="silence",
        description=(
            "How long an endpoint that owes answers may send nothing before it is asked, and take to reply, "
            "before others are preferred; null: never."
        ),
    )
    idle_timeout_s: Annotated[float, duration("1s", "24h")] | None = Field(
        default=None,
        alias="idle_timeout",
        description=(
            "How long an unused connection stays open, beyond `min_connections`; absent: 5m, or 4s of HTTP, "
            "whose servers close theirs after seconds."
        ),
    )
    max_connection_age_s: Annotated[float, duration("1s", "30d")] | None = Field(
        default=None,
        alias="max_connection_age",
        description=(
            "A connection this old, a tenth more or less, is replaced by a new one, without a failed call; "
            "absent: never."
        ),
    )
    connect_timeout_s: Annotated[float, duration("10ms", "1m")] = Field(
        default=5.0, alias="connect_timeout", description="How long opening a connection may take."
    )


class UpstreamConfig(Section):
    """One service, wherever its replicas are."""

    endpoints: tuple[EndpointConfig, ...] = Field(
        description="Replicas of the service: addresses, and places where addresses are found."
    )
    protocol: Annotated[Protocol, PROTOCOL] = Field(
        default="grpc",
        description="What the service speaks: gRPC, or HTTP/1.1, to which `routes` lead.",
    )
    http: HttpConfig = Field(
        default=HttpConfig(), description="How requests are passed on to a service that speaks HTTP."
    )
    tls: UpstreamTlsConfig | None = Field(
        default=None, description="TLS towards the service; absent: plain text."
    )
    descriptors: tuple[Annotated[str, DESCRIPTORS], ...] = Field(
        default=(REFLECTION,),
        description="Where its methods are described: server reflection, or FileDescriptorSet files.",
    )
    services: tuple[Annotated[str, SERVICE_NAME], ...] = Field(
        default=(), description="Services to offer; empty: all that are found."
    )
    balancer: Annotated[Balancer, BALANCER] = Field(
        default="least_request",
        description=(
            "How a replica is picked: the less busy of two drawn, each in turn, the faster of two drawn, the "
            "same for the same key, or any."
        ),
    )
    balancing: BalancingConfig = Field(
        default=BalancingConfig(), description="Details of that, priorities, zones and subsets."
    )
    timeout_s: Annotated[float, duration("1ms", "24h")] = Field(
        default=5.0,
        alias="timeout",
        description=(
            "Longest time a call may take when the caller and the route say nothing. Of HTTP: until the "
            "answer begins."
        ),
    )
    health: HealthConfig = Field(default=HealthConfig(), description="Active health checks.")
    breaker: BreakerConfig = Field(
        default=BreakerConfig(), description="When to stop calling a failing endpoint."
    )
    upstream_breaker: UpstreamBreakerConfig | None = Field(
        default=None,
        description=(
            "When to stop calling the service as a whole; absent: only an operator does. `{}` turns it on."
        ),
    )
    retry: RetryConfig = Field(default=RetryConfig(), description="Calls that are made more than once.")
    outliers: OutliersConfig | None = Field(
        default=None,
        description="When to leave endpoints alone that do worse than their peers; absent: never.",
    )
    pool: PoolConfig = Field(default=PoolConfig(), description="Connections to one endpoint.")
    concurrency: ConcurrencyConfig | None = Field(
        default=None, description="Adaptive limit of calls in flight; absent: not limited. `{}` turns it on."
    )
    shedding: SheddingConfig | None = Field(
        default=None,
        description="Refuse calls that would wait too long; absent: they wait until their deadline.",
    )
    max_message_bytes: Annotated[int, size("1KiB", "1GiB")] = Field(
        default=4 * 1024 * 1024, alias="max_message", description="Largest message accepted from the service."
    )
    compression: Annotated[Literal["identity", "gzip", "zstd"], COMPRESSION] = Field(
        default="identity",
        description="How requests to the service are compressed; zstd once it says that it reads that.",
    )
    compress_over_bytes: Annotated[int, size("1B", "1GiB")] = Field(
        default=1024, alias="compress_over", description="Messages of this size or more are compressed."
    )

    @property
    def uses_reflection(self) -> bool:
        """Whether the service is asked to describe itself."""
        return self.protocol == "grpc" and REFLECTION in self.descriptors

    @property
    def descriptor_files(self) -> tuple[Path, ...]:
        """The FileDescriptorSet files to read."""
        return tuple(Path(source) for source in self.descriptors if source != REFLECTION)
