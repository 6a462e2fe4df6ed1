"""Where a connection goes: reading `host:port`, `[::1]:port` and `unix:PATH`. No name is looked up here."""

from __future__ import annotations

from dataclasses import dataclass

from silence_gateway.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """
    A place to connect to.

    Attributes:
        host: Name or number, without brackets; empty for a unix socket.
        port: 1 to 65535; 0 for a unix socket.
        path: Of a unix socket; empty for TCP.
        authority: What goes into `:authority`.
    """

    host: str
    port: int
    path: str
    authority: str

    @property
    def shown(self) -> str:
        """How people write it; *authority* would not tell one unix socket from another."""
        return f"unix:{self.path}" if self.path else self.authority


def parse_address(text: str) -> Address:
    """
    Read an address.

    Raises:
        ConfigError: If it is of none of the three forms.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ConfigError(f"address {text!r} names no socket; write unix:/path/to/socket")
        return Address("", 0, path, "localhost")
    scheme, slashes, _ = text.partition("://")
    if slashes:
        said = f"address {text!r}: leave {scheme}:// out, and write host:port, [ip6]:port or unix:PATH"
        raise ConfigError(said)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"address {text!r}: write an IPv6 address as [::1]:port")
    good_port = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535
    odd = not text.isascii() or any(char <= " " or char in "/@" for char in text)
    if not colon or not host or not good_port or odd:
        raise ConfigError(f"address {text!r} is not host:port, [ip6]:port or unix:PATH")
    return Address(host, int(port), "", text)


def joined(host: str, port: int) -> str:
    """Return a host, a number without brackets where it is one, and a port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
