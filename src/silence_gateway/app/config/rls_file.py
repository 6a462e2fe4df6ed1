"""
The rules of the rate limit service, from files in envoyproxy/ratelimit's own form.

What its loader takes is taken here, with two differences: every problem is named at once and with its place,
and what it silently ignores (a known key where it does nothing, say) is a warning. The form is strict there
too: a key that nobody knows is an error. One file's tree comes in; several files, and the disk, are the
business of `rls_files.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from silence_gateway.app.config.document import Mapping, Node, Place, Scalar, Sequence
from silence_gateway.app.config.kinds import closest
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.rls_values import json_value, parse_flag, parse_number, parse_unit
from silence_gateway.core.rls_rules import Branch, Level, Limit, Rule

ROOT_KEYS = ("domain", "descriptors")
DESCRIPTOR_KEYS = (
    "key", "value", "rate_limit", "shadow_mode", "quota_mode", "detailed_metric", "value_to_metric",
    "share_threshold", "metadata", "descriptors",
)  # fmt: skip
LIMIT_KEYS = ("unit", "requests_per_unit", "unit_multiplier", "unlimited", "name", "replaces")
REPLACED_KEYS = ("name",)
HOMES = {
    **dict.fromkeys(LIMIT_KEYS, "rate_limit"),
    **dict.fromkeys(DESCRIPTOR_KEYS, "a descriptor"),
    "domain": "the root of the file",
}
"""Where each known key belongs."""

Value = TypeVar("Value")

EMPTY = "the file is empty: write a domain, such as domain: shop, and its descriptors"


@dataclass(frozen=True, slots=True)
class Said:
    """One line for the operator, and where it points."""

    place: Place
    text: str


@dataclass(slots=True)
class FileReader:
    """
    Reads one file; what is wrong is left out of the result, so that everything else is still checked.

    Attributes:
        problems: What keeps the file from being used.
        warnings: What may surprise.
        names: Names that limits of this file have.
        replaces: Names that limits of this file replace, and where.
        wrong: Places of values that there is a problem with.
    """

    problems: list[Said] = field(default_factory=list)
    warnings: list[Said] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    replaces: list[tuple[str, Place]] = field(default_factory=list)
    wrong: set[Place] = field(default_factory=set)

    def root(self, node: Node | None) -> tuple[str, Place, list[tuple[Branch, Place]]]:
        """Return the domain, where it stands, and the outermost branches of a file."""
        start = Place(1, 1)
        if node is None:
            self.problem(start, EMPTY)
            return "", start, []
        entries = self.keys(node, ROOT_KEYS, "the file", "domain: shop")
        domain = self.text(entries, "domain")
        place = entries["domain"].place if "domain" in entries else node.place
        if not domain and isinstance(node, Mapping) and place not in self.wrong:
            self.problem(place, "the file needs a 'domain', such as domain: shop")
        return domain, place, self.branches(entries, f"the domain {quoted(domain)}" if domain else "the file")

    def branches(self, entries: dict[str, Node], where: str) -> list[tuple[Branch, Place]]:
        """Return the branches below `descriptors`, without those that are there twice."""
        found: list[tuple[Branch, Place]] = []
        places: dict[tuple[str, str], Place] = {}
        for node in self.items(entries, "descriptors"):
            branch = self.branch(node)
            if branch is None:
                continue
            name = (branch.key, branch.value)
            if name in places:
                self.problem(node.place, twice(branch, where, f"line {places[name].line}"))
            else:
                places[name] = node.place
                found.append((branch, node.place))
        return found

    def branch(self, node: Node) -> Branch | None:
        """Return one descriptor, or None if nothing can be made of it."""
        entries = self.keys(node, DESCRIPTOR_KEYS, "a descriptor", "key: remote_address")
        if not isinstance(node, Mapping):
            return None
        key, value = self.text(entries, "key"), self.text(entries, "value")
        place = entries["key"].place if "key" in entries else node.place
        if not key and place not in self.wrong:
            self.problem(place, "a descriptor needs a 'key', such as key: remote_address")
        shown = f"{quoted(key)} with the value {quoted(value)}" if value else quoted(key)
        inner = self.branches(entries, f"the descriptor {shown}")
        share = self.flag(entries, "share_threshold")
        if share and "*" not in key + value:
            self.problem(
                entries["share_threshold"].place,
                f"share_threshold needs a '*' in the value, and {shown} has none: nothing would be shared",
            )
        rule = self.rule(entries)
        value_to_metric = self.flag(entries, "value_to_metric")
        if not key:
            return None
        return Branch(
            key=key,
            value=value,
            rule=rule,
            value_to_metric=value_to_metric,
            share_threshold=share,
            inner=Level([branch for branch, _ in inner]),
        )

    def rule(self, entries: dict[str, Node]) -> Rule | None:
        """Return what a descriptor does to requests that end at it."""
        flags = {key: self.flag(entries, key) for key in ("shadow_mode", "quota_mode", "detailed_metric")}
        metadata = self.metadata(entries)
        node = entries.get("rate_limit")
        if node is None:
            for key in (*(key for key, on in flags.items() if on), *(["metadata"] if metadata else ())):
                self.warn(entries[key].place, f"{quoted(key)} does nothing without a 'rate_limit' beside it")
            return None
        inner = self.keys(node, LIMIT_KEYS, "rate_limit", "unit: minute")
        if not isinstance(node, Mapping):
            return None
        name = self.text(inner, "name")
        limit = self.limit(node, inner, name)
        return Rule(
            limit=limit,
            replaces=self.replaced(inner, name),
            shadow=flags["shadow_mode"],
            quota=flags["quota_mode"],
            detailed_metric=flags["detailed_metric"],
            metadata=metadata,
        )

    def limit(self, node: Node, entries: dict[str, Node], name: str) -> Limit | None:
        """Return the limit of a `rate_limit`; None if it is unlimited, or wrong."""
        unlimited = self.flag(entries, "unlimited")
        requests = self.number(entries, "requests_per_unit", 0)
        multiplier = self.number(entries, "unit_multiplier", 1)
        if name:
            self.names.add(name)
        if unlimited:
            for key in ("unit", "unit_multiplier"):
                if key in entries:
                    says = f"{quoted(key)} does not go with 'unlimited': remove one of the two"
                    self.problem(entries[key].place, says)
            return None
        unit = self.parsed(entries, "unit", parse_unit)
        if "unit" not in entries and not (
            "unlimited" in entries and entries["unlimited"].place in self.wrong
        ):
            self.problem(node.place, "rate_limit needs a 'unit', such as unit: minute, or unlimited: true")
        if "requests_per_unit" not in entries:
            says = "no 'requests_per_unit', so nothing may pass: write requests_per_unit: 0 if that is meant"
            self.warn(node.place, says)
        if unit is None:
            return None
        try:
            return Limit(requests or 0, unit, 1 if multiplier is None else multiplier, name)
        except ValueError as exc:
            self.problem(entries["unit_multiplier"].place, str(exc))
            return None

    def replaced(self, entries: dict[str, Node], own_name: str) -> tuple[str, ...]:
        """Return the names in `replaces`."""
        names = []
        for node in self.items(entries, "replaces"):
            inner = self.keys(node, REPLACED_KEYS, "an item of replaces", "name: other_limit")
            name = self.text(inner, "name")
            place = inner["name"].place if "name" in inner else node.place
            if not name:
                if isinstance(node, Mapping) and place not in self.wrong:
                    self.problem(place, "an item of replaces needs the 'name' of a limit")
            elif name == own_name:
                self.problem(place, f"{quoted(name)} cannot replace itself")
            else:
                names.append(name)
                self.replaces.append((name, place))
        return tuple(names)

    def metadata(self, entries: dict[str, Node]) -> dict[str, Any] | None:
        """Return what a rule has to say to its callers."""
        node = entries.get("metadata")
        if node is None:
            return None
        if not isinstance(node, Mapping):
            self.problem(node.place, "metadata takes keys, such as owner: checkout")
            return None
        values: dict[str, Any] = json_value(node)
        return values or None

    def keys(self, node: Node, known: tuple[str, ...], where: str, example: str) -> dict[str, Node]:
        """Return what a mapping says under *known* keys; a key without a value is a key left out."""
        if not isinstance(node, Mapping):
            self.problem(node.place, f"{where} takes keys, such as {example}")
            return {}
        for key, place in node.key_places.items():
            if key in known:
                continue
            if key in HOMES:
                # envoyproxy/ratelimit loads such a file and ignores the key.
                says = f"{quoted(key)} does nothing here: it belongs into {HOMES[key]}"
                self.warn(place, says)
            else:
                hint = closest(key, known) or f": the keys here are {', '.join(known)}"
                self.problems.append(Said(place, f"unknown key {quoted(key)} in {where}{hint}"))
        return {
            key: part
            for key, part in node.entries.items()
            if key in known and not (isinstance(part, Scalar) and part.text is None)
        }

    def items(self, entries: dict[str, Node], key: str) -> list[Node]:
        """Return the items of a list; none if it is not there."""
        node = entries.get(key)
        if node is None:
            return []
        if not isinstance(node, Sequence):
            says = f"{key} takes a list: begin each item with '- '"
            self.problem(node.place, says)
            return []
        return node.items

    def text(self, entries: dict[str, Node], key: str) -> str:
        """Return a text; empty if it is not there or wrong."""
        node = entries.get(key)
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            form = "list" if isinstance(node, Sequence) else "mapping"
            self.problem(node.place, f"{key} takes one value, not a {form}")
            return ""
        return node.text or ""

    def parsed(self, entries: dict[str, Node], key: str, parse: Callable[[str], Value]) -> Value | None:
        """Return what *parse* makes of a text; None if it is not there or wrong."""
        if key not in entries:
            return None
        text = self.text(entries, key)
        place = entries[key].place
        if place in self.wrong:
            return None
        try:
            return parse(text)
        except ValueError as exc:
            self.problem(place, str(exc))
            return None

    def flag(self, entries: dict[str, Node], key: str) -> bool:
        """Return a flag; off if it is not there or wrong."""
        return bool(self.parsed(entries, key, parse_flag))

    def number(self, entries: dict[str, Node], key: str, least: int) -> int | None:
        """Return a whole number; None if it is not there or wrong."""
        return self.parsed(entries, key, lambda text: parse_number(text, least))

    def problem(self, place: Place, text: str) -> None:
        """Note what is wrong with the value at *place*."""
        self.problems.append(Said(place, text))
        self.wrong.add(place)

    def warn(self, place: Place, text: str) -> None:
        """Note what may surprise."""
        self.warnings.append(Said(place, text))


def twice(branch: Branch, where: str, first: str) -> str:
    """Return the sentence about a branch that *where* has already, at *first*."""
    value = f" with the value {quoted(branch.value)}" if branch.value else " without a value"
    return f"{where} has the key {quoted(branch.key)}{value} already: it is on {first}"
