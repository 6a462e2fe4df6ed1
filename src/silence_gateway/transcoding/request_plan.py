"""
From an HTTP request to the bytes of a request message, as one binding wants it.

Everything that depends only on the rule is worked out once, when the plan is made. The order of
setting is body, query, path: the path wins, so that a caller who was let through to one resource
cannot name another one somewhere else.

Decided here: an empty body counts as `{}` where a message is expected; a body where the rule has none
is refused unless it is empty or `{}`, because dropping what a caller sends helps nobody.

Measured for 6 fields in the body: 4 us from request to bytes, checks included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from protobuf import DescField, DescFieldValueMessage, DescMessage, Message, Registry, message_from_json_value

from silence_gateway.core.http import Request
from silence_gateway.errors import BadRequest
from silence_gateway.transcoding.fields import from_text_of, opener_of, setter_of
from silence_gateway.transcoding.headers import require_json
from silence_gateway.transcoding.http_rules import WHOLE, HttpRule
from silence_gateway.transcoding.json_bodies import parse_json, parse_value, refuse
from silence_gateway.transcoding.query import QueryPlan

HTTP_BODY = "google.api.HttpBody"

SetText: TypeAlias = Callable[[Message, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strictness:
    """
    What happens to things a caller sends that lead nowhere.

    Attributes:
        ignore_unknown_query: Drop query parameters that name no field, instead of answering 400.
        ignore_unknown_body: Drop JSON keys that name no field, instead of answering 400.
        ignore_excess_body: Drop a body where the rule has none, instead of answering 400.
    """

    ignore_unknown_query: bool = False
    ignore_unknown_body: bool = False
    ignore_excess_body: bool = False


STRICT = Strictness()


class RequestPlan:
    """
    How requests become messages of one binding.

    Args:
        message: The request message of the method.
        registry: Where types inside of google.protobuf.Any are looked up.
        rule: The rule that is served; None for `POST /package.Service/Method`.
        strictness: What to do with things that lead nowhere.
    """

    def __init__(
        self, message: DescMessage, registry: Registry, rule: HttpRule | None, strictness: Strictness = STRICT
    ) -> None:
        self.kind: type[Message] = message.type
        self.registry = registry
        self.strictness = strictness
        self.whole = rule is None or rule.body == WHOLE
        self.body_field = None if rule is None else rule.body_field
        self.set_body: Callable[[Message, Request], None] | None = None
        if self.body_field is not None:
            self.set_body = self.body_setter(self.body_field)
        self.raw = self.whole and rule is not None and message.type_name == HTTP_BODY
        self.query = None
        if not self.whole:
            self.query = QueryPlan(message, self.body_field, ignore_unknown=strictness.ignore_unknown_query)
        self.path: tuple[SetText, ...] = ()
        if rule is not None:
            self.path = tuple(path_setter(fields) for fields in rule.path_fields)

    def encode(self, request: Request, variables: tuple[str, ...]) -> bytes:
        """
        Return the serialised request message.

        Raises:
            BadRequest: Something in the request does not fit; the error says what.
            UnsupportedMedia: The body is not JSON.
        """
        body = request.body
        if self.whole:
            message = self.from_whole(request, body)
        else:
            message = self.kind()
            if self.set_body is not None:
                self.set_body(message, request)
            elif body:
                self.refuse_excess(body)
        if request.query:
            if self.query is None:
                self.refuse_query(request.query)
            else:
                self.query.apply(message, request.query)
        if variables or self.path:
            for set_text, text in zip(self.path, variables, strict=True):
                set_text(message, text)
        try:
            return message.to_binary()
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            # A required field of proto2 that was not given, for one.
            refuse(error)

    def from_whole(self, request: Request, body: bytes) -> Message:
        """Return the message that the whole body is."""
        if self.raw:
            return http_body(self.kind, request)
        if not body:
            return self.kind()
        check_type(request)
        return parse_json(self.kind, body, self.registry, ignore_unknown=self.strictness.ignore_unknown_body)

    def body_setter(self, field: DescField) -> Callable[[Message, Request], None]:
        """Return what sets *field* from the body of a request."""
        put = setter_of(field)
        ignore_unknown = self.strictness.ignore_unknown_body
        registry = self.registry
        if isinstance(field.value, DescFieldValueMessage):
            kind: type[Message] = field.value.message.type
            if field.value.message.type_name == HTTP_BODY:
                return lambda message, request: put(message, http_body(kind, request))

            def set_message(message: Message, request: Request) -> None:
                if not request.body:
                    # Well-known types such as Timestamp have no empty JSON form; leave them unset.
                    if not field_is_well_known(field):
                        put(message, kind())
                    return
                check_type(request)
                put(message, parse_json(kind, request.body, registry, ignore_unknown=ignore_unknown))

            return set_message
        name, owner = field.json_name, self.kind

        def set_value(message: Message, request: Request) -> None:
            if not request.body:
                return
            check_type(request)
            value: Any = {name: parse_value(request.body)}
            try:
                whole = message_from_json_value(
                    owner, value, ignore_unknown_fields=ignore_unknown, registry=registry
                )
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                refuse(error)
            put(message, whole[field])

        return set_value

    def refuse_excess(self, body: bytes) -> None:
        """
        Refuse a body that has nowhere to go.

        Raises:
            BadRequest: It has something in it.
        """
        if not self.strictness.ignore_excess_body and body.strip() not in {b"", b"{}"}:
            raise BadRequest("this path takes no body; send what you have as query parameters")

    def refuse_query(self, query: str) -> None:
        """
        Refuse a query where the body is the whole message.

        Raises:
            BadRequest: It has a parameter.
        """
        name = query.partition("&")[0].partition("=")[0]
        if not self.strictness.ignore_unknown_query:
            raise BadRequest(
                f"query parameter {name[:100]!r} cannot be used: here the body is the whole message"
            )


def check_type(request: Request) -> None:
    """
    Refuse a body that is not said to be JSON; one of which nothing is said is taken for JSON.

    Raises:
        UnsupportedMedia: It is said to be something else.
    """
    content_type = request.headers.get(b"content-type")
    if content_type is not None and content_type != b"application/json":
        require_json(content_type)


def http_body(kind: type[Message], request: Request) -> Message:
    """Return the google.api.HttpBody that carries the body of *request* as it is."""
    content_type = request.headers.get(b"content-type", b"application/octet-stream")
    return kind(content_type=content_type.decode("latin-1"), data=request.body)


def field_is_well_known(field: DescField) -> bool:
    """Tell whether *field* is of a type whose JSON form is not an object of its fields."""
    value = field.value
    return isinstance(value, DescFieldValueMessage) and value.message.type_name.startswith("google.protobuf.")


def path_setter(fields: tuple[DescField, ...]) -> SetText:
    """Return what sets the last of *fields* from a path variable."""
    openers = tuple(opener_of(field) for field in fields[:-1])
    from_text = from_text_of(fields[-1])
    put = setter_of(fields[-1])
    name = ".".join(field.name for field in fields)

    def set_text(message: Message, text: str) -> None:
        try:
            value = from_text(text)
        except ValueError as error:
            raise BadRequest(f"{name!r} in the path {error}") from None
        for opener in openers:
            message = opener(message)
        put(message, value)

    return set_text
