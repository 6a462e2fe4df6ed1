"""One replica for `bench/replicas.py`: grpcio's server, which gives every call the same answer."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc


class Same(grpc.GenericRpcHandler):
    """Answers any method."""

    def __init__(self, message: bytes) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: message)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        # No health service: a server that has none counts as healthy because it answers.
        return None if details.method.startswith("/grpc.health") else self._handler


if __name__ == "__main__":
    port, answer = sys.argv[1:]
    server = grpc.server(ThreadPoolExecutor(8), handlers=(Same(bytes.fromhex(answer)),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()
