"""Addresses as a `Channel` is given them, and the pool that it makes for them."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence

from silence_gateway.clock import Clock
from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.addresses import parse_address
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, UpstreamSettings

_NO_BREAKER = BreakerSettings(failure_ratio=1.0, min_calls=sys.maxsize, consecutive=sys.maxsize)


def addresses_of(target: str) -> list[str]:
    """
    Return the addresses in *target*, which may be written as grpcio has them.

    Raises:
        ConfigError: It is none, or of a scheme that is not ours.
    """
    addresses = [target]
    for scheme in ("dns:///", "dns:"):
        if target.startswith(scheme):
            addresses = [target.removeprefix(scheme)]
            break
    for scheme in ("ipv4:", "ipv6:"):
        if target.startswith(scheme):
            addresses = target.removeprefix(scheme).split(",")
    for address in addresses:
        parse_address(address)
    return addresses


def pool_of(
    targets: Sequence[str],
    clock: Clock,
    tls: ssl.SSLContext | None,
    server_name: str | None,
    timeout_s: float,
) -> GrpcUpstream:
    """
    Return a pool for *targets*, without health checks: what is called is asked nothing else.

    One address alone has no breaker either: there is nobody else to call, and a method that fails must not
    take the others with it.

    Raises:
        ConfigError: There is none, or one makes no sense.
        TypeError: One is no text, or *tls* no context.
    """
    for target in targets:
        if not isinstance(target, str):
            raise TypeError(f"an address is a text, such as '127.0.0.1:9001', not {target!r}")
    if tls is not None and not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an ssl.SSLContext, such as ssl.create_default_context(), not {tls!r}")
    addresses = [address for target in targets for address in addresses_of(target)]
    if not addresses:
        raise ConfigError("a channel needs an address")
    settings = UpstreamSettings(
        name=addresses[0] if len(addresses) == 1 else f"{addresses[0]} and {len(addresses) - 1} more",
        endpoints=tuple(EndpointSettings(address=address) for address in addresses),
        timeout_s=timeout_s,
        health=None,
        breaker=BreakerSettings() if len(addresses) > 1 else _NO_BREAKER,
        tls=tls,
        server_name=server_name,
    )
    return GrpcUpstream(settings, clock=clock)
