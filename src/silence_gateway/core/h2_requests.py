"""
What a client's header block means: the head of a request, or its trailers (RFC 9113 section 8).

Pure. A block that breaks a rule is not repaired and raises nothing: what is wrong with it is kept as
text, because a malformed request costs only its stream. Heads that repeat byte for byte are read once
(see `hpack.BlockReader`); a new one of ten fields costs 5 us, and reading its block 11 us.
"""

from __future__ import annotations

import re

from silence_gateway.core.hpack import HeaderPairs

_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))

# They speak of one hop of HTTP/1 (RFC 9113 section 8.2.2), and two programs could read them differently.
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_LOOKED_AT = _CONNECTION_SPECIFIC | {b"te", b"host", b"content-length"}

# Names are lower-case tokens; values have no NUL, CR or LF, and no space at either end (section 8.2.1).
_NAME = rb"[!#$%&'*+\-.^_`|~0-9a-z]+"
_VALUE = rb"(?:[^\0\r\n\t ](?:[^\0\r\n]*[^\0\r\n\t ])?)?"
_FIELD = re.compile(_NAME + rb"\0" + _VALUE)
_FIELDS = re.compile(rb"(?:" + _NAME + rb"\0" + _VALUE + rb"\n)*")

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME = re.compile(rb"[a-z][a-z0-9+.\-]*")
# Visible ASCII only. A name before `@` has no meaning here, and hides where a request goes (section 8.3.1).
_AUTHORITY = re.compile(rb"[!-?A-~]*")
_PATH = re.compile(rb"/[!-~]*|\*")

_MAX_LENGTH_DIGITS = 18


class RequestHead:
    """
    The head of one request; never changed, because it is handed out again for the same bytes.

    Attributes:
        pairs: All fields as they came, in order, pseudo fields first.
        method: As `:method`; empty if there is none.
        scheme: As `:scheme`.
        authority: As `:authority`, or as `host` if there is no `:authority`.
        path: As `:path`, query included.
        content_length: As announced, -1 if not.
        malformed: Which rule of HTTP/2 is broken; empty if none is.
    """

    __slots__ = ("authority", "content_length", "malformed", "method", "pairs", "path", "scheme")

    def __init__(self, pairs: HeaderPairs) -> None:
        self.pairs = pairs
        self.method = self.scheme = self.authority = self.path = b""
        self.content_length = -1
        self.malformed = self._read(pairs)

    def _read(self, pairs: HeaderPairs) -> str:
        pseudo: dict[bytes, bytes] = {}
        count = 0
        for name, value in pairs:
            if name not in _PSEUDO:
                break
            if name in pseudo:
                return f"two {_shown(name)}"
            pseudo[name] = value
            count += 1
        fields = pairs[count:]
        self.method = pseudo.get(b":method", b"")
        self.scheme = pseudo.get(b":scheme", b"")
        self.authority = pseudo.get(b":authority", b"")
        self.path = pseudo.get(b":path", b"")
        return self._problem_of_pseudo(pseudo) or problem_of_fields(fields) or self._take_special(fields)

    def _problem_of_pseudo(self, pseudo: dict[bytes, bytes]) -> str:
        if not _METHOD.fullmatch(self.method):
            return "no :method that is a word"
        if not _AUTHORITY.fullmatch(self.authority):
            return "an :authority with characters that do not belong there"
        if self.method == b"CONNECT":
            if b":scheme" in pseudo or b":path" in pseudo or not self.authority:
                return "a CONNECT that has :scheme or :path, or no :authority"
            return ""
        if not _SCHEME.fullmatch(self.scheme):
            return "no :scheme that is one"
        if not _PATH.fullmatch(self.path) or (self.path == b"*" and self.method != b"OPTIONS"):
            return "no :path that begins with a slash"
        return ""

    def _take_special(self, fields: HeaderPairs) -> str:
        for name, value in fields:
            if name not in _LOOKED_AT:
                continue
            if name == b"te":
                if value.lower() != b"trailers":
                    return "te is not trailers"
            elif name == b"host":
                if self.authority and value.lower() != self.authority.lower():
                    return "host and :authority disagree"
                if not _AUTHORITY.fullmatch(value):
                    return "a host with characters that do not belong there"
                self.authority = value
            elif name == b"content-length":
                if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
                    return "content-length is not a number"
                if self.content_length not in (-1, int(value)):
                    return "two content-lengths that disagree"
                self.content_length = int(value)
            else:
                return f"{_shown(name)}, which has no meaning in HTTP/2"
        return ""


def problem_of_fields(fields: HeaderPairs) -> str:
    """Say which field's name or value cannot be one, or nothing; pseudo fields have no place here."""
    if _FIELDS.fullmatch(b"".join([b"%b\0%b\n" % field for field in fields])):
        return ""
    broken = [name for name, value in fields if not _FIELD.fullmatch(b"%b\0%b" % (name, value))]
    return f"the field {_shown(broken[0])}"


def problem_of_trailers(pairs: HeaderPairs) -> str:
    """Say what is wrong with a block that ends a request, or nothing."""
    for name, _ in pairs:
        if name in _CONNECTION_SPECIFIC:
            return f"{_shown(name)}, which has no meaning in HTTP/2"
    return problem_of_fields(pairs)


def _shown(name: bytes) -> str:
    return repr(name[:40].decode("ascii", "replace"))
