"""
Where a limit counts whom in the store.

Keys look like `fleet:v2:limit:{r2hzXn3V...}login:w`: the braces hold whom it counts, so that all limits of
one client lie in one slot of a cluster; it is hashed, because it may be an address or a secret, and
anyone may choose its length.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b

from silence_gateway.core.limits import LimitRule
from silence_gateway.stores.keys import key

MAX_NAMES = 50_000
"""Stored names remembered; hashing one costs 1.5 us, remembering one 0.1 us and 200 bytes."""

MAX_KEY_CHARS = 512
"""Names of longer keys are not remembered, so that nobody fills the memory with them."""

NOBODY = frozenset(("", "const"))
"""Keys that count everything together. Their limit's own name is hashed, so that no slot has them all."""

BLOCK = b":block"
"""What the name of a key's block ends in."""


class LimitNames:
    """
    Names of stored counters, and the last ones that were asked for.

    Attributes:
        kept: Names remembered.
    """

    def __init__(self, fleet: str) -> None:
        self.prefix = key(fleet, "limit")
        self.by_counter: dict[str, dict[str, bytes]] = {}
        self.kept = 0

    def name_of(self, rule: LimitRule, whom: str) -> bytes:
        """Return where *whom* counts in the store."""
        names = self.by_counter.get(rule.counter)
        if names is None:
            names = self.by_counter[rule.counter] = {}
        name = names.get(whom)
        if name is None:
            if self.kept >= MAX_NAMES:
                self.by_counter.clear()
                names = self.by_counter[rule.counter] = {}
                self.kept = 0
            tagged = rule.name if whom in NOBODY else whom
            digest = blake2b(tagged.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            name = b"%b:{%b}%b" % (self.prefix, urlsafe_b64encode(digest)[:22], rule.counter.encode())
            if len(whom) <= MAX_KEY_CHARS:
                names[whom] = name
                self.kept += 1
        return name
