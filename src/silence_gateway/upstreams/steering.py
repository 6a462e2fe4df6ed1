"""
What a caller may say about a call besides what it calls: whose it is, and how much it matters.

A `SteeredCaller` is a `Caller` that says so for every call made through it. One is made for every request
to an upstream that asks for it (1 us with a key), so these are plain slots classes.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable
from typing import Protocol

from silence_gateway.core.balancing.consistent_hash import hash_of
from silence_gateway.core.shedding import Importance
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply


class Steering:
    """
    Where a call belongs.

    Attributes:
        key: Where it is on the ring of `consistent_hash`; None goes anywhere.
        importance: Who is shed first.
    """

    __slots__ = ("importance", "key")

    def __init__(self, key: int | None, importance: Importance) -> None:
        self.key = key
        self.importance = importance


class Steerable(Protocol):
    """What can be told where a call belongs: an upstream, its `once` or its `repeating`."""

    def unary(
        self,
        method: bytes,
        message: bytes,
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> Awaitable[Reply]:
        """Call *method* once, as `Caller.unary` says."""

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> CallStream:
        """Call *method* for a stream of messages, as `Caller.stream` says."""


class SteeredCaller:
    """
    The same upstream, with every call going by one steering. It holds nothing, so it needs no closing.

    With `consistent_hash` calls of one *key* go to one endpoint, and those with an empty one to any. With
    shedding *importance* says who is refused first when there is too much to do.
    """

    __slots__ = ("_steering", "_upstream")

    def __init__(
        self, upstream: Steerable, key: bytes = b"", importance: Importance = Importance.NORMAL
    ) -> None:
        self._upstream = upstream
        self._steering = Steering(hash_of(key) if key else None, importance)

    def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Awaitable[Reply]:
        """Call *method* once, as `Caller.unary` says; await it at once."""
        return self._upstream.unary(method, message, metadata, deadline_s, self._steering)

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        """Call *method* for a stream of messages, as `Caller.stream` says."""
        return self._upstream.stream(method, messages, metadata, deadline_s, self._steering)
