"""A configuration that passed every check, and where each of its values came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.reading import Origin, Steps
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.shape import Items, Keys, Leaf, Shape, Table, entries_of


@dataclass(frozen=True)
class LoadedConfig:
    """
    One file, read and checked. It can be pickled, so workers get it as it is.

    Attributes:
        config: What the gateway is told.
        path: The file it came from.
        origins: Where each single value came from; what is not in it is a default.
        warnings: What runs but may surprise, one line each, with its place.
    """

    config: GatewayConfig
    path: Path
    origins: Mapping[Steps, Origin] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """
        Return the configuration in force as JSON values, secrets masked.

        `config` has the form of the file, defaults written in; `origins` says for every single value
        `default`, `FILE:LINE`, `env NAME (FILE:LINE)` or `file PATH (FILE:LINE)`.
        """
        origins = {
            ".".join(map(str, steps)): self.origin_text(steps)
            for steps, _ in leaves(self.config, Keys(GatewayConfig), ())
        }
        return {
            "path": str(self.path),
            "digest": self.digest,
            "config": written(self.config, Keys(GatewayConfig)),
            "origins": origins,
            "warnings": list(self.warnings),
        }

    def origin_text(self, steps: Steps) -> str:
        """Return where the value at *steps* came from, in words."""
        origin = self.origins.get(steps)
        if origin is None:
            return "default"
        place = f"{self.path.name}:{origin.place.line}"
        if origin.file:
            return f"file {origin.file} ({place})"
        return f"env {', '.join(origin.variables)} ({place})" if origin.variables else place

    @cached_property
    def digest(self) -> str:
        """
        Twelve hexadecimal digits that differ when the configuration does.

        Secrets do not enter it: it is shown in metrics, and a short secret could be guessed from it.
        """
        text = json.dumps(written(self.config, Keys(GatewayConfig)), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def written(value: Any, shape: Shape) -> Any:
    """Return *value* as the file would write it, secrets masked."""
    if value is None:
        return None
    match shape:
        case Leaf(kind):
            return kind.show(value)
        case Items(item):
            return [written(part, item) for part in value]
        case Table(item):
            return {name: written(part, item) for name, part in value.items()}
        case Keys(model):
            return {
                entry.key: written(getattr(value, entry.attribute), entry.shape)
                for entry in entries_of(model).values()
            }


def leaves(value: Any, shape: Shape, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    """Go through every single value; what is absent or empty counts as one."""
    if value is None or isinstance(shape, Leaf) or (not isinstance(shape, Keys) and not value):
        yield steps, value
    elif isinstance(shape, Items):
        for index, part in enumerate(value):
            yield from leaves(part, shape.item, (*steps, index))
    elif isinstance(shape, Table):
        for name, part in value.items():
            yield from leaves(part, shape.item, (*steps, name))
    else:
        section: Section = value
        for entry in entries_of(shape.model).values():
            yield from leaves(getattr(section, entry.attribute), entry.shape, (*steps, entry.key))
