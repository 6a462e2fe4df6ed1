"""
Endpoints by name: A and AAAA records with a port of ours, or SRV records, looked up again and again.

One look at a time, spread over time; sooner when an endpoint is lost, but never more than once a second.
An answer that is empty or does not come changes nothing: a resolver that is away, or that loses its records
for a moment, must not take a service away that is there. Part of an answer (one family, one target of SRV)
may fail on its own and stays as it was on its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from silence_gateway.clock import Clock
from silence_gateway.core.balancing import MAX_WEIGHT
from silence_gateway.core.dns_refresh import SOONEST_S, ServiceRecord, next_look_s, ranks, shares
from silence_gateway.errors import ConfigError, UpstreamUnavailable
from silence_gateway.events import Noticed, Observer
from silence_gateway.upstreams.addresses import joined, parse_address
from silence_gateway.upstreams.discovery import Use
from silence_gateway.upstreams.dns_resolver import Resolver
from silence_gateway.upstreams.settings import EndpointSettings

QUESTIONS_AT_ONCE = 8
"""Targets of one service that are asked for at a time: each that is not answered takes ten seconds."""

FAMILY_KINDS = {"ipv4": ("A",), "ipv6": ("AAAA",), "both": ("A", "AAAA"), "auto": ("A", "AAAA")}


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """
    A name that stands for endpoints.

    Attributes:
        name: `host:port` for addresses, `_service._proto.domain` for SRV records.
        refresh_s: Longest time between two looks; a shorter TTL makes it sooner.
        family: `ipv4`, `ipv6`, `both`, or `auto`: IPv4, and IPv6 where there is none.

    Raises:
        ConfigError: If one of them makes no sense.
    """

    name: str
    refresh_s: float = 10.0
    family: str = "auto"

    def __post_init__(self) -> None:
        if not self.is_service:
            parse_address(self.name)
        elif ":" in self.name or self.name.count(".") < 2:
            raise ConfigError(f"dns {self.name!r}: write a service as _name._tcp.domain, without a port")
        if not SOONEST_S <= self.refresh_s <= 86_400:
            raise ConfigError(f"dns {self.name}: refresh_s must be 1 to 86400, got {self.refresh_s}")
        if self.family not in FAMILY_KINDS:
            raise ConfigError(f"dns {self.name}: family must be one of {', '.join(FAMILY_KINDS)}")

    @property
    def is_service(self) -> bool:
        """Whether SRV records are asked for."""
        return self.name.startswith("_")

    @property
    def host(self) -> str:
        """The name that certificates are made out to: without port, and without the parts of a service."""
        return self.name.split(".", 2)[2] if self.is_service else parse_address(self.name).host


class DnsSource:
    """
    A `Source` that asks DNS.

    Attributes:
        looks: Look-ups so far.
        failures: Look-ups in a row that changed nothing, for want of an answer.
    """

    def __init__(
        self,
        settings: DnsSettings,
        resolver: Resolver,
        *,
        upstream: str,
        clock: Clock,
        rng: Random,
        observer: Observer,
    ) -> None:
        self.looks = self.failures = 0
        self._settings = settings
        self._resolver = resolver
        self._upstream = upstream
        self._clock = clock
        self._draw = rng.random
        self._observer = observer
        self._known: dict[str, dict[str, tuple[str, ...]]] = {}
        self._services: tuple[ServiceRecord, ...] = ()
        self._ttl_s: float | None = None
        self._problem = ""
        self._latest = ""
        self._soon = asyncio.Event()

    @property
    def problem(self) -> str:
        """What was wrong with the latest look; empty if nothing was."""
        return self._latest

    async def follow(self, use: Use) -> None:
        """Look the name up, call *use* with what there is, and again, until cancelled; see `Source`."""
        while True:
            self._soon.clear()
            found = await self.look()
            if found or self.looks == 1:
                use(found)
            wait_s = next_look_s(self._settings.refresh_s, self._ttl_s, self.failures, self._draw())
            soonest_s = min(wait_s, SOONEST_S)
            await self._clock.sleep(soonest_s)
            timer = self._clock.call_later(wait_s - soonest_s, self._soon.set)
            try:
                await self._soon.wait()
            finally:
                timer.cancel()

    def hurry(self) -> None:
        """Look again within a second or so."""
        self._soon.set()

    async def look(self) -> Sequence[EndpointSettings]:
        """Return the endpoints as they are known after one look; none if nothing was ever known."""
        self.looks += 1
        self._ttl_s, self._problem = None, ""
        if self._settings.is_service:
            found = await self._of_service()
        else:
            where = parse_address(self._settings.name)
            found = [
                EndpointSettings(address=joined(address, where.port))
                for address in await self._of_host(where.host)
            ]
        self.failures = self.failures + 1 if self._problem else 0
        if bool(self._problem) is not bool(self._latest):
            # Once: where some questions get lost and others not, each look would have a problem of its own.
            self._tell(self._problem)
        self._latest = self._problem
        # Of several records that mean one address, the first of the most wanted priority counts.
        each: dict[str, EndpointSettings] = {}
        for endpoint in sorted(found, key=lambda one: one.priority):
            each.setdefault(endpoint.address, endpoint)
        return list(each.values())

    async def _of_service(self) -> list[EndpointSettings]:
        name = self._settings.name
        try:
            answer = await self._resolver.services(name)
        except UpstreamUnavailable as error:
            self._problem = str(error)
        else:
            records = tuple(one for one in answer.records if isinstance(one, ServiceRecord))
            self._heed(answer.ttl_s)
            if records:
                self._services = records
            else:
                self._problem = f"{name} has no SRV records"
        rank = ranks(self._services)
        hosts = dict.fromkeys(one.host for one in self._services)
        # Pods have names of their own, so there would be ever more of them.
        self._known = {host: known for host, known in self._known.items() if host in hosts}
        addresses = await self._of_hosts(hosts)
        found = []
        for record, weight in zip(self._services, shares(self._services, MAX_WEIGHT), strict=True):
            for address in addresses[record.host]:
                where = joined(address, record.port)
                found.append(EndpointSettings(address=where, weight=weight, priority=rank[record.priority]))
        return found

    async def _of_hosts(self, hosts: Iterable[str]) -> dict[str, list[str]]:
        """Return the addresses of *hosts*; a target that is not answered for holds up few of the others."""
        turns = asyncio.Semaphore(QUESTIONS_AT_ONCE)

        async def ask(host: str) -> tuple[str, list[str]]:
            async with turns:
                return host, await self._of_host(host)

        return dict(await asyncio.gather(*map(ask, hosts)))

    async def _of_host(self, host: str) -> list[str]:
        before = self._known.get(host, {})
        now: dict[str, tuple[str, ...]] = {}
        for kind in FAMILY_KINDS[self._settings.family]:
            if self._settings.family == "auto" and any(now.values()):
                break
            try:
                answer = await self._resolver.addresses(host, kind)
            except UpstreamUnavailable as error:
                self._problem = str(error)
                now[kind] = before.get(kind, ())
                continue
            now[kind] = tuple(str(one) for one in answer.records)
            if now[kind]:
                self._heed(answer.ttl_s)
        if not any(now.values()):
            self._problem = self._problem or f"{host} has no addresses"
            now = before
        self._known[host] = now
        return [address for addresses in now.values() for address in addresses]

    def _heed(self, ttl_s: float | None) -> None:
        if ttl_s is not None:
            self._ttl_s = ttl_s if self._ttl_s is None else min(self._ttl_s, ttl_s)

    def _tell(self, problem: str) -> None:
        if problem:
            what = f"upstream {self._upstream!r}: {problem}; its endpoints stay as they are"
            self._observer(Noticed(what=what, loudness="warning"))
        else:
            self._observer(Noticed(what=f"upstream {self._upstream!r}: {self._settings.name} resolves again"))
