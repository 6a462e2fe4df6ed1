"""Callers of the rate limit service: over stock grpcio and over JSON, with messages told by reflection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.system.yard import Answer, Gateway, Yard, ask, free_port

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
METHOD = f"/{SERVICE}/ShouldRateLimit"
CALL_DEADLINE_S = 5.0

RULES = """
domain: shop
descriptors:
  - key: addr
    rate_limit: {unit: year, requests_per_unit: 3}
  - key: watched
    shadow_mode: true
    rate_limit: {unit: year, requests_per_unit: 1}
"""
CONFIG = """
listen: []
admin: {{listen: "@admin@"}}
store: {{url: "{store}"}}
rls: {{listen: "{grpc}", json: "{json}", config: {rules}{more}}}
telemetry: {{access_log: none}}
"""


@dataclass
class Served:
    """A gateway that is nothing but a rate limit service."""

    gateway: Gateway
    grpc: str
    json_port: int
    rules: Path

    def json(self, *entries: str, domain: str = "shop", **more: object) -> Answer:
        """Ask over JSON about one descriptor, written as `key=value`s."""
        question = {"domain": domain, "descriptors": [{"entries": entries_of(entries)}], **more}
        return ask(self.json_port, "POST", "/json", question)

    def series(self, line: str) -> float:
        """Return the value of one series of /metrics."""
        for found in self.gateway.admin("GET", "/metrics").body.decode().splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0


def serve_rls(
    yard: Yard, *args: str, store: str = "memory://", grpc_at: str = "", more: str = "", rules: str = RULES
) -> Served:
    """Start a gateway with *rules*; *more* are other keys of the section `rls`."""
    path = yard.folder / f"rules-{len(yard.started)}.yaml"
    path.write_text(rules)
    grpc_at = grpc_at or f"127.0.0.1:{free_port()}"
    json_port = free_port()
    config = CONFIG.format(store=store, grpc=grpc_at, json=f"127.0.0.1:{json_port}", rules=path, more=more)
    return Served(yard.gateway(config, *args, words=("ready",)), grpc_at, json_port, path)


def entries_of(entries: tuple[str, ...]) -> list[dict[str, str]]:
    """Return entries of a descriptor as JSON."""
    return [dict(zip(("key", "value"), entry.split("=", 1), strict=True)) for entry in entries]


class Caller:
    """Asks over one gRPC channel; what messages look like it has asked the server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(SERVICE).methods_by_name["ShouldRateLimit"]
        self.request: Any = GetMessageClass(method.input_type)
        self.response: Any = GetMessageClass(method.output_type)
        self.send = channel.unary_unary(
            METHOD,
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )

    def ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """Return the answer to a question, as JSON values."""
        answer = self.send(ParseDict(dict(question), self.request()), timeout=CALL_DEADLINE_S)
        said: dict[str, Any] = MessageToDict(answer)
        return said

    def code(self, *entries: str, **more: object) -> str:
        """Ask about one descriptor, and return the code of the answer."""
        descriptor = {"entries": entries_of(entries), **more}
        code: str = self.ask({"domain": "shop", "descriptors": [descriptor]})["overallCode"]
        return code


@contextlib.contextmanager
def caller(served: Served) -> Iterator[Caller]:
    """Yield a caller on a connection of its own."""
    # Channels to one address share a connection otherwise.
    with grpc.insecure_channel(served.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Caller(channel)
