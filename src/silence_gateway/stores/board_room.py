"""
What one instance knows of a room of the Valkey board, and whether that is everything.

Every change names the version it follows, so a missed one shows in the next. Changes go on while a room is
being read: what was heard since the reading began is newer than the answer, and stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from silence_gateway.stores.compression import unpack
from silence_gateway.stores.contracts import Subscription
from silence_gateway.stores.rooms import Cell, RoomCopy

MAX_HEADER_BYTES = 120


class Push:
    """A change as board_write.lua announces it."""

    __slots__ = ("before", "left_s", "name", "value", "version")

    def __init__(self, payload: bytes) -> None:
        """
        Read a payload.

        Raises:
            ValueError: It is not one; anybody who may publish can send anything.
        """
        end = payload.find(b"\n", 0, MAX_HEADER_BYTES)
        version, before, now_us, expires_us, length = (
            int(number) for number in payload[: max(end, 0)].split(b" ")
        )
        body = payload[end + 1 :]
        if not 0 < length <= len(body) or version <= before or before < 0:
            raise ValueError("not a push of the board")
        self.version = version
        self.before = before
        self.name = body[:length].decode()
        self.value: bytes | None = None if expires_us < 0 else unpack(body[length:])
        self.left_s = (expires_us - now_us) / 1_000_000 if expires_us > 0 else None


class Room:
    """
    What one instance keeps about a room.

    Attributes:
        version: Every change up to here is in the copy.
        tip: The newest change heard of.
        gap: Something at or before this version was missed; 0 if nothing was.
        heard: Names heard of since the last reading began, each with the version.
        known: Set once the room was read.
        stale: The room has to be read, once more if it is being read just now.
    """

    __slots__ = (
        "copy",
        "gap",
        "heard",
        "key",
        "known",
        "name",
        "reading",
        "repeating",
        "sending",
        "stale",
        "subscription",
        "tip",
        "version",
        "watched",
    )

    def __init__(self, name: str, key: bytes, copy: RoomCopy) -> None:
        self.name = name
        self.key = key
        self.copy = copy
        self.version = self.tip = self.gap = 0
        self.heard: dict[str, int] = {}
        self.known = asyncio.Event()
        self.watched = False
        self.stale = False
        self.repeating = False
        self.reading: asyncio.Task[None] | None = None
        self.sending: set[Cell] = set()
        self.subscription: Subscription | None = None

    def hear(self, name: str, version: int, before: int) -> bool:
        """Note a change that is newer than the tip; returns False if one before it was missed."""
        self.heard[name] = version
        follows = before == self.tip
        if not follows:
            self.gap = before
        elif self.version == self.tip:
            self.version = version
        self.tip = version
        return follows

    def take(self, version: int, values: Mapping[str, tuple[bytes, float | None]]) -> bool:
        """Take over the room as it was at *version*; returns False if something is still missing."""
        self.copy.replace(values, keep={name for name, at in self.heard.items() if at > version})
        if version < self.gap:
            return False
        self.gap = 0
        self.version = self.tip = max(version, self.tip)
        return True

    def forget(self) -> None:
        """Know nothing of the versions, so that the next reading takes everything."""
        self.version = self.tip = self.gap = 0
        self.heard.clear()
