"""
Every key and channel name in the store, and nothing else.

`{fleet}:v2:kind:part:part`. The fleet's name comes first, so that one ACL pattern covers a gateway; the
version lets two formats live side by side during an upgrade. Parts that come from outside are escaped
and bounded: what is long or odd is replaced by its hash. Described for operators in
docs/reference/keys.md.
"""

from __future__ import annotations

import re
from hashlib import blake2b

VERSION = "v2"
MAX_PART = 128
PLAIN = re.compile(rf"[A-Za-z0-9_.@~/=,+-]{{1,{MAX_PART}}}")
ESCAPED = re.compile(rb"[^A-Za-z0-9_.@~/=,+-]")
HASH_BYTES = 16


def part(text: str) -> str:
    """
    One part of a key: *text* itself when it is short and plain, else escaped, else hashed.

    Different texts give different parts. Braces, colons, blanks and line ends never appear in a part.
    """
    if PLAIN.fullmatch(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    escaped = ESCAPED.sub(lambda match: b"%%%02X" % match[0][0], raw).decode()
    if 0 < len(escaped) <= MAX_PART:
        return escaped
    # "%%" cannot come out of escaping, so a hash is never mistaken for a name.
    return "%%" + blake2b(raw, digest_size=HASH_BYTES).hexdigest()


def key(fleet: str, kind: str, *parts: str) -> bytes:
    """A key of *kind*; every part is made safe."""
    return ":".join((part(fleet), VERSION, kind, *map(part, parts))).encode()


def board_room(fleet: str, room: str) -> bytes:
    """Hash of a room of the board: `v`, `b` last and first version, `p` if a value has no TTL, `=name`."""
    return key(fleet, "board", room)


def board_lease(fleet: str, room: str, name: str) -> bytes:
    """Hash of a lease: `h` holder, `f` fencing number, `x` end in server microseconds."""
    return key(fleet, "lease", room, name)


def instances(fleet: str, tag: int | None = None) -> bytes:
    """
    Sorted set of the instances that are alive, by the server time of their last sign of life.

    In a cluster every primary has one, in a slot of its own that *tag* leads to.
    """
    name = key(fleet, "instances")
    return name if tag is None else b"%b:{%d}" % (name, tag)


def bus_channel(fleet: str, channel: str) -> bytes:
    """Pub/sub channel of a bus channel."""
    return key(fleet, "bus", channel)


def limit_stats(fleet: str, limit: str, kind: str) -> bytes:
    """One of the statistics of a limit, which is the hash tag; *kind* is ours: `totals`, `1m:3:clients`."""
    return f"{part(fleet)}:{VERSION}:limit-stats:{{{part(limit)}}}:{kind}".encode()


def limit_index(fleet: str) -> bytes:
    """Sorted set of the fleet's limits, by the server time at which an instance last had them."""
    return key(fleet, "limit-index")
