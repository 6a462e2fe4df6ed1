"""Reflection as a service: every kind of question, and whatever our own other half asks."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from tests.edge.http2_scene import run, scene

import silence_gateway.edge
from silence_gateway.core.grpc_messages import framed
from silence_gateway.edge.grpc_health import HEALTH, HealthService
from silence_gateway.edge.grpc_reflection import REFLECTION, REFLECTION_ALPHA, Reflection, own_descriptors
from silence_gateway.errors import ConfigError
from silence_gateway.testing.h2_client import data, head_of, headers
from silence_gateway.testing.protos import compile_protos

SHOP = """
syntax = "proto2";
package shop.v1;
import "shop/base.proto";
import "google/protobuf/timestamp.proto";
message Item {
  extensions 100 to 200;
  oneof price { int32 cents = 1; string text = 2; }
  message Part { enum Kind { SMALL = 0; } optional Kind kind = 1; }
  optional google.protobuf.Timestamp at = 3;
}
extend Item { optional string note = 100; }
message Holder { extend Item { optional string inner = 101; } }
service Shop { rpc Get(Base) returns (Item); }
"""
BASE = 'syntax = "proto2"; package shop.v1; message Base {}'


@pytest.fixture(scope="module")
def shop() -> Reflection:
    # Without its imports from google/protobuf: those come with the message library.
    sources = {"shop/shop.proto": SHOP, "shop/base.proto": BASE}
    return Reflection([compile_protos(sources, include_imports=False)], ["shop.v1.Shop", HEALTH])


def asked(reflection: Reflection, **question: object) -> ServerReflectionResponse:
    request = ServerReflectionRequest(host="here", **question)
    answer = ServerReflectionResponse.FromString(reflection.answer(request.SerializeToString()))
    assert answer.valid_host == "here"
    assert answer.original_request == request
    return answer


def names(answer: ServerReflectionResponse) -> list[str]:
    found = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(each).name for each in found]


def test_services_are_those_that_are_served_and_reflection_itself(shop: Reflection) -> None:
    listed = asked(shop, list_services="*").list_services_response.service

    assert [each.name for each in listed] == [HEALTH, REFLECTION, REFLECTION_ALPHA, "shop.v1.Shop"]


@pytest.mark.parametrize(
    "symbol",
    [
        "shop.v1.Shop",
        "shop.v1.Shop.Get",
        "shop.v1.Item",
        "shop.v1.Item.cents",
        "shop.v1.Item.price",
        "shop.v1.Item.Part",
        "shop.v1.Item.Part.Kind",
        "shop.v1.Item.Part.SMALL",
        "shop.v1.note",
        "shop.v1.Holder.inner",
    ],
)
def test_a_symbol_is_answered_with_its_file_and_what_that_imports(shop: Reflection, symbol: str) -> None:
    assert names(asked(shop, file_containing_symbol=symbol)) == [
        "shop/shop.proto",
        "shop/base.proto",
        "google/protobuf/timestamp.proto",
    ]


def test_a_file_is_answered_by_its_name(shop: Reflection) -> None:
    assert names(asked(shop, file_by_filename="shop/base.proto")) == ["shop/base.proto"]


@pytest.mark.parametrize("number", [100, 101])
def test_an_extension_is_answered_with_the_file_that_defines_it(shop: Reflection, number: int) -> None:
    question = {"containing_type": "shop.v1.Item", "extension_number": number}

    assert names(asked(shop, file_containing_extension=question))[0] == "shop/shop.proto"


def test_all_extensions_of_a_message_are_numbers(shop: Reflection) -> None:
    answer = asked(shop, all_extension_numbers_of_type="shop.v1.Item").all_extension_numbers_response
    none = asked(shop, all_extension_numbers_of_type="shop.v1.Base").all_extension_numbers_response

    assert (answer.base_type_name, list(answer.extension_number)) == ("shop.v1.Item", [100, 101])
    assert (none.base_type_name, list(none.extension_number)) == ("shop.v1.Base", [])


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"file_by_filename": "no.proto"}, 5),
        ({"file_containing_symbol": "no.Such"}, 5),
        ({"file_containing_extension": {"containing_type": "shop.v1.Item", "extension_number": 7}}, 5),
        ({"all_extension_numbers_of_type": "no.Such"}, 5),
        ({}, 3),
    ],
)
def test_what_is_not_there_is_said_and_the_conversation_goes_on(
    shop: Reflection, question: dict[str, object], code: int
) -> None:
    assert asked(shop, **question).error_response.error_code == code


def test_every_service_of_ours_describes_itself() -> None:
    reflection = Reflection([], [HEALTH])
    for service in (HEALTH, REFLECTION, REFLECTION_ALPHA):
        assert len(names(asked(reflection, file_containing_symbol=service))) == 1


@pytest.mark.parametrize("question", [b"\xff", b"\x1a\x01\xff", b"\x2a\x02\x12\x00", b"\x18\x01"])
def test_a_question_that_makes_no_sense_ends_the_conversation(question: bytes) -> None:
    async def scenario() -> None:
        async with scene(Reflection([], []).methods()) as served:
            client = served.client()
            path = f"/{REFLECTION}/ServerReflectionInfo".encode()
            client.send(headers(1, head_of(path)), data(1, framed(question)))

            assert await client.status(1) == 3
            assert served.noticed == []

    run(scenario())


def test_a_service_without_a_descriptor_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"no descriptor for shop\.v1\.Shop"):
        Reflection([], ["shop.v1.Shop"])
    with pytest.raises(ConfigError, match="not a FileDescriptorSet"):
        Reflection([b"\x0a\x05hello"], [])


def test_a_file_that_is_there_twice_counts_once() -> None:
    changed = FileDescriptorSet.FromString(own_descriptors())
    changed.file[0].source_code_info.location.add(span=[1])
    reflection = Reflection([changed.SerializeToString(), own_descriptors()], [HEALTH])
    answer = asked(reflection, file_containing_symbol=HEALTH)

    (found,) = answer.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(found).source_code_info.location[0].span == [1]


def test_the_descriptors_that_are_shipped_are_those_of_the_protos() -> None:
    """If this fails: sh scripts/protos.sh."""
    root = Path(str(files(silence_gateway.edge))) / "protos"
    sources = {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.proto"))}

    fresh = FileDescriptorSet.FromString(compile_protos(sources, include_imports=False))
    shipped = FileDescriptorSet.FromString(own_descriptors())
    assert {file.name: file for file in fresh.file} == {file.name: file for file in shipped.file}


def test_the_health_messages_are_those_that_everybody_speaks() -> None:
    from grpc_health.v1 import health_pb2

    ours = {file.name: file for file in FileDescriptorSet.FromString(own_descriptors()).file}
    theirs = FileDescriptorProto()
    health_pb2.DESCRIPTOR.CopyToProto(theirs)
    mine = ours["grpc/health/v1/health.proto"]

    def shape(message: object) -> list[tuple[object, ...]]:
        return [
            (each.name, [(field.name, field.number, field.type, field.label) for field in each.field])
            for each in message.message_type  # type: ignore[attr-defined]
        ]

    assert sorted(shape(mine)) == sorted(shape(theirs))
    served = {name.rpartition("/")[2] for name in HealthService().methods()}
    assert {method.name for method in mine.service[0].method} == served
