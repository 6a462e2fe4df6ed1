"""
An empty unary handler, served by one of: silence, silence-await, grpcio, grpcio.aio.

    python bench/peers/grpc_empty.py WHICH PORT

Messages are bytes everywhere, so that what is measured is the server and not protobuf.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import uvloop

from silence_gateway.edge.grpc_server import GrpcServer, UnaryCall, unary
from silence_gateway.edge.listen import open_sockets

METHOD = "bench.Empty/Call"


def handlers(method) -> list:
    return [
        grpc.method_handlers_generic_handler(
            "bench.Empty", {"Call": grpc.unary_unary_rpc_method_handler(method)}
        )
    ]


def serve_grpcio(port: int) -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=8), handlers=handlers(lambda _message, _context: b""))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    threading.Event().wait()


async def serve_grpcio_aio(port: int) -> None:
    async def call(_message: bytes, _context) -> bytes:
        return b""

    server = grpc.aio.server(handlers=handlers(call))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def serve_silence(port: int, *, awaiting: bool) -> None:
    def at_once(_message: bytes, _call: UnaryCall) -> bytes:
        return b""

    async def in_a_task(_message: bytes, _call: UnaryCall) -> bytes:
        return b""

    server = GrpcServer({METHOD: unary(in_a_task if awaiting else at_once)})
    await server.start(open_sockets([f"127.0.0.1:{port}"], reuse_port=False))
    await asyncio.Event().wait()


def main() -> None:
    _, which, port = sys.argv
    if which == "grpcio":
        serve_grpcio(int(port))
    elif which == "grpcio.aio":
        asyncio.run(serve_grpcio_aio(int(port)))
    elif which == "grpcio.aio-uvloop":
        uvloop.run(serve_grpcio_aio(int(port)))
    else:
        uvloop.run(serve_silence(int(port), awaiting=which == "silence-await"))


if __name__ == "__main__":
    main()
