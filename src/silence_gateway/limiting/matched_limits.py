"""The limits that one kind of request meets, made once and used for every request of that kind."""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.core.http import Request
from silence_gateway.core.limit_headers import HeaderForm, LimitHeaders
from silence_gateway.core.limits import Ask
from silence_gateway.core.routing import split_path
from silence_gateway.errors import BadRequest
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.statistics import LimitStatistics


def steps_of(path: str) -> list[str]:
    """Return the decoded segments of *path*; one that cannot be read is one segment."""
    try:
        return split_path(path)[1]
    except BadRequest:
        # Nothing is served there; limits that are about any request still count it.
        return [path]


class MatchedLimits:
    """
    The limits that one kind of request meets, in the order configured.

    Attributes:
        fixed: Every request costs the same, and nothing is left to do when it has its answer.
    """

    __slots__ = ("fixed", "headers", "parts", "specs")

    def __init__(
        self, specs: Sequence[LimitSpec], statistics: Sequence[LimitStatistics], form: HeaderForm
    ) -> None:
        self.specs = tuple(specs)
        self.parts = tuple(
            (s.rule, s.key_of, s.cost.amount, counts) for s, counts in zip(specs, statistics, strict=True)
        )
        self.headers = LimitHeaders([spec.rule for spec in specs], form)
        self.fixed = all(spec.cost.fixed and spec.rule.kind != "c" for spec in specs)

    def asks_of(self, request: Request, holder: str = "") -> list[Ask]:
        """
        Return what to ask the store about *request*; *holder* names it to concurrency limits.

        Raises:
            BadRequest: A header that tells the cost cannot be read.
        """
        if self.fixed:
            return [Ask(rule, key_of(request), cost) for rule, key_of, cost, _ in self.parts]
        return [
            Ask(
                spec.rule,
                spec.key_of(request),
                1 if spec.rule.kind == "c" else spec.cost.of_request(request),
                holder if spec.rule.kind == "c" else "",
            )
            for spec in self.specs
        ]
