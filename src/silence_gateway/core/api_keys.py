"""
API keys: which caller a key belongs to.

A key is known by its SHA-256 alone, so that who reads our memory or the file cannot use it. It is looked
up by that hash: however long a wrong key agrees with a right one, their hashes have nothing in common, so
the time of a look-up tells nothing about the keys there are. No stretching (bcrypt and the like): a key is
drawn by a machine and cannot be guessed, a password can. 0.6 us.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

MAX_KEY_BYTES = 1024
"""A longer key is wrong without being looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """
    One key that is accepted.

    Attributes:
        id: What logs show and limits count by; never secret.
        digest: SHA-256 of the key.
        user: Whom it speaks for; empty if for nobody but itself.
        until_us: When it ends, in microseconds since the epoch; 0 for never.
    """

    id: str
    digest: bytes = field(repr=False)
    user: str = ""
    until_us: int = 0


class KeyRing:
    """A fixed set of keys."""

    __slots__ = ("by_digest",)

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self.by_digest = {key.digest: key for key in keys}

    def find(self, presented: bytes, now_us: int) -> ApiKey | None:
        """Return whose key was presented; None if nobody's, or if it has ended."""
        if len(presented) > MAX_KEY_BYTES:
            return None
        key = self.by_digest.get(sha256(presented).digest())
        if key is None or (key.until_us and now_us >= key.until_us):
            return None
        return key

    def __len__(self) -> int:
        return len(self.by_digest)
