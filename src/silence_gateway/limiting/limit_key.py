"""
Whom a limit counts: the parts of its key, read from a request.

A key of one part is its plain value. A key of several parts is joined by `,`, each part percent-encoded,
so that no value can pretend to be two; the admin API writes keys the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from typing import TypeAlias
from urllib.parse import quote

from silence_gateway.core.http import Request

KeyOf: TypeAlias = Callable[[Request], str]

MAX_NETWORKS = 10_000
"""IPv6 addresses whose network is remembered; finding it takes 4 us, remembering it 150 bytes."""

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}", re.ASCII)
SECRET_WORDS = ("auth", "cookie", "key", "password", "secret", "session", "token")
CONST = "const"

networks: dict[str, str] = {}


def network_of(client_ip: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that an IPv6 address is in."""
    if ":" not in client_ip:
        return client_ip
    network = networks.get(client_ip)
    if network is None:
        if len(networks) >= MAX_NETWORKS:
            networks.clear()
        network = networks[client_ip] = find_network(client_ip)
    return network


def find_network(client_ip: str) -> str:
    """Do the work of `network_of` for an address with a colon in it; what is none stays as it is."""
    try:
        address = IPv6Address(client_ip.partition("%")[0])
    except ValueError:
        return client_ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


def by_client_ip(request: Request) -> str:
    """Count by address."""
    client_ip = request.client_ip
    return network_of(client_ip) if ":" in client_ip else client_ip


def by_user(request: Request) -> str:
    """
    Count by verified user, and callers without one by address.

    An address is written behind `~`, and a user name that begins with `~` gets another one, so that
    nobody can take a name that counts as somebody's address.
    """
    user = request.user
    if not user:
        return "~" + network_of(request.client_ip)
    return "~" + user if user[0] == "~" else user


def by_method(request: Request) -> str:
    """Count by HTTP method."""
    return request.method


def by_route(request: Request) -> str:
    """Count by what serves the request."""
    return request.route


def by_path(request: Request) -> str:
    """Count by path; every value of a path parameter counts apart."""
    return request.path


def by_nothing(_request: Request) -> str:
    """Count everything together."""
    return CONST


WORDS: dict[str, KeyOf] = {
    "client_ip": by_client_ip,
    "user": by_user,
    "method": by_method,
    "route": by_route,
    "path": by_path,
    CONST: by_nothing,
}


def by_header(name: str) -> KeyOf:
    """Count by the value of a header; requests without it count together."""
    lowered = name.lower().encode()

    def value_of(request: Request) -> str:
        return request.headers.get(lowered, b"").decode("latin-1")

    return value_of


def compile_part(part: str) -> KeyOf:
    """
    Return what reads one part of a key.

    Raises:
        ValueError: It is none; the text says what there is.
    """
    known = WORDS.get(part)
    if known is not None:
        return known
    head, _, name = part.partition(":")
    if head == "header" and HEADER_NAME.fullmatch(name):
        return by_header(name)
    raise ValueError(f"{part[:80]!r} is no part of a key; use {', '.join(WORDS)} or header:NAME")


def compile_key(parts: Sequence[str]) -> KeyOf:
    """
    Return what reads a whole key.

    Raises:
        ValueError: A part is none, or there are no parts.
    """
    if not parts:
        raise ValueError("a key has at least one part; use const to count everything together")
    readers = [compile_part(part) for part in parts]
    if len(readers) == 1:
        return readers[0]

    def joined(request: Request) -> str:
        return join_key([read(request) for read in readers])

    return joined


def join_key(values: Sequence[str]) -> str:
    """Write the values of a key of several parts as one text."""
    return ",".join([value if value.isalnum() and value.isascii() else encode(value) for value in values])


def encode(value: str) -> str:
    """Percent-encode one value of a key."""
    return quote(value, safe="", errors="surrogatepass")


def shows_secrets(parts: Sequence[str]) -> bool:
    """Whether a key of these parts may hold what no statistics page should show."""
    return any(
        part.startswith("header:") and any(word in part.lower() for word in SECRET_WORDS) for part in parts
    )
