"""
Float fields as people wrote them: 0.1 instead of 0.10000000149011612.

Single-precision numbers reach us as doubles, and the message library writes all of a double's digits.
Other gateways write the fewest digits that are the same float, and so does this one. Messages that can
hold no float cost nothing; one float costs about 3 us. What is packed into google.protobuf.Any stays as
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
    steps: dict[str, list[Shorten]] = {}
    for name, fields in float_fields(message).items():
        steps[name] = [step_of(field, steps) for field in fields]
    return all_of(steps[message.type_name]) if message.type_name in steps else None


def all_of(steps: list[Shorten]) -> Shorten:
    """Return what does all *steps*, which may still be added to."""

    def shorten(message: Message) -> None:
        for step in steps:
            step(message)

    return shorten


def step_of(field: DescField, steps: dict[str, list[Shorten]]) -> Shorten:
    """Return what shortens the floats in *field*; *steps* are those of each type, known when it is called."""
    value, kind = field.value, inner_kind(field)
    inside = kind.type_name if isinstance(kind, DescMessage) else ""
    put = setter_of(field)

    def one(message: Message) -> None:
        if field in message:
            held: Any = message[field]
            if not inside:
                put(message, shortest(held))
                return
            for step in steps[inside]:
                step(held)

    def many(message: Message) -> None:
        held: Any = message[field]
        for key in range(len(held)) if isinstance(held, list) else tuple(held):
            if not inside:
                held[key] = shortest(held[key])
                continue
            for step in steps[inside]:
                step(held[key])

    return many if isinstance(value, DescFieldValueList | DescFieldValueMap) else one


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
