"""
Sockets that may rightly be silent for hours, and whose other side may be gone without a word.

HTTP/1.1 has no pings, so the system asks: a side that lost its power is noticed after about two minutes.
"""

from __future__ import annotations

import asyncio
import select
import socket

PROBES = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""After a minute of silence, every 15 s, four times; on systems that let us say so."""


def ask_whether_alive(transport: asyncio.Transport) -> None:
    """Have the system ask now and then whether the other side of *transport* is there."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in PROBES:
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def has_news(transport: asyncio.Transport) -> bool:
    """
    Return whether the kernel holds something of the other side of *transport* that was not read, or its end.

    The event loop tells of an end a turn later. It costs a system call (1 us).
    """
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(waiting.poll(0))
