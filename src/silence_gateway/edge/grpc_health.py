"""
grpc.health.v1 as a server: Check, List and Watch of states that somebody else sets.

The messages are few and small, so they are read and written here, field by field.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum

from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_methods import Method
from silence_gateway.edge.grpc_streams import StreamCall, streaming
from silence_gateway.edge.grpc_unary import UnaryCall, unary
from silence_gateway.errors import BadRequest, RpcError
from silence_gateway.transcoding.wire import read_fields, text_of, write_bytes

HEALTH = "grpc.health.v1.Health"


class Serving(IntEnum):
    """The state of a service."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3  # nobody has ever set its state; only Watch says so


class HealthService:
    """
    The states of services, and who watches them.

    The server as a whole is the service with the empty name; it serves from the beginning.
    """

    def __init__(self) -> None:
        self.states: dict[str, Serving] = {"": Serving.SERVING}
        self.watchers: dict[str, set[asyncio.Event]] = {}
        self.shut = False

    def set(self, service: str, state: Serving) -> None:
        """Set the state of *service*, which may be new; watchers are told. Ignored after `shut_down`."""
        if not self.shut:
            self.states[service] = state
            self.wake(service)

    def shut_down(self) -> None:
        """
        Say NOT_SERVING for everything from now on, and end every Watch with UNAVAILABLE.

        Call it before the server drains: a Watch has no end of its own that a drain could wait for.
        """
        self.shut = True
        self.states = dict.fromkeys(self.states, Serving.NOT_SERVING)
        for service in list(self.watchers):
            self.wake(service)

    def methods(self) -> dict[str, Method]:
        """Return the methods for a server's table."""
        return {
            f"{HEALTH}/Check": unary(self.check),
            f"{HEALTH}/List": unary(self.list),
            f"{HEALTH}/Watch": streaming(self.watch),
        }

    def wake(self, service: str) -> None:
        """Let the watchers of *service* look."""
        for event in self.watchers.get(service, ()):
            event.set()

    def check(self, message: bytes, _call: UnaryCall) -> bytes:
        """
        Answer Check.

        Raises:
            RpcError: NOT_FOUND; nobody has ever set the state of that service.
            BadRequest: The message makes no sense.
        """
        service = asked_for(message)
        state = self.states.get(service)
        if state is None:
            raise RpcError(Code.NOT_FOUND, f"no service is called {service[:100]!r} here")
        return response(state)

    def list(self, _message: bytes, _call: UnaryCall) -> bytes:
        """Answer List."""
        return b"".join(
            [
                write_bytes(1, write_bytes(1, service.encode()) + write_bytes(2, response(state)))
                for service, state in self.states.items()
            ]
        )

    async def watch(self, call: StreamCall) -> None:
        """
        Answer Watch: the state now, and every change of it.

        Raises:
            RpcError: UNAVAILABLE; the server is going away.
            BadRequest: The message makes no sense.
        """
        service = asked_for(await call.only_message())
        changed = asyncio.Event()
        self.watchers.setdefault(service, set()).add(changed)
        try:
            told = None
            while True:
                changed.clear()
                state = self.states.get(service, Serving.SERVICE_UNKNOWN)
                if state is not told:
                    told = state
                    await call.send(response(state))
                if self.shut:
                    raise RpcError(Code.UNAVAILABLE, "this server is going away")
                await changed.wait()
        finally:
            watchers = self.watchers[service]
            watchers.discard(changed)
            if not watchers:
                del self.watchers[service]


def asked_for(message: bytes) -> str:
    """
    Return the service that a HealthCheckRequest asks for.

    Raises:
        BadRequest: The message makes no sense.
    """
    service = ""
    try:
        for number, value in read_fields(message):
            if number == 1:
                service = text_of(value)
    except ValueError as error:
        raise BadRequest(f"not a HealthCheckRequest: {error}") from error
    return service


def response(state: Serving) -> bytes:
    """Return a HealthCheckResponse."""
    return b"\x08%c" % state if state else b""
