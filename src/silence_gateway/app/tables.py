"""Plain text tables for the terminal, safe to print whatever the cells hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

MAX_CELL = 80


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return *rows* under *headers* in aligned columns; what a terminal would act on is escaped."""
    lines = [[header.upper() for header in headers], *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def cell(value: object) -> str:
    """Return *value* as one short piece of printable text."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        text = f"{value:.3f}".rstrip("0").rstrip(".")
    elif isinstance(value, Mapping | list | tuple):
        text = json.dumps(value, default=str)
    else:
        text = str(value)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}..."


def table_of(body: object) -> str:
    """
    Return what the admin API answered as a table, whatever the answer's shape.

    A list of objects, an object that holds one, or an object of objects becomes rows; anything else
    becomes lines of key and value.
    """
    rows = _rows(body)
    if rows is None:
        pairs = body.items() if isinstance(body, Mapping) else [("answer", body)]
        return table(("key", "value"), [(key, value) for key, value in pairs])
    if not rows:
        return "(none)"
    headers = list(dict.fromkeys(key for row in rows for key in row))
    text = table(headers, [[row.get(header) for header in headers] for row in rows])
    rest = {
        key: value
        for key, value in (body.items() if isinstance(body, Mapping) else ())
        if not isinstance(value, list | Mapping) and value not in (None, "")
    }
    return text + "".join(f"\n{key}: {cell(value)}" for key, value in rest.items())


def _rows(body: object) -> list[Mapping[str, object]] | None:
    if isinstance(body, list):
        return [row if isinstance(row, Mapping) else {"value": row} for row in body]
    if not isinstance(body, Mapping):
        return None
    lists = [value for value in body.values() if isinstance(value, list)]
    if len(lists) == 1:
        return _rows(lists[0])
    if body and all(isinstance(value, Mapping) for value in body.values()):
        return [{"name": key, **value} for key, value in body.items()]
    return None
