"""
Answers of gRPC as bytes: the header blocks that are always the same, and those of errors.

A block is written once and kept; what an error looks like outside is decided by `codes.py`, and what its
caller may read of it by `problems.py`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_metadata import encode_message, encode_metadata
from silence_gateway.core.hpack import HeaderPairs, encode
from silence_gateway.core.status import Code
from silence_gateway.edge.codes import codes_of
from silence_gateway.edge.problems import describe, public_detail
from silence_gateway.errors import (
    ClientFault,
    RateLimited,
    Refused,
    RpcError,
    StoreFault,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.events import Noticed, Observer

Metadata: TypeAlias = "Sequence[tuple[bytes, bytes]]"
"""Lower-case name and value, in order. Values of `-bin` names are raw bytes, not base64."""

_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
HEAD_BLOCK = encode(_HEAD)
OK_BLOCK = encode([(b"grpc-status", b"0")])

_HEAD_START = h2.frame(h2.HEADERS, h2.END_HEADERS, 0, HEAD_BLOCK)[:5]
_OK_START = h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 0, OK_BLOCK)[:5]
# The head of an answer, and of the DATA frame behind it: its length (high, low), type, flags, stream, and
# then the message's compressed flag and length.
_head = Struct(f">5sI{len(HEAD_BLOCK)}sHBBBIBI")
_tail = Struct(f">5sI{len(OK_BLOCK)}s")

# Nobody reads more, and clients refuse trailers above 8 KiB or so.
MAX_TEXT = 2_048

# Refusals say the same again and again; texts made for one call must not push them out, or pile up.
MAX_REMEMBERED = 256
MAX_REMEMBERED_TEXT = 200
_blocks: dict[tuple[int, str, bool], bytes] = {}

HIDDEN = "something went wrong in or behind this server; its log has more"

FIELD_OVERHEAD = 32  # what RFC 9113 section 10.5.1 adds for each field
ALWAYS_THERE = 128  # `:status` and `content-type`, or `grpc-status`
ALWAYS_FITS = ALWAYS_THERE + 3 * MAX_TEXT * 4  # a status without metadata, however its text is encoded


class Status(NamedTuple):
    """How a call ends other than well."""

    code: Code
    text: str
    metadata: Metadata = ()
    details: bytes = b""


def answer_head(stream_id: int, size: int) -> bytes:
    """Return all frames of an answer before its message of *size* bytes, which must fit into one frame."""
    framed = size + 5
    return _head.pack(
        _HEAD_START, stream_id, HEAD_BLOCK, framed >> 8, framed & 0xFF, h2.DATA, 0, stream_id, 0, size
    )


def answer_tail(stream_id: int) -> bytes:
    """Return the frame of an answer after its message."""
    return _tail.pack(_OK_START, stream_id, OK_BLOCK)


def status_of(error: BaseException, observer: Observer, path: str) -> Status:
    """Return how a call ends in *error*, after telling *observer* if somebody should look into it."""
    if isinstance(error, RpcError):
        return Status(codes_of(error).grpc, error.details, error.trailing_metadata, error.status_details)
    codes = codes_of(error)
    if isinstance(error, ClientFault | Refused | UpstreamUnavailable | UpstreamTimeout | StoreFault):
        metadata: Metadata = ()
        if isinstance(error, RateLimited):
            metadata = [(name.lower(), value) for name, value in error.headers]
        return Status(codes.grpc, public_detail(error), metadata)
    observer(Noticed(what=f"{path}: {describe(error, None)}", loudness="error"))
    return Status(codes.grpc, HIDDEN)


def error_block(status: Status, *, alone: bool, limit: int) -> bytes:
    """
    Return the header block that ends a call with *status*.

    Args:
        status: How it ends.
        alone: Whether it is the only block of the answer.
        limit: The header list that the client takes, counted as RFC 9113 does. If everything does not
            fit, metadata and details are left out and the text is cut.

    Raises:
        BadRequest: The metadata cannot be sent.
    """
    key = (int(status.code), status.text, alone)
    plain = not status.metadata and not status.details and limit >= ALWAYS_FITS
    if plain:
        known = _blocks.get(key)
        if known is not None:
            return known
    fields = [*(_HEAD if alone else ()), (b"grpc-status", b"%d" % status.code)]
    message = encode_message(status.text[:MAX_TEXT])
    if message:
        fields.append((b"grpc-message", message))
    if status.details:
        fields.append((b"grpc-status-details-bin", b64encode(status.details).rstrip(b"=")))
    if list_size(fields) + list_size(status.metadata) <= limit:
        block = encode(fields) + encode_metadata(status.metadata)
    else:
        block = encode(shortened(fields, limit))
    if plain and len(status.text) <= MAX_REMEMBERED_TEXT:
        if len(_blocks) >= MAX_REMEMBERED:
            _blocks.clear()
        _blocks[key] = block
    return block


def shortened(fields: HeaderPairs, limit: int) -> HeaderPairs:
    """Return *fields* without details and with as much of the message as fits into *limit*."""
    kept = [field for field in fields if field[0] not in (b"grpc-message", b"grpc-status-details-bin")]
    message = dict(fields).get(b"grpc-message", b"")
    room = limit - list_size(kept) - len(b"grpc-message") - FIELD_OVERHEAD
    return [*kept, (b"grpc-message", message[:room])] if message and room > 0 else kept


def metadata_block(metadata: Metadata, limit: int) -> bytes:
    """
    Return *metadata* as the end of a header block.

    Raises:
        BadRequest: It cannot be sent.
        RpcError: The client does not take that much.
    """
    if list_size(metadata) + ALWAYS_THERE > limit:
        raise RpcError(Code.RESOURCE_EXHAUSTED, "the answer's metadata is more than this client takes")
    return encode_metadata(metadata)


def list_size(fields: Metadata) -> int:
    """Return the size of a header list as RFC 9113 counts it; binary values count as base64."""
    return sum(
        len(name) + FIELD_OVERHEAD + (len(value) * 4 // 3 + 1 if name.endswith(b"-bin") else len(value))
        for name, value in fields
    )
