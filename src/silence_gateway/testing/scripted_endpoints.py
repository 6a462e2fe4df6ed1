"""
Endpoints that do as they are told: the fake to test a `GrpcUpstream` against without a socket.

    endpoints = ScriptedEndpoints(clock)
    endpoints["10.0.0.1:1"].follow(Failure(14) * 5 + Reply(b"ok"))
    upstream = GrpcUpstream(settings, clock=clock, connector=endpoints.connect)
    endpoints["10.0.0.1:1"].die()

An endpoint accepts connections unless told otherwise, and answers every call with `ok` unless it follows
another script. Health checks are answered apart from the script, by `health`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable

from silence_gateway.clock import Clock
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.testing.scripted_upstream import Call, Reply, Script, ScriptedStream, ScriptedUpstream
from silence_gateway.upstreams import contracts
from silence_gateway.upstreams.contracts import Metadata
from silence_gateway.upstreams.statistics import ConnectionStatistics

CHECK = b"/grpc.health.v1.Health/Check"
SERVING = Reply(b"\x08\x01")
NOT_SERVING = Reply(b"\x08\x02")


class ScriptedConnection:
    """
    One connection to a `ScriptedEndpoint`.

    Attributes:
        max_streams: Calls it takes at once.
        accepting: Whether it takes calls.
        statistics: The bytes of the messages of unary calls, and no others.
    """

    def __init__(
        self, endpoint: ScriptedEndpoint, on_lost: Callable[[str], None], on_capacity: Callable[[], None]
    ) -> None:
        self.max_streams = endpoint.max_streams
        self.accepting = True
        self.statistics = ConnectionStatistics()
        self._endpoint = endpoint
        self._on_lost = on_lost
        self._on_capacity = on_capacity
        self._calls: set[asyncio.Task[contracts.Reply]] = set()
        self._broken = ""

    @property
    def open_streams(self) -> int:
        """Unary calls in flight."""
        return len(self._calls)

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> contracts.Reply:
        """Meet the endpoint's next step."""
        if not self.accepting or self.open_streams >= self.max_streams:
            raise UpstreamUnavailable("this connection takes no more calls", sent=False)
        was_full = self.open_streams + 1 == self.max_streams
        task = asyncio.ensure_future(self._endpoint.meet(method, message, metadata, deadline_s))
        self._calls.add(task)
        self.statistics.bytes_out += len(message)
        try:
            reply = await task
            self.statistics.bytes_in += len(reply.message)
            return reply
        except asyncio.CancelledError:
            if self._broken:
                raise UpstreamUnavailable(self._broken) from None
            task.cancel()
            raise
        finally:
            self._calls.discard(task)
            if was_full and self.accepting:
                self._on_capacity()

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> ScriptedStream:
        """Meet the endpoint's next step; streams are not counted here."""
        return self._endpoint.script.stream(method, messages, metadata, deadline_s)

    def lose(self, reason: str = "connection reset") -> None:
        """Break it: calls in flight fail as sent."""
        self.stop(reason)
        self._broken = reason
        for task in self._calls:
            task.cancel()

    def stop(self, reason: str = "") -> None:
        """Take no more calls, as after an orderly goodbye; calls in flight go on."""
        if self.accepting:
            self.accepting = False
            self._endpoint.connections.remove(self)
            self._on_lost(reason)

    async def close(self, *, graceful: bool = False) -> None:
        """End it from our side."""
        if self.accepting:
            self.accepting = False
            self._endpoint.connections.remove(self)
        if not graceful:
            self._broken = "closed here"
            for task in self._calls:
                task.cancel()


class ScriptedEndpoint:
    """
    One address.

    Attributes:
        script: What calls meet, and the calls it got.
        health: What health checks meet, and the checks it got.
        connections: Those open now.
        dials: How often somebody tried to connect.
        max_streams: What its next connections allow.
        answers: Whether it lets anybody connect; None leaves them waiting.
    """

    def __init__(self, clock: Clock) -> None:
        self.script = ScriptedUpstream(Reply(b"ok"), clock=clock)
        self.health = ScriptedUpstream(SERVING, clock=clock)
        self.connections: list[ScriptedConnection] = []
        self.dials = 0
        self.max_streams = 100
        self.answers: bool | None = True
        self._left: int | None = None
        self._then: bool | None = None
        self.opened = asyncio.Event()

    @property
    def calls(self) -> list[Call]:
        """Every call it got, health checks apart."""
        return self.script.calls

    def follow(self, script: Script) -> None:
        """Treat calls from now on as *script* says."""
        self.script.follow(script)

    def meet(
        self, method: bytes, message: bytes, metadata: Metadata, deadline_s: float | None
    ) -> Awaitable[contracts.Reply]:
        """Answer a call, or a health check."""
        caller = self.health if method == CHECK else self.script
        return caller.unary(method, message, metadata, deadline_s)

    def refuse(self) -> None:
        """Refuse new connections."""
        self.answers = False
        self.opened.set()

    def hang(self) -> None:
        """Leave whoever connects waiting."""
        self.answers = None
        self.opened.clear()

    def accept(self) -> None:
        """Accept new connections, also those left waiting."""
        self._left = None
        self.answers = True
        self.opened.set()

    def accept_only(self, count: int, then: bool | None = None) -> None:
        """Accept *count* new connections, and do *then* with those that follow (as `answers`)."""
        self._left, self._then = count, then

    def let_in(self) -> bool | None:
        """Return what to do with one who connects now."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self._left, self.answers = None, self._then
                if self._then is None:
                    self.opened.clear()
        return self.answers

    def die(self) -> None:
        """Break every connection and refuse new ones."""
        self.refuse()
        for connection in tuple(self.connections):
            connection.lose()


class ScriptedEndpoints:
    """All the endpoints there are; one comes into being when it is first named."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._endpoints: dict[str, ScriptedEndpoint] = {}

    def __getitem__(self, address: str) -> ScriptedEndpoint:
        if address not in self._endpoints:
            self._endpoints[address] = ScriptedEndpoint(self._clock)
        return self._endpoints[address]

    async def connect(
        self, address: str, *, on_lost: Callable[[str], None], on_capacity: Callable[[], None]
    ) -> ScriptedConnection:
        """Connect to *address*: a `Connector` for the pool."""
        endpoint = self[address]
        endpoint.dials += 1
        while endpoint.let_in() is None:
            await endpoint.opened.wait()
        if not endpoint.answers:
            raise UpstreamUnavailable(f"{address} refuses connections", sent=False)
        connection = ScriptedConnection(endpoint, on_lost, on_capacity)
        endpoint.connections.append(connection)
        return connection
