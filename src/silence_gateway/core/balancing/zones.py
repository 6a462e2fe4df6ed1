"""
Which zone gets the calls: our own while it can take them, and the rest spills over.

A zone can take its calls while enough of it is ready, with the same factor as levels of priority. The
gateways are taken to be spread over the zones as the endpoints are; where they are not, give the zone with
few endpoints less weight, or leave zones out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from silence_gateway.core.balancing.priorities import OVERPROVISIONING


@dataclass(frozen=True, slots=True)
class ZoneState:
    """
    One zone of one level.

    Attributes:
        ready: Weight of those that are good for calls.
        all: Weight of all of them.
    """

    ready: int
    all: int


def zone_parts(
    zones: Mapping[str, ZoneState], here: str, overprovisioning: float = OVERPROVISIONING
) -> dict[str, float]:
    """
    Return each zone's part of the calls; zones that have nobody ready are not in the answer.

    Calls stay *here* as far as this zone is ready; what is left goes to the others by their ready weight.
    If nobody is ready here, or *here* is empty, all share by weight.
    """
    ready = {name: zone.ready for name, zone in zones.items() if zone.ready > 0}
    own = ready.pop(here, 0) if here else 0
    kept = min(1.0, overprovisioning * own / zones[here].all) if own else 0.0
    others = sum(ready.values())
    if own and not others:
        kept = 1.0
    parts = {here: kept} if own else {}
    if kept < 1.0:
        parts |= {name: (1.0 - kept) * weight / others for name, weight in ready.items()}
    return parts
