"""
The JSON Schema of the file, for editors: keys, kinds, defaults and descriptions, all from the models.

Every value may also be written as `${NAME}` or `file:PATH`, so the schema accepts those everywhere; what
only `silence check` can know (references, combinations, files) is not in it.
"""

from __future__ import annotations

import re
from typing import Any

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.kinds import Kind
from silence_gateway.app.config.loaded import written
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.shape import Entry, Items, Keys, Leaf, Shape, Table, entries_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FROM_OUTSIDE = r"\$\{|^file:"


def json_schema() -> dict[str, Any]:
    """Return the schema of the whole file."""
    definitions: dict[str, Any] = {}
    root = section_schema(GatewayConfig, definitions)
    # A file that only changes defaults still has to say something.
    return {"$schema": DIALECT, "title": "Silence Gateway", **root, "minProperties": 1, "$defs": definitions}


def section_schema(model: type[Section], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one mapping; the sections below it go to *definitions*."""
    entries = entries_of(model)
    required = [entry.key for entry in entries.values() if entry.required]
    schema: dict[str, Any] = {
        "type": "object",
        "description": summary(model),
        "properties": {entry.key: entry_schema(entry, definitions) for entry in entries.values()},
        "additionalProperties": False,
    }
    return schema | ({"required": required} if required else {})


def entry_schema(entry: Entry, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one key with its description and default."""
    schema = shape_schema(entry.shape, definitions)
    if not entry.required:
        # A key without a value is a key left out.
        schema = {"anyOf": [schema, {"type": "null"}]}
        schema["default"] = written(entry.default, entry.shape)
    return schema | {"description": entry.field.description}


def shape_schema(shape: Shape, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what stands behind a key."""
    match shape:
        case Leaf(kind):
            return kind_schema(kind)
        case Items(item):
            one = shape_schema(item, definitions)
            many = {"type": "array", "items": one}
            return {"anyOf": [many, one]} if takes_one_value(item) else many
        case Table(item):
            return {
                "type": "object",
                "additionalProperties": {"anyOf": [shape_schema(item, definitions), {"type": "null"}]},
            }
        case Keys(model):
            name = model.__name__.removesuffix("Config")
            if name not in definitions:
                definitions[name] = {}
                definitions[name] = section_schema(model, definitions)
            reference = {"$ref": f"#/$defs/{name}"}
            if not model.SHORTHAND:
                return reference
            short = shape_schema(entries_of(model)[model.SHORTHAND].shape, definitions)
            return {"anyOf": [short, reference]}


def takes_one_value(shape: Shape) -> bool:
    """Whether a plain value may stand for a list of *shape*."""
    return isinstance(shape, Leaf) or (
        isinstance(shape, Keys) and (bool(shape.model.SHORTHAND) or shape.model.ALONE)
    )


def kind_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of a single value, references included."""
    schema = dict(kind.json)
    pattern = schema.get("pattern")
    if schema.get("type") == "string":
        if pattern is not None:
            schema["pattern"] = f"^(?:{pattern})$|{FROM_OUTSIDE}"
    elif set(schema) == {"enum"} and any(re.fullmatch(r"[0-9]+", word) for word in schema["enum"]):
        # `version: 1` and `version: "1"` are the same to us, but not to a schema.
        schema = {"enum": [*schema["enum"], *(int(word) for word in schema["enum"])]}
    else:
        schema = {"anyOf": [schema, {"type": "string", "pattern": FROM_OUTSIDE}]}
    if kind.examples and "enum" not in schema:
        schema["examples"] = list(kind.examples)
    return schema


def summary(model: type[Section]) -> str:
    """Return the first paragraph of a section's description, as one line."""
    first = (model.__doc__ or "").strip().partition("\n\n")[0]
    return " ".join(first.split()) or model.__name__
