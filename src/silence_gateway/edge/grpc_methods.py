"""
What a gRPC server serves: methods, and the heads of calls for them.

A head is read once for all calls that send the same bytes (`core/hpack.py`), and with it everything that
does not depend on the single call: which method, which timeout, whether it is a gRPC call at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from silence_gateway.core.grpc_metadata import decode_metadata
from silence_gateway.core.grpc_timeout import decode_timeout
from silence_gateway.core.hpack import HeaderPairs, encode
from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_answers import ALWAYS_FITS, Metadata, Status, error_block
from silence_gateway.edge.http2_streams import Http2Head, Open

if TYPE_CHECKING:
    from silence_gateway.edge.grpc_server import GrpcServer
    from silence_gateway.edge.grpc_streams import StreamCall
    from silence_gateway.edge.grpc_unary import UnaryCall

UnaryHandler: TypeAlias = "Callable[[bytes, UnaryCall], bytes | Awaitable[bytes]]"
"""Answers one message with one. An answer given at once costs no task; an awaitable costs one."""

StreamHandler: TypeAlias = "Callable[[StreamCall], Awaitable[None]]"
"""Reads messages from the call and sends others; the call ends well when it returns."""

# What is answered in HTTP's own terms, because whoever asks does not speak gRPC.
NOT_POST = encode([(b":status", b"405"), (b"allow", b"POST"), (b"content-length", b"0")])
NOT_GRPC = encode([(b":status", b"415"), (b"content-length", b"0")])


class Method:
    """
    One method of a service; made by `grpc_unary.unary` or `grpc_streams.streaming`.

    Attributes:
        handler: What answers its calls.
        open: Makes a call of it.
        by_code: How many calls have ended with each status, by its number.
    """

    __slots__ = ("by_code", "handler", "open")

    def __init__(self, handler: UnaryHandler | StreamHandler, open_call: Open) -> None:
        self.handler = handler
        self.open = open_call
        self.by_code = [0] * 17


class GrpcHead(Http2Head):
    """
    The head of a gRPC call.

    Attributes:
        server: Whose call it is.
        rpc: Which method; the server's `unknown` if there is none.
        timeout_s: How long the caller waits, in seconds; None if for ever.
        encoding: The `grpc-encoding` of its messages.
        refusal: The whole answer if it is not to be served; its `code` is -1 if it does not speak gRPC.
        code: The gRPC status of that answer.
    """

    __slots__ = ("code", "encoding", "known_metadata", "refusal", "rpc", "server", "timeout_s")

    def __init__(self, pairs: HeaderPairs, server: GrpcServer) -> None:
        super().__init__(pairs)
        self.server = server
        self.rpc = server.unknown
        self.timeout_s: float | None = None
        self.encoding = b""
        self.known_metadata: Metadata | None = None
        self.refusal = b""
        self.code = -1
        if not self.malformed:
            self.look()
        self.open = self.rpc.open if not self.refusal else server.refused

    def look(self) -> None:
        """Find out what is asked for."""
        content_type = b""
        for name, value in self.pairs:
            if name == b"content-type":
                content_type = value
            elif name == b"grpc-encoding":
                self.encoding = value
            elif name == b"grpc-timeout":
                try:
                    self.timeout_s = decode_timeout(value) / 1_000_000
                except ValueError as error:
                    self.refuse(Code.INVALID_ARGUMENT, str(error))
        if self.method != b"POST":
            self.refusal = NOT_POST
        elif not speaks_grpc(content_type):
            self.refusal = NOT_GRPC
        else:
            rpc = self.server.methods.get(self.path) or self.server.fallback
            if rpc is not None:
                self.rpc = rpc
            elif not self.refusal:
                shown = self.path[:200].decode("ascii", "replace")
                self.refuse(Code.UNIMPLEMENTED, f"there is no method {shown}")

    def refuse(self, code: Code, text: str) -> None:
        """Answer every such call with a status."""
        self.code = code
        self.refusal = error_block(Status(code, text), alone=True, limit=ALWAYS_FITS)

    @property
    def metadata(self) -> Metadata:
        """What the caller sent along, in order; values of `-bin` names are bytes. Decoded when first read."""
        if self.known_metadata is None:
            self.known_metadata = decode_metadata(self.pairs)
        return self.known_metadata


def speaks_grpc(content_type: bytes) -> bool:
    """Whether a content-type is that of gRPC."""
    return content_type.startswith(b"application/grpc") and content_type[16:17] in (b"", b"+", b";", b" ")
