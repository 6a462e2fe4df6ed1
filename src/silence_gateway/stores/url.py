"""
Store addresses as the operator writes them.

`parse_store_url` is the only reader. A password never leaves an address by accident: `str` and `repr`
show it as `***`, and so do the errors raised here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, urlsplit

from silence_gateway.errors import ConfigError

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
SERVER_SCHEMES = ("valkey", "redis")
SECURE_SCHEMES = ("valkeys", "rediss")
SOCKET_SCHEMES = ("valkey+unix", "redis+unix", "unix")
MANY = re.compile(r"(?:valkey|redis)(s?)\+(sentinel|cluster)")
SUPPORTED = (
    "valkey://host:port/db, valkeys:// for TLS, valkey+unix:///path, valkey+sentinel://h1,h2/service/db, "
    "valkey+cluster://h1,h2, embedded:// or memory://"
)
HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]+))(?::([0-9]{1,5}))?")
SERVICE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
MAX_SEEDS = 64


class Topology(StrEnum):
    """What stands behind an address."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """Where one server listens: a host and a port, or the path of a unix socket."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """
    Where a store is.

    Attributes:
        scheme: `valkey`, `embedded` or `memory`; `redis` means the same as `valkey`.
        topology: What stands there.
        nodes: The server; or the sentinels to ask, or some of the cluster's nodes.
        service: The name under which the sentinels know the primary; empty elsewhere.
        tls: Whether every connection is encrypted.
        database: Number of the database.
        username: ACL user, or empty.
        password: Its password, or empty; never shown.
    """

    scheme: str
    topology: Topology = Topology.SINGLE
    nodes: tuple[Node, ...] = ()
    service: str = ""
    tls: bool = False
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def node(self) -> Node:
        """The first node: the server, where there is one."""
        return self.nodes[0]

    def __str__(self) -> str:
        if self.scheme != "valkey":
            return f"{self.scheme}://"
        user = f"{self.username}{':***' if self.password else ''}@" if self.username or self.password else ""
        if self.node.path:
            return f"valkey+unix://{user}{self.node}" + (f"?db={self.database}" if self.database else "")
        secure = "s" if self.tls else ""
        hosts = ",".join(map(str, self.nodes))
        match self.topology:
            case Topology.SENTINEL:
                return f"valkey{secure}+sentinel://{user}{hosts}/{self.service}/{self.database}"
            case Topology.CLUSTER:
                return f"valkey{secure}+cluster://{user}{hosts}"
            case _:
                return f"valkey{secure}://{user}{hosts}/{self.database}"


def masked(text: str) -> str:
    """The address as written, without what stands before its last `@`."""
    return re.sub(r"//.*@", "//***@", text, flags=re.DOTALL)


def parse_store_url(text: str) -> StoreUrl:
    """
    Read an address.

    Raises:
        ConfigError: It cannot be read or asks for what there is not; the text says what there is.
    """
    scheme = text.partition("://")[0]
    many = MANY.fullmatch(scheme)
    if many is not None:
        return parse_many(text, Topology(many[2]), tls=bool(many[1]))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # What went wrong may quote a password that was taken for a port: say only what is certain.
        raise unreadable(scheme) from None
    scheme = parts.scheme
    if scheme in ("embedded", "memory"):
        if parts.netloc or parts.path.strip("/") or parts.query:
            raise ConfigError(f"store.url {masked(text)!r}: nothing may follow {scheme}://")
        return StoreUrl(scheme=scheme)
    if scheme not in SERVER_SCHEMES + SECURE_SCHEMES + SOCKET_SCHEMES:
        raise ConfigError(f"store.url {masked(text)!r}: unknown scheme {scheme!r}; use {SUPPORTED}")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme in SOCKET_SCHEMES:
        path = unquote(parts.path)
        if not path or path == "/" or parts.hostname:
            raise ConfigError(f"store.url {masked(text)!r}: write a socket as valkey+unix:///path/of/socket")
        return StoreUrl(
            scheme="valkey",
            nodes=(Node(path=path, port=0),),
            database=database_of(text, parts.query.removeprefix("db=") if parts.query else ""),
            username=username,
            password=password,
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"store.url {masked(text)!r}: options belong in `store:`, not behind ? or #")
    if not parts.hostname:
        raise ConfigError(f"store.url {masked(text)!r}: the host is missing")
    if port == 0:
        raise ConfigError(f"store.url {masked(text)!r}: port 0 is no address")
    return StoreUrl(
        scheme="valkey",
        nodes=(Node(unquote(parts.hostname), DEFAULT_PORT if port is None else port),),
        tls=scheme in SECURE_SCHEMES,
        database=database_of(text, parts.path.removeprefix("/")),
        username=username,
        password=password,
    )


def parse_many(text: str, topology: Topology, *, tls: bool) -> StoreUrl:
    """
    Read an address with several hosts.

    Raises:
        ConfigError: As for `parse_store_url`.
    """
    scheme, _, rest = text.partition("://")
    user_info, at, rest = rest.rpartition("@") if "@" in rest else ("", "", rest)
    username, _, password = user_info.partition(":") if at else ("", "", "")
    if "?" in rest or "#" in rest:
        raise ConfigError(f"store.url {masked(text)!r}: options belong in `store:`, not behind ? or #")
    hosts, *path = rest.split("/")
    default = SENTINEL_PORT if topology is Topology.SENTINEL else DEFAULT_PORT
    nodes = tuple(parse_node(scheme, host, default) for host in hosts.split(",") if host)
    if not nodes or len(nodes) > MAX_SEEDS:
        raise ConfigError(f"store.url {masked(text)!r}: name 1 to {MAX_SEEDS} hosts, as in {scheme}://h1,h2")
    service = ""
    if topology is Topology.SENTINEL:
        service = unquote(path.pop(0)) if path else ""
        if not SERVICE.fullmatch(service):
            raise ConfigError(
                f"store.url {masked(text)!r}: name the service that the sentinels watch, "
                f"as in {scheme}://h1,h2/mymaster/0"
            )
    if len(path) > 1:
        raise ConfigError(f"store.url {masked(text)!r}: nothing may follow the database")
    database = database_of(text, path[0] if path else "")
    if database and topology is Topology.CLUSTER:
        raise ConfigError(f"store.url {masked(text)!r}: a cluster has one database, 0")
    return StoreUrl(
        scheme="valkey",
        topology=topology,
        nodes=nodes,
        service=service,
        tls=tls,
        database=database,
        username=unquote(username),
        password=unquote(password),
    )


def parse_node(scheme: str, text: str, default_port: int) -> Node:
    """
    Read one host and its port.

    Raises:
        ConfigError: It is none; the text is not repeated, because it may be a part of a password.
    """
    found = HOST_AND_PORT.fullmatch(text)
    port = int(found[3]) if found is not None and found[3] else default_port
    if found is None or not 0 < port < 65536:
        raise unreadable(scheme)
    return Node(found[1] or found[2], port)


def unreadable(scheme: str) -> ConfigError:
    """Say that an address cannot be read, and nothing of what it holds."""
    return ConfigError(
        f"store.url starting with {scheme[:20]!r} cannot be read: host, port or brackets are malformed, "
        "or a character of the password is not percent-encoded"
    )


def database_of(text: str, number: str) -> int:
    """
    Read the number of a database; empty means 0.

    Raises:
        ConfigError: It is not a number that a server would take.
    """
    if not number:
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", number):
        raise ConfigError(f"store.url {masked(text)!r}: the database is a number such as /0, not {number!r}")
    return int(number)
