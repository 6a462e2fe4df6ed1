"""
Allow and deny lists of networks: from the file, and at run time for the whole fleet.

The most specific network that holds an address decides, whichever list it is on; where both lists have
it, deny wins. So `deny 10.0.0.0/8` with `allow 10.1.0.0/16` lets 10.1.2.3 in, and a ban of one address
holds within an allowed network.

What is added at run time lives on the board: every instance sees it within moments, it survives any
instance, and with a TTL it ends by itself. While the store is away, changes made here hold here and
reach the fleet when it is back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.cidr import NOWHERE, CidrSet, Network, parse_address, parse_cidr
from silence_gateway.errors import BadRequest
from silence_gateway.events import Event, Observer, nobody
from silence_gateway.stores.contracts import Board

ROOM = "access"

MAX_ENTRIES = 10_000
"""Entries at run time, in the whole fleet. What is larger belongs in the file."""

MAX_REASON_CHARS = 200
MAX_TTL_S = 366 * 86_400
MAX_VERDICTS = 20_000
"""Addresses whose verdict is remembered until a list changes; 100 bytes each."""

ListName: TypeAlias = Literal["allow", "deny"]
LISTS: tuple[ListName, ListName] = ("allow", "deny")


class Verdict(StrEnum):
    """What the lists say about an address: past every limit, not at all, or nothing special."""

    ALLOW = "allow"
    DENY = "deny"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntry:
    """
    One network on a list.

    Attributes:
        network: As a CIDR.
        origin: `file`, or `api` when added at run time.
        reason: Why, in the words of whoever added it.
        by: Who added it.
        added_us: When, in microseconds since the epoch; 0 for the file.
        until_us: When it ends by itself; 0 means never.
    """

    network: str
    origin: str = "file"
    reason: str = ""
    by: str = ""
    added_us: int = 0
    until_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChanged(Event):
    """Somebody changed an access list at run time: a line for the audit."""

    change: str
    list: str
    network: str
    reason: str = ""
    by: str = ""
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntryUnreadable(Event):
    """The board holds an access entry that this version cannot read; it is not applied."""

    name: str

    @property
    def level(self) -> str:
        """Somebody wrote it by hand, or runs another version."""
        return "warning"


class AccessLists:
    """
    The lists of a gateway; `start` before use.

    Attributes:
        denied: Requests refused.
        allowed: Requests let past every limit.
    """

    def __init__(
        self,
        board: Board,
        clock: Clock,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        observer: Observer = nobody,
    ) -> None:
        self.board = board
        self.clock = clock
        self.observer = observer
        self.file = {"allow": CidrSet(map(parse_cidr, allow)), "deny": CidrSet(map(parse_cidr, deny))}
        self.added = {"allow": CidrSet(), "deny": CidrSet()}
        self.entries: dict[str, AccessEntry] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.allowed = 0
        self.denied = 0

    def start(self) -> None:
        """Take up what the fleet has added, now and from now on."""
        for name, value in self.board.watch(ROOM, self.on_change).items():
            self.on_change(name, value)

    def verdict(self, ip: str) -> Verdict:
        """Say what the lists say about an address; text that is no address is on no list."""
        found = self.verdicts.get(ip)
        if found is None:
            if len(self.verdicts) >= MAX_VERDICTS:
                self.verdicts.clear()
            found = self.verdicts[ip] = self.find(ip)
        return found

    def find(self, ip: str) -> Verdict:
        """Do the work of `verdict`."""
        address = parse_address(ip)
        if address is None:
            return Verdict.NONE
        allow = max(self.file["allow"].longest(address), self.added["allow"].longest(address))
        deny = max(self.file["deny"].longest(address), self.added["deny"].longest(address))
        return verdict_of(allow, deny)

    async def add(
        self, list_name: str, cidr: str, *, ttl_s: float | None = None, reason: str = "", by: str = ""
    ) -> AccessEntry:
        """
        Put a network on a list, for the whole fleet; again to change its TTL or reason.

        Raises:
            BadRequest: The list, the network, the TTL or the reason is not acceptable, or there are too many.
            StoreUnavailable: It holds on this instance; the fleet learns of it when the store is back.
        """
        name, network = self.place_of(list_name, cidr)
        if ttl_s is not None and not 0 < ttl_s <= MAX_TTL_S:
            raise BadRequest(f"ttl is above 0s and at most 366d, not {ttl_s:g} s")
        if len(reason) > MAX_REASON_CHARS:
            raise BadRequest(f"a reason has at most {MAX_REASON_CHARS} characters, not {len(reason)}")
        if len(self.entries) >= MAX_ENTRIES and name not in self.entries:
            raise BadRequest(
                f"there are {MAX_ENTRIES} entries already; remove some, or put them in the configuration file"
            )
        now_us = self.clock.now_us()
        entry = AccessEntry(
            network=str(network),
            origin="api",
            reason=reason,
            by=by[:MAX_REASON_CHARS],
            added_us=now_us,
            until_us=0 if ttl_s is None else now_us + round(ttl_s * 1_000_000),
        )
        value = json.dumps([entry.reason, entry.by, entry.added_us, entry.until_us]).encode()
        self.observer(
            AccessChanged(
                change="added", list=list_name, network=entry.network, reason=reason, by=entry.by, ttl_s=ttl_s
            )
        )
        await self.board.put(ROOM, name, value, ttl_s)
        return entry

    async def remove(self, list_name: str, cidr: str, *, by: str = "") -> bool:
        """
        Take a network off a list; returns whether it was there. What the file says stays.

        Raises:
            BadRequest: The list or the network is not one, or it comes from the file.
            StoreUnavailable: It is off here; the fleet learns of it when the store is back.
        """
        name, network = self.place_of(list_name, cidr)
        known = name in self.entries
        if not known and self.file[list_name].lists(network):
            raise BadRequest(
                f"{network} is on the {list_name} list by the configuration file; change it there"
            )
        if known:
            self.observer(AccessChanged(change="removed", list=list_name, network=str(network), by=by))
        await self.board.remove(ROOM, name)
        return known

    def list(self, list_name: str) -> list[AccessEntry]:
        """
        Return what is on a list: the file's entries, then those added at run time.

        Raises:
            BadRequest: There is no such list.
        """
        if list_name not in LISTS:
            raise BadRequest(f"there is no list {list_name[:40]!r}; there are allow and deny")
        fixed = [AccessEntry(network=str(network)) for network in self.file[list_name]]
        prefix = list_name + " "
        return fixed + [entry for name, entry in sorted(self.entries.items()) if name.startswith(prefix)]

    def place_of(self, list_name: str, cidr: str) -> tuple[str, Network]:
        """Return the name on the board of a network on a list, and the network."""
        if list_name not in LISTS:
            raise BadRequest(f"there is no list {list_name[:40]!r}; there are allow and deny")
        try:
            network = parse_cidr(cidr)
        except ValueError as exc:
            raise BadRequest(str(exc)) from None
        return f"{list_name} {network}", network

    def on_change(self, name: str, value: bytes | None) -> None:
        """The board has a new, changed or ended entry."""
        read = read_entry(name, value)
        if read is None:
            self.observer(AccessEntryUnreadable(name=name[:100]))
            return
        list_name, network, entry = read
        if entry is None:
            if self.entries.pop(name, None) is not None:
                self.added[list_name].discard(network)
                self.verdicts.clear()
            return
        if name not in self.entries:
            if len(self.entries) >= 2 * MAX_ENTRIES:
                self.observer(AccessEntryUnreadable(name=name[:100]))
                return
            self.added[list_name].add(network)
            self.verdicts.clear()
        self.entries[name] = entry


def verdict_of(allow: int, deny: int) -> Verdict:
    """Decide between the longest networks that hold an address on both lists (`CidrSet.longest`)."""
    if allow == deny == NOWHERE:
        return Verdict.NONE
    return Verdict.DENY if deny >= allow else Verdict.ALLOW


def read_entry(name: str, value: bytes | None) -> tuple[str, Network, AccessEntry | None] | None:
    """Read an entry as the board holds it; the last is None for one that was removed. None if unreadable."""
    list_name, _, cidr = name.partition(" ")
    try:
        network = parse_cidr(cidr)
        fields: Any = None if value is None else json.loads(value)
    except ValueError:
        return None
    if list_name not in LISTS:
        return None
    if value is None:
        return list_name, network, None
    match fields:
        case [str(reason), str(by), int(added_us), int(until_us)]:
            entry = AccessEntry(
                network=str(network), origin="api", reason=reason, by=by, added_us=added_us, until_us=until_us
            )
            return list_name, network, entry
        case _:
            return None
