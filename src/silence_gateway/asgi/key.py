"""
Whom a limit in an app counts: words and functions, read from an ASGI scope.

Parts are joined as the gateway joins them (`limiting/limit_key.py`), so no value can pretend to be two, and
nobody can be named so as to count as somebody without a name. Values of headers whose name sounds like a
secret are hashed, long values too. No header is believed unless somebody says so: `client_ip` is the
socket's peer until `trusted_proxies` are configured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from inspect import isawaitable
from typing import TypeAlias
from uuid import UUID

from silence_gateway.asgi.protocol import CONNECTION, Scope
from silence_gateway.core.client_address import ProxyWalker
from silence_gateway.limiting.limit_key import (
    CONST,
    HEADER_NAME,
    IPV6_PREFIX,
    NONE,
    escaped,
    header_text,
    join_key,
    networks,
    shows_secrets,
)

Value: TypeAlias = "str | int | UUID | None"
KeyFunction: TypeAlias = "Callable[[Scope], Value | Awaitable[Value]]"
KeyPart: TypeAlias = "str | KeyFunction"
Key: TypeAlias = "KeyPart | Sequence[KeyPart]"

ClientOf: TypeAlias = Callable[[Scope], str]
"""Returns the address of the client; empty where there is none, as behind a unix socket."""

Reader: TypeAlias = Callable[[Scope, ClientOf], str]

CLIENT_IP = "client_ip"
MAX_VALUE_CHARS = 256
OWN = "connection"
"""Counts every WebSocket by itself; a word for messages alone."""

WORDS = (CLIENT_IP, "user", "method", "path", CONST, "header:NAME")
IDENTITIES = ("identity", "id", "username")
"""Attributes that name a user, the first one that is there; not a display name, which may be anybody's."""


def client_reader(walker: ProxyWalker) -> ClientOf:
    """Return what finds the client of a scope behind the proxies that *walker* trusts."""

    def client_of(scope: Scope) -> str:
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not walker.trusts_anybody:
            return walker.client_of(peer, None, None)
        headers = scope["headers"]
        return walker.client_of(peer, joined(headers, b"x-forwarded-for"), joined(headers, b"forwarded"))

    return client_of


def joined(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the values of a header as one (RFC 9110, section 5.3); None where there are none."""
    found = [value for each, value in headers if each == name]
    return b", ".join(found) if found else None


def hashed(text: str) -> str:
    """Return what stands for a value that is long or secret; no other value looks like it."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{NONE}#{digest}"


def bounded(text: str) -> str:
    """Return a value as it is counted."""
    return escaped(text) if len(text) <= MAX_VALUE_CHARS else hashed(text)


def text_of(value: object) -> str:
    """
    Return what a function said, as it is counted; None counts as nobody.

    Raises:
        TypeError: It is no value that names somebody.
    """
    if value is None:
        return NONE
    if isinstance(value, str):
        return bounded(value)
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"a key function returns a str, an int, a UUID or None, not {type(value).__name__}")


def user_of(scope: Scope) -> str:
    """
    Return who is logged in, as the authentication middleware has left it in the scope; empty for nobody.

    Raises:
        TypeError: There is somebody, and nothing that names them.
    """
    user = scope.get("user")
    if user is None or getattr(user, "is_authenticated", True) is False:
        return ""
    for name in ("", *IDENTITIES):
        value = identity(user, name) if name else user
        if isinstance(value, str | int | UUID) and not isinstance(value, bool):
            return str(value)
    raise TypeError(
        f"scope['user'] is a {type(user).__name__} without {', '.join(IDENTITIES)}; "
        "use a function as key that returns what names the user"
    )


def identity(user: object, name: str) -> object:
    """Return an attribute of a user; None where Starlette's base class promises it and nobody made it."""
    try:
        return getattr(user, name, None)
    except NotImplementedError:
        return None


def reader_of(part: str, ipv6_prefix: int) -> Reader:
    """
    Return what reads one word of a key.

    Raises:
        ValueError: It is none; the text says what there is.
    """
    network_of = networks(ipv6_prefix)
    if part == CLIENT_IP:
        return lambda scope, client_of: network_of(client_of(scope))
    if part == "user":

        def by_user(scope: Scope, client_of: ClientOf) -> str:
            user = user_of(scope)
            return bounded(user) if user else NONE + network_of(client_of(scope))

        return by_user
    if part == "method":
        return lambda scope, _: bounded(scope.get("method", ""))
    if part == "path":
        return lambda scope, _: bounded(scope["path"])
    if part == CONST:
        return lambda _scope, _: CONST
    if part == OWN:
        return lambda scope, _: str(scope[CONNECTION])
    head, _, name = part.partition(":")
    if head == "header" and HEADER_NAME.fullmatch(name):
        return header_reader(name, secret=shows_secrets([part]))
    raise ValueError(f"{part[:80]!r} is no part of a key; use a function, or one of {', '.join(WORDS)}")


def header_reader(name: str, *, secret: bool) -> Reader:
    """Return what reads a header; requests without it count together."""
    lowered = name.lower().encode()

    def by_header(scope: Scope, _client_of: ClientOf) -> str:
        value = joined(scope["headers"], lowered)
        if value is None:
            return NONE
        text = header_text(value)
        return hashed(text) if secret else bounded(text)

    return by_header


class KeyReader:
    """
    Reads a whole key.

    Args:
        key: A word, a function, or several of them.
        ipv6_prefix: How much of an IPv6 address is one client, 32 to 128.

    Attributes:
        quick: Reads it without waiting; None where a function is asked, which may have to be awaited.
        label: What it counts by, as part of the name of a limit that has none; empty for `client_ip`.
        own: Whether every WebSocket counts by itself.

    Raises:
        ValueError: A part is none, or there are no parts.
    """

    __slots__ = ("label", "own", "parts", "quick")

    def __init__(self, key: Key, ipv6_prefix: int = IPV6_PREFIX) -> None:
        given = [key] if isinstance(key, str) or callable(key) else list(key)
        if not given:
            raise ValueError(f"a key has at least one part; use {CONST!r} to count everything together")
        self.parts: list[tuple[Reader | None, KeyFunction | None]] = [
            (reader_of(part, ipv6_prefix), None) if isinstance(part, str) else (None, part) for part in given
        ]
        self.label = "" if given == [CLIENT_IP] else "-".join(label_of(part) for part in given)
        self.own = OWN in given
        readers = [reader for reader, _ in self.parts if reader is not None]
        self.quick: Reader | None = None
        if len(readers) == 1 == len(given):
            self.quick = readers[0]
        elif len(readers) == len(given):
            self.quick = lambda scope, client_of: join_key([read(scope, client_of) for read in readers])

    async def read(self, scope: Scope, client_of: ClientOf) -> str:
        """
        Return the key.

        Args:
            scope: Where it is read, and what functions are given.
            client_of: Finds the client's address.

        Raises:
            TypeError: A function returned what names nobody.
        """
        if self.quick is not None:
            return self.quick(scope, client_of)
        values = []
        for reader, function in self.parts:
            if function is None:
                assert reader is not None
                values.append(reader(scope, client_of))
            else:
                value = function(scope)
                values.append(text_of(await value if isawaitable(value) else value))
        return values[0] if len(values) == 1 else join_key(values)


def label_of(part: object) -> str:
    """Return what to call a part of a key."""
    return part if isinstance(part, str) else str(getattr(part, "__name__", type(part).__name__))
