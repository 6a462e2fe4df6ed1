"""
Who is behind trusted proxies: the client's address from the socket's peer and the forwarding headers.

`X-Forwarded-For` and `Forwarded` are read from right to left and only as far as trusted proxies wrote
them: the first address that is no trusted proxy is the client. Anything unreadable ends the walk at the
last address that can be believed. Where a request has both headers and they disagree, one of them may
be the caller's own invention, so neither is believed and the proxy counts as the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from silence_gateway.core.cidr import CidrSet, parse_address, parse_cidr

MAX_HOPS = 32
"""Addresses read from one header; a longer chain is not one that proxies made."""

MAX_CLIENTS = 10_000
"""Pairs of peer and header whose client is remembered; walking one chain takes 3 us and more."""

MAX_REMEMBERED_BYTES = 512
"""Longer headers are walked every time, so that nobody fills the memory with them."""

# One element of Forwarded (RFC 7239): its `for` parameter, quoted or not, whatever stands around it.
FOR_PARAMETER = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"\\]*"|[^\s;,"]+)\s*(?=;|$)', re.IGNORECASE)


class ProxyWalker:
    """Finds the client behind trusted proxies."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self.trusted = CidrSet(map(parse_cidr, trusted_proxies))
        self.trusts_anybody = len(self.trusted) > 0
        self.clients: dict[tuple[str, bytes | None, bytes | None], str] = {}

    def client_of(self, peer: str, forwarded_for: bytes | None, forwarded: bytes | None) -> str:
        """Return the address of the client: the peer's own, unless a trusted proxy names another."""
        if not self.trusts_anybody:
            forwarded_for = forwarded = None
        place = (peer, forwarded_for, forwarded)
        client = self.clients.get(place)
        if client is None:
            client = self.find(peer, forwarded_for, forwarded)
            if len(forwarded_for or b"") + len(forwarded or b"") <= MAX_REMEMBERED_BYTES:
                if len(self.clients) >= MAX_CLIENTS:
                    self.clients.clear()
                self.clients[place] = client
        return client

    def find(self, peer: str, forwarded_for: bytes | None, forwarded: bytes | None) -> str:
        """Do the work of `client_of`."""
        address = parse_address(peer)
        normal = str(address) if address is not None else peer
        if (forwarded_for is None and forwarded is None) or not self.believes(peer):
            return normal
        found = []
        if forwarded_for is not None:
            found.append(self.walk(normal, last_hops(forwarded_for)))
        if forwarded is not None:
            found.append(self.walk(normal, [for_of(hop) for hop in last_hops(forwarded)]))
        return found[0] if len(set(found)) == 1 else normal

    def believes(self, peer: str) -> bool:
        """Whether what *peer* says about its own client is believed."""
        if not peer:
            return True
        address = parse_address(peer)
        return address is not None and address in self.trusted

    def walk(self, peer: str, hops: Sequence[str]) -> str:
        """Go from the nearest hop to the farthest; return the first that is no trusted proxy."""
        believed = peer
        for hop in reversed(hops):
            address = parse_address(without_port(hop))
            if address is None:
                return believed
            believed = str(address)
            if address not in self.trusted:
                return believed
        return believed


def last_hops(value: bytes) -> list[str]:
    """Split a forwarding header at its commas; only the nearest hops are looked at."""
    return [hop.strip(" \t") for hop in value.decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]]


def for_of(element: str) -> str:
    """Return what an element of `Forwarded` says after `for=`, unquoted; empty if that is unclear."""
    found = FOR_PARAMETER.findall(element)
    return found[0].strip('"') if len(found) == 1 else ""


def without_port(text: str) -> str:
    """Return the address in `address`, `address:port`, `[address]` or `[address]:port`."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return address if not port or (port[0] == ":" and port[1:].isdigit()) else ""
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address if port.isdigit() else ""
    return text
