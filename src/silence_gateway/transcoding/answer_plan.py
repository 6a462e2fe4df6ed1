"""
From the bytes of a response message to what the caller gets, as one binding wants it.

JSON, or a part of it where the rule has `response_body`, or the raw bytes of a google.api.HttpBody.
Fields with their zero value are left out, as ProtoJSON does.

Measured for 6 fields: 1.5 us from bytes to bytes.
"""

from __future__ import annotations

import re
from typing import Any

from protobuf import (
    DescField,
    DescFieldValueMessage,
    DescMessage,
    Message,
    Registry,
    message_to_json_value,
)

from silence_gateway.core.http import HeaderList
from silence_gateway.errors import UpstreamProtocolError
from silence_gateway.transcoding.errors_as_json import JSON_TYPE, dump
from silence_gateway.transcoding.request_plan import HTTP_BODY, field_is_well_known
from silence_gateway.transcoding.short_floats import shortener_of

MEDIA_TYPE = re.compile(r"[\x20-\x7e]{1,256}")


class AnswerPlan:
    """
    How answers of one binding are written.

    Args:
        message: The response message of the method.
        registry: Where types inside of google.protobuf.Any are looked up.
        field: The field that is sent instead of the whole message, if any.

    Attributes:
        raw: Whether the answer is a google.api.HttpBody, so that `raw_of` must be used, not `json_of`.
    """

    __slots__ = ("field", "inner", "kind", "raw", "registry", "shorten", "unset")

    def __init__(self, message: DescMessage, registry: Registry, field: DescField | None) -> None:
        self.kind: type[Message] = message.type
        self.registry = registry
        self.field = field
        value = None if field is None else field.value
        self.inner = isinstance(value, DescFieldValueMessage)
        shown = value.message if isinstance(value, DescFieldValueMessage) else message
        self.raw = (field is None or self.inner) and shown.type_name == HTTP_BODY
        self.shorten = shortener_of(message)
        self.unset: Any = None
        if field is not None:
            zeros = message_to_json_value(self.kind(), always_emit_implicit=True)
            assert isinstance(zeros, dict)
            self.unset = zeros.get(field.json_name)
            if self.inner and not field_is_well_known(field):
                self.unset = {}

    def read(self, data: bytes) -> Message:
        """
        Return the message in *data*.

        Raises:
            UpstreamProtocolError: There is none.
        """
        try:
            return self.kind.from_binary(data)
        except (ValueError, TypeError, OverflowError, RecursionError, EOFError) as error:
            name, why = self.kind.desc().type_name, str(error)[:200]
            raise UpstreamProtocolError(
                f"the upstream answered something that is not a {name}: {why}"
            ) from error

    def json_of(self, data: bytes) -> bytes:
        """
        Return the JSON of the message in *data*.

        Raises:
            UpstreamProtocolError: It cannot be read, or not be written as JSON.
        """
        message = self.read(data)
        if self.shorten is not None:
            self.shorten(message)
        try:
            if self.field is None:
                return message.to_json(registry=self.registry).encode()
            if self.inner:
                inner = message[self.field]  # None if it is not set
                return dump(self.unset) if inner is None else inner.to_json(registry=self.registry).encode()
            shown = message_to_json_value(message, registry=self.registry)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            # An Any whose type is not among the descriptors of the upstream, for one.
            raise UpstreamProtocolError(
                f"the answer of the upstream cannot be written as JSON: {str(error)[:200]}"
            ) from error
        assert isinstance(shown, dict)
        return dump(shown.get(self.field.json_name, self.unset))

    def raw_of(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Return content type and content of the HttpBody in *data*.

        Raises:
            UpstreamProtocolError: It cannot be read.
        """
        message: Any = self.read(data)
        if self.field is not None:
            message = message[self.field]  # None if it is not set
        if message is None:
            return b"application/octet-stream", b""
        # The upstream chose this text: nothing of it may end the header line.
        content_type = message.content_type if MEDIA_TYPE.fullmatch(message.content_type) else ""
        return (content_type or "application/octet-stream").encode(), message.data

    def unary(self, data: bytes, headers: HeaderList) -> tuple[HeaderList, bytes]:
        """
        Return headers and body of the answer to a unary call.

        Raises:
            UpstreamProtocolError: It cannot be written.
        """
        if self.raw:
            content_type, content = self.raw_of(data)
            return [(b"content-type", content_type), *headers], content
        return [JSON_TYPE, *headers] if headers else [JSON_TYPE], self.json_of(data)
