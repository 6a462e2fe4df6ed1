"""Calls that are made more than once: when, how often, and for which methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from silence_gateway.app.config.kinds import Flag, Kind, choice, duration, pattern, size, whole
from silence_gateway.app.config.quantities import parse_duration, parse_ratio, quoted, show_duration
from silence_gateway.app.config.section import Section
from silence_gateway.core.retry import MAX_ATTEMPTS
from silence_gateway.core.status import Code

STATUS_NAME = choice(*(code.name for code in Code if code))
METHODS_NAME = pattern(
    "method name",
    r"(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*/(?:\*|[A-Za-z_][A-Za-z0-9_]*)",
    "shop.v1.Shop/GetItem",
    "write package.Service/Method, or package.Service/* for all of a service",
)


@dataclass(frozen=True, slots=True)
class HedgeAfter:
    """When a call is late: after *seconds*, or later than *share* of recent calls; one of them is None."""

    seconds: float | None = None
    share: float | None = None


def _parse_hedge_after(text: str) -> HedgeAfter:
    if text[:1] == "p" and text[1:].replace(".", "", 1).isdigit():
        share = float(text[1:]) / 100
        if not 0.5 <= share <= 0.999:
            raise ValueError(f"{quoted(text)} is out of range: choose from p50 to p99.9")
        return HedgeAfter(share=share)
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is no time to hedge after: write 50ms, or p95") from None
    if not 0.001 <= seconds <= 3600:
        raise ValueError(f"{quoted(text)} is out of range: choose from 1ms to 1h")
    return HedgeAfter(seconds=seconds)


def _show_hedge_after(value: HedgeAfter) -> str:
    if value.share is not None:
        return f"p{round(value.share * 100, 3):g}"
    assert value.seconds is not None
    return show_duration(value.seconds)


HEDGE_AFTER = Kind(
    "duration, or p50 to p99.9", _parse_hedge_after, _show_hedge_after, {"type": "string"}, ("50ms", "p95")
)


def _parse_budget(text: str) -> float:
    return parse_ratio(text, or_none=True)


BUDGET = Kind(
    "share, 0 to 1",
    _parse_budget,
    lambda value: value,
    {"type": "number", "minimum": 0, "maximum": 1},
    ("0.2",),
)


class RetryConfig(Section):
    """
    Calls that are made more than once.

    A call that provably never left goes to another replica, whatever it is. All the rest is for calls that
    may run twice: GET and HEAD, methods with the option `idempotency_level`, those of `methods`, routes that
    say `idempotent: true`, and to HTTP upstreams OPTIONS, PUT and DELETE as well.
    """

    attempts: Annotated[int, whole(1, MAX_ATTEMPTS)] = Field(
        default=3,
        description="How often a call may be made in all; 1 turns retries and failover off. What was refused "
        "unseen (REFUSED_STREAM) is offered once more in any case.",
    )
    on: tuple[Annotated[str, STATUS_NAME], ...] = Field(
        default=("UNAVAILABLE",),
        description=(
            "gRPC codes after which a call is made again; UNAVAILABLE includes broken connections, and of "
            "HTTP 502, 503 and 504."
        ),
    )
    budget: Annotated[float, BUDGET] = Field(
        default=0.2,
        description="Retries and hedges per call, over ten seconds: of each instance, and of the fleet.",
    )
    budget_free: Annotated[int, whole(0, 1_000_000)] = Field(
        default=10, description="Retries a second that the whole fleet may make whatever `budget` says."
    )
    wait_s: Annotated[float, duration("1ms", "1m")] = Field(
        default=0.025,
        alias="wait",
        description="Longest wait before the first retry; it doubles with each, and each is drawn anew.",
    )
    max_wait_s: Annotated[float, duration("1ms", "1m")] = Field(
        default=1.0,
        alias="max_wait",
        description="Longest wait before any retry; absent: `wait` if that is longer.",
    )
    attempt_timeout_s: Annotated[float, duration("1ms", "24h")] | None = Field(
        default=None,
        alias="attempt_timeout",
        description="Longest time one attempt may take; absent: as long as the call. See `streams`.",
    )
    hedge_after: Annotated[HedgeAfter, HEDGE_AFTER] | None = Field(
        default=None,
        description=(
            "Time without an answer after which another replica is asked as well, fixed or as a share of the "
            "last ten seconds' calls; the slower one is cancelled. Absent: never."
        ),
    )
    streams: Flag = Field(
        default=False,
        description=(
            "`attempt_timeout` and `hedge_after` also hold for calls with one request and many answers, "
            "until the first of these. Leave it off where that may rightly take long."
        ),
    )
    buffer_bytes: Annotated[int, size("0B", "64MiB")] = Field(
        default=64 * 1024,
        alias="buffer",
        description="How much of a request stream is kept so that it can be sent again; 0 keeps nothing.",
    )
    methods: tuple[Annotated[str, METHODS_NAME], ...] = Field(
        default=(), description="Methods that may run twice, besides those that say so themselves."
    )
