"""
The protobuf messages of Envoy's rate limit service, from the descriptor set that ships with this package.

`scripts/rls.sh` compiles it from `rls/protos`, which have Envoy's names and numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protobuf.wkt import FileDescriptorSet

from silence_gateway.errors import BadRequest

DESCRIPTOR_SET = Path(__file__).with_name("rls.binpb").read_bytes()
"""A serialised FileDescriptorSet with everything that server reflection has to tell."""

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
METHOD = f"/{SERVICE}/ShouldRateLimit"

REGISTRY = FileDescriptorSet.from_binary(DESCRIPTOR_SET).to_registry()
UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError, EOFError)


def message_class(name: str) -> Any:
    """Return the class of the message *name*; its attributes are those of the proto."""
    described = REGISTRY.message(name)
    assert described is not None
    return described.type


RateLimitRequest = message_class("envoy.service.ratelimit.v3.RateLimitRequest")
RateLimitResponse = message_class("envoy.service.ratelimit.v3.RateLimitResponse")
Struct = message_class("google.protobuf.Struct")


def read_request(data: bytes) -> Any:
    """
    Return the RateLimitRequest in *data*.

    Raises:
        BadRequest: It is none.
    """
    try:
        return RateLimitRequest.from_binary(data)
    except UNREADABLE as exc:
        raise BadRequest(f"this is not a RateLimitRequest: {str(exc)[:200]}") from exc
