"""
Which route serves a path: an immutable trie over path templates.

At each segment a literal beats `*`, and `*` beats `**`; where the better branch leads nowhere the
search goes back and takes the next one. A verb counts only where a template has it. Each node of the
trie is visited at most once per verb reading, so the worst look-up is linear in the number of routes,
never exponential in the length of the path.

Paths come raw. A path that cannot be decoded, or that has `.` or `..` segments, is the caller's fault
and is refused here, so that nothing behind the router has to think about it.

Measured on one core of the build machine: 0.15 us for a path without variables, 1.5 to 2.3 us with
variables, 4.3 us when something is percent-encoded.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from silence_gateway.core.path_template import DOUBLE_STAR, STAR, PathTemplate
from silence_gateway.errors import BadRequest

Target = TypeVar("Target")

ANY_METHOD = "*"
"""Register a route under this to serve every method that nothing else serves."""

BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
ENCODED_SLASH = re.compile(r"(%2[Ff])")
DOT_SEGMENT = re.compile(r"/\.{1,2}(?=/|$)")


class Match(Generic[Target]):
    """
    What a look-up found. Made for every request, so a plain slots class.

    Attributes:
        target: What was registered.
        values: One decoded value per variable of the template, in its order.
    """

    __slots__ = ("target", "values")

    def __init__(self, target: Target, values: tuple[str, ...]) -> None:
        self.target = target
        self.values = values


class Leaf(Generic[Target]):
    """A route: what it leads to, and which part of the path becomes which variable."""

    __slots__ = ("cuts", "match", "target")

    def __init__(self, template: PathTemplate, target: Target) -> None:
        self.target = target
        # (first segment, segment after the last or None for "to the end", keep %2F)
        self.cuts = tuple(
            (v.start, None if template.segments[v.end - 1].kind == DOUBLE_STAR else v.end, v.multiple)
            for v in template.variables
        )
        self.match = Match(target, ())


class Node(Generic[Target]):
    """A place in the trie. Changed only while it is built."""

    __slots__ = ("ends", "literals", "rest", "star")

    def __init__(self) -> None:
        self.literals: dict[str, Node[Target]] = {}
        self.star: Node[Target] | None = None
        self.ends: dict[
            str, dict[str, Leaf[Target]]
        ] = {}  # verb -> method -> leaf, for a path that ends here
        self.rest: dict[str, dict[str, Leaf[Target]]] = {}  # the same for `**`


class Routes(Generic[Target]):
    """Routes that can be looked up; made by `RouteBuilder`, never changed."""

    __slots__ = ("plain", "root", "verbs")

    def __init__(
        self, root: Node[Target], plain: dict[str, dict[str, Match[Target]]], verbs: frozenset[str]
    ) -> None:
        self.root = root
        self.plain = plain
        self.verbs = verbs

    def find(self, method: str, path: str) -> Match[Target] | None:
        """
        Find the route of a request; HEAD is served by GET where there is no HEAD.

        Args:
            method: Upper-case method.
            path: The path as it came, still percent-encoded.

        Raises:
            BadRequest: The path cannot be decoded.
        """
        # A path of literals only is the best match there can be, so one look is enough.
        by_method = self.plain.get(path)
        if by_method is not None:
            found = by_method.get(method)
            if found is not None:
                return found
        raw, segments = split_path(path)
        for verb, pieces, steps in self.readings(raw, segments):
            leaf = search(self.root, steps, 0, verb, method)
            if leaf is not None:
                return Match(leaf.target, captured(leaf, pieces)) if leaf.cuts else leaf.match
        return self.find("GET", path) if method == "HEAD" else None

    def allowed(self, path: str) -> tuple[str, ...]:
        """
        Return the methods that *path* is served with, sorted; empty if it is not served at all.

        Raises:
            BadRequest: The path cannot be decoded.
        """
        raw, segments = split_path(path)
        methods: set[str] = set()
        for verb, _, steps in self.readings(raw, segments):
            collect(self.root, steps, 0, verb, methods)
        if "GET" in methods:
            methods.add("HEAD")
        return tuple(sorted(methods))

    def readings(self, raw: list[str], segments: list[str]) -> list[tuple[str, list[str], list[str]]]:
        """
        Return the ways to read the last segment: with its verb, if any route has it, then without.

        Each is the verb, the raw segments and the decoded ones. Only a `:` that came as such starts a
        verb; `%3A` is data.
        """
        if not self.verbs or not raw or ":" not in raw[-1]:
            return [("", raw, segments)]
        last, _, verb = raw[-1].rpartition(":")
        verb = decoded(verb)
        if verb not in self.verbs:
            return [("", raw, segments)]
        return [(verb, [*raw[:-1], last], [*segments[:-1], decoded(last)]), ("", raw, segments)]


class RouteBuilder(Generic[Target]):
    """Collects routes, then makes a `Routes`."""

    def __init__(self) -> None:
        self.root: Node[Target] = Node()
        self.plain: dict[str, dict[str, Match[Target]]] = {}
        self.verbs: set[str] = set()

    def add(self, method: str, template: PathTemplate, target: Target) -> Target | None:
        """
        Add a route, unless one of the same method and shape is there already.

        Returns:
            The target that stands in the way and stays; None if the route was added.
        """
        node = self.root
        rest = False
        for segment in template.segments:
            if segment.kind == DOUBLE_STAR:
                rest = True
            elif segment.kind == STAR:
                if node.star is None:
                    node.star = Node()
                node = node.star
            else:
                node = node.literals.setdefault(segment.literal, Node())
        leaves = (node.rest if rest else node.ends).setdefault(template.verb, {})
        there = leaves.get(method)
        if there is not None:
            return there.target
        leaf = leaves[method] = Leaf(template, target)
        if template.verb:
            self.verbs.add(template.verb)
        if method != ANY_METHOD and not any(segment.kind for segment in template.segments):
            self.plain.setdefault(template.canonical(), {})[method] = leaf.match
        return None

    def build(self) -> Routes[Target]:
        """Return what was collected; the builder must not be used afterwards."""
        return Routes(self.root, self.plain, frozenset(self.verbs))


def search(node: Node[Target], steps: list[str], at: int, verb: str, method: str) -> Leaf[Target] | None:
    """Find the best leaf below *node* for the rest of *steps*; depth is bounded by the longest template."""
    if at == len(steps):
        by_method = node.ends.get(verb)
        if by_method is not None:
            leaf = by_method.get(method) or by_method.get(ANY_METHOD)
            if leaf is not None:
                return leaf
    else:
        step = steps[at]
        below = node.literals.get(step)
        if below is not None:
            leaf = search(below, steps, at + 1, verb, method)
            if leaf is not None:
                return leaf
        if node.star is not None and step:
            leaf = search(node.star, steps, at + 1, verb, method)
            if leaf is not None:
                return leaf
    by_method = node.rest.get(verb)
    if by_method is None:
        return None
    return by_method.get(method) or by_method.get(ANY_METHOD)


def collect(node: Node[Target], steps: list[str], at: int, verb: str, methods: set[str]) -> None:
    """Add the methods of every leaf that *steps* can reach."""
    if at == len(steps):
        methods.update(node.ends.get(verb, ()))
    else:
        below = node.literals.get(steps[at])
        if below is not None:
            collect(below, steps, at + 1, verb, methods)
        if node.star is not None and steps[at]:
            collect(node.star, steps, at + 1, verb, methods)
    methods.update(node.rest.get(verb, ()))


def split_path(path: str) -> tuple[list[str], list[str]]:
    """
    Return the segments of *path*, raw and decoded.

    Raises:
        BadRequest: It is not an absolute path, or cannot be decoded, or has dot segments.
    """
    if not path.startswith("/"):
        raise BadRequest(f"the path must start with '/': {path[:100]!r}")
    raw = path[1:].split("/") if len(path) > 1 else []
    if "%" not in path and path.isascii():
        if "/." in path and DOT_SEGMENT.search(path):
            raise BadRequest("the path has '.' or '..' segments; send the path they lead to")
        return raw, raw
    bad = BAD_ESCAPE.search(path)
    if bad is not None:
        raise BadRequest(f"'%' at position {bad.start()} of the path is not followed by two hex digits")
    if not path.isascii():
        raise BadRequest("the path has bytes that must be percent-encoded")
    try:
        segments = [decoded(segment) for segment in raw]
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8 once it is decoded") from None
    for segment in segments:
        if "\x00" in segment:
            raise BadRequest("the path holds an encoded NUL")
        if segment in {".", ".."}:
            raise BadRequest("the path has '.' or '..' segments; send the path they lead to")
    return raw, segments


def captured(leaf: Leaf[Target], raw: list[str]) -> tuple[str, ...]:
    """Return the decoded values of the variables of *leaf*."""
    values: list[str] = []
    for start, end, multiple in leaf.cuts:
        if multiple:
            text = "/".join(raw[start:end])
            values.append(decoded_but_slashes(text) if "%" in text else text)
        else:
            values.append(decoded(raw[start]))
    return tuple(values)


def decoded(text: str) -> str:
    """Percent-decode *text*, which is known to be well-formed."""
    return unquote_to_bytes(text).decode() if "%" in text else text


def decoded_but_slashes(text: str) -> str:
    """Percent-decode *text*, but leave `%2F` alone, because it is not a `/` between segments."""
    parts = ENCODED_SLASH.split(text)
    return "".join(part if index % 2 else decoded(part) for index, part in enumerate(parts))
