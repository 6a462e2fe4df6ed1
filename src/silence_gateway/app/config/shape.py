"""
The shape of the file, read off the models: which keys there are and what stands behind each.

Reading, unknown keys, the dump with origins, the JSON Schema and the reference page all walk this, so
none of them can disagree with the models.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

from pydantic.fields import FieldInfo

from silence_gateway.app.config.kinds import Kind
from silence_gateway.app.config.section import Section


@dataclass(frozen=True, slots=True)
class Leaf:
    """A single value."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Items:
    """A list; in the file, one item may stand for a list of one."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping whose keys the operator chooses."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping whose keys are a model's."""

    model: type[Section]


Shape: TypeAlias = Leaf | Items | Table | Keys


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One key of a model.

    Attributes:
        key: As the file writes it.
        attribute: As the model names it.
        shape: What stands behind it.
        required: Whether leaving it out is an error.
        field: Where pydantic keeps default and description.
    """

    key: str
    attribute: str
    shape: Shape
    required: bool
    field: FieldInfo

    @property
    def default(self) -> Any:
        """The value when the key is left out; meaningless if it is required."""
        return self.field.get_default(call_default_factory=True, validated_data={})


@lru_cache(maxsize=256)
def entries_of(model: type[Section]) -> dict[str, Entry]:
    """Return the keys of *model*, in the order of the reference page."""
    found: dict[str, Entry] = {}
    for attribute, field in model.model_fields.items():
        key = field.alias or attribute
        shape = shape_of(field.annotation, tuple(field.metadata))
        found[key] = Entry(key, attribute, shape, field.is_required(), field)
    return found


def shape_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Shape:
    """
    Return the shape that a field's annotation describes.

    Raises:
        TypeError: If a model uses a type that the file cannot hold; a mistake in a model.
    """
    for mark in metadata:
        if isinstance(mark, Kind):
            return Leaf(mark)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        return shape_of(arguments[0], arguments[1:])
    if origin in {typing.Union, types.UnionType}:
        (inner,) = (part for part in arguments if part is not types.NoneType)
        return shape_of(inner)
    if origin is tuple:
        return Items(shape_of(arguments[0]))
    if origin is dict:
        return Table(shape_of(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Keys(annotation)
    raise TypeError(f"a config model cannot hold {annotation!r}")
