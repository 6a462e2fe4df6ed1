"""
In whose words a channel speaks to its caller: ours, or those of grpcio.

Inside, every call ends in our words; the outermost call object turns them into the caller's. grpcio is
imported only for a channel that was asked to speak as it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from silence_gateway.core.status import Code
from silence_gateway.errors import (
    RpcError,
    UpstreamFault,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from silence_gateway.rpc_words import WirePairs, as_text
from silence_gateway.upstreams.connectivity import Connectivity

Pairs: TypeAlias = "Iterable[tuple[str, str | bytes]] | Mapping[str, str | bytes]"
"""Metadata as stubs' users write it: text, but bytes for names in `-bin`; in order, repeated as needed."""


class Words:
    """
    Our own words.

    Attributes:
        end: What `read` returns after the last message.
    """

    end: Any = None

    def code(self, code: Code) -> Any:
        """Return a status as `code()` gives it."""
        return code

    def metadata(self, pairs: WirePairs) -> Any:
        """Return metadata as `initial_metadata()` and `trailing_metadata()` give it."""
        return as_text(pairs)

    def error(self, error: RpcError) -> Exception:
        """
        Return what is raised for a call that failed: a new one each time.

        An error that the call keeps would keep the frames that it passed through, and they the call.
        """
        kind = type(error)
        again = kind.__new__(kind, error.code)
        again.args = error.args
        again.__dict__.update(error.__dict__)
        again.__cause__ = error.__cause__
        return again

    def connectivity(self, state: Connectivity) -> Any:
        """Return a state of the channel as `get_state` gives it."""
        return state

    def misuse(self, text: str) -> Exception:
        """Return what is raised when the channel or a call is used as it cannot be."""
        return asyncio.InvalidStateError(text)


class WordsOfGrpcio(Words):
    """
    The words of grpcio: its status codes, metadata, errors and end of stream.

    Raises:
        ModuleNotFoundError: It is not installed.
    """

    def __init__(self) -> None:
        import grpc

        self._aio = grpc.aio
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        self._states = grpc.ChannelConnectivity
        self.end = grpc.aio.EOF

    def code(self, code: Code) -> Any:
        """Return a `grpc.StatusCode`."""
        return self._codes[code]

    def metadata(self, pairs: WirePairs) -> Any:
        """Return a `grpc.aio.Metadata`."""
        return self._aio.Metadata(*as_text(pairs))

    def error(self, error: RpcError) -> Exception:
        """Return a `grpc.aio.AioRpcError`; ours is its cause."""
        theirs: Exception = self._aio.AioRpcError(
            self._codes[error.code],
            self.metadata(error.initial_metadata),
            self.metadata(trailers_of(error)),
            str(error.details),
            str(error),
        )
        theirs.__cause__ = error
        return theirs

    def connectivity(self, state: Connectivity) -> Any:
        """Return a `grpc.ChannelConnectivity`."""
        return self._states[state.name]

    def misuse(self, text: str) -> Exception:
        """Return a `grpc.aio.UsageError`."""
        misuse: Exception = self._aio.UsageError(text)
        return misuse


OURS = Words()


def trailers_of(error: RpcError) -> WirePairs:
    """Return the trailing metadata with the rich details in it, where grpcio leaves them."""
    if not error.status_details:
        return error.trailing_metadata
    return (*error.trailing_metadata, (b"grpc-status-details-bin", error.status_details))


def as_rpc_error(error: RpcError | UpstreamFault) -> RpcError:
    """Return *error* as the status that grpc.aio would give it; a fault of the way is its cause."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, UpstreamTimeout):
        status = Code.DEADLINE_EXCEEDED
    elif isinstance(error, UpstreamProtocolError):
        status = Code.INTERNAL
    else:
        status = Code.UNAVAILABLE
    told = RpcError(status, str(error))
    told.endpoint = error.endpoint
    told.__cause__ = error
    return told


def cancelled_here() -> RpcError:
    """Return how a call ended that was cancelled here."""
    return RpcError(Code.CANCELLED, "the call was cancelled here")


def to_wire(pairs: Pairs | None) -> WirePairs:
    """
    Turn metadata as people write it into what travels; characters are checked when it is sent.

    Raises:
        TypeError: A value is neither text nor bytes, or a pair is no pair.
    """
    if not pairs:
        return ()
    if isinstance(pairs, Mapping):
        pairs = pairs.items()
    try:
        return [
            (name.encode(), value.encode() if isinstance(value, str) else bytes(memoryview(value)))
            for name, value in pairs
        ]
    except (AttributeError, ValueError, TypeError) as exc:
        raise TypeError(f"metadata is pairs of a name and a text, or bytes for names in -bin: {exc}") from exc
