"""
Asks the domain name system: the one file that knows dnspython.

The system's own resolver (`getaddrinfo`) tells neither how long an answer may be kept nor what SRV records
say, and holds a thread while it waits. It is asked where DNS does not know a name, for those in
`/etc/hosts`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from silence_gateway.core.dns_refresh import ServiceRecord
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.upstreams.addresses import joined, parse_address

LIFETIME_S = 5.0
"""How long one question may take, all servers and repetitions included."""

FAMILIES = {"A": socket.AF_INET, "AAAA": socket.AF_INET6}


class Found(NamedTuple):
    """Addresses (text) or service records, and how long they may be kept, in seconds; None if nobody said."""

    records: tuple[str, ...] | tuple[ServiceRecord, ...]
    ttl_s: float | None


class Resolver(Protocol):
    """Answers questions about names."""

    async def addresses(self, name: str, kind: str) -> Found:
        """
        Return the records of *kind* (A or AAAA) of *name*; none if it has none.

        Raises:
            UpstreamUnavailable: There is no answer.
        """

    async def services(self, name: str) -> Found:
        """
        Return the SRV records of *name*; none if it has none.

        Raises:
            UpstreamUnavailable: There is no answer.
        """


def _each_once(errors: Sequence[Any]) -> str:
    """
    Return what went wrong with each server, without how long that took.

    A text that differed from look to look would be told as news each time.
    """
    import dns.exception

    told = (
        f"{_server_of(error)}: {'no answer' if isinstance(error[3], dns.exception.Timeout) else error[3]}"
        for error in errors
    )
    return "; ".join(dict.fromkeys(told))


def _server_of(error: Any) -> str:
    """Return which server failed as people write it: dnspython says `Do53:10.0.0.2@53`."""
    host, _, port = str(error[0]).partition(":")[2].rpartition("@")
    return joined(host, int(port))


class DnsResolver:
    """
    The resolver of `/etc/resolv.conf`, read anew for every question, or one *server* (`host:port`).

    Raises:
        ConfigError: *server* is no address.
    """

    def __init__(self, server: str = "") -> None:
        self._server = parse_address(server) if server else None

    async def addresses(self, name: str, kind: str) -> Found:
        """Return the records of *kind* (A or AAAA) of *name*."""
        try:
            found, ttl_s = await self._ask(name, kind)
        except UpstreamUnavailable:
            known = await self._known_here(name, kind)
            if not known:
                raise
            return Found(known, None)
        if not found:
            return Found(await self._known_here(name, kind), ttl_s)
        return Found(tuple(record.address for record in found), ttl_s)

    async def services(self, name: str) -> Found:
        """Return the SRV records of *name*."""
        found, ttl_s = await self._ask(name, "SRV")
        # A single target of "." says that the service is decidedly not there (RFC 2782).
        return Found(
            tuple(
                ServiceRecord(
                    record.target.to_text(omit_final_dot=True), record.port, record.priority, record.weight
                )
                for record in found
                if record.target.to_text() != "." and record.port
            ),
            ttl_s,
        )

    async def _ask(self, name: str, kind: str) -> tuple[list[Any], float | None]:
        import dns.asyncresolver
        import dns.exception
        import dns.resolver

        try:
            resolver = dns.asyncresolver.Resolver(configure=self._server is None)
            if self._server is not None:
                resolver.nameservers = [self._server.host]
                resolver.port = self._server.port
            answer = await resolver.resolve(
                name, kind, lifetime=LIFETIME_S, search=self._server is None, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return [], None
        except dns.exception.Timeout as error:
            said = f"no answer within {LIFETIME_S:g} s"
            raise UpstreamUnavailable(f"{kind} of {name}: {said}", sent=False) from error
        except dns.resolver.NoNameservers as error:
            said = _each_once(error.kwargs["errors"])
            raise UpstreamUnavailable(f"{kind} of {name}: {said[:200]}", sent=False) from error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise UpstreamUnavailable(f"{kind} of {name}: {said[:200]}", sent=False) from error
        if answer.rrset is None:
            return [], None
        # A name that moves is often a short-lived alias of one whose addresses last: the least TTL counts.
        return list(answer), float(answer.chaining_result.minimum_ttl)

    async def _known_here(self, name: str, kind: str) -> tuple[str, ...]:
        if self._server is not None:
            return ()
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                name, None, family=FAMILIES[kind], type=socket.SOCK_STREAM
            )
        except OSError:
            return ()  # what DNS said stands
        return tuple(dict.fromkeys(str(one[4][0]) for one in found))
