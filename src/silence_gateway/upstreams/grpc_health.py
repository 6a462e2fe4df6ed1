"""
One health check by `grpc.health.v1.Health/Check`, over a connection of the pool.

Only an explicit NOT_SERVING, or no answer,
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
from silence_gateway.upstreams.health_messages import check_request, says_not_serving

CHECK = b"/grpc.health.v1.Health/Check"


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
