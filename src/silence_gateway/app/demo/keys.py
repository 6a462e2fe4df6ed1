"""Single keys from a terminal, or single characters from a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable
from typing import Any


class Keys:
    """
    Calls *on_key* with each character that arrives on standard input, while open.

    A terminal is switched to deliver keys without Enter, and back at the end. A pipe works as well;
    when it ends nothing more is read, and the demo goes on until a signal stops it.
    """

    def __init__(self, on_key: Callable[[str], None]) -> None:
        self._on_key = on_key
        self._fd = -1
        self._saved: list[Any] | None = None

    @property
    def on_terminal(self) -> bool:
        """Whether keys come from a terminal."""
        return self._saved is not None

    def open(self) -> None:
        """Begin to read; harmless where there is no standard input."""
        try:
            self._fd = sys.stdin.fileno()
        except (ValueError, OSError, AttributeError):
            return
        if os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        try:
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        except (OSError, ValueError):
            # A plain file or /dev/null cannot be waited for: there is nobody to press a key.
            self._fd = -1

    def _read(self) -> None:
        data = os.read(self._fd, 64)
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fd = -1
            return
        for character in data.decode("utf-8", "replace"):
            self._on_key(character)

    def close(self) -> None:
        """Stop reading and give the terminal back as it was."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
        if self._saved is not None:
            termios.tcsetattr(
                self._fd if self._fd >= 0 else sys.stdin.fileno(), termios.TCSADRAIN, self._saved
            )
            self._saved = None
        self._fd = -1
