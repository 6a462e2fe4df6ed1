"""
A real server on a port of loopback: a member of a cluster, or one of those that sentinels watch.

With `proxied` or `tls`, others reach it through a `FaultProxy`, whose port it announces as its own: what
sentinels and clusters tell clients then leads to the proxy, too. The server itself speaks no TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.url import Node
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.ports import free_port
from silence_gateway.testing.valkey import ValkeyServer

PORT_TRIES = 20


class ValkeyNode(ValkeyServer):
    """
    A `ValkeyServer` that listens on a port as well.

    Args:
        options: Given this node, whose ports are known by then, returns more command line options.
        proxied: Whether others reach it through a proxy.
        tls: What that proxy answers TLS handshakes with; implies *proxied*.

    Attributes:
        port: Where the server itself listens.
        bus_port: A second port, for a cluster's own bus.
        proxy: What is in front of it, if anything.

    Raises:
        StoreUnavailable: As for `ValkeyServer`; a port that is taken only after some tries.
    """

    def __init__(
        self,
        options: Callable[[ValkeyNode], Sequence[str]],
        *,
        proxied: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = self.bus_port = 0
        self.proxy = FaultProxy("nowhere yet", tls=tls) if proxied or tls is not None else None
        for left in reversed(range(PORT_TRIES)):
            self.port, self.bus_port = free_port(), free_port()
            own = ("--port", str(self.port), "--bind", "127.0.0.1", "--protected-mode", "no")
            try:
                super().__init__(*own, *options(self))
            except StoreUnavailable as exc:
                if not left or "bind" not in str(exc):
                    self.close_proxy()
                    raise
            else:
                break
        if self.proxy is not None:
            self.proxy.upstream = self.socket

    @property
    def faults(self) -> FaultProxy:
        """The proxy in front of it, for those who asked for one."""
        assert self.proxy is not None, "this node was made without a proxy"
        return self.proxy

    @property
    def open_port(self) -> int:
        """The port that others are told."""
        return self.port if self.proxy is None else self.proxy.port

    @property
    def node(self) -> Node:
        """Where others reach it."""
        return Node("127.0.0.1", self.open_port)

    def info(self, section: str) -> dict[str, str]:
        """Return a section of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return {name: value for name, mark, value in (line.partition(":") for line in lines) if mark}

    def close_proxy(self) -> None:
        """Close what is in front of it."""
        if self.proxy is not None:
            self.proxy.close()

    def stop(self) -> None:
        """End it, and what is in front of it."""
        self.close_proxy()
        super().stop()
