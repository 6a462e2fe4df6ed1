"""
What the admin listener asks of a gateway, whether that is this process or several workers.

`local.py` answers for one process; `app/worker_admin.py` asks every worker and merges.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from silence_gateway.errors import BadRequest
from silence_gateway.watch.families import Family

Word: TypeAlias = Literal["ready", "degraded", "starting", "draining"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """
    Whether traffic may come.

    Attributes:
        word: `ready` or `degraded` (200: send traffic), `starting` or `draining` (503: do not).
        parts: What each part says of itself.
    """

    word: Word
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def serving(self) -> bool:
        """Whether traffic may come: a gateway without its store serves, and says so."""
        return self.word in {"ready", "degraded"}


def worst(answers: Sequence[Readiness]) -> Readiness:
    """Combine what several workers say: traffic may come while any of them takes it."""
    if not answers:
        return Readiness("starting", {"workers": "none answers yet"})
    parts = {
        (f"worker {number}: {name}" if len(answers) > 1 else name): text
        for number, answer in enumerate(answers)
        for name, text in answer.parts.items()
    }
    words = {answer.word for answer in answers}
    for word in ("draining", "degraded"):
        if word in words:
            return Readiness(word, parts)
    return Readiness("ready" if "ready" in words else "starting", parts)


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One call of the API under /api/v1.

    Attributes:
        method: HTTP method.
        path: Path after /api/v1/, each segment percent-decoded only where a pattern captured it.
        query: Each query parameter, decoded; one that came several times has its values in lines.
        captured: What the pattern captured, by name, decoded.
        items: What the body lists; None if it is no list.
        caller: Who asks, as far as anybody knows: for the audit.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    captured: Mapping[str, str] = field(default_factory=dict)
    items: Sequence[Any] | None = None
    caller: str = "admin API"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON of one API call."""

    status: int
    body: Any


AskHandler: TypeAlias = Callable[[Ask], Awaitable[Any]]
"""Returns what is sent as JSON; raises NotFound, BadRequest or StoreUnavailable."""


class Instance(Protocol):
    """A gateway as the admin listener sees it."""

    async def readiness(self) -> Readiness:
        """Say whether traffic may come."""

    async def families(self) -> list[Family]:
        """Return every metric."""

    async def call(self, ask: Ask) -> Answer:
        """Answer one call under /api/v1; errors are answers too."""


def whole(text: str, default: int) -> int:
    """
    Read a whole number of a query; empty gives *default*.

    Raises:
        BadRequest: It is something else.
    """
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequest(f"{text[:20]!r} is no whole number of 0 or more")
    return int(text)
