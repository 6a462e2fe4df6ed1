"""
What a header block of an answer means to a gRPC client.

A block is interpreted once and shared by every call that gets the same bytes, so an `Answer` is
never changed. It knows nothing of calls or connections.
"""

from __future__ import annotations

from silence_gateway.core.grpc_metadata import decode_binary, decode_message, decode_metadata
from silence_gateway.core.h2_frames import ErrorCode, error_name
from silence_gateway.core.hpack import HeaderPairs
from silence_gateway.core.status import CODE_OF_HTTP, Code
from silence_gateway.errors import RpcError, UpstreamProtocolError, UpstreamUnavailable
from silence_gateway.upstreams.contracts import Metadata
from silence_gateway.upstreams.grpc_messages import CallError

# Only these belong to one hop; in HTTP/2 they make a message malformed (RFC 9113 section 8.2.2).
_FORBIDDEN = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))


class Answer:
    """
    One header block, read: the head of an answer, its trailers, or both at once (trailers-only).

    Attributes:
        http_status: The `:status`, 0 in trailers.
        status: The gRPC status, -1 if there is none.
        message: The text of `grpc-message`.
        status_details: The bytes of `grpc-status-details-bin`.
        encoding: The `grpc-encoding`.
        accepts: The `grpc-accept-encoding`, empty if it is not said.
        metadata: What is left for the application.
        plain: This is the head of a gRPC answer and nothing is wrong with it.
        ends_well: As trailers after such a head it says OK.
        malformed: What breaks the rules of HTTP/2, or empty.
        content_type: As it came.
    """

    __slots__ = (
        "accepts",
        "content_type",
        "encoding",
        "ends_well",
        "http_status",
        "malformed",
        "message",
        "metadata",
        "plain",
        "status",
        "status_details",
    )

    def __init__(self, pairs: HeaderPairs) -> None:
        self.http_status = 0
        self.status = -1
        self.message = ""
        self.status_details = b""
        self.encoding = b""
        self.accepts = b""
        self.content_type = b""
        self.malformed = _malformed(pairs)
        for name, value in pairs:
            if name == b":status":
                self.http_status = int(value) if len(value) == 3 and value.isdigit() else -1
            elif name == b"content-type":
                self.content_type = value
            elif name == b"grpc-status":
                self.status = _status(value)
            elif name == b"grpc-message":
                self.message = decode_message(value)
            elif name == b"grpc-status-details-bin":
                self.status_details = decode_binary(value)
            elif name == b"grpc-encoding":
                self.encoding = value
            elif name == b"grpc-accept-encoding":
                self.accepts = value
        self.metadata: Metadata = decode_metadata(pairs)
        self.plain = self.http_status == 200 and self.speaks_grpc and not self.malformed
        self.ends_well = not self.status and not self.http_status and not self.malformed

    @property
    def speaks_grpc(self) -> bool:
        """Whether the content-type is that of gRPC."""
        kind = self.content_type
        return kind.startswith(b"application/grpc") and kind[16:17] in (b"", b"+", b";", b" ")

    @property
    def informational(self) -> bool:
        """Whether the real head is still to come."""
        return 100 <= self.http_status < 200

    def not_grpc(self) -> CallError:
        """Return the error for a head that is not that of a gRPC answer."""
        if self.malformed:
            return UpstreamProtocolError(f"the upstream sent malformed headers: {self.malformed}")
        kind = self.content_type.decode("ascii", "replace")[:80]
        if self.http_status == 200:
            return UpstreamProtocolError(f"the upstream answered with content-type {kind!r} instead of gRPC")
        if self.http_status <= 0:
            return UpstreamProtocolError("the upstream answered without an HTTP status")
        code = CODE_OF_HTTP.get(self.http_status, Code.UNKNOWN)
        text = f"the upstream answered HTTP {self.http_status} ({kind or 'no content-type'}) instead of gRPC"
        return RpcError(code, text, initial_metadata=self.metadata)

    def error(self, initial_metadata: Metadata) -> RpcError:
        """Return the error for a status that is not OK."""
        return RpcError(
            self.status,
            self.message,
            initial_metadata=initial_metadata,
            trailing_metadata=self.metadata,
            status_details=self.status_details,
        )


def _status(value: bytes) -> int:
    """Read a `grpc-status`; what is not one of the seventeen counts as UNKNOWN."""
    if len(value) <= 3 and value.isdigit() and int(value) <= 16:
        return int(value)
    return Code.UNKNOWN


def _malformed(pairs: HeaderPairs) -> str:
    """Say what breaks RFC 9113 section 8.2 and 8.3, or nothing."""
    regular = False
    pseudo_count = 0
    for name, _ in pairs:
        if name.startswith(b":"):
            pseudo_count += 1
            if regular or name != b":status" or pseudo_count > 1:
                return f"{name.decode('ascii', 'replace')[:40]!r} where only one leading :status may be"
        else:
            regular = True
            if not name or name != name.lower() or name in _FORBIDDEN:
                return f"the header name {name.decode('ascii', 'replace')[:40]!r}"
    return ""


def reset_error(code: int, *, answering: bool) -> CallError:
    """
    Return what a RST_STREAM with *code* means for its call.

    Whoever was *answering* already has seen the call, although it says with REFUSED_STREAM that it has not.
    """
    text = f"the upstream reset the call: {error_name(code)}"
    if code == ErrorCode.REFUSED_STREAM and not answering:
        return UpstreamUnavailable(text, sent=False, refused=True)
    return RpcError(_CODE_OF_RESET.get(code, Code.INTERNAL), text)


_CODE_OF_RESET: dict[int, Code] = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
