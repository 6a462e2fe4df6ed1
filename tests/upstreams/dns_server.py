"""A DNS server on loopback, for tests: it answers from a table, stays silent or fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """
    Answers questions.

    Attributes:
        records: Texts of records by name and type; a name that is in no entry does not exist.
        aliases: By name: whose records it has, and the TTL of the alias.
        ttl_s: What every other record says.
        failing: Types that are answered with SERVFAIL.
        questions: What it was asked, as name and type.
        address: Where it is.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.aliases: dict[str, tuple[str, int]] = {}
        self.ttl_s = 30
        self.failing: set[str] = set()
        self.questions: list[tuple[str, str]] = []
        self.asked = asyncio.Event()
        self.address = ""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind))
        self.asked.set()
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        owner = question.name
        if name in self.aliases:
            name, ttl_s = self.aliases[name]
            answer.answer.append(dns.rrset.from_text(owner, ttl_s, "IN", "CNAME", f"{name}."))
            owner = dns.name.from_text(name)
        if kind in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif found := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(owner, self.ttl_s, "IN", kind, *found))
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def dns_server() -> AsyncIterator[DnsServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
