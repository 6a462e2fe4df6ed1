"""
Which endpoints an instance connects to, when there are too many for everybody to know all.

Rendezvous hashing, as in gRFC A68: an instance ranks endpoints by the hash of its own name with theirs and
takes the first few. N instances keep N x size connections, whatever the number of endpoints; each endpoint
gets about the same number of instances (their count is spread as by chance, so take a size of 20 or more);
and one that comes or goes changes one place for those it concerns, and nothing for the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def rank(instance: str, address: str) -> bytes:
    """Return what *instance* sorts *address* by."""
    return blake2b(address.encode(), digest_size=16, key=blake2b(instance.encode()).digest()).digest()


def subset(addresses: Iterable[str], instance: str, size: int) -> frozenset[str]:
    """
    Return the *size* addresses that *instance* uses; all of them if there are no more than that.

    The order of *addresses* does not matter.
    """
    ranked = sorted(addresses, key=lambda address: rank(instance, address))
    return frozenset(ranked[:size])
