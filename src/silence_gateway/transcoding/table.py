"""
One snapshot of all routes of all transcoded upstreams.

A table is built from what the services know at that moment and never changes; when descriptors change
another one is built and put in its place. Where two methods claim one path, the first upstream named
keeps it and the other is a problem that `rows` shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from silence_gateway.core.routing import RouteBuilder, Routes
from silence_gateway.transcoding.binding import Binding
from silence_gateway.transcoding.http_rules import RuleProblem
from silence_gateway.transcoding.service import TranscodedService


class Found:
    """A binding and what the path says. Made for every request, so a plain slots class."""

    __slots__ = ("binding", "variables")

    def __init__(self, binding: Binding, variables: tuple[str, ...]) -> None:
        self.binding = binding
        self.variables = variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One line of `silence routes`.

    Attributes:
        method: HTTP method; empty where no route came to be.
        path: The template, or the rule as it was written where it could not be used.
        upstream: Name of the upstream.
        rpc: `package.Service/Method`.
        problem: Why it is not served; empty if it is.
    """

    method: str
    path: str
    upstream: str
    rpc: str
    problem: str = ""


class RouteTable:
    """
    All bindings, by method and path; made by `build`.

    Attributes:
        problems: What cannot be served, with the name of the upstream.
    """

    __slots__ = ("lines", "problems", "routes")

    def __init__(
        self, routes: Routes[Binding], lines: Sequence[Row], problems: Sequence[tuple[str, RuleProblem]]
    ) -> None:
        self.routes = routes
        self.lines = tuple(lines)
        self.problems = tuple(problems)

    @classmethod
    def build(cls, services: Iterable[TranscodedService]) -> RouteTable:
        """Make a table of what *services* serve at this moment; the first one named wins a path."""
        builder: RouteBuilder[Binding] = RouteBuilder()
        lines: list[Row] = []
        problems: list[tuple[str, RuleProblem]] = []
        for service in services:
            for binding in service.bindings:
                for method in binding.methods:
                    there = builder.add(method, binding.template, binding)
                    clash = (
                        ""
                        if there is None
                        else f"{there.rpc} of upstream {there.upstream} has this path already"
                    )
                    if clash:
                        problem = RuleProblem(binding.rpc, f"{method} {binding.route}", clash)
                        problems.append((service.upstream, problem))
                    lines.append(
                        Row(
                            method=method,
                            path=binding.route,
                            upstream=service.upstream,
                            rpc=binding.rpc,
                            problem=clash or binding.refusal,
                        )
                    )
            for problem in service.problems:
                problems.append((service.upstream, problem))
                row = row_of(service, problem)
                if row is not None:
                    lines.append(row)
        return cls(builder.build(), lines, problems)

    def find(self, method: str, raw_path: str) -> Found | None:
        """
        Find what serves a request.

        Args:
            method: Upper-case HTTP method.
            raw_path: The path as it came, still percent-encoded.

        Raises:
            BadRequest: The path cannot be decoded.
        """
        match = self.routes.find(method, raw_path)
        return None if match is None else Found(match.target, match.values)

    def allowed(self, raw_path: str) -> tuple[str, ...]:
        """
        Return the methods that *raw_path* is served with; empty if it is not served at all.

        Raises:
            BadRequest: The path cannot be decoded.
        """
        return self.routes.allowed(raw_path)

    def rows(self) -> tuple[Row, ...]:
        """Return one line per route, and one per rule that did not become a route."""
        return self.lines


def row_of(service: TranscodedService, problem: RuleProblem) -> Row | None:
    """Return the line of a problem that no binding's line shows already."""
    if not problem.rule and any(
        binding.rpc == problem.method and binding.refusal for binding in service.bindings
    ):
        return None
    return Row(
        method="", path=problem.rule, upstream=service.upstream, rpc=problem.method, problem=problem.reason
    )
