"""
One health check by `grpc.health.v1.Health/Check`, over a connection of the pool.

The two messages are one field each and written by hand here. Only an explicit NOT_SERVING, or no answer,
speaks against an endpoint: a server without the health service, or with another idea of it, counts as
healthy because it answers.
"""

from __future__ import annotations

from collections.abc import Awaitable

from silence_gateway.core.health import Check
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.upstreams.contracts import Caller
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.health import Checker

CHECK = b"/grpc.health.v1.Health/Check"
NOT_SERVING = 2


def check_request(service: str) -> bytes:
    """Return a HealthCheckRequest for *service*: field 1, a string, absent when empty."""
    name = service.encode()
    return b"\x0a" + varint(len(name)) + name if name else b""


def says_not_serving(message: bytes) -> bool:
    """
    Return whether a HealthCheckResponse says NOT_SERVING (field 1, an enum; the last one counts).

    Anything that cannot be read says nothing.
    """
    status, at = 0, 0
    while at < len(message):
        key, at = read_varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(message, at)
            if key >> 3 == 1:
                status = value
        elif kind == 2:
            length, at = read_varint(message, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return False
        if at > len(message):
            return False
    return status == NOT_SERVING


def varint(number: int) -> bytes:
    """Return *number* in base 128, lowest group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at* and where it ends; beyond the end of *message* if it is cut short."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    return number, len(message) + 1


def grpc_checker(service: str) -> Checker:
    """Return what asks an endpoint about *service*; empty asks about the server as a whole."""
    request = check_request(service)

    def check_once(connection: Connection, deadline_s: float) -> Awaitable[tuple[Check, str]]:
        return check(connection, request, deadline_s)

    return check_once


async def check(connection: Caller, request: bytes, deadline_s: float) -> tuple[Check, str]:
    """
    Ask once, and return how that ended and what to show for it.

    UNAVAILABLE counts as no answer: it is what a proxy says whose server is gone.
    """
    try:
        reply = await connection.unary(CHECK, request, (), deadline_s)
    except RpcError as error:
        if error.code == Code.UNAVAILABLE:
            return Check.SILENT, f"health check: UNAVAILABLE {error.details}"
        return Check.SERVING, ""
    except UpstreamFault as error:
        return Check.SILENT, f"health check: {error}"
    if says_not_serving(reply.message):
        return Check.REFUSING, "health check: NOT_SERVING"
    return Check.SERVING, ""
