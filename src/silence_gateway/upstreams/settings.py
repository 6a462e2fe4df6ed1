"""
What an upstream is told about itself: endpoints, balancing, health, breaker and pool.

Frozen and checked here once, with messages for whoever wrote the numbers; nothing downstream checks
again. Config files are read elsewhere (`app/config/`) and end up as these. Times are seconds.
"""

from __future__ import annotations

import math
import re
import ssl
from dataclasses import dataclass, field
from typing import Self

from silence_gateway.core.balancing import MAX_WEIGHT
from silence_gateway.core.breaker import FAILURE_CODES, BreakerPolicy
from silence_gateway.core.concurrency_limit import ConcurrencyRules
from silence_gateway.core.http_head import is_host
from silence_gateway.core.shedding import SheddingRules
from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.addresses import parse_address
from silence_gateway.upstreams.balancing_settings import BALANCERS, BalancingSettings
from silence_gateway.upstreams.packing import ENCODINGS
from silence_gateway.upstreams.retry_settings import RetrySettings

PATH = re.compile(r"/[!-\"$-\[\]-~]*")

MAX_ENDPOINTS = 1000
"""One upstream's endpoints are looked at one by one whenever one of them changes."""


def positive(owner: str, **numbers: float) -> None:
    """
    Check that every number is above zero and finite.

    Raises:
        ConfigError: If one is not; the message names it.
    """
    wrong = [
        f"{owner}: {name} must be above 0, got {value!r}"
        for name, value in numbers.items()
        if not isinstance(value, int | float) or not 0 < value < math.inf
    ]
    if wrong:
        raise ConfigError(wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """
    One address that serves the upstream.

    Attributes:
        address: `host:port`, `[v6]:port` or `unix:PATH`.
        weight: Its share of the calls, 1 to 100.
        priority: Endpoints with the lowest number are used as far as they can take the calls.
        zone: Where it is; empty if that does not matter.

    Raises:
        ConfigError: If one of them makes no sense.
    """

    address: str
    weight: int = 1
    priority: int = 0
    zone: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.address, str):
            raise ConfigError(f"an endpoint is one text, such as 'host:port', not {self.address!r}")
        try:
            parse_address(self.address)
        except ConfigError:
            said = f"endpoint {self.address[:80]!r}: write it as host:port, [v6]:port or unix:PATH"
            raise ConfigError(said) from None
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise ConfigError(f"endpoint {self.address}: weight must be 1 to {MAX_WEIGHT}, got {self.weight}")
        if self.priority < 0:
            raise ConfigError(f"endpoint {self.address}: priority must be 0 or more, got {self.priority}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """
    Active health checks: by `grpc.health.v1`, or of an HTTP upstream by GET or by connecting.

    Attributes:
        interval_s: Time between two checks of an endpoint, whatever the number of gateways.
        timeout_s: How long one check may take.
        unhealthy_after: Bad checks in a row that take an endpoint out.
        healthy_after: Good checks in a row that bring it back.
        service: Service name to ask for; empty asks for the server as a whole. Of gRPC upstreams only.
        watch: Whether servers that have `Watch` are watched; otherwise all are asked by `Check`. Of gRPC
            upstreams only.
        path: What to GET, query included; empty only connects. Of HTTP upstreams only, as what follows.
        host: What Host says then; empty for the endpoint's own address.
        statuses: The statuses that say that all is well.

    Raises:
        ConfigError: If a number is out of range, a check could outlast its interval, or *path* is none.
    """

    interval_s: float = 5.0
    timeout_s: float = 1.0
    unhealthy_after: int = 3
    healthy_after: int = 2
    service: str = ""
    watch: bool = True
    path: str = ""
    host: str = ""
    statuses: tuple[range, ...] = (range(200, 400),)

    def __post_init__(self) -> None:
        positive("health", interval_s=self.interval_s, timeout_s=self.timeout_s)
        positive("health", unhealthy_after=self.unhealthy_after, healthy_after=self.healthy_after)
        if self.timeout_s > self.interval_s:
            raise ConfigError(
                f"health: timeout_s {self.timeout_s} is above interval_s {self.interval_s}: checks overlap"
            )
        if self.path and not PATH.fullmatch(self.path):
            raise ConfigError(f"health: path {self.path!r} is not an absolute path of printable ASCII")
        if self.host and not is_host(self.host.encode("utf-8")):
            raise ConfigError(f"health: host {self.host!r} is not a name or address with an optional port")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """
    When to stop calling an endpoint that keeps failing.

    Attributes:
        failure_ratio: Share of failed calls in the window that opens the breaker, in (0, 1].
        min_calls: Calls needed in the window before the ratio counts.
        window_s: How far back the ratio looks.
        consecutive: Failures in a row that open the breaker.
        cool_down_s: How long it stays open before one probe.
        patience_s: How long an endpoint must have been silent before timeouts speak against it, so that
            callers with tiny deadlines do not open the breaker.
        failure_codes: gRPC codes that count as failures, besides timeouts and broken connections.
        slow_call_s: Unary answers that took longer count as failed in the ratio; None: none do.

    Raises:
        ConfigError: If a number is out of range.
    """

    failure_ratio: float = 0.5
    min_calls: int = 20
    window_s: float = 10.0
    consecutive: int = 5
    cool_down_s: float = 5.0
    patience_s: float = 1.0
    failure_codes: frozenset[int] = FAILURE_CODES
    slow_call_s: float | None = None

    def __post_init__(self) -> None:
        if self.slow_call_s is not None:
            positive("breaker", slow_call_s=self.slow_call_s)
        positive("breaker", window_s=self.window_s, cool_down_s=self.cool_down_s)
        wrong = [code for code in self.failure_codes if not 1 <= code <= 16]
        if wrong:
            raise ConfigError(f"breaker: failure_codes must be gRPC codes from 1 to 16, got {wrong}")
        try:
            self.policy()
        except ValueError as error:
            raise ConfigError(f"breaker: {error}") from error

    def policy(self) -> BreakerPolicy:
        """Return the same in the integer microseconds of the core."""
        return BreakerPolicy(
            failure_ratio=self.failure_ratio,
            min_calls=self.min_calls,
            window_us=round(self.window_s * 1e6),
            consecutive=self.consecutive,
            cool_down_us=round(self.cool_down_s * 1e6),
            patience_us=round(self.patience_s * 1e6),
            failure_codes=self.failure_codes,
            slow_call_us=0 if self.slow_call_s is None else round(self.slow_call_s * 1e6),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamBreakerSettings:
    """
    When to stop calling an upstream as a whole, because calls fail wherever they go.

    Calls of the endpoint with the most failures are left out; that one has a breaker of its own.

    Attributes:
        failure_ratio: Share of failed calls in the window that opens the breaker, in (0, 1].
        min_calls: Calls needed in the window before the ratio counts, in the whole fleet.
        window_s: How far back the ratio looks.
        cool_down_s: How long it stays open before one probe.
        slow_call_s: Unary answers that took longer count as failed; None: none do.

    Raises:
        ConfigError: If a number is out of range.
    """

    failure_ratio: float = 0.5
    min_calls: int = 50
    window_s: float = 10.0
    cool_down_s: float = 5.0
    slow_call_s: float | None = None

    def __post_init__(self) -> None:
        if self.slow_call_s is not None:
            positive("upstream_breaker", slow_call_s=self.slow_call_s)
        positive("upstream_breaker", window_s=self.window_s, cool_down_s=self.cool_down_s)
        try:
            self.policy()
        except ValueError as error:
            raise ConfigError(f"upstream_breaker: {error}") from error

    def policy(self) -> BreakerPolicy:
        """Return the same in the integer microseconds of the core."""
        return BreakerPolicy(
            failure_ratio=self.failure_ratio,
            min_calls=self.min_calls,
            window_us=round(self.window_s * 1e6),
            cool_down_us=round(self.cool_down_s * 1e6),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierSettings:
    """
    When an endpoint is left alone because it fails where its peers do not.

    Attributes:
        consecutive: Failures in a row that eject an endpoint.
        ejection_s: How long the first time; the second time twice as long, and so on, up to ten times.
        max_ejected: Share of the endpoints that may be ejected at once, from 0 to 1; one may always be, and
            one always stays. 0 turns ejection off.
        interval_s: How often success rates are compared.

    Raises:
        ConfigError: If a number is out of range.
    """

    consecutive: int = 5
    ejection_s: float = 30.0
    max_ejected: float = 0.5
    interval_s: float = 10.0

    def __post_init__(self) -> None:
        positive("outliers", consecutive=self.consecutive, ejection_s=self.ejection_s)
        positive("outliers", interval_s=self.interval_s)
        if not 0 <= self.max_ejected <= 1:
            raise ConfigError(f"outliers: max_ejected must be from 0 to 1, got {self.max_ejected}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """
    Connections to one endpoint. One of HTTP carries one call at a time, so there `max_streams` means nothing.

    Attributes:
        min_connections: So many are opened ahead of need, before the endpoint takes calls, and stay open. 0
            lets an endpoint that had no calls for *idle_timeout_s* rest without any; the next call opens one.
        max_connections: A further one is opened, up to this many, when all streams are taken.
        max_streams: Calls on one connection at once, if the endpoint does not ask for fewer.
        keepalive_s: Silence after which a connection is asked whether it lives. Many servers allow this
            only every 5 minutes; the interval doubles for an endpoint that complains.
        silence_s: How long an endpoint that owes answers may send nothing before it is asked, and may then
            take to say anything, before others are preferred to it; None never asks.
        idle_timeout_s: A connection beyond *min_connections* without calls for this long is closed; of an
            HTTP endpoint each.
        max_connection_age_s: A connection this old, a tenth more or less, is replaced: another one is opened,
            and it closes when its calls have ended. At most *max_connections* do so at once. None never
            replaces one.
        connect_timeout_s: How long connecting may take, TLS and HTTP/2 settings included.
        max_waiting: Calls that may wait for a stream at once; more are refused at once.

    Raises:
        ConfigError: If a number is out of range.
    """

    min_connections: int = 1
    max_connections: int = 4
    max_streams: int = 100
    keepalive_s: float = 30.0
    silence_s: float | None = 0.5
    idle_timeout_s: float = 300.0
    max_connection_age_s: float | None = None
    connect_timeout_s: float = 5.0
    max_waiting: int = 1024

    def __post_init__(self) -> None:
        positive("pool", max_connections=self.max_connections, max_streams=self.max_streams)
        positive("pool", keepalive_s=self.keepalive_s, idle_timeout_s=self.idle_timeout_s)
        positive("pool", connect_timeout_s=self.connect_timeout_s)
        if self.silence_s is not None:
            positive("pool", silence_s=self.silence_s)
        if self.max_connection_age_s is not None:
            positive("pool", max_connection_age_s=self.max_connection_age_s)
        if not 0 <= self.min_connections <= self.max_connections:
            raise ConfigError(
                f"pool: min_connections must be 0 to max_connections ({self.max_connections}), "
                f"got {self.min_connections}"
            )
        if self.max_waiting < 0:
            raise ConfigError(f"pool: max_waiting must be 0 or more, got {self.max_waiting}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """
    One upstream.

    Attributes:
        name: What config, metrics and the store call it.
        endpoints: Where it is served; may be empty, and change while running.
        balancer: One of BALANCERS.
        balancing: How it goes about it, and how calls are shared among priorities and zones.
        concurrency: Bounds of the adaptive limit of calls in flight; None does not limit them.
        shedding: How long calls may stand in line for a place; None lets them wait until their deadline.
        timeout_s: Deadline of a unary call that brings none, and the longest any call waits for a place.
        health: Active checks; None never asks.
        upstream_breaker: When to stop calling all of them; None leaves that to operators.
        outliers: When to leave endpoints alone that do worse than their peers; None never does.
        tls: TLS client context; None speaks plain text.
        server_name: Name to verify and to send as authority; None takes the endpoint's host.
        max_message_bytes: Longest message an endpoint may answer, after decompression.
        compression: How requests are packed: `identity`, `gzip` or `zstd` (`packing.Packing`).
        compress_over_bytes: Messages of this size or more are.

    Raises:
        ConfigError: If something makes no sense.
    """

    name: str
    endpoints: tuple[EndpointSettings, ...] = ()
    balancer: str = "least_request"
    balancing: BalancingSettings = field(default_factory=BalancingSettings)
    concurrency: ConcurrencyRules | None = None
    shedding: SheddingRules | None = None
    timeout_s: float = 5.0
    health: HealthSettings | None = field(default_factory=HealthSettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    upstream_breaker: UpstreamBreakerSettings | None = None
    outliers: OutlierSettings | None = None
    pool: PoolSettings = field(default_factory=PoolSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    max_message_bytes: int = 4 * 1024 * 1024
    compression: str = "identity"
    compress_over_bytes: int = 1024

    @classmethod
    def of(cls, *addresses: str, name: str = "upstream", timeout_s: float = 5.0) -> Self:
        """
        Return the settings of an upstream at *addresses*, the rest as by default.

        Raises:
            ConfigError: If an address makes no sense.
        """
        endpoints = tuple(EndpointSettings(address=address) for address in addresses)
        return cls(name=name, endpoints=endpoints, timeout_s=timeout_s)

    def __post_init__(self) -> None:
        owner = f"upstream {self.name!r}"
        if not self.name:
            raise ConfigError("an upstream needs a name")
        if self.balancer not in BALANCERS:
            raise ConfigError(
                f"{owner}: balancer must be one of {', '.join(BALANCERS)}, got {self.balancer!r}"
            )
        if self.tls is not None and not isinstance(self.tls, ssl.SSLContext):
            raise ConfigError(f"{owner}: tls is an ssl.SSLContext, not {self.tls!r}")
        positive(owner, timeout_s=self.timeout_s, max_message_bytes=self.max_message_bytes)
        positive(owner, compress_over_bytes=self.compress_over_bytes)
        if self.compression not in ENCODINGS:
            raise ConfigError(
                f"{owner}: compression must be one of {', '.join(ENCODINGS)}, got {self.compression!r}"
            )
        addresses = [endpoint.address for endpoint in self.endpoints]
        double = sorted({address for address in addresses if addresses.count(address) > 1})
        if double:
            raise ConfigError(f"{owner}: endpoint {', '.join(double)} is listed more than once")
        if len(addresses) > MAX_ENDPOINTS:
            raise ConfigError(f"{owner}: at most {MAX_ENDPOINTS} endpoints, got {len(addresses)}")
