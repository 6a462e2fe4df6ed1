"""
The words in which both ends of a gRPC call speak of it: the status code, and metadata as people read it.

It imports nothing of ours, because errors are made of these words. What codes mean in HTTP is in
`core/status.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

WirePairs: TypeAlias = "Sequence[tuple[bytes, bytes]]"
"""Metadata as it travels: lower-case name and value; values of `-bin` names are raw bytes, not base64."""

TextPairs: TypeAlias = "tuple[tuple[str, str | bytes], ...]"
"""Metadata as people read it: text, but bytes for names that end in `-bin`."""


class Code(IntEnum):
    """A gRPC status code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    def __call__(self) -> Code:
        """Return the code itself, so that `error.code()` is right as well, as grpcio has it."""
        return self


class Said(str):
    """A text that may be called for itself, so that `error.details()` is right as well, as grpcio has it."""

    __slots__ = ()

    def __call__(self) -> str:
        """Return the text itself."""
        return str(self)


def code_of_number(number: int) -> Code:
    """Return the code of a failed call; a number that cannot be one counts as UNKNOWN."""
    return Code(number) if 1 <= number <= 16 else Code.UNKNOWN


def as_text(pairs: WirePairs) -> TextPairs:
    """Return metadata as people read it."""
    return tuple(
        (name.decode("latin-1"), value if name.endswith(b"-bin") else value.decode("latin-1"))
        for name, value in pairs
    )
