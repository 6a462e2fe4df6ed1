"""
Facts that others may watch.

A component is given an `Observer` and calls it after something has happened that an operator would
want to know. It never logs by itself. What happens for every request is counted in plain integers
instead and read when asked for (`watch/`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; subclasses say what, and read well as one log line."""

    @property
    def level(self) -> str:
        """How loud this is: `debug`, `info`, `warning` or `error`."""
        return "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLost(Event):
    """The shared store stopped answering; limits go to the local share, the rest goes on locally."""

    reason: str

    @property
    def level(self) -> str:
        """An operator should look."""
        return "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFound(Event):
    """The shared store, or one *shard* of it, answers again after *down_s* seconds."""

    down_s: float
    shard: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDown(Event):
    """An endpoint stopped being usable."""

    upstream: str
    endpoint: str
    reason: str

    @property
    def level(self) -> str:
        """An operator should look."""
        return "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUp(Event):
    """An endpoint is usable again."""

    upstream: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointEjected(Event):
    """An endpoint fails where its peers do not; it is used only if nobody better is left."""

    upstream: str
    endpoint: str
    reason: str
    for_s: float

    @property
    def level(self) -> str:
        """An operator should look."""
        return "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReturned(Event):
    """An ejection is over."""

    upstream: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProberBlind(Event):
    """None of the endpoints that this instance checks answers: it suspects itself, and others shall check."""

    upstream: str
    endpoints: int

    @property
    def level(self) -> str:
        """An operator should look."""
        return "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved(Event):
    """A circuit breaker changed its state: that of an endpoint or, as `*`, of the upstream as a whole."""

    upstream: str
    endpoint: str
    old: str
    new: str
    reason: str

    @property
    def level(self) -> str:
        """Opening is worth a look, closing is good news."""
        return "warning" if self.new == "open" else "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointVetoed(Event):
    """An endpoint is out of reach here, although another instance has just found it well."""

    upstream: str
    endpoint: str
    reached_by: str
    reason: str

    @property
    def level(self) -> str:
        """An operator should look: it is the way there that is broken."""
        return "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointVetoEnded(Event):
    """An endpoint is within reach again, or nobody reaches it any more."""

    upstream: str
    endpoint: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSaid(Event):
    """
    An operator drained an endpoint, held a breaker, or took that back; `*` is the upstream as a whole.

    *told* is the instance that was told, *fleet* whether it could tell the others. Every instance says this
    when it carries it out, and when it starts meanwhile: *said_us* is when it was said and *until_us* when it
    ends, in microseconds since the Unix epoch, None for no end.
    """

    upstream: str
    endpoint: str
    what: str
    who: str
    told: str
    said_us: int
    reason: str
    until_us: int | None
    fleet: bool
    warning: str

    @property
    def level(self) -> str:
        """Somebody wanted it, and knows; unless it was more than they meant."""
        return "warning" if self.warning else "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorsLoaded(Event):
    """The methods of an upstream are known, or known anew."""

    upstream: str
    services: int
    methods: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUnusable(Event):
    """An HTTP rule cannot be served; its method stays callable by name."""

    upstream: str
    method: str
    rule: str
    reason: str

    @property
    def level(self) -> str:
        """Somebody should fix the proto."""
        return "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesLoaded(Event):
    """The rules of the rate limit service are in force, or in force anew."""

    domains: int
    rules: int
    warnings: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """What may surprise is worth a look."""
        return "warning" if self.warnings else "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesRefused(Event):
    """The rules of the rate limit service were changed and cannot be used; the old ones stay in force."""

    problems: tuple[str, ...]

    @property
    def level(self) -> str:
        """Somebody has to correct a file."""
        return "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed(Event):
    """Anything else worth a line: *what* happened, and how loud."""

    what: str
    loudness: str = "info"

    @property
    def level(self) -> str:
        """As loud as its maker said."""
        return self.loudness


Observer: TypeAlias = Callable[[Event], None]
"""Called on the event loop after the fact; must not block or raise."""


def nobody(_event: Event, /) -> None:
    """Watch nothing: the observer of a library user who did not bring one."""
