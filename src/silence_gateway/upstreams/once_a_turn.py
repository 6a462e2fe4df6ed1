"""
Work that many ask for at the same time and that need not be done for each of them.

A look at who may take calls goes through all endpoints (4 us each), and a thousand of them may connect, break
or be judged in one turn of the event loop: one look for each would hold it up for seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class OnceATurn:
    """Does *work* when called: at once or, if it did in this turn of the event loop, once in the next one."""

    __slots__ = ("_again", "_rests", "_work")

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._rests = self._again = False

    def __call__(self) -> None:
        """Do the work, or have it done."""
        if self._rests:
            self._again = True
            return
        self._rests = True
        asyncio.get_running_loop().call_soon(self._rested)
        self._work()

    def _rested(self) -> None:
        self._rests = False
        if self._again:
            self._again = False
            self()
