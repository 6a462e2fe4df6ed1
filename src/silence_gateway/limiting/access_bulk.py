"""
Many entries for an access list at once: all of them are acceptable, or none is added.

Checking takes turns with the requests that are served meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from silence_gateway.core.cidr import Network
from silence_gateway.errors import BadRequest
from silence_gateway.limiting.access_entry import WantedEntry, checked

MAX_BULK = 10_000
"""Entries added by one call: about a second of work for the store and every instance."""

CHECKED_AT_ONCE = 250
"""Entries of a bulk that are checked before requests have their turn: 1 ms."""

SHOWN_MISTAKES = 20
"""Wrong entries of a bulk that the refusal names."""


async def checked_all(wanted: Sequence[WantedEntry]) -> list[Network]:
    """
    Return the networks of a bulk.

    Raises:
        BadRequest: Entries are not acceptable (each is named), there twice, or too many.
    """
    if len(wanted) > MAX_BULK:
        raise BadRequest(f"one call takes {MAX_BULK} entries, not {len(wanted)}; make several")
    networks: list[Network] = []
    mistakes: list[str] = []
    seen: dict[Network, int] = {}
    for number, one in enumerate(wanted, 1):
        if not number % CHECKED_AT_ONCE:
            await asyncio.sleep(0)
        try:
            network = checked(one)
        except BadRequest as exc:
            mistakes.append(f"entry {number}: {exc}")
            continue
        first = seen.setdefault(network, number)
        if first != number:
            mistakes.append(f"entry {number}: {network} is entry {first} already")
        networks.append(network)
    if mistakes:
        more = len(mistakes) - SHOWN_MISTAKES
        raise BadRequest(
            "; ".join(mistakes[:SHOWN_MISTAKES])
            + (f"; and {more} more" if more > 0 else "")
            + ": nothing was added"
        )
    return networks
