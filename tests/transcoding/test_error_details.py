"""The standard types of error details, against those that Google publishes."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2

from silence_gateway.testing.protos import compile_protos
from silence_gateway.transcoding.descriptors import Descriptors, RawDescriptors
from silence_gateway.transcoding.error_details import FILE_NAME, error_details_file
from silence_gateway.transcoding.errors_as_json import detail_of


def raw(sources: dict[str, str]) -> RawDescriptors:
    described = descriptor_pb2.FileDescriptorSet.FromString(compile_protos(sources))
    return RawDescriptors(files={file.name: file.SerializeToString() for file in described.file})


def test_every_type_is_as_google_publishes_it() -> None:
    published = descriptor_pb2.FileDescriptorProto()
    error_details_pb2.DESCRIPTOR.CopyToProto(published)
    published.ClearField("options")
    ours = descriptor_pb2.FileDescriptorProto.FromString(error_details_file().to_binary())

    assert ours.dependency == published.dependency
    by_name = {message.name: message for message in ours.message_type}
    # An older package may lack what was added since; what it has must be the same.
    for message in published.message_type:
        assert by_name[message.name] == message


def test_a_service_that_describes_no_details_has_them_shown_as_json() -> None:
    message = error_details_pb2.BadRequest()
    message.field_violations.add(field="name", description="too long")
    packed = b"\x0a\x29type.googleapis.com/google.rpc.BadRequest\x12"
    data = message.SerializeToString()

    registry = Descriptors.of(raw({"bare.proto": 'syntax = "proto3"; message Bare {}'})).registry

    assert detail_of(packed + bytes([len(data)]) + data, registry) == {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "name", "description": "too long"}],
    }


@pytest.mark.parametrize("name", [FILE_NAME, "third_party/error_details.proto"])
def test_details_of_the_service_itself_are_kept(name: str) -> None:
    own = 'syntax = "proto3"; package google.rpc; message BadRequest { string own = 1; }'

    registry = Descriptors.of(raw({name: own})).registry

    found = registry.message("google.rpc.BadRequest")
    assert found is not None
    assert [field.name for field in found.fields] == ["own"]
