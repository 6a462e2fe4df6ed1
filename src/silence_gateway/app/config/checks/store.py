"""The shared store: an address and everything around it have to mean the same place."""

from __future__ import annotations

from collections.abc import Iterator

from silence_gateway.app.config.checks.finding import Context, Finding
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.stores.url import Topology


def check_store(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find a store that does not do what sharing means, or keys that its address gives no meaning to."""
    store = config.store
    if store.url.scheme == "memory" and config.workers > 1:
        yield Finding(
            at=("store", "url"),
            says=(
                f"memory:// is not shared, so each of the {config.workers} workers has its own limits and "
                "sessions: use embedded://, or one worker"
            ),
            about=(("workers",),),
            warning=True,
        )
    if store.password_file is not None and store.url.password:
        yield Finding(
            at=("store", "password_file"),
            says="there is a password in store.url as well: keep one of them",
            about=(("store", "url"),),
        )
    if (store.sentinel.username or store.sentinel.password) and store.url.topology is not Topology.SENTINEL:
        yield Finding(
            at=("store", "sentinel"),
            says="store.url names no sentinels: use valkey+sentinel://host1,host2/service/0, or remove this",
            about=(("store", "url"),),
        )
    yield from check_store_tls(config)


def check_store_tls(config: GatewayConfig) -> Iterator[Finding]:
    """Find TLS that is not used, half of a key pair, and a store that anybody may pretend to be."""
    url, tls = config.store.url, config.store.tls
    if tls is None:
        return
    if not url.tls:
        yield Finding(
            at=("store", "tls"),
            says="store.url does not ask for TLS: begin it with valkeys:// (or rediss://), or remove this",
            about=(("store", "url"),),
        )
    if (tls.certificate is None) != (tls.key is None):
        missing = "key" if tls.key is None else "certificate"
        yield Finding(
            at=("store", "tls"),
            says=f"certificate and key belong together: {missing} is missing",
            about=(("store", "tls", missing),),
        )
    if not tls.verify:
        yield Finding(
            at=("store", "tls", "verify"),
            says="the store is not verified: whoever is in between can read and change everything",
            warning=True,
        )
