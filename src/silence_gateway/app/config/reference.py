"""
The reference page of the configuration, written from the models: key, kind, default, meaning.

`python -m silence_gateway.app.config.reference` prints it; a test holds docs/reference/config.md to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.later import LATER
from silence_gateway.app.config.loaded import written
from silence_gateway.app.config.schema import summary
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.shape import Entry, Items, Keys, Leaf, Shape, Table, entries_of

OPENING = """# Configuration reference

<!-- Written by `make docs` from the models in src/silence_gateway/app/config; change it there. -->

One YAML file holds everything. `silence check gateway.yaml` finds every problem at once, and
`silence schema` prints a JSON Schema for editors. The least that runs:

```yaml
upstreams:
  shop:
    endpoints: [127.0.0.1:9001]
```

How values are written:

* Durations: `250ms`, `5s`, `1m`, `24h`, `7d`. Sizes: `512B`, `64KiB`, `1MiB`, `2GiB`. Rates: `100/minute`,
  `5000/s`, `10/30s`. A unit is never guessed.
* Any value may be `${NAME}` or `${NAME:-default}` (environment; the default also where the variable is
  empty), or `file:PATH` (the file's text without its last newline). `$${` stands for `${`. What is put
  in is text: it can add no keys, and the key decides its type. Inside braces, put quotes around it.
* Paths are relative to the directory of the file.
* Where a list is expected, one plain value stands for a list of one. A key without a value is a key left out.
* Not read: anchors, aliases, tags, several documents, files above 1 MiB.
"""


def reference_page() -> str:
    """Return the whole page as Markdown."""
    parts = [OPENING]
    for name, model, depth in sections(GatewayConfig, "", 0):
        title = f"`{name}`" if name else "The file"
        parts.append(f"{'#' * min(2 + depth, 4)} {title}\n\n{summary(model)}\n\n{key_table(model)}")
    later = "\n".join(f"| `{key}` | {advice} |" for key, advice in LATER.items())
    parts.append(
        "## Not in this version\n\nThese keys are part of the form of the file, and `silence check` names "
        f"them; they do not work yet.\n\n| key | meanwhile |\n|---|---|\n{later}"
    )
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def sections(model: type[Section], name: str, depth: int) -> Iterator[tuple[str, type[Section], int]]:
    """Go through every section, outer ones first, with its path as the operator writes it."""
    yield name, model, depth
    for entry in entries_of(model).values():
        path, inner = f"{name}.{entry.key}" if name else entry.key, entry.shape
        while isinstance(inner, Items | Table):
            path += "[]" if isinstance(inner, Items) else ".NAME"
            inner = inner.item
        if isinstance(inner, Keys):
            yield from sections(inner.model, path, depth + 1)


def key_table(model: type[Section]) -> str:
    """Return the table of one section's keys."""
    rows = [
        f"| `{entry.key}` | {kind_text(entry.shape)} | {default_text(entry)} | {entry.field.description} |"
        for entry in entries_of(model).values()
    ]
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


def kind_text(shape: Shape) -> str:
    """Return what a key takes, in words."""
    match shape:
        case Leaf(kind):
            return kind.name
        case Items(item):
            return f"list: {kind_text(item)}"
        case Table(item):
            return f"names, each with {kind_text(item)}"
        case Keys(model):
            short = entries_of(model)[model.SHORTHAND].shape if model.SHORTHAND else None
            return f"{kind_text(short)}, or keys (below)" if short is not None else "keys (below)"


def default_text(entry: Entry) -> str:
    """Return the default as the file would write it."""
    if entry.required:
        return "**required**"
    value = written(entry.default, entry.shape)
    if value is None:
        return "none"
    if isinstance(entry.shape, Keys):
        return "as below"
    if value in ([], {}):
        return "empty"
    if isinstance(value, dict):
        return "as below for " + ", ".join(f'`"{key}"`' for key in value)
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
