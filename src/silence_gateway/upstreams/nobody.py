"""What a caller is told when no endpoint can take its call, and when it is worth trying again."""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import State
from silence_gateway.core.endpoints import why_out
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker

MAX_NAMED = 5
"""Endpoints named in an error; a caller of hundreds is not helped by hundreds."""


def nobody(
    name: str, endpoints: Sequence[Endpoint], whole: UpstreamBreaker, clock: Clock, *, is_open: bool
) -> UpstreamUnavailable:
    """Return the error for a call to the upstream *name*; *is_open*: whether it is running."""
    if not is_open:
        return UpstreamUnavailable(f"upstream {name!r} is not running", sent=False)
    if whole.shut:
        return UpstreamUnavailable(
            f"upstream {name!r}: {why_shut(whole)}", sent=False, retry_after_s=whole.retry_after_s
        )
    if not endpoints:
        return UpstreamUnavailable(f"upstream {name!r} has no endpoints", sent=False)
    reasons = [
        f"{one.address}: {why_out(one.standing, one.last_error, one.history.opened_by)}" for one in endpoints
    ]
    if len(reasons) > MAX_NAMED:
        reasons[MAX_NAMED:] = [f"and {len(reasons) - MAX_NAMED} more"]
    # What else keeps an endpoint from taking calls ends when it does, and nobody knows when.
    ends_s = [one.breaker.reopens_us / 1e6 for one in endpoints if one.breaker.state is State.OPEN]
    return UpstreamUnavailable(
        f"upstream {name!r}: no endpoint can take the call ({'; '.join(reasons)})",
        sent=False,
        retry_after_s=max(0.0, min(ends_s) - clock.monotonic_s()) if ends_s else None,
    )


def why_shut(whole: UpstreamBreaker) -> str:
    """Say in a few words why the upstream as a whole takes no calls."""
    state = whole.breaker.state
    if state is State.HELD_OPEN:
        reason = whole.hold.reason if whole.hold is not None else ""
        said = f" ({reason})" if reason else ""
        return f"the circuit breaker of the upstream is held open by an operator{said}"
    if state is State.HALF_OPEN:
        return "the circuit breaker of the upstream is half open, and lets one call through at a time"
    error = f" (last error: {whole.last_error})" if whole.last_error else ""
    return f"the circuit breaker of the upstream is open{error}"
