"""
A real primary with replicas, watched by real sentinels, on loopback.

Everything here blocks: in a test with an event loop, call what takes longer than a kill by
`asyncio.to_thread`.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Self

from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.server_process import ServerProcess
from silence_gateway.stores.url import Node
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.ports import free_port
from silence_gateway.testing.valkey import ValkeyServer, server_program
from silence_gateway.testing.valkey_cluster import until
from silence_gateway.testing.valkey_node import PORT_TRIES, ValkeyNode

SERVICE = "mymaster"


class SentinelProcess(ServerProcess):
    """A sentinel is the same program with a configuration file that it writes to."""

    def command(self) -> list[str]:
        """Return its command line; *options* are the lines of its file."""
        path = self.directory / "sentinel.conf"
        if not path.exists():
            own = [f"dir {self.directory}", f"unixsocket {self.socket}", "logfile server.log"]
            path.write_text("\n".join([*own, *self.options]) + "\n")
        return [str(self.binary), str(path), "--sentinel"]


class Sentinel(ValkeyServer):
    """One sentinel; it may be killed, hung and started again as servers may."""

    def __init__(self, lines: Sequence[str], tls: ssl.SSLContext | None, password: str) -> None:
        self.password = password
        self.proxy = None if tls is None else FaultProxy("nowhere yet", tls=tls)
        for left in reversed(range(PORT_TRIES)):
            self.port = free_port()
            own = [f"port {self.port}", "bind 127.0.0.1", "protected-mode no"]
            self.process = SentinelProcess(server_program(), options=[*own, *lines])
            try:
                self.start()
            except StoreUnavailable as exc:
                if not left or "bind" not in str(exc):
                    raise
            else:
                break
        if self.proxy is not None:
            self.proxy.upstream = self.socket

    @property
    def node(self) -> Node:
        """Where clients reach it."""
        return Node("127.0.0.1", self.port if self.proxy is None else self.proxy.port)

    def stop(self) -> None:
        """End it, and what is in front of it."""
        if self.proxy is not None:
            self.proxy.close()
        super().stop()


class SentinelSet:
    """
    A primary, its replicas and their sentinels; use it as a context manager, or `stop` it.

    Args:
        replicas: How many.
        sentinels: How many; more than half of them must agree that the primary is gone.
        down_after_ms: After which a silent primary is gone.
        proxied: Whether the servers, not the sentinels, are behind a `FaultProxy` each.
        tls: What proxies before servers and sentinels answer TLS handshakes with.
        password: What sentinels ask their clients for; empty for nothing.

    Attributes:
        nodes: The servers; the first one is the primary to begin with.
        sentinels: Who watches them.

    Raises:
        StoreUnavailable: It does not come about within 20 s.
    """

    def __init__(
        self,
        replicas: int = 1,
        sentinels: int = 3,
        *,
        down_after_ms: int = 1000,
        proxied: bool = False,
        tls: ssl.SSLContext | None = None,
        password: str = "",
    ) -> None:
        self.tls = tls
        self.proxied = proxied
        self.password = password
        self.down_after_ms = down_after_ms
        self.nodes: list[ValkeyNode] = []
        self.sentinels: list[Sentinel] = []
        try:
            for _ in range(1 + replicas):
                self.nodes.append(ValkeyNode(self.options_of, proxied=proxied, tls=tls))
            until(self.in_step, "the replicas have what the primary has")
            self.sentinels += [Sentinel(self.lines(sentinels), tls, password) for _ in range(sentinels)]
            until(self.ready, "the sentinels know the replicas and each other")
        except BaseException:
            self.stop()
            raise

    def options_of(self, node: ValkeyNode) -> Sequence[str]:
        """Return the options of one server: all but the first follow that one."""
        options = ["--repl-diskless-sync-delay", "0", "--replica-announce-ip", "127.0.0.1"]
        options += ["--replica-announce-port", str(node.open_port)]
        if self.nodes:
            options += ["--replicaof", "127.0.0.1", str(self.nodes[0].open_port)]
        return options

    def lines(self, sentinels: int) -> list[str]:
        """Return the configuration of a sentinel, but for its own port."""
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.nodes[0].open_port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {SERVICE} {self.down_after_ms}",
            f"sentinel failover-timeout {SERVICE} 5000",
            f"sentinel parallel-syncs {SERVICE} 1",
        ]
        if self.password:
            lines += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
        return lines

    def in_step(self) -> bool:
        """Whether every replica is connected and has been sent everything."""
        return all(node.info("replication")["master_link_status"] == "up" for node in self.nodes[1:])

    def ready(self) -> bool:
        """Whether every sentinel knows all that it needs for a failover."""
        for sentinel in self.sentinels:
            told = sentinel.call("SENTINEL", "MASTER", SERVICE)
            about = dict(zip(told[::2], told[1::2], strict=True))
            if int(about[b"num-slaves"]) < len(self.nodes) - 1:
                return False
            if int(about[b"num-other-sentinels"]) < len(self.sentinels) - 1:
                return False
        return True

    @property
    def url(self) -> str:
        """The address, with every sentinel to ask."""
        secure = "s" if self.tls is not None else ""
        hosts = ",".join(str(sentinel.node) for sentinel in self.sentinels)
        return f"valkey{secure}+sentinel://{hosts}/{SERVICE}/0"

    @property
    def primary(self) -> ValkeyNode:
        """The server that the sentinels name."""
        for sentinel in self.sentinels:
            if sentinel.process.running:
                told = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return next(node for node in self.nodes if node.open_port == int(told[1]))
        raise StoreUnavailable("no sentinel runs")

    def fail_over(self) -> None:
        """Have the sentinels replace a primary that is well."""
        before = self.primary
        self.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)
        until(lambda: self.primary is not before, "the sentinels have chosen another")

    def stop(self) -> None:
        """End every process."""
        for each in (*self.sentinels, *self.nodes):
            each.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
