"""What ASGI (version 3) passes around, as types; the same shapes as Starlette's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

AnyApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""The same, in whatever types a framework describes those shapes: Litestar's are not Starlette's."""

WEBSOCKET = "WEBSOCKET"
"""What stands for the method of a WebSocket's handshake where limits are matched: HTTP has none so named."""

CONNECTION = "silence_gateway.connection"
"""Where a scope holds the number of its WebSocket, which no other one of this process has."""


def route_path(scope: Scope) -> str:
    """
    Return the path as the routes of this app see it: without what it is mounted under.

    It is decoded, as servers hand it over; one that does not begin with `root_path` is left as it is.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        return path[len(root) :]
    return path


def steps_of(path: str) -> list[str]:
    """
    Return the segments of a path.

    Slashes that are doubled or stand at the end are not looked at, because some frameworks serve such a
    path all the same: nobody gets past a limit with one.
    """
    return [step for step in path.split("/") if step]
