"""Plain text tables for the terminal, safe to print whatever the cells hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

MAX_CELL = 80


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, whole_last: bool = False) -> str:
    """
    Return *rows* under *headers* in aligned columns; what a terminal would act on is escaped.

    With *whole_last* texts of the last column are never shortened: they are what is asked for.
    """
    lines = [[header.upper() for header in headers], *([cell(value) for value in row] for row in rows)]
    if whole_last:
        for line, row in zip(lines[1:], rows, strict=True):
            line[-1] = printable(str(row[-1])) or line[-1]
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
    text = printable(text)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}..."


def printable(text: str) -> str:
    """Return *text* with everything that a terminal might act on as a question mark."""
    return "".join(char if char.isprintable() else "?" for char in text)
