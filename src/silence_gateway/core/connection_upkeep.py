"""
Which connections to one endpoint are closed, renewed or opened although no call asks for it.

One pure decision over how long each was quiet and how old it is, taken once a second. Opening them is
not done here, nor is it decided here when calls need a further one (`upstreams/endpoint.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AGE_JITTER = 0.1
"""Connections live this share shorter or longer, so that those opened together are not renewed together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepRules:
    """
    What is kept.

    Attributes:
        min_connections: How many stay although nobody calls; 0 lets an endpoint that nobody calls rest.
        idle_timeout_s: How long one must have been quiet to be closed.
    """

    min_connections: int
    idle_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """
    One connection that takes calls, now.

    Attributes:
        busy: Whether a call is on it.
        quiet_s: How long none was seen on it.
        overdue_s: How much longer it has lived than it should; below 0 if it may go on.
    """

    busy: bool
    quiet_s: float
    overdue_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """
    What to do, with connections as indices.

    Attributes:
        close: To be closed; no call is on them.
        renew: To be drained once another one stands in its place; None if none.
        missing: How many to open ahead of need.
    """

    close: tuple[int, ...] = ()
    renew: int | None = None
    missing: int = 0


def upkeep(lines: Sequence[LineState], rules: UpkeepRules, *, in_use: bool) -> Upkeep:
    """
    Decide what to do about *lines*, of which there is at least one.

    The last one stays while the endpoint is *in_use*: calls too short to be seen count there. Of those that
    nobody needs the oldest are closed. One at a time is renewed, the most overdue.
    """
    spare = len(lines) - max(rules.min_connections, 1 if in_use else 0)
    quiet = [
        index for index, line in enumerate(lines) if not line.busy and line.quiet_s >= rules.idle_timeout_s
    ]
    # Among equals the last one goes: the first are those that calls are given to.
    quiet.sort(key=lambda index: (lines[index].overdue_s, index), reverse=True)
    close = tuple(quiet[: max(0, spare)])
    overdue = [
        (line.overdue_s, -index)
        for index, line in enumerate(lines)
        if line.overdue_s >= 0 and index not in close
    ]
    return Upkeep(
        close=close,
        renew=-max(overdue)[1] if overdue else None,
        missing=max(0, rules.min_connections - len(lines)),
    )
