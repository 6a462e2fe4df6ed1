"""
An entry of an access list: what it is, how the board keeps it, and what the audit is told.

Entries are spread over rooms of the board by a hash of their name, because a room is read as a whole.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from silence_gateway.core.cidr import Network, parse_cidr
from silence_gateway.errors import BadRequest
from silence_gateway.events import Event

ListName: TypeAlias = Literal["allow", "deny"]
LISTS: tuple[ListName, ListName] = ("allow", "deny")

ALLOW: Final = 1
DENY: Final = 2
MARKS: dict[str, int] = {"allow": ALLOW, "deny": DENY}
"""How the sets of networks note which list a network is on."""

ROOMS = tuple(f"access/{number}" for number in range(32))
"""With 100,000 entries a room has 3,000, which take 60 ms of the event loop when they are read anew."""

MAX_REASON_CHARS = 200
MAX_TTL_S = 366 * 86_400


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
        origin: `file` for the configuration and its list files, `api` when added at run time.
        reason: Why, in the words of whoever added it.
        by: Who added it.
        added_us: When, in microseconds since the epoch; 0 for a file.
        until_us: When it ends by itself; 0 means never.
    """

    network: str
    origin: str = "file"
    reason: str = ""
    by: str = ""
    added_us: int = 0
    until_us: int = 0

    @property
    def ttl_s(self) -> float | None:
        """How long it was meant to hold, in seconds; None for as long as nobody removes it."""
        return (self.until_us - self.added_us) / 1_000_000 if self.until_us else None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedEntry:
    """
    What somebody wants to put on a list.

    Attributes:
        cidr: A network or an address, as they wrote it.
        ttl_s: Seconds until it ends by itself; None for never.
        reason: Why.
    """

    cidr: str
    ttl_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessChanged(Event):
    """
    An access list changed at run time: a line for the audit.

    Attributes:
        change: `added` (or added anew), `removed`, `ended` by itself, or `refused` by the store, which took
            the change before it back.
        list: `allow` or `deny`.
        network: Which network.
        reason: Why it was added.
        by: Who changed the list; who had added it, where it ended.
        ttl_s: How long it holds, or has held; None for no end.
    """

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


def verdict_of(marks: int) -> Verdict:
    """Say what the marks of the longest network that holds an address mean (see `CidrSet.look`)."""
    if marks & DENY:
        return Verdict.DENY
    return Verdict.ALLOW if marks else Verdict.NONE


def checked_list(name: str) -> str:
    """
    Return the name of a list.

    Raises:
        BadRequest: There is no such list.
    """
    if name not in LISTS:
        raise BadRequest(f"there is no list {name[:40]!r}; there are allow and deny")
    return name


def checked_network(cidr: str) -> Network:
    """
    Read a network that somebody named.

    Raises:
        BadRequest: It is none.
    """
    try:
        return parse_cidr(cidr)
    except ValueError as exc:
        raise BadRequest(str(exc)) from None


def checked(wanted: WantedEntry) -> Network:
    """
    Return the network of an acceptable entry.

    Raises:
        BadRequest: The network, the TTL or the reason is not acceptable.
    """
    network = checked_network(wanted.cidr)
    if wanted.ttl_s is not None and not 0 < wanted.ttl_s <= MAX_TTL_S:
        raise BadRequest(f"ttl is above 0s and at most 366d, not {wanted.ttl_s:g} s")
    if len(wanted.reason) > MAX_REASON_CHARS:
        raise BadRequest(f"a reason has at most {MAX_REASON_CHARS} characters, not {len(wanted.reason)}")
    return network


def name_of(list_name: str, network: Network) -> str:
    """Return the name of an entry on the board."""
    return f"{list_name} {network}"


def room_of(name: str) -> str:
    """Return the room of an entry; every version must agree on it."""
    return ROOMS[zlib.crc32(name.encode()) % len(ROOMS)]


def place_of(name: str) -> tuple[str, Network] | None:
    """Return list and network of an entry's name; None if it is not one."""
    list_name, _, cidr = name.partition(" ")
    if list_name not in LISTS:
        return None
    try:
        network = parse_cidr(cidr)
    except ValueError:
        return None
    # One network has one name, or removing it by another would not remove it.
    return (list_name, network) if str(network) == cidr else None


def entry_value(entry: AccessEntry) -> bytes:
    """Return what the board keeps of an entry."""
    return json.dumps([entry.reason, entry.by, entry.added_us, entry.until_us]).encode()


def read_entry(network: str, value: bytes) -> AccessEntry | None:
    """Read what the board keeps of an entry; None if this version cannot."""
    try:
        fields: Any = json.loads(value)
    except (ValueError, RecursionError):
        return None
    match fields:
        case [str(reason), str(by), int(added_us), int(until_us)]:
            return AccessEntry(
                network=network, origin="api", reason=reason, by=by, added_us=added_us, until_us=until_us
            )
        case _:
            return None
