"""
YAML with places: every key and every value knows its line and column.

Strict on purpose. Duplicate keys, tags and second documents are errors, and so are anchors and aliases
unless the caller has files from elsewhere to read. Size, depth and number of values are bounded, aliases
counted as what they stand for, so that no file costs more than reading it. Scalars stay text: what `on`,
`010` or `1e3` mean is decided by the key they stand at, never by YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import yaml

from silence_gateway.app.config.quantities import quoted

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 100_000  # a thousand routes take about ten thousand

# What YAML 1.1 cannot carry, found by us because the parsers disagree about how to report it.
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
NULLS = frozenset({"", "~", "null", "Null", "NULL"})

# libyaml is ten times faster; the parser in Python is there where a wheel lacks it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Place(NamedTuple):
    """Where something is, counted from 1 as editors do."""

    line: int
    column: int


class Broken(Exception):
    """The text is not the YAML we read."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass(slots=True)
class Scalar:
    """One value as text; None where the file says null or nothing. *quoted* is never a number or a word."""

    place: Place
    text: str | None
    quoted: bool = False


@dataclass(slots=True)
class Sequence:
    """A list of values."""

    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys and values, in the order of the file."""

    place: Place
    entries: dict[str, Node] = field(default_factory=dict)
    key_places: dict[str, Place] = field(default_factory=dict)


Node: TypeAlias = Scalar | Sequence | Mapping


def decode(data: bytes) -> str:
    """
    Return *data* as text.

    Raises:
        Broken: If it is too large, is not UTF-8, or holds characters that YAML cannot.
    """
    if len(data) > MAX_BYTES:
        raise Broken(
            Place(1, 1), f"the file is larger than {MAX_BYTES >> 20} MiB, which no configuration needs"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = data[: exc.start]
        place = Place(before.count(b"\n") + 1, exc.start - (before.rfind(b"\n") + 1) + 1)
        raise Broken(place, f"byte 0x{data[exc.start]:02x} is not UTF-8: save the file as UTF-8") from exc
    return text


def parse(text: str, *, aliases: bool = False) -> Node | None:
    """
    Return what *text* says, or None if it says nothing.

    Args:
        text: The whole file.
        aliases: Whether `&name`, `*name` and the key `<<` are understood; what they stand for is shared in
            the result and keeps its place.

    Raises:
        Broken: At the first thing that cannot be read.
    """
    odd = UNPRINTABLE.search(text)
    if odd is not None:
        raise Broken(
            _place_of(text, odd.start()), f"the character {quoted(odd[0])} may not be in a YAML file"
        )
    try:
        return _build(yaml.parse(text, Loader=LOADER), Aliases() if aliases else None)
    except yaml.YAMLError as exc:
        raise _explained(text, exc) from exc


def _place_of(text: str, index: int) -> Place:
    return Place(text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1)


class Aliases:
    """What has been given a name so far, and may be named again."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def resolve(self, event: Any, open_nodes: list[Mapping | Sequence], values: int) -> tuple[Node, int]:
        """Return what an alias stands for, and how many values there are with it."""
        node = self.nodes.get(event.anchor)
        if node is None:
            raise Broken(_at(event), "nothing above has the name of this alias (*name)")
        if any(node is one for one in open_nodes):
            raise Broken(_at(event), "an alias (*name) is inside of what it stands for")
        # What is measured here was counted before, so all measuring together costs no more than MAX_VALUES.
        more, depth = measure(node)
        if values + more > MAX_VALUES:
            raise Broken(
                _at(event), f"the file holds more than {MAX_VALUES} values, aliases (*name) counted out"
            )
        if len(open_nodes) + depth > MAX_DEPTH:
            raise Broken(_at(event), f"values are nested more than {MAX_DEPTH} deep with this alias")
        return node, values + more

    def merge(self, mapping: Mapping) -> None:
        """Put the keys of what `<<` names into *mapping*, where it does not have them itself."""
        node = mapping.entries.pop("<<", None)
        if node is None:
            return
        place = mapping.key_places.pop("<<")
        for one in node.items if isinstance(node, Sequence) else [node]:
            if not isinstance(one, Mapping):
                raise Broken(place, "'<<' takes the alias of a mapping, or a list of such")
            for key, value in one.entries.items():
                if key not in mapping.entries:
                    mapping.entries[key] = value
                    mapping.key_places[key] = one.key_places[key]


def measure(node: Node) -> tuple[int, int]:
    """Return how many values *node* is, keys included, and how deep it is nested."""
    if isinstance(node, Scalar):
        return 1, 0
    inner = node.items if isinstance(node, Sequence) else node.entries.values()
    values, depth = 1 if isinstance(node, Sequence) else 1 + len(node.entries), 0
    for part in inner:
        more, deeper = measure(part)
        values, depth = values + more, max(depth, deeper)
    return values, depth + 1


def _build(events: Iterator[Any], aliases: Aliases | None) -> Node | None:
    """Build the tree without recursion; what is refused is refused before anything is kept."""
    root: Node | None = None
    documents = 0
    values = 0
    open_nodes: list[Mapping | Sequence] = []
    keys: list[str | None] = []  # for each open mapping, the key whose value comes next
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise Broken(_at(event), "a second document begins here: one file holds one configuration")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            closed = open_nodes.pop()
            keys.pop()
            if aliases is not None and isinstance(closed, Mapping):
                aliases.merge(closed)
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        values += 1
        if values > MAX_VALUES:
            raise Broken(_at(event), f"the file holds more than {MAX_VALUES} values")
        _refuse(event, aliases)
        parent = open_nodes[-1] if open_nodes else None
        if isinstance(parent, Mapping) and keys[-1] is None:
            keys[-1] = _key(event, parent)
            continue
        if aliases is not None and isinstance(event, yaml.AliasEvent):
            node, values = aliases.resolve(event, open_nodes, values)
        else:
            node = _node(event)
            if aliases is not None and event.anchor is not None:
                aliases.nodes[event.anchor] = node
        if isinstance(parent, Mapping):
            key = keys[-1]
            assert key is not None
            parent.entries[key] = node
            keys[-1] = None
        elif parent is not None:
            parent.items.append(node)
        else:
            root = node
        if isinstance(event, yaml.CollectionStartEvent):
            assert not isinstance(node, Scalar)
            if len(open_nodes) == MAX_DEPTH:
                raise Broken(node.place, f"values are nested more than {MAX_DEPTH} deep")
            open_nodes.append(node)
            keys.append(None)
    return None if isinstance(root, Scalar) and root.text is None else root


def _at(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _refuse(event: Any, aliases: Aliases | None) -> None:
    # None of these messages repeats the name: it may be a password that should have been in quotes.
    if aliases is None and isinstance(event, yaml.AliasEvent):
        raise Broken(
            _at(event),
            "aliases (*name) are not supported: write the value out, in quotes if it begins with '*'",
        )
    if aliases is None and event.anchor is not None:
        raise Broken(
            _at(event),
            "anchors (&name) are not supported: write the value out, in quotes if it begins with '&'",
        )
    if getattr(event, "tag", None) is not None:
        raise Broken(
            _at(event),
            "tags (!name) are not supported: use quotes if the value begins with '!'",
        )


def _key(event: Any, parent: Mapping) -> str:
    place = _at(event)
    if not isinstance(event, yaml.ScalarEvent):
        raise Broken(place, "a key must be plain text" + _braces_hint(event))
    key: str = event.value
    first = parent.key_places.get(key)
    if first is not None:
        raise Broken(place, f"the key {quoted(key)} is here twice: it is on line {first.line} already")
    parent.key_places[key] = place
    return key


def _braces_hint(event: Any) -> str:
    return ': put quotes around "${NAME}" inside braces' if isinstance(event, yaml.MappingStartEvent) else ""


def _node(event: Any) -> Node:
    place = _at(event)
    if isinstance(event, yaml.ScalarEvent):
        # implicit[0] tells a plain scalar: a quoted "null" is the word.
        plain = event.implicit[0]
        return Scalar(place, None if plain and event.value in NULLS else event.value, not plain)
    return Mapping(place) if isinstance(event, yaml.MappingStartEvent) else Sequence(place)


# What the parser says, and what helps.
FRIENDLY = (
    (
        "mapping values are not allowed",
        "a ': ' is not expected here: indent evenly, and quote text that holds ': '",
    ),
    ("could not find expected ':'", "this line has no ': ' after its key"),
    (
        "did not find expected key",
        "the indentation does not fit the lines above, or a quote is missing before here",
    ),
    ("did not find expected '-'", "this line is indented like a list item but does not begin with '- '"),
    ("found unexpected end of stream", "a quote or bracket opened above is never closed"),
    ("did not find expected ',' or ']'", "a ',' or ']' is missing before here"),
    ("did not find expected ',' or '}'", "a ',' or '}' is missing before here"),
    ("expected the node content", "a value is expected here"),
    ("did not find expected node content", "a value is expected here"),
)


def _explained(text: str, exc: yaml.YAMLError) -> Broken:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    if mark is None:
        return Broken(Place(1, 1), f"this is not YAML: {str(exc)[:200]}")
    place = Place(mark.line + 1, mark.column + 1)
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[mark.column : mark.column + 1] == "\t":
        return Broken(place, "a tab is used here: YAML is indented with spaces only")
    problem = str(getattr(exc, "problem", "") or "this cannot be read")
    said = next((ours for theirs, ours in FRIENDLY if theirs in problem), problem)
    if re.search(r"[{\[,:]\s*\$\{", line[: mark.column + 3]) and re.search(r"[{\[]", line.split("$")[0]):
        said = 'inside braces or brackets, put quotes around "${NAME}"'
    return Broken(place, said)
