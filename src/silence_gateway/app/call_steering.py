"""
From a request to where its call belongs: the key that `consistent_hash` goes by, and how much it matters.

Runs for every request to an upstream that asks for it, and for no other: about 2 us with a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from silence_gateway.app.config.upstreams import UpstreamConfig
from silence_gateway.core.balancing.consistent_hash import hash_of
from silence_gateway.core.http import Request
from silence_gateway.upstreams.contracts import Caller
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.steering import SteeredCaller, Steering

KeyOf: TypeAlias = Callable[[Request], bytes]


def of_user(request: Request) -> bytes:
    """Return the verified user."""
    return request.user.encode("utf-8", "surrogatepass")


def of_api_key(request: Request) -> bytes:
    """Return the id of the verified API key."""
    return request.api_key.encode()


def of_client_ip(request: Request) -> bytes:
    """Return the caller's address."""
    return request.client_ip.encode()


def of_nobody(_request: Request) -> bytes:
    """Return nothing: calls go anywhere."""
    return b""


def of_header(name: str) -> KeyOf:
    """Return what reads a header."""
    lowered = name.lower().encode()
    return lambda request: request.headers.get(lowered, b"")


def of_claim(name: str) -> KeyOf:
    """Return what reads a claim of the verified token: a text or a number, as text."""

    def value_of(request: Request) -> bytes:
        value = request.claims.get(name)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        return str(value).encode() if isinstance(value, int | float) else b""

    return value_of


def of_cookie(name: str) -> KeyOf:
    """Return what reads a cookie; of several with that name the first counts."""
    wanted = name.encode()

    def value_of(request: Request) -> bytes:
        for pair in request.headers.get(b"cookie", b"").split(b";"):
            found, equals, value = pair.partition(b"=")
            if equals and found.strip() == wanted:
                return value.strip()
        return b""

    return value_of


WORDS: dict[str, KeyOf] = {"user": of_user, "api_key": of_api_key, "client_ip": of_client_ip}
NAMED: dict[str, Callable[[str], KeyOf]] = {"header": of_header, "claim": of_claim, "cookie": of_cookie}


def key_of(text: str | None) -> KeyOf:
    """Return what reads the key that the file calls *text*; None reads nothing."""
    if text is None:
        return of_nobody
    head, _, name = text.partition(":")
    return NAMED[head](name) if name else WORDS[text]


def caller_for(upstream: GrpcUpstream, config: UpstreamConfig) -> Callable[[Request, bool], Caller] | None:
    """
    Return what makes the caller of each request, told whether its call may run twice.

    None if all calls are alike to this upstream.
    """
    if config.balancer != "consistent_hash" and config.shedding is None:
        return None
    read = key_of(config.balancing.key)
    return lambda request, repeatable: SteeredCaller(
        upstream.repeating if repeatable else upstream.once, read(request), request.importance
    )


def steering_for(config: UpstreamConfig) -> Callable[[Request], Steering] | None:
    """Return what says where each request to an HTTP upstream belongs; None if all are alike to it."""
    if config.balancer != "consistent_hash" and config.shedding is None:
        return None
    read = key_of(config.balancing.key)

    def steering_of(request: Request) -> Steering:
        key = read(request)
        return Steering(hash_of(key) if key else None, request.importance)

    return steering_of
