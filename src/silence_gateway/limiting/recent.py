"""
How one limit was used of late, in this process: what there is without a store, and while it is away.

The same slots, windows and bounds as in the store (`stores/limit_stats_contract.py`), in memory: about 60 KB
per limit that is used all the time. Nothing here awaits or reads a clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from operator import itemgetter

from silence_gateway.core import hyperloglog
from silence_gateway.stores.limit_stats_contract import (
    MAX_TOP,
    SLOT_S,
    SLOTS,
    LimitCounts,
    NewUse,
    Tops,
    WindowName,
    WindowUse,
)


class Slot:
    """What was counted in one slot of time; *number* times its length is when it began."""

    __slots__ = ("clients", "counts", "number", "refused", "requests")

    def __init__(self, number: int) -> None:
        self.number = number
        self.counts = LimitCounts()
        self.clients: hyperloglog.Sketch | None = None
        self.requests: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def add(self, new: NewUse) -> None:
        """Add to it; the keys with the fewest requests are dropped when there are too many."""
        self.counts = self.counts.plus(new.counts)
        self.requests = bounded(self.requests, new.requests)
        self.refused = bounded(self.refused, new.refused)

    def sketch(self) -> hyperloglog.Sketch:
        """Return what its clients are counted by."""
        if self.clients is None:
            self.clients = hyperloglog.empty()
        return self.clients


class RecentUse:
    """The last minute and the last hour of one limit. Times are seconds that never step back."""

    __slots__ = ("slots",)

    def __init__(self) -> None:
        self.slots: dict[WindowName, list[Slot]] = {name: [] for name in SLOT_S}

    def add(self, new: NewUse, now_s: float) -> None:
        """Add what was counted now; 1 us per client."""
        present = [self.slot(name, now_s) for name in self.slots]
        for slot in present:
            slot.add(new)
        if new.clients:
            sketches = [slot.sketch() for slot in present]
            for client in new.clients:
                hashed = int.from_bytes(client)
                for sketch in sketches:
                    hyperloglog.add(sketch, hashed)

    def slot(self, window: WindowName, now_s: float) -> Slot:
        """Return the slot that is written now; those that no window reaches any more are dropped."""
        slots = self.slots[window]
        number = int(now_s // SLOT_S[window])
        if not slots or slots[-1].number < number:
            slots.append(Slot(number))
            self.slots[window] = slots = [slot for slot in slots if slot.number > number - SLOTS]
        return slots[-1]

    def use(self, window: WindowName, now_s: float, top: Tops) -> WindowUse:
        """Return how the limit was used in *window*, with its *top* keys; 0.3 ms."""
        oldest = now_s // SLOT_S[window] - SLOTS
        slots = [slot for slot in self.slots[window] if slot.number > oldest]
        counts = LimitCounts()
        requests: dict[str, int] = {}
        refused: dict[str, int] = {}
        for slot in slots:
            counts = counts.plus(slot.counts)
            add_up(requests, slot.requests)
            add_up(refused, slot.refused)
        clients = hyperloglog.merged(slot.clients for slot in slots if slot.clients is not None)
        return WindowUse(
            counts=counts,
            unique_clients=hyperloglog.estimate(clients),
            requests=busiest(requests, top.get((window, "requests"), 0)),
            refused=busiest(refused, top.get((window, "refused"), 0)),
        )


def bounded(counted: dict[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Add *more*, and drop all but the busiest when there are twice as many as are ever shown."""
    add_up(counted, more)
    return counted if len(counted) <= 2 * MAX_TOP else busiest(counted, MAX_TOP)


def add_up(counted: dict[str, int], more: Mapping[str, int]) -> None:
    """Add *more* to *counted*."""
    for key, count in more.items():
        counted[key] = counted.get(key, 0) + count


def busiest(counted: Mapping[str, int], at_most: int) -> dict[str, int]:
    """Return the *at_most* keys with the highest counts, most first; 0.1 ms for a thousand."""
    return dict(heapq.nlargest(at_most, counted.items(), key=itemgetter(1)))
