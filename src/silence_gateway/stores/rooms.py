"""
One instance's copy of a room of the board.

What the fleet said, overlaid by what this instance wrote and the fleet has not confirmed. Both boards
use it; it knows no store. Time to live is measured on the local monotonic clock, from what was left
when the value was heard of.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Mapping
from itertools import count
from types import MappingProxyType
from typing import TypeAlias

from silence_gateway.clock import Clock, Timer

OnChange: TypeAlias = Callable[[str, bytes | None], None]
OnEnd: TypeAlias = Callable[[str], None]

# Small facts only: what is larger belongs in a key of its own.
MAX_NAME_BYTES = 512
MAX_VALUE_BYTES = 64 * 1024
# Two values that run out closer together than this are swept together.
SWEEP_GRAIN_S = 0.005
# A value that is missing from a fresh reading ran out, if we expected that to happen about now: the store
# measured its time from a moment that lies one trip before ours.
END_GRACE_S = 1.0
# Ends of values that were written anew meanwhile, beyond as many as there are values.
MAX_STALE = 64


class Cell:
    """A value and when it runs out; a value of None in an own write is a removal."""

    __slots__ = ("due_s", "value")

    def __init__(self, value: bytes | None, due_s: float | None) -> None:
        self.value = value
        self.due_s = due_s


def check_fact(name: str, value: bytes | None, ttl_s: float | None) -> None:
    """
    Refuse what does not belong on the board.

    Raises:
        ValueError: The name or value is too long, or the time to live is not above zero.
    """
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a board name has 1 to {MAX_NAME_BYTES} bytes, got {name[:40]!r}")
    if value is not None and len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"a board value has at most {MAX_VALUE_BYTES} bytes, {name!r} has {len(value)}")
    if ttl_s is not None and not ttl_s > 0:
        raise ValueError(f"a time to live is above zero, {name!r} got {ttl_s}")


class RoomCopy:
    """What this instance knows of one room, and who wants to hear of changes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.view: dict[str, bytes] = {}
        self.public: Mapping[str, bytes] = MappingProxyType(self.view)
        self.shared: dict[str, Cell] = {}
        self.own: dict[str, Cell] = {}
        self.listeners: list[OnChange] = []
        self.end_listeners: list[OnEnd] = []
        self.due: list[tuple[float, int, str, Cell]] = []
        self.order = count()
        self.timer: Timer | None = None
        self.timer_due_s = float("inf")

    def listen(self, on_change: OnChange, on_end: OnEnd | None = None) -> None:
        """Tell *on_change* of every change from now on, and soon of what is known already."""
        self.listeners.append(on_change)
        if on_end is not None:
            self.end_listeners.append(on_end)
        for name in self.view:
            asyncio.get_running_loop().call_soon(self.tell_known, on_change, name)

    def tell_known(self, on_change: OnChange, name: str) -> None:
        """Report one value that was there before the listener, unless it has changed meanwhile."""
        if name in self.view:
            self.call(on_change, name, self.view[name])

    def write(self, name: str, value: bytes | None, ttl_s: float | None) -> Cell:
        """Show our own write at once; `settle` it when the fleet has it."""
        cell = Cell(value, None if ttl_s is None else self.clock.monotonic_s() + ttl_s)
        self.own[name] = cell
        self.expect_end(name, cell)
        self.refresh(name)
        return cell

    def settle(self, name: str, cell: Cell, *, shared: bool) -> None:
        """The fleet has heard our write: stop overlaying it. *shared*: it is the newest word there is."""
        if shared:
            if cell.value is None:
                self.shared.pop(name, None)
            else:
                self.shared[name] = cell
        if self.own.get(name) is cell:
            del self.own[name]
        self.refresh(name)

    def apply(self, name: str, value: bytes | None, left_s: float | None) -> None:
        """Another instance wrote this: *left_s* seconds remain, None for ever."""
        ended = value is not None and left_s is not None and left_s <= 0
        if value is None or ended:
            self.shared.pop(name, None)
        else:
            cell = Cell(value, None if left_s is None else self.clock.monotonic_s() + left_s)
            self.shared[name] = cell
            self.expect_end(name, cell)
        self.refresh(name, ended=ended)

    def replace(self, values: Mapping[str, tuple[bytes, float | None]], keep: Collection[str] = ()) -> None:
        """The whole room was read anew: what is not in *values* is gone; of *keep* we know better."""
        soon_s = self.clock.monotonic_s() + END_GRACE_S
        for name in [name for name in self.shared if name not in values and name not in keep]:
            due_s = self.shared.pop(name).due_s
            self.refresh(name, ended=due_s is not None and due_s <= soon_s)
        for name, (value, left_s) in values.items():
            if name not in keep:
                self.apply(name, value, left_s)

    def unsettled(self) -> list[tuple[str, Cell, float | None]]:
        """Own writes that the fleet has not confirmed and that are still alive, with what is left."""
        self.sweep()
        now_s = self.clock.monotonic_s()
        return [
            (name, cell, None if cell.due_s is None else max(0.001, cell.due_s - now_s))
            for name, cell in self.own.items()
        ]

    def close(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.timer_due_s = float("inf")

    def refresh(self, name: str, *, ended: bool = False) -> None:
        """Bring the view of one name up to date and tell the listeners if it changed; *ended*: it ran out."""
        cell = self.own.get(name) or self.shared.get(name)
        value = None if cell is None else cell.value
        if value == self.view.get(name):
            return
        if value is None:
            if ended:
                for on_end in self.end_listeners:
                    self.call(on_end, name)
            del self.view[name]
        else:
            self.view[name] = value
        for on_change in self.listeners:
            self.call(on_change, name, value)

    def call(self, listener: Callable[..., None], name: str, *value: bytes | None) -> None:
        """Call one listener; its mistake is reported and takes no other listener down."""
        try:
            listener(name, *value)
        except Exception as exc:  # noqa: BLE001 - reported, not swallowed
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"a watcher of the board failed on {name!r}", "exception": exc}
            )

    def expect_end(self, name: str, cell: Cell) -> None:
        """Make sure that `sweep` runs when *cell* runs out."""
        if cell.due_s is None:
            return
        heapq.heappush(self.due, (cell.due_s, next(self.order), name, cell))
        if len(self.due) > MAX_STALE + 2 * (len(self.own) + len(self.shared)):
            # Values that are renewed leave entries behind, which would otherwise stay until their end.
            self.due = [one for one in self.due if self.holds(one[2], one[3])]
            heapq.heapify(self.due)
        self.wake_at(cell.due_s)

    def holds(self, name: str, cell: Cell) -> bool:
        """Whether *cell* is still what we keep under *name*."""
        return self.shared.get(name) is cell or self.own.get(name) is cell

    def wake_at(self, due_s: float) -> None:
        """Make sure that `sweep` runs at *due_s*, or earlier."""
        if due_s >= self.timer_due_s:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.timer_due_s = due_s
        self.timer = self.clock.call_later(due_s - self.clock.monotonic_s(), self.on_timer)

    def on_timer(self) -> None:
        """A value may have run out."""
        self.timer = None
        self.timer_due_s = float("inf")
        self.sweep()

    def sweep(self) -> None:
        """Drop what has run out and wait for the next; what stays costs nothing."""
        now_s = self.clock.monotonic_s()
        while self.due and (self.due[0][0] <= now_s or not self.holds(*self.due[0][2:])):
            due_s, _, name, cell = heapq.heappop(self.due)
            if due_s > now_s:
                continue
            for cells in (self.own, self.shared):
                if cells.get(name) is cell:
                    del cells[name]
                    self.refresh(name, ended=True)
        if self.due:
            self.wake_at(max(self.due[0][0], now_s + SWEEP_GRAIN_S))
