"""
A timing wheel: thousands of things to look at later, at the cost of one dictionary and one timer.

Nothing here reads a clock. Times are integer microseconds of any one clock. An item is handed out at
the first `due` call at or after its time, in no order finer than a slot. What is no longer wanted is
not removed: whoever takes it out sees that it has ended.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class TimingWheel(Generic[Item]):
    """Items by the slot of *slot_us* microseconds in which they are due."""

    __slots__ = ("slot_us", "slots")

    def __init__(self, slot_us: int = 250_000) -> None:
        if slot_us < 1:
            raise ValueError(f"slot_us must be positive, got {slot_us}")
        self.slot_us = slot_us
        self.slots: dict[int, list[Item]] = {}

    def __len__(self) -> int:
        """How many items wait, ended ones included."""
        return sum(map(len, self.slots.values()))

    def put(self, item: Item, at_us: int) -> None:
        """Hand *item* out at or soon after *at_us*."""
        slot = -(-at_us // self.slot_us)
        waiting = self.slots.get(slot)
        if waiting is None:
            self.slots[slot] = [item]
        else:
            waiting.append(item)

    def due(self, now_us: int) -> list[Item]:
        """Take out everything whose time has come."""
        now_slot = now_us // self.slot_us
        ripe = sorted(slot for slot in self.slots if slot <= now_slot)
        return [item for slot in ripe for item in self.slots.pop(slot)]
