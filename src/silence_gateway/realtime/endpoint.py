"""
Where a WebSocket begins: who may connect from which page, and what is spoken.

The edge has read the request and will do the handshake; this decides and hands it a listener. JSON is
spoken here. A client that asks for Protobuf is let in and closed with 3506 at once: that is the one
answer after which the stock clients stop trying and say why.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from silence_gateway.core.centrifuge_codes import INAPPROPRIATE_PROTOCOL, CloseCode
from silence_gateway.core.http import Handler, Request, Response, UpgradeResponse
from silence_gateway.core.origins import origin_allowed
from silence_gateway.core.sockets import Socket
from silence_gateway.errors import AccessDenied, Draining
from silence_gateway.realtime.hub import RealtimeHub

JSON = "centrifuge-json"
PROTOBUF = "centrifuge-protobuf"


def websocket_endpoint(hub: RealtimeHub) -> Handler:
    """Return the handler of `realtime.path`."""

    async def handle(request: Request) -> Response:
        if hub.draining:
            raise Draining("this instance is shutting down; connect again to reach another one")
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        host = request.headers.get(b"host", b"").decode("latin-1")
        if not origin_allowed(origin, host, hub.settings.origins):
            hub.statistics.refused_origins += 1
            raise AccessDenied(
                f"pages of {origin[:100]} may not connect here; if they should, add it to realtime.origins"
            )
        subprotocol, spoken = choose(request)
        if not spoken:
            return UpgradeResponse(Refusal(hub, INAPPROPRIATE_PROTOCOL), subprotocol)
        return UpgradeResponse(hub.listener_for(request), subprotocol)

    return handle


def choose(request: Request) -> tuple[str, bool]:
    """Return the subprotocol to answer with (empty for none), and whether we speak it."""
    offered = [
        each.strip()
        for each in request.headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(",")
    ]
    if JSON in offered:
        return JSON, True
    if PROTOBUF in offered:
        return PROTOBUF, False
    query = parse_qs(request.query, max_num_fields=32) if request.query.count("&") < 32 else {}
    asked = [*query.get("format", []), *query.get("cf_protocol", [])]
    return "", "protobuf" not in asked


class Refusal:
    """A listener that says goodbye as soon as the handshake is done."""

    __slots__ = ("hub", "why")

    def __init__(self, hub: RealtimeHub, why: CloseCode) -> None:
        self.hub = hub
        self.why = why

    def on_open(self, socket: Socket) -> None:
        """Close."""
        socket.close(self.why.code, self.why.reason)

    def on_text(self, payload: bytes) -> None:
        """Nothing that comes now is read."""

    def on_binary(self, payload: bytes) -> None:
        """Nothing that comes now is read."""

    def on_close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the contract's shape
        """Count it."""
        self.hub.statistics.count_close(code)

    def on_drained(self) -> None:
        """Nothing is held back."""

    def on_shutdown(self) -> None:
        """It is closing already."""
