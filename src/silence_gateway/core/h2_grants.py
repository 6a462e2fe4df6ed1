"""
Who may send a message that is larger than its window, so that all of them together stay within a bound.

A window that every stream has from the beginning is enough for what most callers send. A larger message is
announced by its length, and needs room for the rest. Room is lent in the order it is asked for; the first
in the line always gets it once nobody else has any, however large it is, so that nobody waits for ever.
Nothing here knows what a stream is.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Borrower = TypeVar("Borrower")


class Grants(Generic[Borrower]):
    """
    Room lent to borrowers.

    Args:
        limit: Bytes that may be lent at once. One borrower alone may have more.

    Attributes:
        lent: Bytes lent now.
        waiting: Who waits, and for how much.
    """

    __slots__ = ("lent", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lent = 0
        self.waiting: deque[tuple[Borrower, int]] = deque()

    def ask(self, who: Borrower, size: int) -> bool:
        """Lend *size* bytes to *who*; False if it has to wait until `give_back` or `leave` names it."""
        if not self.waiting and self._fits(size):
            self.lent += size
            return True
        self.waiting.append((who, size))
        return False

    def give_back(self, size: int) -> list[tuple[Borrower, int]]:
        """Take *size* bytes back; return who gets what now."""
        self.lent -= size
        return self._serve()

    def leave(self, who: Borrower) -> list[tuple[Borrower, int]]:
        """Forget that *who* waits; return who gets what now."""
        self.waiting = deque(each for each in self.waiting if each[0] is not who)
        return self._serve()

    def _fits(self, size: int) -> bool:
        return not self.lent or self.lent + size <= self.limit

    def _serve(self) -> list[tuple[Borrower, int]]:
        served: list[tuple[Borrower, int]] = []
        while self.waiting and self._fits(self.waiting[0][1]):
            lent = self.waiting.popleft()
            self.lent += lent[1]
            served.append(lent)
        return served
