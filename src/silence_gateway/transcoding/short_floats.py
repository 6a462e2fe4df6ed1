"""
Float fields as people wrote them: 0.1 instead of 0.10000000149011612.

Single-precision numbers reach us as doubles, and the message library writes all of a double's digits.
Other gateways write the fewest digits that are the same float, and so does this one. Messages that can
hold no float cost nothing; one float costs about 1 us. What is packed into google.protobuf.Any stays as
it is: its type is only known when it is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from struct import Struct
from typing import Any, TypeAlias

from protobuf import (
    DescField,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    Message,
    ScalarType,
)

from silence_gateway.transcoding.fields import FLOAT32_MAX, setter_of

FLOAT = Struct("f")

Shorten: TypeAlias = Callable[[Message], None]


def shortest(value: float) -> float:
    """Return the number with the fewest digits that is *value* in single precision."""
    if not math.isfinite(value):
        return value
    packed = FLOAT.pack(value)
    for digits in (6, 7, 8, 9):
        short = float(f"{value:.{digits}g}")
        # Readers refuse what is above the largest float, even if it would be rounded to that.
        if FLOAT.pack(short) == packed and abs(short) <= FLOAT32_MAX:
            return short
    return value


def shortener_of(message: DescMessage) -> Shorten | None:
    """Return what shortens all floats in a message of this type, in place; None if it can hold none."""
    fields = float_fields(message)
    if message.type_name not in fields:
        return None

    def shorten(message: Message, type_name: str) -> None:
        for field in fields[type_name]:
            if field in message:
                shorten_field(message, field)

    def shorten_field(message: Message, field: DescField) -> None:
        value, held = field.value, message[field]
        kind = inner_kind(field)
        if isinstance(value, DescFieldValueList | DescFieldValueMap):
            keys = range(len(held)) if isinstance(value, DescFieldValueList) else list(held)
            for key in keys:
                if isinstance(kind, DescMessage):
                    shorten(held[key], kind.type_name)
                else:
                    held[key] = shortest(held[key])
        elif isinstance(kind, DescMessage):
            shorten(held, kind.type_name)
        else:
            setter_of(field)(message, shortest(held))

    return lambda whole: shorten(whole, message.type_name)


def inner_kind(field: DescField) -> Any:
    """Return the type of what *field* holds, or of each element if it holds many."""
    value = field.value
    if isinstance(value, DescFieldValueScalar):
        return value.scalar
    if isinstance(value, DescFieldValueMessage):
        return value.message
    if isinstance(value, DescFieldValueList):
        return value.element
    if isinstance(value, DescFieldValueMap):
        return value.value
    return None


def float_fields(message: DescMessage) -> dict[str, list[DescField]]:
    """Return the fields of *message*, and of each type inside it, that lead to floats; by type name."""
    inside: dict[str, DescMessage] = {}
    waiting = [message]
    while waiting:
        kind = waiting.pop()
        if kind.type_name not in inside:
            inside[kind.type_name] = kind
            inner = (inner_kind(field) for field in kind.fields)
            waiting.extend(each for each in inner if isinstance(each, DescMessage))
    found: dict[str, list[DescField]] = {}
    while True:
        # Again until nothing is new: types may hold each other.
        now = {
            name: fields
            for name, kind in inside.items()
            if (fields := [field for field in kind.fields if leads_to_float(inner_kind(field), found)])
        }
        if len(now) == len(found) and all(len(now[name]) == len(found[name]) for name in now):
            return found
        found = now


def leads_to_float(kind: Any, found: dict[str, list[DescField]]) -> bool:
    """Tell whether *kind* is the float type, or a message of which *found* says that it holds some."""
    return kind.type_name in found if isinstance(kind, DescMessage) else kind is ScalarType.FLOAT
