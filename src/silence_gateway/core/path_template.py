"""
Path templates of google.api.http, from text to segments and variables.

    Template = "/" [ Segments ] [ ":" Verb ]
    Segments = Segment { "/" Segment }
    Segment  = "*" | "**" | literal | Variable
    Variable = "{" field { "." field } [ "=" Segments ] "}"

`**` stands for zero or more segments, so it must be the last one. Literals are kept decoded: the
router compares them with decoded segments. Only templates are read here; paths that callers send are
the business of `routing.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import quote, unquote_to_bytes

STAR = "*"
DOUBLE_STAR = "**"

MAX_TEMPLATE_CHARS = 2048
"""Longer than any path a person writes, short enough that reading one costs nothing."""

MAX_SEGMENTS = 64
"""The router recurses once per segment of a template, so this bounds its stack."""

FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=@:]|%[0-9A-Fa-f]{2}|[^\x00-\x7f])+")


class TemplateError(ValueError):
    """
    A template cannot be read.

    Attributes:
        position: Index of the offending character; the length of the template if something is missing.
    """

    def __init__(self, template: str, position: int, reason: str) -> None:
        super().__init__(f"{reason} at position {position} of {template[:200]!r}")
        self.position = position
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One step of a path.

    Attributes:
        kind: `""` for a literal, else `*` or `**`.
        literal: The decoded text of a literal; empty otherwise.
    """

    kind: str
    literal: str = ""

    def __str__(self) -> str:
        # RFC 3986 pchar without "*", which would read as a wildcard.
        return self.kind or quote(self.literal, safe="-._~!$&'()+,;=@:")


@dataclass(frozen=True, slots=True)
class Variable:
    """
    A part of the path that becomes the value of a field.

    Attributes:
        field_path: Names of the nested fields, outermost first.
        start: Index of its first segment.
        end: Index after its last segment; a variable that ends in `**` takes the rest of the path.
        multiple: Whether it may span several segments, so that `%2F` in it is not decoded.
    """

    field_path: tuple[str, ...]
    start: int
    end: int
    multiple: bool


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """
    A template that was read.

    Attributes:
        text: As it was written.
        segments: What a path must consist of.
        verb: Decoded text after the last `:`; empty if there is none.
        variables: In the order in which they stand in the text.
    """

    text: str
    segments: tuple[Segment, ...]
    verb: str
    variables: tuple[Variable, ...]

    @property
    def shape(self) -> tuple[tuple[str, ...], str]:
        """What it matches, whatever its variables are called: equal shapes match equal paths."""
        return tuple(segment.kind or "=" + segment.literal for segment in self.segments), self.verb

    @property
    def example(self) -> str:
        """A path that it matches: what is said about all paths of this template is true of this one."""
        path = "/" + "/".join("x" if segment.kind else str(segment) for segment in self.segments)
        return f"{path}:{self.verb}" if self.verb else path

    def canonical(self) -> str:
        """Write the template out again; reading the result gives an equal shape and equal variables."""
        starts = {variable.start: variable for variable in self.variables}
        parts: list[str] = []
        at = 0
        while at < len(self.segments):
            variable = starts.get(at)
            if variable is None:
                parts.append(str(self.segments[at]))
                at += 1
            else:
                inner = "/".join(map(str, self.segments[at : variable.end]))
                parts.append(
                    "{" + ".".join(variable.field_path) + ("" if inner == STAR else "=" + inner) + "}"
                )
                at = variable.end
        verb = ":" + quote(self.verb, safe="-._~!$&'()+,;=@") if self.verb else ""
        return "/" + "/".join(parts) + verb


def parse_template(text: str) -> PathTemplate:
    """
    Read a template.

    Raises:
        TemplateError: It is not a template; the error says where and why.
    """
    return TemplateReader(text).read()


class TemplateReader:
    """Reads one template from left to right; made for one `read`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.segments: list[Segment] = []
        self.variables: list[Variable] = []

    def read(self) -> PathTemplate:
        """Read everything, or raise TemplateError."""
        if len(self.text) > MAX_TEMPLATE_CHARS:
            self.fail(
                f"a template has at most {MAX_TEMPLATE_CHARS} characters, but there is more",
                MAX_TEMPLATE_CHARS,
            )
        if not self.text.startswith("/"):
            self.fail("a template starts with '/', which is missing", 0)
        body, verb = self.split_verb()
        self.at = 1
        if body > 1:
            self.read_segments(body, in_variable=False)
        elif verb:
            self.fail("a verb needs a segment before it", body)
        return PathTemplate(self.text, tuple(self.segments), verb, tuple(self.variables))

    def split_verb(self) -> tuple[int, str]:
        """Find where the segments end and what the verb is: the text after the last `:` outside braces."""
        start = max(self.text.rfind("/"), self.text.rfind("}")) + 1
        colon = self.text.rfind(":", start)
        if colon < 0:
            return len(self.text), ""
        if colon == len(self.text) - 1:
            self.fail("the verb after ':' is missing", len(self.text))
        return colon, self.decoded(colon + 1, len(self.text), "a verb")

    def read_segments(self, end: int, *, in_variable: bool) -> None:
        """Read `Segment { "/" Segment }` up to *end*, or up to the closing brace of a variable."""
        while True:
            self.read_segment(end, in_variable=in_variable)
            if self.at == end or (in_variable and self.text[self.at] == "}"):
                return
            if self.text[self.at] != "/":
                self.fail(f"expected '/', found {self.text[self.at]!r}")
            self.at += 1

    def read_segment(self, end: int, *, in_variable: bool) -> None:
        """Read one segment or one variable."""
        if len(self.segments) >= MAX_SEGMENTS:
            self.fail(f"a template has at most {MAX_SEGMENTS} segments, but there is more")
        if self.segments and self.segments[-1].kind == DOUBLE_STAR:
            self.fail("'**' takes the rest of the path, so nothing may follow it")
        if self.text.startswith(DOUBLE_STAR, self.at, end):
            self.segments.append(Segment(DOUBLE_STAR))
            self.at += 2
        elif self.text.startswith(STAR, self.at, end):
            self.segments.append(Segment(STAR))
            self.at += 1
        elif self.text.startswith("{", self.at, end):
            if in_variable:
                self.fail("a variable cannot stand inside another")
            self.read_variable(end)
        else:
            stop = self.at
            while stop < end and self.text[stop] not in "/{}*":
                stop += 1
            literal = self.decoded(self.at, stop, "a segment")
            if literal in {".", ".."}:
                self.fail(f"the segment {literal!r} can never be asked for")
            self.segments.append(Segment("", literal))
            self.at = stop

    def read_variable(self, end: int) -> None:
        """Read from the opening to the closing brace."""
        opened, start = self.at, len(self.segments)
        self.at += 1
        names = [self.read_field(end)]
        while self.text.startswith(".", self.at, end):
            self.at += 1
            names.append(self.read_field(end))
        field_path = tuple(names)
        if any(other.field_path == field_path for other in self.variables):
            self.fail(f"the variable {'.'.join(field_path)!r} is used twice", opened)
        if self.text.startswith("=", self.at, end):
            self.at += 1
            self.read_segments(end, in_variable=True)
        else:
            self.segments.append(Segment(STAR))
        if not self.text.startswith("}", self.at, end):
            self.fail("a '}' is missing")
        self.at += 1
        inner = self.segments[start:]
        multiple = len(inner) > 1 or inner[0].kind == DOUBLE_STAR
        self.variables.append(Variable(field_path, start, len(self.segments), multiple))

    def read_field(self, end: int) -> str:
        """Read one name of a field path."""
        found = FIELD.match(self.text, self.at, end)
        if found is None:
            self.fail("a field name is missing")
        self.at = found.end()
        return found.group()

    def decoded(self, start: int, end: int, what: str) -> str:
        """Return the literal text between *start* and *end*, percent-decoded."""
        found = LITERAL.match(self.text, start, end)
        if found is None or found.end() < end:
            at = start if found is None else found.end()
            self.fail(f"{what} is empty" if start == end else f"{self.text[at]!r} cannot stand in {what}", at)
        raw = self.text[start:end]
        if "%" not in raw:
            return raw
        try:
            plain = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8 once it is decoded", start)
        if "\x00" in plain:
            self.fail(f"{what} holds an encoded NUL", start)
        return plain

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        """Raise TemplateError for *position*, or for where the reader stands."""
        raise TemplateError(self.text, self.at if position is None else position, reason)
