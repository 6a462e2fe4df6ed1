"""
The standard types of error details (google/rpc/error_details.proto), for services that do not describe them.

A service sends them inside of google.protobuf.Any, so that none of its own files needs to import them,
and neither its reflection nor its descriptor set has them. Without these, callers would get base64.
"""

from __future__ import annotations

from protobuf.wkt import FileDescriptorProto
from protobuf.wkt.google.protobuf.descriptor_pb import (
    DescriptorProto,
    FieldDescriptorProto,
    MessageOptions,
    OneofDescriptorProto,
)

PACKAGE = "google.rpc"
FILE_NAME = "google/rpc/error_details.proto"

# Fields in the order of their numbers, from 1 and without gaps. A bare name is a string; `name:TYPE` another
# type, `name[]` is repeated, `name{}` a map of strings, `name?` may be unset although it is a number.
MESSAGES = {
    "ErrorInfo": "reason domain metadata{}",
    "RetryInfo": "retry_delay:.google.protobuf.Duration",
    "DebugInfo": "stack_entries[] detail",
    "QuotaFailure": "violations[]:.google.rpc.QuotaFailure.Violation",
    "QuotaFailure.Violation": (
        "subject description api_service quota_metric quota_id quota_dimensions{} quota_value:int64 "
        "future_quota_value?:int64"
    ),
    "PreconditionFailure": "violations[]:.google.rpc.PreconditionFailure.Violation",
    "PreconditionFailure.Violation": "type subject description",
    "BadRequest": "field_violations[]:.google.rpc.BadRequest.FieldViolation",
    "BadRequest.FieldViolation": "field description reason localized_message:.google.rpc.LocalizedMessage",
    "RequestInfo": "request_id serving_data",
    "ResourceInfo": "resource_type resource_name owner description",
    "Help": "links[]:.google.rpc.Help.Link",
    "Help.Link": "description url",
    "LocalizedMessage": "locale message",
}


def error_details_file() -> FileDescriptorProto:
    """Return the descriptor of the file."""
    file = FileDescriptorProto(
        name=FILE_NAME, package=PACKAGE, syntax="proto3", dependency=["google/protobuf/duration.proto"]
    )
    made: dict[str, DescriptorProto] = {}
    for path, fields in MESSAGES.items():
        outer, _, name = path.rpartition(".")
        made[path] = message = DescriptorProto(name=name)
        (made[outer].nested_type if outer else file.message_type).append(message)
        for number, text in enumerate(fields.split(), 1):
            add_field(message, f".{PACKAGE}.{path}", number, text)
    return file


def add_field(message: DescriptorProto, type_name: str, number: int, text: str) -> None:
    """Add to *message*, whose full name is *type_name*, the field that *text* describes."""
    name, _, kind = text.partition(":")
    field = FieldDescriptorProto(
        name=name.rstrip("[]{}?"), number=number, label=FieldDescriptorProto.Label.OPTIONAL
    )
    field.type = FieldDescriptorProto.Type.STRING
    if name.endswith("{}"):
        entry_name = "".join(word.capitalize() for word in field.name.split("_")) + "Entry"
        entry = DescriptorProto(name=entry_name, options=MessageOptions(map_entry=True))
        add_field(entry, "", 1, "key")
        add_field(entry, "", 2, "value")
        message.nested_type.append(entry)
        kind = f"{type_name}.{entry_name}"
    if name.endswith(("[]", "{}")):
        field.label = FieldDescriptorProto.Label.REPEATED
    if kind == "int64":
        field.type = FieldDescriptorProto.Type.INT64
    elif kind:
        field.type, field.type_name = FieldDescriptorProto.Type.MESSAGE, kind
    if name.endswith("?"):
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.append(OneofDescriptorProto(name=f"_{field.name}"))
    message.field.append(field)
