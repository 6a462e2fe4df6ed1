"""
Which pages may open a WebSocket (RFC 6455 section 10.2): browsers let any page try, and send its cookies.

Nothing here awaits.
"""

from __future__ import annotations

from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def origin_allowed(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """
    Whether a page of *origin* may connect to *host*.

    No origin is no browser. A page of this very host may, whatever the scheme (TLS may end before us);
    any other must be listed.
    """
    if not origin or "*" in allowed:
        return True
    origin = origin.lower().rstrip("/")
    if any(origin == each.lower().rstrip("/") for each in allowed):
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = DEFAULT_PORTS.get(parts.scheme)
    if port is None or not host:
        return False
    return parts.netloc.removesuffix(port) == host.lower().removesuffix(port)
