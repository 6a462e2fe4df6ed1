"""
Ports on loopback, for servers that must be told theirs before they start.

They are taken from below the range that the kernel takes ports from by itself: no outgoing connection of
anybody can take one before the server that it is meant for, nor while that server is down.
"""

from __future__ import annotations

import contextlib
import random
import socket

FIRST, END = 15_000, 30_000

taken: set[int] = set()


def free_port() -> int:
    """Return a port that is free now and was not given out before in this process."""
    while True:
        port = random.randrange(FIRST, END)  # noqa: S311 - not a secret
        if port in taken:
            continue
        taken.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
