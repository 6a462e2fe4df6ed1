"""
Fields of request messages as text sees them: finding them by name, and setting them from a string.

Path variables and query parameters are text. What each scalar, enum and well-known type accepts is
decided here; it is what ProtoJSON accepts inside quotes. Maps, Struct, Value, ListValue, Any and
other messages have no text form and are refused when the setter is made, not when it is used.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any, TypeAlias

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    Message,
    Oneof,
    ScalarType,
)

FromText: TypeAlias = Callable[[str], Any]
"""Makes a field's value of text. Raises ValueError with the rest of a sentence that starts with the field."""

Setter: TypeAlias = Callable[[Message, Any], None]
"""Puts a value into the message that has the field."""

Opener: TypeAlias = Callable[[Message], Message]
"""Returns a nested message, after making it if there is none."""

INTEGER = re.compile(r"-?[0-9]{1,20}")
NUMBER = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,5})?")
FLOAT32_MAX = 3.4028234663852886e38

SIGNED_32 = (-(2**31), 2**31 - 1)
UNSIGNED_32 = (0, 2**32 - 1)
SIGNED_64 = (-(2**63), 2**63 - 1)
UNSIGNED_64 = (0, 2**64 - 1)
RANGES = {
    ScalarType.INT32: SIGNED_32,
    ScalarType.SINT32: SIGNED_32,
    ScalarType.SFIXED32: SIGNED_32,
    ScalarType.UINT32: UNSIGNED_32,
    ScalarType.FIXED32: UNSIGNED_32,
    ScalarType.INT64: SIGNED_64,
    ScalarType.SINT64: SIGNED_64,
    ScalarType.SFIXED64: SIGNED_64,
    ScalarType.UINT64: UNSIGNED_64,
    ScalarType.FIXED64: UNSIGNED_64,
}

QUOTED_TYPES = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "StringValue", "BytesValue", "FloatValue", "DoubleValue"),
        *("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
    )
)
"""Well-known types whose JSON form is a string, or a number that may be quoted."""

BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class FieldProblem(ValueError):
    """A field cannot be used as somebody wants to use it; the text says why."""


def field_named(message: DescMessage, name: str) -> DescField | None:
    """Return the field of *message* with this proto name or JSON name."""
    for field in message.fields:
        if name in {field.name, field.json_name}:
            return field
    return None


def field_path(message: DescMessage, names: tuple[str, ...]) -> tuple[DescField, ...]:
    """
    Return the fields that *names* lead through, outermost first.

    Raises:
        FieldProblem: One does not exist, or is not a message although something follows it.
    """
    fields: list[DescField] = []
    here: DescMessage = message
    for index, name in enumerate(names):
        field = field_named(here, name)
        if field is None:
            raise FieldProblem(f"{here.type_name} has no field {name!r}")
        fields.append(field)
        if index + 1 < len(names):
            if not isinstance(field.value, DescFieldValueMessage):
                raise FieldProblem(
                    f"{name!r} in {here.type_name} is not a single message, so nothing is inside it"
                )
            here = field.value.message
    return tuple(fields)


def setter_of(field: DescField) -> Setter:
    """Return what sets *field*; a member of a oneof replaces the other members."""
    name = field.local_name
    value = field.value
    if isinstance(value, DescFieldValueList | DescFieldValueMap) or value.oneof is None:

        def set_plain(message: Message, value: Any) -> None:
            setattr(message, name, value)

        return set_plain
    group, member = value.oneof.local_name, field.name

    def set_member(message: Message, value: Any) -> None:
        setattr(message, group, Oneof(member, value))

    return set_member


def opener_of(field: DescField) -> Opener:
    """Return what steps into the message field *field*, making it where it is not set."""
    assert isinstance(field.value, DescFieldValueMessage)
    make = field.value.message.type
    put = setter_of(field)

    def step(message: Message) -> Message:
        if field in message:
            inner: Message = message[field]
            return inner
        inner = make()
        put(message, inner)
        return inner

    return step


def from_text_of(field: DescField) -> FromText:
    """
    Return what makes one value (one element, if it is repeated) of *field* from text.

    Raises:
        FieldProblem: Its type has no text form.
    """
    value = field.value
    if isinstance(value, DescFieldValueScalar):
        return scalar_from_text(value.scalar)
    if isinstance(value, DescFieldValueEnum):
        return enum_from_text(value.enum)
    if isinstance(value, DescFieldValueMessage):
        return message_from_text(value.message)
    if isinstance(value, DescFieldValueMap):
        raise FieldProblem("a map cannot be written as text")
    if isinstance(value.element, DescMessage):
        try:
            return message_from_text(value.element)
        except FieldProblem:
            name = value.element.type_name
            raise FieldProblem(f"a repeated {name} cannot be written as text") from None
    if isinstance(value.element, DescEnum):
        return enum_from_text(value.element)
    return scalar_from_text(value.element)


def scalar_from_text(scalar: ScalarType) -> FromText:
    """Return what makes a scalar of text."""
    if scalar == ScalarType.STRING:
        return str
    if scalar == ScalarType.BOOL:
        return bool_from_text
    if scalar == ScalarType.BYTES:
        return bytes_from_text
    if scalar == ScalarType.DOUBLE:
        return float_from_text
    if scalar == ScalarType.FLOAT:
        return float32_from_text
    low, high = RANGES[scalar]

    def integer(text: str) -> int:
        if INTEGER.fullmatch(text) is None:
            raise ValueError(f"must be a whole number, not {shown(text)}")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}, not {text}")
        return number

    return integer


def bool_from_text(text: str) -> bool:
    """Read `true`, `false`, `1` or `0`."""
    try:
        return BOOLEANS[text]
    except KeyError:
        raise ValueError(f"must be true or false, not {shown(text)}") from None


def bytes_from_text(text: str) -> bytes:
    """Read base64 of either alphabet, with or without padding."""
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (Base64Error, ValueError):
        raise ValueError(f"must be base64, not {shown(text)}") from None


def float_from_text(text: str) -> float:
    """Read a JSON number, `NaN`, `Infinity` or `-Infinity`."""
    if text in {"NaN", "Infinity", "-Infinity"}:
        return float(text)
    if NUMBER.fullmatch(text) is None:
        raise ValueError(f"must be a number, not {shown(text)}")
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"must fit in a double, which {shown(text)} does not")
    return number


def float32_from_text(text: str) -> float:
    """Read a number within the range of a float."""
    number = float_from_text(text)
    if math.isfinite(number) and abs(number) > FLOAT32_MAX:
        raise ValueError(f"must fit in a float, which {shown(text)} does not")
    return number


def enum_from_text(enum: DescEnum) -> FromText:
    """Return what reads a name or a number of *enum*."""
    by_text: dict[str, Any] = {value.name: enum.type(value.number) for value in enum.values}
    if enum.type_name == "google.protobuf.NullValue":
        by_text["null"] = enum.type(0)

    def member(text: str) -> Any:
        known = by_text.get(text)
        if known is not None:
            return known
        if INTEGER.fullmatch(text) is not None:
            number = int(text)
            if SIGNED_32[0] <= number <= SIGNED_32[1]:
                # Raises ValueError for a number that a closed enum does not have.
                return enum.type(number)
        known_names = ", ".join(value.name for value in enum.values[:20])
        raise ValueError(f"must be one of {known_names} or its number, not {shown(text)}")

    return member


def message_from_text(message: DescMessage) -> FromText:
    """
    Return what makes a well-known type of text.

    Raises:
        FieldProblem: *message* has no text form.
    """
    name = message.type_name
    if name == "google.protobuf.FieldMask":
        return field_mask_from_text(message)
    if name == "google.protobuf.BoolValue":
        return lambda text: message.type.from_json("true" if bool_from_text(text) else "false")
    if name not in QUOTED_TYPES:
        raise FieldProblem(f"a {name} cannot be written as text; name a field inside it")

    def quoted(text: str) -> Message:
        try:
            return message.type.from_json(json.dumps(text))
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"must be a {name.rpartition('.')[2]}, not {shown(text)}") from None

    return quoted


def field_mask_from_text(message: DescMessage) -> FromText:
    """Return what reads comma-separated paths; each may be written as in JSON or as in the proto."""

    def mask(text: str) -> Message:
        paths = text.split(",") if text else []
        for path in paths:
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", path) is None:
                raise ValueError(f"must be field paths separated by commas, not {shown(text)}")
        snake = [re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), path) for path in paths]
        return message.type(paths=snake)

    return mask


def shown(text: str) -> str:
    """Return *text* as an error shows it: quoted, and not longer than a person reads."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
