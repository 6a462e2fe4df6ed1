"""
Allow and deny lists of networks: from files, and at run time for the whole fleet.

The most specific network that holds an address decides, whichever list it is on; where both lists have
it, deny wins. So `deny 10.0.0.0/8` with `allow 10.1.0.0/16` lets 10.1.2.3 in, and a ban of one address
holds within an allowed network.

What is added at run time lives on the board: every instance sees it within moments, it survives any
instance, and with a TTL it ends by itself. While the store is away, changes made here hold here and
reach the fleet when it is back. A look-up never asks the store: with 100,000 entries in files and as many
at run time, an address never seen before costs 3.2 us, one seen before 0.1 us.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from silence_gateway.clock import Clock
from silence_gateway.core.cidr import CidrSet, Network, parse_address
from silence_gateway.errors import BadRequest, StoreMisconfigured, StoreUnavailable
from silence_gateway.events import Observer, nobody
from silence_gateway.limiting.access_audit import AuditDuty
from silence_gateway.limiting.access_bulk import checked_all
from silence_gateway.limiting.access_entry import (
    MARKS,
    MAX_REASON_CHARS,
    ROOMS,
    AccessChanged,
    AccessEntry,
    AccessEntryUnreadable,
    Verdict,
    WantedEntry,
    checked,
    checked_list,
    checked_network,
    entry_value,
    name_of,
    place_of,
    read_entry,
    room_of,
    verdict_of,
)
from silence_gateway.limiting.access_files import FixedLists
from silence_gateway.stores.contracts import Board

MAX_ENTRIES = 100_000
"""Entries at run time, in the whole fleet: 65 MB in each process. What is more belongs in a file."""

MAX_PAGE = 10_000
"""Entries listed at once."""

AT_ONCE = 32
"""Writes of a bulk on their way together: 3 ms of the event loop, then requests have their turn. More are
not faster."""

MAX_VERDICTS = 20_000
"""Addresses whose verdict is remembered until a list changes; 100 bytes each."""


class AccessLists:
    """
    The lists of a gateway; `start` before use.

    Attributes:
        denied: Requests refused.
        allowed: Requests let past every limit.

    Raises:
        ConfigError: A list file cannot be used.
    """

    def __init__(
        self,
        board: Board,
        clock: Clock,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        allow_files: Sequence[Path] = (),
        deny_files: Sequence[Path] = (),
        observer: Observer = nobody,
    ) -> None:
        self.board = board
        self.clock = clock
        self.observer = observer
        self.verdicts: dict[str, Verdict] = {}
        self.fixed = FixedLists(
            clock,
            allow=allow,
            deny=deny,
            allow_files=allow_files,
            deny_files=deny_files,
            observer=observer,
            changed=self.verdicts.clear,
        )
        self.added = CidrSet()
        self.values: dict[str, bytes] = {}
        self.duty = AuditDuty(board, clock)
        self.allowed = 0
        self.denied = 0

    def start(self) -> None:
        """Take up what the fleet has added and what the files say, now and from now on."""
        for room in ROOMS:
            for name, value in self.board.watch(room, self.on_change, self.on_end).items():
                self.on_change(name, value)
        self.duty.start()
        self.fixed.watch.start()

    async def stop(self) -> None:
        """Follow the files no more; what holds goes on to hold."""
        await self.fixed.watch.stop()
        await self.duty.stop()

    # -- asking ---------------------------------------------------------------------------------------

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
        length, marks = self.fixed.networks.look(address)
        length_added, marks_added = self.added.look(address)
        if length_added > length:
            marks = marks_added
        elif length_added == length:
            marks |= marks_added
        return verdict_of(marks)

    def list(
        self, list_name: str, *, limit: int = MAX_PAGE, after: str = "", ip: str = ""
    ) -> list[AccessEntry]:
        """
        Return what is on a list, by address, a file's entry before one of the API.

        Args:
            list_name: `allow` or `deny`.
            limit: How many entries; one more where the last network has two.
            after: Only networks behind this one: the last of the page before.
            ip: Only networks that hold this address.

        Raises:
            BadRequest: There is no such list, or an argument cannot be read.
        """
        mark = MARKS[checked_list(list_name)]
        if not 1 <= limit <= MAX_PAGE:
            raise BadRequest(f"limit is 1 to {MAX_PAGE}, not {limit}")
        found: Iterable[tuple[Network, int]] = chain(self.fixed.networks.items(), self.added.items())
        if ip:
            address = parse_address(ip)
            if address is None:
                raise BadRequest(f"{ip[:60]!r} is not an address")
            found = chain(self.fixed.networks.holding(address), self.added.holding(address))
        behind = checked_network(after) if after else None
        wanted = (
            network for network, marks in found if marks & mark and (behind is None or network > behind)
        )
        page: list[AccessEntry] = []
        for network in dict.fromkeys(heapq.nsmallest(limit, wanted)):
            if self.fixed.networks.marks(network) & mark:
                page.append(AccessEntry(network=str(network)))
            if self.added.marks(network) & mark:
                entry = read_entry(str(network), self.values[name_of(list_name, network)])
                assert entry is not None
                page.append(entry)
        return page

    # -- changing -------------------------------------------------------------------------------------

    async def add(
        self, list_name: str, cidr: str, *, ttl_s: float | None = None, reason: str = "", by: str = ""
    ) -> AccessEntry:
        """
        Put a network on a list, for the whole fleet; again to change its TTL or reason.

        Raises:
            BadRequest: The list, the network, the TTL or the reason is not acceptable, or there are too many.
            StoreUnavailable: It holds on this instance; the fleet learns of it when the store is back.
            StoreMisconfigured: The store refuses it; nothing has changed.
        """
        checked_list(list_name)
        network = checked(WantedEntry(cidr=cidr, ttl_s=ttl_s, reason=reason))
        self.check_room_for(list_name, [network])
        return await self.put(list_name, network, ttl_s, reason, by)

    async def add_many(self, list_name: str, wanted: Sequence[WantedEntry], *, by: str = "") -> int:
        """
        Put many networks on a list: all of them, or none if one is not acceptable; returns how many.

        It may be cancelled: then some are on the list, and doing it again is harmless.

        Raises:
            BadRequest: The list or an entry is not acceptable, or there are too many.
            StoreUnavailable: They hold on this instance; the fleet learns of them when the store is back.
            StoreMisconfigured: The store refused one; those before it are on the list.
        """
        checked_list(list_name)
        networks = await checked_all(wanted)
        self.check_room_for(list_name, networks)
        away: StoreUnavailable | None = None
        for start in range(0, len(wanted), AT_ONCE):
            part = zip(networks[start : start + AT_ONCE], wanted[start : start + AT_ONCE], strict=True)
            outcomes = await asyncio.gather(
                *(self.put(list_name, network, one.ttl_s, one.reason, by) for network, one in part),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if isinstance(outcome, StoreUnavailable):
                    away = outcome
                elif isinstance(outcome, BaseException):
                    raise outcome
        if away is not None:
            raise away
        return len(wanted)

    async def put(
        self, list_name: str, network: Network, ttl_s: float | None, reason: str, by: str
    ) -> AccessEntry:
        """Write one checked entry; raises as `add` does."""
        now_us = self.clock.now_us()
        entry = AccessEntry(
            network=str(network),
            origin="api",
            reason=reason,
            by=by[:MAX_REASON_CHARS],
            added_us=now_us,
            until_us=0 if ttl_s is None else now_us + round(ttl_s * 1_000_000),
        )
        # It holds here from now on, whatever becomes of the call that asked for it.
        self.tell("added", list_name, entry)
        name = name_of(list_name, network)
        try:
            await self.board.put(room_of(name), name, entry_value(entry), ttl_s)
        except StoreMisconfigured:
            self.tell("refused", list_name, entry)
            raise
        return entry

    def check_room_for(self, list_name: str, networks: Sequence[Network]) -> None:
        """
        Refuse what the fleet could not hold.

        Raises:
            BadRequest: There would be more than MAX_ENTRIES.
        """
        if len(self.values) + len(networks) <= MAX_ENTRIES:
            return
        new = sum(name_of(list_name, network) not in self.values for network in networks)
        if new and len(self.values) + new > MAX_ENTRIES:
            raise BadRequest(
                f"there are {len(self.values)} entries already, and {MAX_ENTRIES} fit; "
                "remove some, or put them in a list file (access.deny_files)"
            )

    async def remove(self, list_name: str, cidr: str, *, by: str = "") -> bool:
        """
        Take a network off a list; returns whether it was there. What a file says stays.

        Raises:
            BadRequest: The list or the network is not one, or it comes from a file.
            StoreUnavailable: It is off here; the fleet learns of it when the store is back.
            StoreMisconfigured: The store refuses it; nothing has changed.
        """
        mark = MARKS[checked_list(list_name)]
        network = checked_network(cidr)
        name = name_of(list_name, network)
        value = self.values.get(name)
        if value is None and self.fixed.networks.marks(network) & mark:
            raise BadRequest(
                f"{network} is on the {list_name} list by the configuration file or a list file; "
                "change it there"
            )
        if value is None:
            await self.board.remove(room_of(name), name)
            return False
        known = read_entry(str(network), value)
        assert known is not None
        gone = AccessEntry(network=known.network, by=by, reason=known.reason)
        self.tell("removed", list_name, gone)
        try:
            await self.board.remove(room_of(name), name)
        except StoreMisconfigured:
            self.tell("refused", list_name, gone)
            raise
        return True

    # -- hearing --------------------------------------------------------------------------------------

    def on_change(self, name: str, value: bytes | None) -> None:
        """The board has a new, changed or ended entry."""
        place = place_of(name)
        if place is None:
            self.observer(AccessEntryUnreadable(name=name[:100]))
            return
        list_name, network = place
        if value is None:
            if self.values.pop(name, None) is not None:
                self.added.discard(network, MARKS[list_name])
                self.verdicts.clear()
        elif read_entry("", value) is None or (
            name not in self.values and len(self.values) >= 2 * MAX_ENTRIES
        ):
            self.observer(AccessEntryUnreadable(name=name[:100]))
        else:
            if name not in self.values:
                self.added.add(network, MARKS[list_name])
                self.verdicts.clear()
            self.values[name] = value

    def on_end(self, name: str) -> None:
        """An entry on the board has run out; `on_change` follows."""
        if not self.duty.ours or name not in self.values:
            return
        list_name, _, network = name.partition(" ")
        entry = read_entry(network, self.values[name])
        assert entry is not None
        self.tell("ended", list_name, entry)

    def tell(self, change: str, list_name: str, entry: AccessEntry) -> None:
        """Give the audit its line."""
        self.observer(
            AccessChanged(
                change=change,
                list=list_name,
                network=entry.network,
                reason=entry.reason,
                by=entry.by,
                ttl_s=entry.ttl_s,
            )
        )
