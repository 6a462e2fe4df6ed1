"""
One socket to an HTTP/1.1 upstream: one request at a time, its answer as it comes.

A request whose body comes in pieces is sent by a task of its own, so that an answer may begin before the
body has ended. After an answer that left nothing unclear the socket is free for the next request; after
any other it is closed: unread bytes would be taken for the next caller's answer.

Runs for every request, so: no task where the body is whole, and one timer per socket (`lazy_timer.py`). A
small request through `http_link.py` takes about a fifth of the CPU that it takes with aiohttp 3.14, 64 at
once on uvloop (`bench/http_clients.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import cast

from silence_gateway.clock import Clock
from silence_gateway.core.forwarding import trailer_fields
from silence_gateway.core.http_answer_head import UNTIL_CLOSE, AnswerHead, MalformedAnswer
from silence_gateway.core.http_chunks import ChunkReader
from silence_gateway.core.http_head import CHUNKED, Rejected
from silence_gateway.errors import UpstreamBroken, UpstreamProtocolError, UpstreamTimeout
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.http_contracts import HttpAsk, KeptBody, head_only
from silence_gateway.upstreams.http_doubt import doubt_at_end
from silence_gateway.upstreams.http_heads import AnswerHeads
from silence_gateway.upstreams.lazy_timer import LazyTimer
from silence_gateway.upstreams.liveness import ask_whether_alive
from silence_gateway.upstreams.statistics import TrafficCounts

MAX_HEAD_BYTES = 64 * 1024
MAX_INFORMATIONAL = 16
"""Heads of the 1xx kind before the real one; they are left out, so they must end."""

ALL_AT_ONCE_BYTES = 32 * 1024
"""
A body known to be no longer is waited for with its head: what breaks in it can then still be answered with
an error, or asked for again elsewhere, and it is written in one piece.
"""

STALE_S = 0.1
"""A server that ends a used connection later than this has read the request, and may have died of it."""

UNBOUNDED = 2**62
"""As the longest body of an answer: whoever reads it bounds what is in memory, not how long it is."""


class StaleSocket(UpstreamBroken):
    """A socket that was used before was closed as the request was sent, as servers do with idle ones."""


class HttpConnection(asyncio.Protocol):
    """
    The protocol of one socket.

    *on_free* is called with whether it can be used again: after each answer, and when it is gone.

    Attributes:
        idle_since_s: Since when it has been free, monotonic seconds; written by whoever keeps it.
        idle_s: How long the server said it keeps a free socket; None if it said nothing.
        gone: Whether it can no longer be used.
        heard: Whether the server has said anything since it was last asked, or at all.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        name: str,
        heads: AnswerHeads,
        clock: Clock,
        on_free: Callable[[HttpConnection, bool], None],
        traffic: TrafficCounts,
    ) -> None:
        self._traffic = traffic
        self.idle_since_s = 0.0
        self.idle_s: float | None = None
        self.gone = self.heard = False
        self._name = name
        self._heads = heads
        self._clock = clock
        self._on_free = on_free
        self._uses = 0
        self._sent_s = -inf
        self._ask: HttpAsk | None = None
        self._wait: asyncio.Future[HttpAnswer] | None = None
        self._buffer = bytearray()
        self._informational = 0
        self._answer: HttpAnswer | None = None
        self._chunks: ChunkReader | None = None
        self._remaining = 0
        self._reusable = False
        self._upload: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._write_paused = False
        self._limit_s = self._patience_s = inf
        self._timer = LazyTimer(clock, self._late)

    async def exchange(
        self, ask: HttpAsk, authority: bytes, patience_s: float, limit_s: float = inf
    ) -> HttpAnswer:
        """
        Send *ask* and return its answer as soon as the head is here.

        Args:
            ask: What to send.
            authority: The endpoint's address, for Host.
            patience_s: How long the upstream may take nothing of the body, and then not answer.
            limit_s: Monotonic seconds at which to give up whatever happens.

        Raises:
            UpstreamTimeout: It was too slow.
            UpstreamBroken: The connection broke; as a StaleSocket if most likely nobody has read the request.
            UpstreamProtocolError: The answer is not HTTP as it should be.
            ClientFault: The body could not be read.

        Cancelling it ends the connection.
        """
        loop = asyncio.get_running_loop()
        self._ask = ask
        self._uses += 1
        self._sent_s = self._clock.monotonic_s()
        self.heard = False
        self._informational = 0
        self._patience_s, self._limit_s = patience_s, limit_s
        wait: asyncio.Future[HttpAnswer] = loop.create_future()
        self._wait = wait
        message = ask.message(authority)
        self._traffic.bytes_out += len(message)
        self.transport.write(message)
        if ask.pieces is not None:
            self._expect_by(inf)
            self._upload = loop.create_task(self._send(ask.pieces))
        else:
            self._expect_within(patience_s)
        try:
            return await wait
        except BaseException:
            if wait.done() and not wait.cancelled() and wait.exception() is None:
                # The answer and the cancellation came in one tick; the socket may be somebody else's already.
                wait.result().close()
            elif self._wait is wait:
                self.abort()
            raise

    def flow(self, *, on: bool) -> None:
        """Read the socket, or do not."""
        if not self.gone and not self.transport.is_closing():
            if on:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def abort(self) -> None:
        """End it at once; what is in flight on it fails."""
        self._stop_upload()
        self._limit_s = inf
        self._timer.stop()
        if not self.gone:
            self.transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self.transport = cast("asyncio.Transport", transport)
        ask_whether_alive(self.transport)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer that is waited for."""
        self.heard = True
        self._traffic.bytes_in += len(data)
        if self._answer is not None:
            self._read_body(data)
            return
        if self._wait is None:
            # Nobody has asked: what this answers can never be known.
            self.abort()
            return
        self._buffer += data
        try:
            self._read_heads()
        except MalformedAnswer as error:
            self._fail(UpstreamProtocolError(f"{self._name} answered with a malformed head: {error}"))

    def pause_writing(self) -> None:
        """The upstream does not keep up with the body."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._write_paused = False
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self.gone = True
        self.resume_writing()
        answer = self._answer
        if answer is not None and self._remaining == UNTIL_CLOSE and error is None:
            self._answer = None
            answer.finish()
            self._resolve(answer)
        elif self._wait is not None or answer is not None:
            said = f": {error}" if error is not None else ""
            if answer is not None:
                broken = UpstreamBroken(f"{self._name} broke off in the middle of an answer{said}")
            elif self._uses > 1 and not self.heard and self._clock.monotonic_s() < self._sent_s + STALE_S:
                broken = StaleSocket(f"{self._name} had closed a connection that was to be used again{said}")
            else:
                said = said or doubt_at_end(self._buffer, self._traffic, self.transport)
                broken = UpstreamBroken(f"{self._name} closed the connection without an answer{said}")
            self._fail(broken)
        self.abort()
        self._on_free(self, False)

    # Reading.

    def _read_heads(self) -> None:
        """Read as far as the real head, if it has come."""
        buffer = self._buffer
        while True:
            end = buffer.find(b"\r\n\r\n") + 4
            if end > MAX_HEAD_BYTES or (end < 4 and len(buffer) > MAX_HEAD_BYTES):
                raise MalformedAnswer(f"more than {MAX_HEAD_BYTES} bytes")
            if end < 4:
                if buffer.count(b"\n") != buffer.count(b"\r\n"):
                    raise MalformedAnswer("a line that does not end in CR LF")
                return
            head = self._heads.read(bytes(buffer[:end]))
            del buffer[:end]
            if not head.informational:
                break
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise MalformedAnswer(f"more than {MAX_INFORMATIONAL} heads of the kind 1xx")
        rest = bytes(buffer)
        buffer.clear()
        self._begin_answer(head, rest)

    def _begin_answer(self, head: AnswerHead, rest: bytes) -> None:
        ask = self._ask
        assert ask is not None
        answer = HttpAnswer(head, self, self._traffic)
        if head.status == 101:
            self._switch(answer, ask, rest)
            return
        self._answer = answer
        self._reusable = head.keep_alive
        self.idle_s = head.idle_s
        if head_only(ask.method, head):
            self._remaining = 0
        else:
            self._remaining = head.body_size
            if head.body_size == CHUNKED:
                # Its chunks may be as small as it likes: events of one byte are a program's own affair.
                self._chunks = ChunkReader(UNBOUNDED, UNBOUNDED)
        if rest or self._remaining == 0:
            self._read_body(rest)
        if self._answer is not answer:
            return
        if not self._remaining > 0 or (head.length or 0) > ALL_AT_ONCE_BYTES:
            self._resolve(answer)

    def _read_body(self, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        if self._remaining == CHUNKED:
            self._read_chunks(answer, data)
        elif self._remaining == UNTIL_CLOSE:
            answer.feed(data)
        else:
            size = len(data)
            if size > self._remaining:
                # What follows the answer belongs to nobody: use this socket no more.
                self._reusable = False
                data = data[: self._remaining]
            self._remaining -= len(data)
            if data:
                answer.feed(data)
            if not self._remaining:
                self._complete(answer)

    def _read_chunks(self, answer: HttpAnswer, data: bytes) -> None:
        chunks = self._chunks
        assert chunks is not None
        self._buffer += data
        try:
            whole = chunks.take_from(self._buffer)
        except Rejected as error:
            self._fail(UpstreamProtocolError(f"{self._name} broke the framing of its answer: {error}"))
            return
        piece = chunks.take_body()
        if piece:
            answer.feed(piece)
        if whole:
            answer.trailers = trailer_fields(chunks.trailers)
            if self._buffer:
                self._reusable = False
                self._buffer.clear()
            self._complete(answer)

    def _switch(self, answer: HttpAnswer, ask: HttpAsk, early: bytes) -> None:
        """Hand the socket over to whoever speaks the other protocol."""
        head = answer.head
        if not ask.upgrade or head.value(b"sec-websocket-accept") != ask.upgrade:
            raise MalformedAnswer("it switched to a protocol that it was not asked for")
        # Whoever takes it over is told what comes from then on.
        self.flow(on=False)
        answer.switched = (self.transport, early)
        self._ask = None
        self._resolve(answer)
        self.gone = True
        self.abort()
        self._on_free(self, False)

    def _complete(self, answer: HttpAnswer) -> None:
        """All of the answer is here."""
        uploaded = self._upload is None
        self._stop_upload()
        self._expect_by(inf)
        self._answer = self._chunks = self._ask = None
        answer.finish()
        self._resolve(answer)
        if not uploaded:
            self.abort()
        elif self._reusable and not self.gone:
            self.flow(on=True)
            self._on_free(self, True)
        else:
            self.transport.close()

    def _resolve(self, answer: HttpAnswer) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            self._expect_by(inf)
            if not wait.done():
                wait.set_result(answer)
            else:
                # Its caller left in this very tick, and nobody else will read it.
                answer.close()

    def _fail(self, error: Exception) -> None:
        """End the connection; whoever waits for its answer, or reads it, is told *error*."""
        answer, self._answer = self._answer, None
        wait, self._wait = self._wait, None
        if wait is not None:
            if not wait.done():
                wait.set_exception(error)
        elif answer is not None:
            answer.fail(error)
        self.abort()

    # Sending a body in pieces.

    async def _send(self, pieces: KeptBody) -> None:
        try:
            async for piece in pieces:
                # Now it is the upstream's turn to take it, and not the caller's to send more.
                self._expect_within(self._patience_s)
                chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if pieces.is_chunked else piece
                self._traffic.bytes_out += len(chunk)
                self.transport.write(chunk)
                if self._write_paused:
                    self._drained = asyncio.get_running_loop().create_future()
                    await self._drained
                if self.gone:
                    return
                self._expect_by(inf)
            if pieces.is_chunked:
                self.transport.write(b"0\r\n\r\n")
        except Exception as error:  # noqa: BLE001 - whatever the caller's body does, its request must end
            self._upload = None
            self._fail(error)
            return
        self._upload = None
        self._expect_within(self._patience_s)

    def _stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.cancel()

    # Time.

    def _expect_within(self, seconds: float) -> None:
        """Give up unless something is expected anew within *seconds*; only while a head is waited for."""
        if self._wait is not None:
            self._expect_by(self._clock.monotonic_s() + seconds)

    def _expect_by(self, due_s: float) -> None:
        self._timer.ring_at(min(due_s, self._limit_s) if self._wait is not None else inf)

    def _late(self) -> None:
        self._fail(UpstreamTimeout(f"{self._name} did not answer in time"))
