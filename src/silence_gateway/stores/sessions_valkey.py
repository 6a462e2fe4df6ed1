"""
Sessions in Valkey or Redis, where the whole fleet sees them.

Keys are `fleet:v2:session:` and then `s:{id}` a record, `u:{user}` and `i:{instance}` indexes of session
ids, `c:{channel}:p`, `:l` and `:u` a channel's presence, `n:{fleet}:l` and `:i` the instances. What must
change together shares a hash tag; nothing else does, so a cluster spreads the load. Names that clients
chose are made safe by `keys.part`. Every call of one loop tick travels in one trip (`ScriptRunner`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from silence_gateway.stores.compression import Compression, unpack
from silence_gateway.stores.contracts import Script, ScriptRunner
from silence_gateway.stores.keys import VERSION, part
from silence_gateway.stores.session_contract import (
    InstanceRecord,
    Presence,
    PresenceStats,
    SessionPage,
    SessionRecord,
)

T = TypeVar("T")

# Ids that one script call takes: far below what would hold up the server's other clients.
CHUNK = 256
# The list of instances outlives a fleet that was killed as a whole, so that the next one can sweep.
INSTANCES_TTL_MS = 7 * 24 * 3600 * 1000


def load(name: str) -> Script:
    """Read one of our scripts."""
    return Script(name, files("silence_gateway.stores").joinpath(f"scripts/{name}.lua").read_text())


WRITE = load("sessions_write")
READ = load("sessions_read")
INDEX = load("sessions_index")
PAGE = load("sessions_page")
PRESENCE = load("sessions_presence")
INSTANCES = load("sessions_instances")


class ValkeySessions:
    """
    A `SessionStore` over anything that runs scripts; payloads above *compress_over* bytes are compressed.

    Attributes:
        unreadable: Records found that are no records of ours; they count as missing.
    """

    def __init__(self, scripts: ScriptRunner, fleet: str, *, compress_over: int = 1024) -> None:
        self.scripts = scripts
        self.fleet = fleet
        self.compression = Compression(compress_over)
        self.unreadable = 0
        self.prefix = f"{part(fleet)}:{VERSION}:session:"

    def key(self, kind: str, name: str, suffix: str = "") -> bytes:
        """Return the key of something named *name*, which may come from a client."""
        return f"{self.prefix}{kind}:{{{part(name)}}}{suffix}".encode()

    async def write(self, records: Sequence[SessionRecord], ttl_s: float) -> None:
        """Write these sessions, and find them by user and by instance, for *ttl_s* seconds."""
        ttl_ms = milliseconds(ttl_s)
        calls = [
            self.scripts.run(
                WRITE, [self.key("s", record.id)], [ttl_ms, self.compression.pack(encode(record))]
            )
            for record in records
        ]
        for index, ids in self.indexes(records).items():
            for at in range(0, len(ids), CHUNK):
                chunk = ids[at : at + CHUNK]
                calls.append(self.scripts.run(INDEX, [index], [ttl_ms, len(chunk), *chunk]))
        await asyncio.gather(*calls)

    async def remove(self, records: Sequence[SessionRecord]) -> None:
        """Forget these sessions."""
        calls = [self.scripts.run(READ, [self.key("s", record.id)], [1]) for record in records]
        for index, ids in self.indexes(records).items():
            calls += [
                self.scripts.run(INDEX, [index], [1, 0, *ids[at : at + CHUNK]])
                for at in range(0, len(ids), CHUNK)
            ]
        await asyncio.gather(*calls)

    def indexes(self, records: Sequence[SessionRecord]) -> dict[bytes, list[bytes]]:
        """Return which ids belong in which index."""
        found: dict[bytes, list[bytes]] = {}
        for record in records:
            session_id = record.id.encode()
            found.setdefault(self.key("i", record.instance), []).append(session_id)
            if record.user:
                found.setdefault(self.key("u", record.user), []).append(session_id)
        return found

    async def join(self, channel: str, clients: Mapping[str, Presence], lease_s: float) -> None:
        """Note that these clients are in *channel* for *lease_s* seconds."""
        lease_us = round(lease_s * 1_000_000)
        entries = list(clients.items())
        calls = []
        for at in range(0, len(entries), CHUNK):
            args: list[bytes | int] = []
            for client, presence in entries[at : at + CHUNK]:
                packed = Presence(presence.user, self.compression.pack(presence.info))
                args += (client.encode(), encode_presence(packed))
            calls.append(self.in_channel(channel, [lease_us, len(args) // 2, 0, 0, *args]))
        await asyncio.gather(*calls)

    async def leave(self, channel: str, clients: Sequence[str]) -> None:
        """Note that these clients have left *channel*."""
        calls = []
        for at in range(0, len(clients), CHUNK):
            ids = [client.encode() for client in clients[at : at + CHUNK]]
            calls.append(self.in_channel(channel, [1, 0, len(ids), 0, *ids]))
        await asyncio.gather(*calls)

    async def presence(self, channel: str, limit: int) -> dict[str, Presence]:
        """Return who is in *channel*, those who came or were confirmed last first."""
        answer = await self.in_channel(channel, [1, 0, 0, limit])
        found = {
            answer[at].decode(): self.read(decode_presence, answer[at + 1]) for at in range(2, len(answer), 2)
        }
        return {client: there for client, there in found.items() if there is not None}

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Return how many are in *channel*."""
        clients, users = await self.in_channel(channel, [1, 0, 0, 0])
        return PresenceStats(int(clients), int(users))

    async def in_channel(self, channel: str, args: Sequence[bytes | int]) -> Any:
        """Run the presence script on a channel's three keys."""
        keys = [self.key("c", channel, suffix) for suffix in (":p", ":l", ":u")]
        return await self.scripts.run(PRESENCE, keys, args)

    async def get(self, session_id: str) -> SessionRecord | None:
        """Return one session, or None."""
        return self.read(decode, await self.scripts.run(READ, [self.key("s", session_id)], [0]))

    def read(self, decode: Callable[[bytes], T | None], stored: bytes) -> T | None:
        """Return what *decode* makes of a payload, or None where it cannot be read."""
        try:
            return decode(stored)
        except (ValueError, LookupError, TypeError):
            # Whoever may write to the store can write anything; one odd record must not hide the others.
            self.unreadable += 1
            return None

    async def list_by_user(self, user: str, cursor: str, limit: int) -> SessionPage:
        """Return sessions of *user* with ids above *cursor*."""
        return await self.page(self.key("u", user), cursor, limit)

    async def list_by_instance(self, instance: str, cursor: str, limit: int) -> SessionPage:
        """Return sessions of *instance* with ids above *cursor*."""
        return await self.page(self.key("i", instance), cursor, limit)

    async def page(self, index: bytes, cursor: str, limit: int) -> SessionPage:
        """Return one page of an index; ids without a record are taken out of it on the way."""
        # One more than asked for tells whether there is another page.
        _, *ids = await self.scripts.run(PAGE, [index], [cursor.encode(), limit + 1])
        more = len(ids) > limit
        ids = ids[:limit]
        found = await asyncio.gather(*(self.get(each.decode()) for each in ids))
        lost = [each for each, record in zip(ids, found, strict=True) if record is None]
        if lost:
            await self.scripts.run(INDEX, [index], [1, 0, *lost])
        sessions = tuple(record for record in found if record is not None)
        return SessionPage(sessions, ids[-1].decode() if more and ids else "")

    async def beat(self, instance: str, lease_s: float, info: bytes) -> bool:
        """Say that *instance* is alive; False if the fleet had given it up or never knew it."""
        (known,) = await self.on_instances(b"beat", instance, round(lease_s * 1_000_000), info)
        return bool(known)

    async def instances(self) -> tuple[InstanceRecord, ...]:
        """Return every instance that is alive or has something left to sweep."""
        answer = await self.on_instances(b"list")
        names = [answer[at].decode() for at in range(0, len(answer), 3)]
        counts = await asyncio.gather(
            *(self.scripts.run(PAGE, [self.key("i", name)], [b"", 0]) for name in names)
        )
        found = [
            InstanceRecord(
                name,
                bool(answer[3 * at + 1]),
                int(counts[at][0]),
                self.read(unpack, answer[3 * at + 2]) or b"",
            )
            for at, name in enumerate(names)
        ]
        return tuple(sorted(found, key=lambda record: record.id))

    async def forget_instance(self, instance: str) -> None:
        """Take *instance* off the list."""
        await self.on_instances(b"forget", instance)

    async def on_instances(
        self, action: bytes, instance: str = "", lease_us: int = 0, info: bytes = b""
    ) -> Any:
        """Run the script about the list of instances."""
        keys = [self.key("n", self.fleet, ":l"), self.key("n", self.fleet, ":i")]
        told = self.compression.pack(info)
        args: list[bytes | int] = [action, instance.encode(), lease_us, told, INSTANCES_TTL_MS]
        return await self.scripts.run(INSTANCES, keys, args)


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least one."""
    return max(1, round(seconds * 1000))


def encode(record: SessionRecord) -> bytes:
    """Return a record as JSON."""
    return json.dumps(
        [
            record.id,
            record.instance,
            record.user,
            record.authenticated,
            record.connected_us,
            record.seen_us,
            record.expires_us,
            record.name,
            record.version,
            record.channels,
            record.commands,
        ],
        separators=(",", ":"),
    ).encode()


def decode(stored: bytes) -> SessionRecord | None:
    """Return the record in what `encode` made, or None where there is none."""
    if not stored:
        return None
    values = json.loads(unpack(stored))
    return SessionRecord(
        id=values[0],
        instance=values[1],
        user=values[2],
        authenticated=values[3],
        connected_us=values[4],
        seen_us=values[5],
        expires_us=values[6],
        name=values[7],
        version=values[8],
        channels=tuple(values[9]),
        commands=values[10],
    )


def encode_presence(presence: Presence) -> bytes:
    """Return `<bytes of user>:<user><info>`, which the script can take the user from."""
    user = presence.user.encode(errors="surrogatepass")
    return b"%d:%b%b" % (len(user), user, presence.info)


def decode_presence(stored: bytes) -> Presence:
    """Return what `encode_presence` was given."""
    size, _, rest = stored.partition(b":")
    return Presence(rest[: int(size)].decode(errors="surrogatepass"), unpack(rest[int(size) :]))
