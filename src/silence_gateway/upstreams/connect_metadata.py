"""
What came around the messages of a call, for callers that ask the Connect runtime for it (`ResponseMetadata`).

The runtime notes who asks in a module that is not public, and has no other way to tell them, so this file is
all that knows that module (of connectrpc 0.13). It is looked for and not imported: who asks has imported it.
A runtime that notes it elsewhere is one whose callers are told nothing; their calls go on.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

from silence_gateway.rpc_words import WirePairs
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer

_RUNTIME = "connectrpc._response_metadata"
_OK = 200


async def message_of(call: UnaryAnswer[Any]) -> Any:
    """
    Wait for the message of *call*; whoever asks is told what came around it.

    Raises what awaiting *call* raises. What the status of HTTP was is told of calls that went well.
    """
    runtime = sys.modules.get(_RUNTIME)
    if runtime is None or _nobody_asks(runtime):
        return await call
    status = None
    try:
        message = await call
        status = _OK
    finally:
        initial, trailing = call.wire_metadata
        runtime.handle_response_headers(status, _Fields(initial))
        runtime.handle_response_trailers(_Fields(trailing))
    return message


def messages_of(call: StreamAnswer[Any]) -> AsyncIterator[Any]:
    """Return the messages of *call*; whoever asks now is told what came around them, as it comes."""
    runtime = sys.modules.get(_RUNTIME)
    return call if runtime is None or _nobody_asks(runtime) else _telling(call, runtime)


async def _telling(call: StreamAnswer[Any], runtime: Any) -> AsyncIterator[Any]:
    status = None
    try:
        async for message in call:
            if status is None:
                status = _OK
                runtime.handle_response_headers(status, _Fields(await call.wire_initial_metadata()))
            yield message
        if status is None:
            status = _OK
            runtime.handle_response_headers(status, _Fields(await call.wire_initial_metadata()))
    except Exception:
        if status is None:
            runtime.handle_response_headers(None, _Fields(await call.wire_initial_metadata()))
        raise
    finally:
        if call.done():
            runtime.handle_response_trailers(_Fields(await call.wire_trailing_metadata()))
        else:
            call.cancel()


def _nobody_asks(runtime: Any) -> bool:
    asked = getattr(runtime, "_current_response", None)
    return asked is None or asked.get(None) is None


class _Fields:
    """Metadata as the headers that the runtime reads: text, and base64 for names in -bin."""

    def __init__(self, pairs: WirePairs) -> None:
        self._pairs = pairs

    def items(self) -> list[tuple[str, str]]:
        """Return every pair, repeated names included."""
        return [
            (
                name.decode(),
                b64encode(value).rstrip(b"=").decode()
                if name.endswith(b"-bin")
                else value.decode("ascii", "replace"),
            )
            for name, value in self._pairs
        ]
