"""Protos compiled once per session, and services over them that need no server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from protobuf import Message, Registry
from protobuf.wkt import FileDescriptorSet

from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request, Response, StreamingResponse
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import FixedSource
from silence_gateway.transcoding.request_plan import STRICT, Strictness
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.transcoding.table import RouteTable

LIBRARY = """
syntax = "proto3";
package library.v1;
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Color { COLOR_UNSPECIFIED = 0; RED = 1; BLUE = 2; }

message Inner { string name = 1; int32 n = 2; Inner deep = 3; repeated string tags = 4; }

message Rich {
  double d = 1; float f = 2; int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6;
  sint32 s32 = 7; sint64 s64 = 8; fixed32 fx32 = 9; fixed64 fx64 = 10; sfixed32 sfx32 = 11;
  sfixed64 sfx64 = 12;
  bool flag = 13; string text = 14; bytes blob = 15; Color color = 16; Inner inner = 17;
  repeated int32 numbers = 18; repeated Inner inners = 19; map<string, int64> counts = 20;
  map<int32, Inner> by_id = 21;
  oneof choice { string pick_text = 22; int64 pick_number = 23; Inner pick_inner = 24; }
  optional int32 maybe = 25; google.protobuf.Timestamp at = 26; google.protobuf.Duration lasts = 27;
  google.protobuf.FieldMask mask = 28; google.protobuf.Int64Value wrapped = 29;
  google.protobuf.Struct anything = 30; google.protobuf.Value value = 31; google.protobuf.Any any = 32;
  google.protobuf.StringValue wrapped_text = 33; repeated Color colors = 34; string snake_case_name = 35;
  string renamed = 36 [json_name = "other"]; google.protobuf.BoolValue wrapped_flag = 37;
  repeated bool flags = 38; google.protobuf.BytesValue wrapped_blob = 39;
  repeated google.protobuf.Timestamp times = 40;
}

message Part { Inner inner = 1; repeated int32 numbers = 2; map<string, int64> counts = 3; string text = 4; }

service Library {
  rpc Whole(Rich) returns (Rich) { option (google.api.http) = { post: "/v1/whole" body: "*" }; }
  rpc WholeAt(Rich) returns (Rich) { option (google.api.http) = { put: "/v1/whole/{text}" body: "*" }; }
  rpc Query(Rich) returns (Rich) { option (google.api.http) = { get: "/v1/query" }; }
  rpc At(Rich) returns (Rich) {
    option (google.api.http) = {
      get: "/v1/at/{text}"
      additional_bindings { get: "/v1/at/{i32}/{inner.deep.name=names/*}" }
      additional_bindings { get: "/v1/rest/{inner.name=**}:read" }
      additional_bindings { delete: "/v1/at/{color}" }
      additional_bindings { custom: { kind: "PURGE" path: "/v1/at/{at}" } }
      additional_bindings { custom: { kind: "*" path: "/v1/any/{flag}" } }
    };
  }
  rpc Named(Rich) returns (Part) {
    option (google.api.http) = {
      patch: "/v1/named/{inner.name}" body: "inner" response_body: "inner"
      additional_bindings { post: "/v1/numbers" body: "numbers" response_body: "numbers" }
      additional_bindings { post: "/v1/counts" body: "counts" response_body: "counts" }
      additional_bindings { post: "/v1/text" body: "text" response_body: "text" }
      additional_bindings { post: "/v1/when" body: "at" }
    };
  }
  rpc Watch(Rich) returns (stream Inner) { option (google.api.http) = { get: "/v1/watch/{text}" }; }
  rpc Download(Inner) returns (google.api.HttpBody) { option (google.api.http) = { get: "/v1/file/{name}" }; }
  rpc Pieces(Inner) returns (stream google.api.HttpBody) {
    option (google.api.http) = { get: "/v1/pieces/{name}" };
  }
  rpc Upload(google.api.HttpBody) returns (Inner) {
    option (google.api.http) = { post: "/v1/file" body: "*" };
  }
  rpc Unruly(Inner) returns (Inner) { option idempotency_level = IDEMPOTENT; }
  rpc Push(stream Inner) returns (Inner) { option (google.api.http) = { post: "/v1/push" body: "*" }; }
  rpc Chat(stream Inner) returns (stream Inner);
  rpc Nothing(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (google.api.http) = { delete: "/v1/nothing" };
  }
}
"""


@pytest.fixture(scope="session")
def library_set() -> bytes:
    return compile_protos({"library/v1/library.proto": LIBRARY})


@pytest.fixture(scope="session")
def library_without_imports() -> bytes:
    return compile_protos({"library/v1/library.proto": LIBRARY}, include_imports=False)


@pytest.fixture(scope="session")
def registry(library_set: bytes) -> Registry:
    return FileDescriptorSet.from_binary(library_set).to_registry()


@dataclass
class Desk:
    """The library service behind a route table, with a caller that keeps what was sent."""

    registry: Registry
    caller: LocalCaller
    service: TranscodedService
    table: RouteTable

    async def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[bytes, bytes] | None = None,
        deadline_s: float | None = None,
    ) -> Response:
        """Answer one request; a path that is not served fails the test."""
        request = Request(method, target, headers or {}, body)
        found = self.table.find(method, request.path)
        assert found is not None, f"{method} {target} is not served"
        return await found.binding.answer(request, found.variables, deadline_s)

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[bytes, bytes] | None = None
    ) -> Response:
        """Answer one request in a loop of its own."""
        return asyncio.run(self.send(method, target, body, headers))

    def sent(self, name: str = "library.v1.Rich") -> Any:
        """Return the message of the latest call."""
        described = self.registry.message(name)
        assert described is not None
        message: Message = described.type.from_binary(self.caller.calls[-1].message)
        return message

    def collect(
        self, method: str, target: str, headers: dict[bytes, bytes] | None = None
    ) -> tuple[Response, list[bytes], BaseException | None]:
        """Answer one request and take all its pieces; return also what broke it off."""

        async def scenario() -> tuple[Response, list[bytes], BaseException | None]:
            response = await self.send(method, target, b"", headers)
            pieces: list[bytes] = []
            failure: BaseException | None = None
            if isinstance(response, StreamingResponse):
                try:
                    async for piece in response.chunks:
                        pieces.append(piece)  # noqa: PERF401 - what came before a failure counts
                except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
                    failure = error
            return response, pieces, failure

        return asyncio.run(scenario())


@pytest.fixture
def make_desk(library_set: bytes, registry: Registry) -> Callable[..., Desk]:
    def make(caller: LocalCaller | None = None, strictness: Strictness = STRICT, **settings: Any) -> Desk:
        caller = LocalCaller() if caller is None else caller
        service = TranscodedService(
            "shelves",
            caller,
            FixedSource(library_set),
            clock=SystemClock(),
            strictness=strictness,
            **settings,
        )
        asyncio.run(service.load())
        return Desk(registry, caller, service, RouteTable.build([service]))

    return make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    """A desk whose unary methods all echo what they are sent."""
    names = [b"Whole", b"WholeAt", b"Query", b"At", b"Unruly", b"Nothing"]
    return make_desk(LocalCaller({b"/library.v1.Library/" + name: bytes for name in names}))
