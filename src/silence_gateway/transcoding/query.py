"""
Query parameters to fields of a message.

A name is a path of fields (`a.b.c`), each by its proto name or its JSON name. What a name leads to is
worked out once and remembered; the memory is bounded, because names come from callers and a recursive
message has endlessly many.

Strict by default: a parameter that leads nowhere is refused by name, because what is silently dropped
is found in production. A parameter that is also a variable of the path is accepted and has no effect:
the path is set last.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from protobuf import DescField, DescFieldValueList, DescMessage, Message

from silence_gateway.errors import BadRequest
from silence_gateway.transcoding.fields import (
    FieldProblem,
    Opener,
    field_path,
    from_text_of,
    opener_of,
    setter_of,
)

MAX_PARAMETERS = 1000
MAX_NESTING = 32
MAX_REMEMBERED = 1000

BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

SetTexts: TypeAlias = Callable[[Message, list[str]], None]
"""Sets a field of the request message from the values of a parameter. Raises ValueError."""


def split_query(query: str) -> dict[str, list[str]]:
    """
    Return the decoded values of each parameter, in order.

    Raises:
        BadRequest: There are too many, or one cannot be decoded.
    """
    pieces = query.split("&")
    if len(pieces) > MAX_PARAMETERS:
        raise BadRequest(f"the query has {len(pieces)} parameters; {MAX_PARAMETERS} are the most")
    found: dict[str, list[str]] = {}
    for piece in pieces:
        if not piece:
            continue
        name, _, value = piece.partition("=")
        found.setdefault(decoded(name), []).append(decoded(value))
    return found


def decoded(text: str) -> str:
    """
    Decode one name or value.

    Raises:
        BadRequest: It is badly encoded, or not UTF-8.
    """
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text and text.isascii():
        return text
    if BAD_ESCAPE.search(text) is not None:
        raise BadRequest(f"the query has a '%' without two hex digits in {text[:60]!r}")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the query is not UTF-8 once it is decoded: {text[:60]!r}") from None


class QueryPlan:
    """
    How the query of one binding is put into its request message.

    Args:
        message: The request message.
        body_field: The field that the body becomes; no parameter may lead into it.
        ignore_unknown: Whether parameters that lead nowhere are dropped instead of refused.
    """

    __slots__ = ("body_field", "ignore_unknown", "message", "remembered")

    def __init__(self, message: DescMessage, body_field: DescField | None, *, ignore_unknown: bool) -> None:
        self.message = message
        self.body_field = body_field
        self.ignore_unknown = ignore_unknown
        self.remembered: dict[str, SetTexts] = {}

    def apply(self, message: Message, query: str) -> None:
        """
        Set the fields that *query* names.

        Raises:
            BadRequest: It names a field that is not there or cannot be set like this; the error says which.
        """
        for name, texts in split_query(query).items():
            set_texts = self.remembered.get(name)
            if set_texts is None:
                try:
                    set_texts = self.resolve(name)
                except FieldProblem as error:
                    if self.ignore_unknown:
                        continue
                    raise BadRequest(f"query parameter {name[:100]!r} cannot be used: {error}") from None
                if len(self.remembered) < MAX_REMEMBERED:
                    self.remembered[name] = set_texts
            try:
                set_texts(message, texts)
            except ValueError as error:
                raise BadRequest(f"query parameter {name[:100]!r} {error}") from None

    def resolve(self, name: str) -> SetTexts:
        """
        Work out what a parameter sets.

        Raises:
            FieldProblem: It leads nowhere.
        """
        names = tuple(name.split("."))
        if len(names) > MAX_NESTING:
            raise FieldProblem(f"it is nested more than {MAX_NESTING} levels deep")
        fields = field_path(self.message, names)
        if fields[0] is self.body_field:
            raise FieldProblem("that field is taken from the body")
        return set_texts_of(fields)


def set_texts_of(fields: tuple[DescField, ...]) -> SetTexts:
    """
    Return what sets the last of *fields*, making the messages around it where they are not set.

    Raises:
        FieldProblem: The last field has no text form.
    """
    openers: tuple[Opener, ...] = tuple(opener_of(field) for field in fields[:-1])
    last = fields[-1]
    from_text = from_text_of(last)
    put = setter_of(last)
    attribute = last.local_name

    def set_one(message: Message, texts: list[str]) -> None:
        if len(texts) > 1:
            raise ValueError(f"is given {len(texts)} times, but takes one value")
        value = from_text(texts[0])
        for opener in openers:
            message = opener(message)
        put(message, value)

    def set_all(message: Message, texts: list[str]) -> None:
        values = [from_text(text) for text in texts]
        for opener in openers:
            message = opener(message)
        getattr(message, attribute).extend(values)

    return set_all if isinstance(last.value, DescFieldValueList) else set_one
