"""Where the endpoints of an upstream are found, as the configuration says."""

from __future__ import annotations

from random import Random

from silence_gateway.app.config.upstreams import UpstreamConfig
from silence_gateway.app.engine_settings import dns_settings
from silence_gateway.clock import Clock
from silence_gateway.events import Observer
from silence_gateway.stores.contracts import Store
from silence_gateway.upstreams.discovery import Source
from silence_gateway.upstreams.discovery_dns import DnsSource
from silence_gateway.upstreams.discovery_file import FileSource
from silence_gateway.upstreams.dns_resolver import DnsResolver
from silence_gateway.upstreams.registry import RegistrySource


def sources_of(
    name: str, config: UpstreamConfig, store: Store, clock: Clock, observer: Observer
) -> tuple[Source, ...]:
    """
    Return what tells the endpoints of the upstream *name*, in the order written.

    Raises:
        ConfigError: A file cannot be used.
    """
    sources: list[Source] = []
    for endpoint in config.endpoints:
        if endpoint.dns is not None:
            resolver = DnsResolver("" if endpoint.server is None else str(endpoint.server))
            sources.append(
                DnsSource(
                    dns_settings(endpoint),
                    resolver,
                    upstream=name,
                    clock=clock,
                    rng=Random(),  # noqa: S311 - spreads look-ups over time
                    observer=observer,
                )
            )
        elif endpoint.file is not None:
            sources.append(FileSource(endpoint.file, clock=clock, observer=observer))
        elif endpoint.registry is not None:
            sources.append(
                RegistrySource(endpoint.registry, store.board, store_is_up=lambda: store.up, clock=clock)
            )
    return tuple(sources)
