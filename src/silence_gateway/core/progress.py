"""
Whether somebody who owes us attention gives it: a reader that must take what it asked for.

Not moving at all is not the only way to hold memory for ever: a byte now and then does it too. So within
each patience a reader must take a share of what waits for it. Nothing here reads a clock.
"""

from __future__ import annotations

UNSET = -1.0
SHARE = 8
LEAST_BYTES = 1_024
MOST_BYTES = 262_144
"""Within each patience a reader must take an eighth of what waits, 256 KiB at most: with 30 seconds of
patience 9 KB/s are enough for anything, and 4 MiB are gone or given up after ten minutes."""


class Progress:
    """How far one reader has come since it was last looked at in earnest."""

    __slots__ = ("due", "since_s", "taken")

    def __init__(self) -> None:
        self.since_s = UNSET
        self.taken = 0
        self.due = 0

    def is_stuck(self, now_s: float, taken: int, waiting: int, patience_s: float) -> bool:
        """
        Tell whether the reader has been too slow.

        Args:
            now_s: The time, in seconds of any one clock.
            taken: Bytes it has taken since the beginning, altogether.
            waiting: Bytes that wait for it now.
            patience_s: How long it may need for its share.
        """
        if not waiting:
            self.since_s = UNSET
            return False
        if self.since_s == UNSET or taken - self.taken >= self.due:
            self.since_s = now_s
            self.taken = taken
            self.due = min(waiting, MOST_BYTES, max(LEAST_BYTES, waiting // SHARE))
            return False
        return now_s - self.since_s >= patience_s
