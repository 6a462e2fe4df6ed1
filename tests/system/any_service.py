"""
A stock grpcio server for whatever a descriptor set describes: `any_service.py SET.binpb PORT`.

Every method answers an empty message. It reflects its descriptors, prints one line when it listens, and
ends when its standard input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection


def nothing(_request: bytes, _context: Any) -> bytes:
    return b""


def nothing_twice(_request: bytes, _context: Any) -> Iterator[bytes]:
    yield b""
    yield b""


def handler(method: descriptor_pb2.MethodDescriptorProto) -> Any:
    """Return what serves *method*, in bytes."""
    make: Callable[..., Any] = grpc.unary_unary_rpc_method_handler
    if method.server_streaming:
        make = grpc.unary_stream_rpc_method_handler
    return make(nothing_twice if method.server_streaming else nothing)


def main() -> None:
    described = descriptor_pb2.FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    names = [reflection.SERVICE_NAME]
    for file in described.file:
        pool.Add(file)
        for service in file.service:
            name = f"{file.package}.{service.name}"
            names.append(name)
            methods = {method.name: handler(method) for method in service.method}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    reflection.enable_server_reflection(names, server, pool=pool)
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    sys.stdin.buffer.read()
    server.stop(grace=0.2).wait()


if __name__ == "__main__":
    main()
