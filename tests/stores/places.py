"""Where a store may be: one server, sentinels, or a cluster; each in clear and with TLS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.stores.certificates import Authority

from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.valkey import ValkeyServer
from silence_gateway.testing.valkey_cluster import ValkeyCluster
from silence_gateway.testing.valkey_sentinel import SentinelSet

KINDS = ("single", "sentinel", "cluster")


@dataclass
class Place:
    """
    Something that a store may be in, behind proxies that speak TLS to whoever begins with it.

    Attributes:
        secure_url: Its address, with TLS.
        servers: What holds the data.
        proxies: What is in front of them, and of the sentinels.
        authority: Who signed what the proxies present.
    """

    secure_url: str
    servers: Sequence[ValkeyServer]
    proxies: Sequence[FaultProxy]
    authority: Authority

    def url(self, *, tls: bool, user: str = "") -> str:
        """Return its address; *user* is `name:password`."""
        scheme, _, rest = self.secure_url.partition("://")
        if not tls:
            scheme = scheme.replace("valkeys", "valkey")
        return f"{scheme}://{user}{'@' if user else ''}{rest}"

    def settings(self, *, tls: bool, user: str = "") -> StoreSettings:
        """Return settings that a store is found with, patient enough for a busy machine."""
        return StoreSettings(
            url=self.url(tls=tls, user=user),
            deadline_s=0.25,
            tls=TlsSettings(ca=self.authority.ca) if tls else TlsSettings(),
        )


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Place]:
    """Start one of `KINDS`."""
    authority = Authority(folder)
    context = authority.server()
    if kind == "single":
        with ValkeyServer() as server, FaultProxy(server.socket, tls=context) as proxy:
            yield Place(proxy.url, [server], [proxy], authority)
    elif kind == "sentinel":
        with SentinelSet(tls=context) as found:
            proxies = [node.faults for node in found.nodes]
            proxies += [sentinel.proxy for sentinel in found.sentinels if sentinel.proxy is not None]
            yield Place(found.url, found.nodes, proxies, authority)
    else:
        with ValkeyCluster(tls=context) as cluster:
            yield Place(cluster.url, cluster.nodes, [node.faults for node in cluster.nodes], authority)
