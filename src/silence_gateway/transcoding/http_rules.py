"""
google.api.http rules: read from the options of a method, and checked against its messages.

Rules are read from the raw bytes of the option (field 72295728 of MethodOptions), because the
descriptors of an upstream may lack google/api/http.proto. A rule that cannot be used becomes a
`RuleProblem` and takes nothing else down.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protobuf import DescField, DescFieldValueList, DescFieldValueMap, DescMessage, DescMethod

from silence_gateway.core.path_template import PathTemplate, TemplateError, parse_template
from silence_gateway.core.routing import ANY_METHOD
from silence_gateway.transcoding.fields import FieldProblem, field_named, field_path, from_text_of
from silence_gateway.transcoding.wire import bytes_of, read_fields, text_of

HTTP_OPTION = 72295728

VERBS = {2: "GET", 3: "PUT", 4: "POST", 5: "DELETE", 6: "PATCH"}
BODY, CUSTOM, ADDITIONAL, RESPONSE_BODY = 7, 8, 11, 12

WHOLE = "*"
METHOD_TOKEN = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
MAX_RULES = 100
"""More bindings than this on one method are a mistake, or an attack through reflection."""


@dataclass(frozen=True, slots=True)
class RawRule:
    """One rule as it is written, without its additional bindings."""

    verb: str
    path: str
    body: str
    response_body: str

    def __str__(self) -> str:
        parts = [self.verb or "?", self.path or "(no path)"]
        if self.body:
            parts.append(f"body {self.body}")
        if self.response_body:
            parts.append(f"response_body {self.response_body}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class HttpRule:
    """
    A rule that can be served.

    Attributes:
        verb: Upper-case HTTP method, or `*` for all.
        template: What the path must look like.
        path_fields: For each variable of the template, the fields that lead to what it sets.
        body: `""` if the body is not used, `*` if it is the whole message, else unused here.
        body_field: The field that the body becomes, if it becomes one.
        response_field: The field of the answer that is sent instead of all of it.
    """

    verb: str
    template: PathTemplate
    path_fields: tuple[tuple[DescField, ...], ...]
    body: str
    body_field: DescField | None
    response_field: DescField | None


@dataclass(frozen=True, slots=True)
class RuleProblem:
    """
    Something about a method that cannot be served.

    Attributes:
        method: `package.Service/Method`, or a service name if the whole service is meant.
        rule: The rule as it is written; empty if no rule is to blame.
        reason: What is wrong with it.
    """

    method: str
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.method}: {self.rule + ': ' if self.rule else ''}{self.reason}"


def rules_of(method: DescMethod) -> tuple[list[HttpRule], list[RuleProblem]]:
    """Return the rules of *method* that can be served, and what is wrong with the others."""
    name = f"{method.parent.type_name}/{method.name}"
    usable: list[HttpRule] = []
    problems: list[RuleProblem] = []
    try:
        written = list(written_rules(method))
    except ValueError as error:
        return [], [RuleProblem(name, "", f"the google.api.http option cannot be read: {error}")]
    if len(written) > MAX_RULES:
        problems.append(
            RuleProblem(name, "", f"only the first {MAX_RULES} of {len(written)} rules are served")
        )
    for raw in written[:MAX_RULES]:
        try:
            usable.append(checked(raw, method))
        except (TemplateError, FieldProblem) as error:
            problems.append(RuleProblem(name, str(raw), str(error)))
    return usable, problems


def written_rules(method: DescMethod) -> Iterator[RawRule]:
    """
    Yield the rules in the options of *method*: the main one, then its additional bindings.

    Raises:
        ValueError: The option is not what google/api/http.proto says.
    """
    options = method.proto.options
    if options is None:
        return
    # Parts of one message may come apart; put together they are the message (that is how protobuf merges).
    parts = [bytes_of(value) for number, value in read_fields(options.to_binary()) if number == HTTP_OPTION]
    if parts:
        yield from read_rule(b"".join(parts), nested=False)


def read_rule(data: bytes, *, nested: bool) -> Iterator[RawRule]:
    """
    Yield the rule in *data* and its additional bindings.

    Raises:
        ValueError: *data* is not an HttpRule, or an additional binding has bindings of its own.
    """
    verb = path = body = response_body = ""
    more: list[bytes] = []
    for number, value in read_fields(data):
        if number in VERBS:
            verb, path = VERBS[number], text_of(value)
        elif number == CUSTOM:
            custom = {inner: text_of(text) for inner, text in read_fields(bytes_of(value)) if inner in {1, 2}}
            verb, path = custom.get(1, ""), custom.get(2, "")
        elif number == BODY:
            body = text_of(value)
        elif number == RESPONSE_BODY:
            response_body = text_of(value)
        elif number == ADDITIONAL:
            more.append(bytes_of(value))
    if more and nested:
        raise ValueError("an additional binding has additional bindings of its own")
    yield RawRule(verb, path, body, response_body)
    for binding in more:
        yield from read_rule(binding, nested=True)


def checked(raw: RawRule, method: DescMethod) -> HttpRule:
    """
    Check a rule against the messages of its method.

    Raises:
        TemplateError: Its path cannot be read.
        FieldProblem: It names something that is not there, or cannot be used like that.
    """
    if not raw.verb and not raw.path:
        raise FieldProblem("the rule has no path")
    verb = raw.verb.upper()
    if verb != ANY_METHOD and METHOD_TOKEN.fullmatch(verb) is None:
        raise FieldProblem(f"{raw.verb[:40]!r} is not an HTTP method")
    template = parse_template(raw.path)
    fields = tuple(path_variable(method.input, variable.field_path) for variable in template.variables)
    ends = [path[-1] for path in fields]
    body_field = None
    if raw.body and raw.body != WHOLE:
        body_field = top_level(method.input, raw.body, "body")
        if body_field in ends:
            raise FieldProblem(f"{raw.body!r} is both the body and a variable of the path")
    response_field = (
        top_level(method.output, raw.response_body, "response_body") if raw.response_body else None
    )
    return HttpRule(verb, template, fields, raw.body, body_field, response_field)


def path_variable(message: DescMessage, names: tuple[str, ...]) -> tuple[DescField, ...]:
    """
    Return the fields that a variable leads through.

    Raises:
        FieldProblem: One does not exist, or the last cannot be written in a path.
    """
    fields = field_path(message, names)
    if isinstance(fields[-1].value, DescFieldValueList | DescFieldValueMap):
        raise FieldProblem(
            f"the path variable {'.'.join(names)!r} is repeated; a path can set single values only"
        )
    try:
        from_text_of(fields[-1])
    except FieldProblem as error:
        raise FieldProblem(f"the path variable {'.'.join(names)!r} cannot be used: {error}") from None
    return fields


def top_level(message: DescMessage, name: str, what: str) -> DescField:
    """
    Return the field of *message* called *name*.

    Raises:
        FieldProblem: There is none.
    """
    if "." in name:
        raise FieldProblem(
            f"{what} {name!r} must be a field of {message.type_name} itself, not one inside another"
        )
    field = field_named(message, name)
    if field is None:
        raise FieldProblem(f"{what} {name!r} is not a field of {message.type_name}")
    return field
