"""
Store addresses as the operator writes them.

`parse_store_url` is the only reader. A password never leaves an address by accident: `str` and `repr`
show it as `***`, and so do the errors raised here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from silence_gateway.errors import ConfigError

DEFAULT_PORT = 6379
SERVER_SCHEMES = ("valkey", "redis")
SOCKET_SCHEMES = ("valkey+unix", "redis+unix", "unix")
LATER_SCHEMES = {
    "valkeys": "TLS",
    "rediss": "TLS",
    "valkey+sentinel": "Sentinel",
    "redis+sentinel": "Sentinel",
    "valkey+cluster": "Cluster",
    "redis+cluster": "Cluster",
}
SUPPORTED = "valkey://host:port/db, redis://host:port/db, valkey+unix:///path, embedded:// and memory://"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """
    Where a store is.

    Attributes:
        scheme: `valkey`, `embedded` or `memory`; `redis` means the same as `valkey`.
        host: Name or address; empty for a socket.
        port: TCP port.
        path: Path of a unix socket, or empty.
        database: Number of the database.
        username: ACL user, or empty.
        password: Its password, or empty; never shown.
    """

    scheme: str
    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    database: int = 0
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.scheme != "valkey":
            return f"{self.scheme}://"
        user = f"{self.username}{':***' if self.password else ''}@" if self.username or self.password else ""
        if self.path:
            return f"valkey+unix://{user}{self.path}" + (f"?db={self.database}" if self.database else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"valkey://{user}{host}:{self.port}/{self.database}"


def masked(text: str) -> str:
    """The address as written, without what stands before its last `@`."""
    return re.sub(r"//.*@", "//***@", text, flags=re.DOTALL)


def parse_store_url(text: str) -> StoreUrl:
    """
    Read an address.

    Raises:
        ConfigError: It cannot be read or asks for what is not supported; the text says what is.
    """
    scheme = text.partition("://")[0]
    if scheme in LATER_SCHEMES:
        raise ConfigError(
            f"store.url {masked(text)!r}: {LATER_SCHEMES[scheme]} is not supported by this version; "
            f"use {SUPPORTED}"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # What went wrong may quote a password that was taken for a port: say only what is certain.
        raise ConfigError(
            f"store.url starting with {scheme[:20]!r} cannot be read: host, port or brackets are malformed, "
            "or a character of the password is not percent-encoded"
        ) from None
    scheme = parts.scheme
    if scheme in ("embedded", "memory"):
        if parts.netloc or parts.path.strip("/") or parts.query:
            raise ConfigError(f"store.url {masked(text)!r}: nothing may follow {scheme}://")
        return StoreUrl(scheme=scheme)
    if scheme not in SERVER_SCHEMES + SOCKET_SCHEMES:
        raise ConfigError(f"store.url {masked(text)!r}: unknown scheme {scheme!r}; use {SUPPORTED}")
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    if scheme in SOCKET_SCHEMES:
        path = unquote(parts.path)
        if not path or path == "/" or parts.hostname:
            raise ConfigError(f"store.url {masked(text)!r}: write a socket as valkey+unix:///path/of/socket")
        return StoreUrl(
            scheme="valkey",
            path=path,
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
        host=unquote(parts.hostname),
        port=DEFAULT_PORT if port is None else port,
        database=database_of(text, parts.path.removeprefix("/")),
        username=username,
        password=password,
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
