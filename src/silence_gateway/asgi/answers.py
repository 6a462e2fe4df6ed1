"""
A refusal as ASGI messages: an HTTP answer, or what an HTTP answer is to a WebSocket that is not open yet.

It is the gateway's own: 429, `Retry-After`, `RateLimit-Policy` and `RateLimit`, and a problem document with
`violated-policies` (`core/refusal.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from silence_gateway.asgi.protocol import Message, Scope, Send
from silence_gateway.core.refusal import CLOSE_CODE, STATUS, close_reason, refusal_lines, refusal_problem
from silence_gateway.errors import RateLimited

DENIAL = "websocket.http.response"
"""The extension of servers that can answer a handshake with more than 403."""


def refusal_messages(refused: RateLimited, prefix: str = "http.response") -> Sequence[Message]:
    """Return the whole answer; *prefix* begins the types of its messages."""
    body = json.dumps(refusal_problem(refused), ensure_ascii=False).encode(errors="replace")
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        *((name.lower(), value) for name, value in refusal_lines(refused)),
    ]
    return (
        {"type": f"{prefix}.start", "status": STATUS, "headers": headers},
        {"type": f"{prefix}.body", "body": body},
    )


def close_message(refused: RateLimited) -> Message:
    """Return what closes a WebSocket."""
    return {"type": "websocket.close", "code": CLOSE_CODE, "reason": close_reason(refused)}


async def deny(refused: RateLimited, scope: Scope, send: Send) -> None:
    """Refuse the handshake of a WebSocket."""
    if DENIAL not in (scope.get("extensions") or {}):
        # The server makes it 403; nothing else can be said.
        await send(close_message(refused))
        return
    for message in refusal_messages(refused, DENIAL):
        await send(message)
