"""
Whom a limit counts: the parts of its key, read from a request.

A key of one part is its plain value. A key of several parts is joined by `,`, each part percent-encoded,
so that no value can pretend to be two; the admin API writes keys the same way. What stands for "none" in
a part begins with `~`, and a value that begins with `~` gets another one, so that nobody can be named so
as to count as somebody without a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote

from silence_gateway.core.cidr import Address, parse_address
from silence_gateway.core.http import Request
from silence_gateway.core.routing import split_path
from silence_gateway.errors import BadRequest

KeyOf: TypeAlias = Callable[[Request], str]
NetworkOf: TypeAlias = Callable[[str], str]

IPV6_PREFIX = 64
"""How much of an IPv6 address is one client: what a provider gives one customer at the least."""

MIN_IPV6_PREFIX, MAX_IPV6_PREFIX = 32, 128

MAX_NETWORKS = 10_000
"""IPv6 addresses whose network is remembered; finding it takes 2 us, remembering it 150 bytes."""

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}", re.ASCII)
MAX_CLAIM_CHARS = 200
SECRET_WORDS = ("auth", "cookie", "key", "password", "secret", "session", "token")
CONST = "const"
NONE = "~"


@lru_cache
def networks(ipv6_prefix: int) -> NetworkOf:
    """
    Return what tells of a `client_ip` what counts as one client; the same for every limit that asks.

    That is an IPv4 address, or the network of *ipv6_prefix* bits that an IPv6 address is in.

    Raises:
        ValueError: *ipv6_prefix* is out of range.
    """
    if not MIN_IPV6_PREFIX <= ipv6_prefix <= MAX_IPV6_PREFIX:
        raise ValueError(f"ipv6_prefix is {MIN_IPV6_PREFIX} to {MAX_IPV6_PREFIX}, not {ipv6_prefix}")
    known: dict[str, str] = {}

    def network_of(client_ip: str) -> str:
        if ":" not in client_ip:
            return client_ip
        network = known.get(client_ip)
        if network is None:
            if len(known) >= MAX_NETWORKS:
                known.clear()
            network = known[client_ip] = find_network(client_ip, ipv6_prefix)
        return network

    return network_of


def find_network(client_ip: str, ipv6_prefix: int) -> str:
    """Return the network of an address with a colon in it; what is no address stays as it is."""
    address = parse_address(client_ip)
    if address is None:
        return client_ip
    shift = 128 - ipv6_prefix
    if address.bits == 32 or not shift:
        return str(address)
    return f"{Address(128, address.number >> shift << shift)}/{ipv6_prefix}"


def by_client_ip(network_of: NetworkOf) -> KeyOf:
    """Count by address."""

    def value_of(request: Request) -> str:
        client_ip = request.client_ip
        return network_of(client_ip) if ":" in client_ip else client_ip

    return value_of


def by_user(network_of: NetworkOf) -> KeyOf:
    """Count by verified user, and callers without one by address."""

    def value_of(request: Request) -> str:
        user = request.user
        return escaped(user) if user else NONE + network_of(request.client_ip)

    return value_of


def by_api_key(network_of: NetworkOf) -> KeyOf:
    """Count by the id of the verified API key, and callers without one by address."""

    def value_of(request: Request) -> str:
        api_key = request.api_key
        return escaped(api_key) if api_key else NONE + network_of(request.client_ip)

    return value_of


def escaped(value: str) -> str:
    """Return a value that no caller without one can have."""
    return NONE + value if value[:1] == NONE else value


def by_method(request: Request) -> str:
    """Count by HTTP method."""
    return request.method


def by_route(request: Request) -> str:
    """Count by what serves the request."""
    return request.route


def by_path(request: Request) -> str:
    """
    Count by path; every value of a path parameter counts apart.

    A path is the same however it is percent-encoded, or one client would have a counter per spelling.
    """
    path = request.path
    if "%" not in path:
        return path
    try:
        segments = split_path(path)[1]
    except BadRequest:
        # Nothing is served there; it counts as it came.
        return path
    # Only what would make two paths one is encoded again.
    return "".join(["/" + segment.replace("%", "%25").replace("/", "%2F") for segment in segments])


def by_nothing(_request: Request) -> str:
    """Count everything together."""
    return CONST


PLAIN: dict[str, KeyOf] = {
    "method": by_method,
    "route": by_route,
    "path": by_path,
    CONST: by_nothing,
}
BY_ADDRESS: dict[str, Callable[[NetworkOf], KeyOf]] = {
    "client_ip": by_client_ip,
    "user": by_user,
    "api_key": by_api_key,
}
WORDS = (*BY_ADDRESS, *PLAIN)


def by_header(name: str) -> KeyOf:
    """Count by the value of a header; requests without it count together, and apart from empty ones."""
    lowered = name.lower().encode()

    def value_of(request: Request) -> str:
        value = request.headers.get(lowered)
        return NONE if value is None else escaped(header_text(value))

    return value_of


def header_text(value: bytes) -> str:
    """Return a header's value as people write it; no two values are the same text, whatever their bytes."""
    return value.decode("utf-8", "surrogateescape")


def by_claim(name: str) -> KeyOf:
    """
    Count by a claim of the verified token: a text, a number, or a yes or no, as text.

    Whatever else it is, and where it is not, requests count together.
    """

    def value_of(request: Request) -> str:
        value = request.claims.get(name)
        if isinstance(value, str):
            return escaped(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, int | float) else NONE

    return value_of


def compile_part(part: str, network_of: NetworkOf) -> KeyOf:
    """
    Return what reads one part of a key.

    Raises:
        ValueError: It is none; the text says what there is.
    """
    if part in PLAIN:
        return PLAIN[part]
    if part in BY_ADDRESS:
        return BY_ADDRESS[part](network_of)
    head, _, name = part.partition(":")
    if head == "header" and HEADER_NAME.fullmatch(name):
        return by_header(name)
    if head == "claim" and 0 < len(name) <= MAX_CLAIM_CHARS:
        return by_claim(name)
    raise ValueError(f"{part[:80]!r} is no part of a key; use {', '.join(WORDS)}, header:NAME or claim:NAME")


def compile_key(parts: Sequence[str], ipv6_prefix: int = IPV6_PREFIX) -> KeyOf:
    """
    Return what reads a whole key; *ipv6_prefix* says how much of an IPv6 address is one client.

    Raises:
        ValueError: A part is none, there are no parts, or the prefix is out of range.
    """
    if not parts:
        raise ValueError("a key has at least one part; use const to count everything together")
    network_of = networks(ipv6_prefix)
    readers = [compile_part(part, network_of) for part in parts]
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


def as_counted(part: str, value: str, ipv6_prefix: int) -> str:
    """
    Return what a person wrote for one part of a key as requests are counted: addresses in one spelling.

    Raises:
        ValueError: The part counts by address, and this is none, or more or less than counts as one client.
    """
    if part == "client_ip":
        return counted_address(value, ipv6_prefix)
    if part in BY_ADDRESS and value[:1] == NONE and value[1:2] not in (NONE, ""):
        return NONE + counted_address(value[1:], ipv6_prefix)
    return value


def counted_address(value: str, ipv6_prefix: int) -> str:
    """Return the address or network that counts as one client; see `as_counted`."""
    text, slash, bits = value.partition("/")
    if not text:
        return value  # the other end of a unix socket
    if parse_address(text) is None:
        raise ValueError(f"it counts by address, and {value[:60]!r} is none")
    counted = find_network(text, ipv6_prefix)
    if slash and bits != (counted.partition("/")[2] or ("128" if ":" in counted else "32")):
        raise ValueError(f"it counts {counted} as one client, neither more nor less; not {value[:60]!r}")
    return counted


def shows_secrets(parts: Sequence[str]) -> bool:
    """Whether a key of these parts may hold what no statistics page should show."""
    return any(
        part.startswith(("header:", "claim:")) and any(word in part.lower() for word in SECRET_WORDS)
        for part in parts
    )
