"""
One health check of an HTTP endpoint: a GET whose status says it, or just a connection.

A GET that is answered with an unexpected status is a refusal: the endpoint is there and wants no calls.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from silence_gateway.clock import Clock
from silence_gateway.core.health import Check
from silence_gateway.errors import UpstreamFault
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.health import Checker
from silence_gateway.upstreams.http_contracts import HttpAsk
from silence_gateway.upstreams.http_link import HttpLink
from silence_gateway.upstreams.settings import HealthSettings

AGENT = b"user-agent: silence-gateway (health check)\r\naccept: */*\r\n"


def http_checker(settings: HealthSettings, clock: Clock) -> Checker:
    """Return what checks an HTTP endpoint: by GET if *settings* name a path, else by connecting."""
    ask: HttpAsk | None = None
    if settings.path:
        start = f"GET {settings.path} HTTP/1.1\r\n".encode("ascii")
        host = settings.host.encode("ascii") if settings.host else None
        ask = HttpAsk("GET", start, host, AGENT, repeatable=True)

    def check_once(connection: Connection, deadline_s: float) -> Awaitable[tuple[Check, str]]:
        # The connector of this pool opens nothing else (`connector.http_connector`).
        link = cast("HttpLink", connection)
        if ask is None:
            return reached(link)
        return answered(link, ask, settings.statuses, deadline_s - clock.monotonic_s(), deadline_s)

    return check_once


async def reached(link: HttpLink) -> tuple[Check, str]:
    """Return whether the endpoint accepts connections."""
    try:
        await link.reach()
    except UpstreamFault as error:
        return Check.SILENT, f"health check: {error}"
    return Check.SERVING, ""


async def answered(
    link: HttpLink, ask: HttpAsk, statuses: tuple[range, ...], patience_s: float, deadline_s: float
) -> tuple[Check, str]:
    """Return whether *ask* is answered with one of *statuses*."""
    try:
        answer = await link.exchange(ask, patience_s, deadline_s)
    except UpstreamFault as error:
        return Check.SILENT, f"health check: {error}"
    # What it says besides is of no interest.
    answer.close()
    status = answer.head.status
    if any(status in good for good in statuses):
        return Check.SERVING, ""
    return Check.REFUSING, f"health check: answered {status}"
