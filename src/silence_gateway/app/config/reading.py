"""
From the YAML tree to plain values that the models accept, with everything that is wrong on the way.

One walk over tree and models together: unknown keys, values of the wrong form, missing keys, bad
references. It never stops at a problem: what is wrong is left out of the result, so that everything
else can still be checked. What has to fit together across sections is in `checks.py`.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from silence_gateway.app.config.document import Mapping, Node, Place, Scalar, Sequence
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.kinds import Kind, closest
from silence_gateway.app.config.later import advice_for
from silence_gateway.app.config.quantities import did_you_mean, quoted
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.shape import Items, Keys, Leaf, Shape, Table, entries_of
from silence_gateway.app.config.substitution import Filled, fill

Steps: TypeAlias = tuple[str | int, ...]
"""Where a value is: keys and list indexes from the root of the file."""

SWITCHES_ON = frozenset({"true", "yes", "on"})
# What people write instead, and no letters lead to; used for suggestions only.
KEY_SLIPS = {
    "addresses": "endpoints", "targets": "endpoints", "circuit_breaker": "breaker", "retries": "retry",
    "lb": "balancer", "cert": "certificate", "sni": "server_name", "host": "address", "url": "address",
}  # fmt: skip


class Left:
    """Stands for a value that is left out because it is wrong."""


LEFT = Left()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    place: Place
    message: str


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a value came from.

    Attributes:
        place: Where it stands in the file.
        variables: Environment variables that are in it.
        file: File that it was read from, or empty.
    """

    place: Place
    variables: tuple[str, ...] = ()
    file: str = ""


@dataclass(slots=True)
class Reading:
    """
    What one walk found.

    Attributes:
        problems: Everything that is wrong, in the order of the walk.
        places: Where each value stands.
        origins: Where each single value came from.
        left_out: Values that were wrong, by their place in the file.
        survivors: For each list that lost items, the original indexes of those that are left.
    """

    problems: list[Problem] = field(default_factory=list)
    places: dict[Steps, Place] = field(default_factory=dict)
    origins: dict[Steps, Origin] = field(default_factory=dict)
    left_out: set[Steps] = field(default_factory=set)
    survivors: dict[Steps, list[int]] = field(default_factory=dict)

    def original(self, steps: Steps) -> Steps:
        """Translate a place in the models to one in the file: indexes shift where items are left out."""
        found: Steps = ()
        for step in steps:
            kept = self.survivors.get(found)
            found += (kept[step] if kept is not None and isinstance(step, int) else step,)
        return found

    def place_of(self, steps: Steps) -> Place:
        """Return the place of the value at *steps* in the file, or of the nearest thing around it."""
        while steps and steps not in self.places:
            steps = steps[:-1]
        return self.places.get(steps, Place(1, 1))


class Reader:
    """Reads one tree; what it finds is in `reading`."""

    def __init__(self, environment: MappingOf[str, str], base: Path) -> None:
        self.reading = Reading()
        self._environment = environment
        self._base = base

    def read_root(self, root: Node, model: type[Section] = GatewayConfig) -> Any:
        """Return the values of the whole file, which is a *model*, or LEFT if it is not a mapping."""
        return self._read(root, Keys(model), ())

    def _problem(self, steps: Steps, place: Place, message: str) -> Left:
        self.reading.problems.append(Problem(place, message))
        self.reading.left_out.add(steps)
        return LEFT

    def _read(self, node: Node, shape: Shape, steps: Steps) -> Any:
        self.reading.places.setdefault(steps, node.place)
        match shape:
            case Leaf(kind):
                return self._leaf(node, kind, steps)
            case Items(item):
                return self._items(node, item, steps)
            case Table(item):
                return self._table(node, item, steps)
            case Keys(model):
                return self._keys(node, model, steps)

    def _leaf(self, node: Node, kind: Kind, steps: Steps) -> Any:
        if not isinstance(node, Scalar):
            form = "list" if isinstance(node, Sequence) else "mapping"
            return self._problem(
                steps, node.place, f"{shown(steps)} takes one value, not a {form}{_braces(node)}"
            )
        if node.text is None:
            return self._problem(
                steps,
                node.place,
                f"{shown(steps)} is empty: expected a {kind.name}, such as {kind.examples[0]}",
            )
        try:
            filled = fill(node.text, self._environment, self._base)
        except ValueError as exc:
            said = str(exc)
            if kind.secret and "is not a reference" in said:
                said = "a reference in this value is malformed: write ${NAME} or ${NAME:-default}"
            return self._problem(steps, node.place, f"{shown(steps)}: {said}")
        try:
            kind.parse(filled.text)
        except ValueError as exc:
            said = _discreet(str(exc), filled, kind)
            return self._problem(steps, node.place, f"{shown(steps)}: {said}")
        self.reading.origins[steps] = Origin(node.place, filled.variables, filled.file)
        return filled.text

    def _items(self, node: Node, item: Shape, steps: Steps) -> Any:
        alone = isinstance(item, Keys) and item.model.ALONE
        if isinstance(node, Mapping) and not alone:
            if self._tell_later(node, steps):
                return LEFT
            return self._problem(steps, node.place, f"{shown(steps)} takes a list: begin each item with '- '")
        nodes: list[Node] = node.items if isinstance(node, Sequence) else [node]
        values = [self._read(part, item, (*steps, index)) for index, part in enumerate(nodes)]
        kept = [index for index, value in enumerate(values) if value is not LEFT]
        if len(kept) < len(values):
            self.reading.survivors[steps] = kept
        return [values[index] for index in kept]

    def _table(self, node: Node, item: Shape, steps: Steps) -> Any:
        if not isinstance(node, Mapping):
            return self._problem(
                steps, node.place, f"{shown(steps)} takes names, each followed by ':' and its keys"
            )
        values: dict[str, Any] = {}
        for name, part in node.entries.items():
            self.reading.places[*steps, name] = node.key_places[name]
            if isinstance(part, Scalar) and part.text is None:
                part = Mapping(part.place)
            value = self._read(part, item, (*steps, name))
            if value is not LEFT:
                values[name] = value
        return values

    def _keys(self, node: Node, model: type[Section], steps: Steps) -> Any:
        if isinstance(node, Scalar) and model.SHORTHAND and node.text is not None:
            entry = entries_of(model)[model.SHORTHAND]
            value = self._read(node, entry.shape, (*steps, entry.key))
            return LEFT if value is LEFT else {entry.key: value}
        if not isinstance(node, Mapping):
            says = f"{shown(steps)} takes keys, such as '{next(iter(entries_of(model)))}: ...'"
            if isinstance(node, Scalar) and node.text in SWITCHES_ON and not any_required(model):
                says += "; write {} for its defaults"
            return self._problem(steps, node.place, says)
        known = entries_of(model)
        values: dict[str, Any] = {}
        for key, part in node.entries.items():
            entry_steps = (*steps, key)
            self.reading.places[entry_steps] = node.key_places[key]
            if key not in known:
                self._unknown(key, model, entry_steps, node.key_places[key])
                continue
            if isinstance(part, Scalar) and part.text is None:
                continue  # a key without a value is a key left out
            self.reading.places[entry_steps] = part.place
            value = self._read(part, known[key].shape, entry_steps)
            if value is not LEFT:
                values[key] = value
        return self._with_required(node, model, steps, values)

    def _with_required(
        self, node: Mapping, model: type[Section], steps: Steps, values: dict[str, Any]
    ) -> Any:
        complete = True
        for key, entry in entries_of(model).items():
            if not entry.required or key in values:
                continue
            complete = False
            if (*steps, key) not in self.reading.left_out:
                place = node.key_places.get(key, self.reading.places.get(steps, node.place))
                empty = key in node.entries
                self._problem(
                    (*steps, key),
                    place,
                    f"{quoted(key)} has no value"
                    if empty
                    else f"{shown(steps)} needs the key {quoted(key)}{_example(entry.shape)}",
                )
        if complete:
            return values
        self.reading.left_out.add(steps)
        return LEFT

    def _unknown(self, key: str, model: type[Section], steps: Steps, place: Place) -> None:
        advice = advice_for(steps)
        if advice is not None:
            self._problem(steps, place, f"{quoted(key)} is not supported in this version: {advice}")
            return
        known = list(entries_of(model))
        hint = did_you_mean(KEY_SLIPS[key]) if KEY_SLIPS.get(key) in known else closest(key, known)
        for section, entry in entries_of(model).items():
            if isinstance(entry.shape, Keys) and key in entries_of(entry.shape.model):
                hint = did_you_mean(f"{section}.{key}")
                break
        where = f" in {shown(steps[:-1])}" if len(steps) > 1 else ""
        self._problem(
            steps,
            place,
            f"unknown key {quoted(key)}{where}{hint or ': the keys here are ' + ', '.join(known)}",
        )

    def _tell_later(self, node: Mapping, steps: Steps) -> bool:
        """Say which keys of a mapping, where a list belongs, a later version knows."""
        told = False
        for key, place in node.key_places.items():
            advice = advice_for((*steps, key))
            if advice is not None:
                self._problem(
                    (*steps, key), place, f"{quoted(key)} is not supported in this version: {advice}"
                )
                self.reading.left_out.add(steps)
                told = True
        return told


def any_required(model: type[Section]) -> bool:
    """Whether a section of *model* cannot be left empty."""
    return any(entry.required for entry in entries_of(model).values())


def shown(steps: Steps) -> str:
    """Return a place for a message: `limits[0].rate`; the name in quotes where the operator chose it."""
    if not steps:
        return "the file"
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text if len(text) <= 80 else f"...{text[-77:]}"


def _braces(node: Node) -> str:
    """Return a hint for `${NAME}` without quotes, which YAML takes for a mapping inside braces."""
    if isinstance(node, Mapping) and len(node.entries) == 1 and next(iter(node.entries.values())):
        only = next(iter(node.entries.values()))
        if isinstance(only, Scalar) and only.text is None:
            return ': put quotes around "${NAME}"'
    return ""


def _example(shape: Shape) -> str:
    if isinstance(shape, Leaf) and shape.kind.examples:
        return f", such as {shape.kind.examples[0]}"
    return ""


def _discreet(said: str, filled: Filled, kind: Kind) -> str:
    """Return *said* without the value, where the value came from outside and may be a secret."""
    if not filled.variables and not filled.file:
        return said
    source = (
        f"the text of file:{filled.file[:200]}" if filled.file else f"the value of ${{{filled.variables[0]}}}"
    )
    rest = said.removeprefix(quoted(filled.text)).partition(" (did you mean")[0]
    if not kind.secret and rest != said and filled.text and filled.text not in rest:
        return source + rest
    return f"{source} cannot be used here: expected a {kind.name}, such as {', '.join(kind.examples[:3])}"
