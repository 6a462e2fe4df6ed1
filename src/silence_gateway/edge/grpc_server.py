"""
A gRPC server: a table of methods over `http2_server.py`.

    server = GrpcServer({"shop.v1.Shop/GetItem": unary(get_item), "shop.v1.Shop/Watch": streaming(watch)})
    await server.start(open_sockets(["127.0.0.1:9000"], reuse_port=False))

Health and reflection are methods like others (`grpc_health.py`, `grpc_reflection.py`): merge their tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from silence_gateway.clock import Clock
from silence_gateway.core.hpack import HeaderPairs
from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_answers import ALWAYS_FITS, Status, error_block
from silence_gateway.edge.grpc_calls import RefusedCall
from silence_gateway.edge.grpc_methods import GrpcHead, Method
from silence_gateway.edge.grpc_streams import StreamCall, streaming
from silence_gateway.edge.grpc_unary import UnaryCall, unary
from silence_gateway.edge.http2_server import Http2Server
from silence_gateway.edge.http2_settings import MEBIBYTE, Http2Settings
from silence_gateway.edge.http2_streams import Open
from silence_gateway.errors import ConfigError
from silence_gateway.events import Observer, nobody

__all__ = ["GrpcServer", "Method", "StreamCall", "UnaryCall", "streaming", "unary"]


class GrpcServer(Http2Server):
    """
    Serves gRPC methods in one event loop.

    Args:
        methods: By `package.Service/Method`.
        settings: Bounds of HTTP/2.
        clock: Where time comes from; the machine's if absent.
        observer: Told what an operator should look into.
        max_message_bytes: The largest message of a caller, packed or unpacked.
        fallback: Serves every method that is not in the table; without it they are UNIMPLEMENTED.
        rng: Spreads the age of connections.

    Attributes:
        methods: As given, by path with a leading slash; do not change it while serving.
        unknown: Counts calls of methods that are not there.
        not_grpc: Requests that do not speak gRPC.

    Raises:
        ConfigError: A name cannot be that of a method, or a bound makes no sense.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        settings: Http2Settings | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
        *,
        max_message_bytes: int = 4 * MEBIBYTE,
        fallback: Method | None = None,
        rng: Random | None = None,
    ) -> None:
        super().__init__(self, settings, clock, observer, rng)
        if max_message_bytes < 1:
            raise ConfigError(f"max_message_bytes must be above zero, got {max_message_bytes}")
        self.max_message_bytes: int = max_message_bytes
        self.methods = {as_path(name): method for name, method in methods.items()}
        self.fallback = fallback
        self.unknown: Method = unary(no_handler)
        self.refused: Open = RefusedCall
        self.not_grpc = 0
        self.too_large = error_block(
            Status(Code.RESOURCE_EXHAUSTED, "the metadata of the call is more than is taken here"),
            alone=True,
            limit=ALWAYS_FITS,
        )

    def read_head(self, pairs: HeaderPairs) -> GrpcHead:
        """Return what a header block means; see `http2_streams.Application`."""
        return GrpcHead(pairs, self)

    def by_code(self) -> list[int]:
        """Return how many calls have ended with each status, by its number."""
        every = [*self.methods.values(), self.unknown]
        if self.fallback is not None:
            every.append(self.fallback)
        return [sum(method.by_code[code] for method in every) for code in range(17)]


def as_path(name: str) -> bytes:
    """
    Return the path of a method.

    Raises:
        ConfigError: *name* is not `package.Service/Method`.
    """
    service, slash, method = name.removeprefix("/").partition("/")
    if (
        not service
        or not slash
        or not method
        or "/" in method
        or not name.isascii()
        or not name.isprintable()
    ):
        raise ConfigError(f"{name!r} is not the name of a gRPC method: write package.Service/Method")
    return f"/{service}/{method}".encode()


def no_handler(_message: bytes, call: UnaryCall) -> bytes:
    """Never called: what counts unknown methods answers none."""
    raise AssertionError(call.path)
