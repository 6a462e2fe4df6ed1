"""Floats with as many digits as they need, against google.protobuf."""

from __future__ import annotations

import asyncio
import struct
from decimal import Decimal

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.answer_plan import AnswerPlan
from silence_gateway.transcoding.descriptors import Descriptors, FixedSource
from silence_gateway.transcoding.short_floats import shortener_of, shortest

PROTO = """
syntax = "proto3";
package floats;
import "google/protobuf/wrappers.proto";
message Tree {
  float f = 1; double d = 2; repeated float many = 3; map<string, float> named = 4;
  oneof pick { float picked = 5; string text = 6; }
  Tree left = 7; repeated Tree more = 8; map<int32, Tree> by_id = 9;
  google.protobuf.FloatValue wrapped = 10; optional float maybe = 11; Plain plain = 12;
}
message Plain { double d = 1; string s = 2; Plain plain = 3; }
"""
COMPILED = compile_protos({"floats.proto": PROTO})
REGISTRY = Descriptors.of(asyncio.run(FixedSource(COMPILED).read())).registry


def theirs() -> type:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(COMPILED).file:
        pool.Add(file)
    found: type = message_factory.GetMessageClass(pool.FindMessageTypeByName("floats.Tree"))
    return found


def test_floats_are_written_as_google_protobuf_writes_them_wherever_they_are() -> None:
    text = """{
      "f": 0.1, "d": 0.1, "many": [299.99, 1e-45, "NaN", "-Infinity"], "named": {"a": 0.3},
      "picked": 0.7, "left": {"f": 2.2, "left": {"f": 16777216}}, "more": [{"many": [0.1]}, {}],
      "byId": {"1": {"picked": 5.55}}, "wrapped": 0.1, "maybe": 0.0, "plain": {"d": 0.30000000000000004}
    }"""
    kind = REGISTRY.message("floats.Tree")
    assert kind is not None
    reference = json_format.Parse(text, theirs()())

    ours = AnswerPlan(kind, REGISTRY, None).json_of(reference.SerializeToString())

    again = json_format.Parse(ours, theirs()())
    assert again.SerializeToString(deterministic=True) == reference.SerializeToString(deterministic=True)
    assert ours == kind.type.from_json(json_format.MessageToJson(reference)).to_json().encode()


@given(st.floats(width=32))
@settings(max_examples=200)
def test_the_shortest_number_is_the_same_float(value: float) -> None:
    assert struct.pack("f", shortest(value)) == struct.pack("f", value)
    assert digits_of(shortest(value)) <= digits_of(value)


def digits_of(value: float) -> int:
    """Return how many digits say *value*, zeros at either end not counted: 1000000000000.0 is one."""
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


def test_messages_that_can_hold_no_float_are_left_alone() -> None:
    kind = REGISTRY.message("floats.Plain")
    assert kind is not None

    assert shortener_of(kind) is None
