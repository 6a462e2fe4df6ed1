"""
gRPC metadata on the wire: which names may travel, base64 of `-bin` values, percent-encoded messages.

Pure. What we read is decoded without ever failing, as the gRPC specification asks; what we send is
checked, because a bad name or value would cost us the whole connection.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence

from silence_gateway.core.hpack import HeaderPairs, name_prefix, string
from silence_gateway.errors import BadRequest

MAX_METADATA_BYTES = 65_536

_NAME = re.compile(rb"[0-9a-z_.-]{1,256}")
_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")

# Written by the connection itself, or meaningless beyond one hop (RFC 9113 section 8.2.2).
_RESERVED = frozenset(
    (
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
    )
)
# These are messages between applications although they begin with `grpc-`.
_FOR_APPLICATIONS = frozenset((b"grpc-retry-pushback-ms", b"grpc-previous-rpc-attempts"))

_ONE_BYTE = tuple(bytes((number,)) for number in range(0x7F))
_prefixes: dict[bytes, tuple[bytes, bool]] = {}
_MAX_PREFIXES = 512  # names come from callers, so what we remember of them is bounded


def is_reserved(name: bytes) -> bool:
    """Tell whether *name* belongs to the protocol, so that it is neither sent nor shown as metadata."""
    if name.startswith(b"grpc-"):
        return name not in _FOR_APPLICATIONS
    return name in _RESERVED or name.startswith(b":")


def encode_metadata(metadata: Sequence[tuple[bytes, bytes]]) -> bytes:
    """
    Write *metadata* as the end of a header block; reserved names are left out.

    Raises:
        BadRequest: If a name or value has characters that gRPC does not allow, or all are too long.
    """
    pieces: list[bytes] = []
    for name, value in metadata:
        prefix, binary = _prefixes.get(name) or _prefix_of(name)
        if not prefix:
            continue
        if binary:
            value = b64encode(value).rstrip(b"=")
        elif not (value.isascii() and value.decode().isprintable()):
            raise BadRequest(
                f"metadata {name.decode()!r} is not printable ASCII; use a name that ends in -bin"
            )
        length = len(value)
        if length < 0x7F:
            pieces += (prefix, _ONE_BYTE[length], value)
        else:
            pieces += (prefix, string(value))
    encoded = b"".join(pieces)
    if len(encoded) > MAX_METADATA_BYTES:
        raise BadRequest(f"metadata of {len(encoded)} bytes is above {MAX_METADATA_BYTES}")
    return encoded


def _prefix_of(name: bytes) -> tuple[bytes, bool]:
    """Return the encoded name and whether its values are binary; nothing for a reserved name."""
    if not is_reserved(name) and not _NAME.fullmatch(name):
        raise BadRequest(f"metadata name {name[:64]!r} is not lower-case letters, digits, '-', '_' and '.'")
    if len(_prefixes) >= _MAX_PREFIXES:
        _prefixes.clear()
    known = (b"" if is_reserved(name) else name_prefix(name), name.endswith(b"-bin"))
    _prefixes[name] = known
    return known


def decode_metadata(pairs: HeaderPairs) -> tuple[tuple[bytes, bytes], ...]:
    """Return what of *pairs* is metadata, in order; each part of a `-bin` value becomes a pair."""
    metadata: list[tuple[bytes, bytes]] = []
    for name, value in pairs:
        if is_reserved(name):
            continue
        if name.endswith(b"-bin"):
            metadata += [(name, decode_binary(part)) for part in value.split(b",")]
        else:
            metadata.append((name, value))
    return tuple(metadata)


def decode_binary(value: bytes) -> bytes:
    """Read base64 with or without padding; what is not base64 is given as it is."""
    bare = value.strip().rstrip(b"=")
    try:
        return b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except Base64Error:
        return value


def decode_message(value: bytes) -> str:
    """Read a `grpc-message`: percent-encoded UTF-8. Never fails; what is broken is shown as it came."""
    if b"%" in value:
        value = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), value)
    return value.decode("utf-8", "replace")


def encode_message(text: str) -> bytes:
    """Write a `grpc-message`."""
    return b"".join(
        [
            bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
            for byte in text.encode("utf-8", "replace")
        ]
    )
