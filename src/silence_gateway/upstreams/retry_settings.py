"""What an upstream is told about calls that are made more than once: frozen, and checked here once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from silence_gateway.core.backoff import Backoff
from silence_gateway.core.retry import RetryPolicy
from silence_gateway.core.retry_budget import BudgetPolicy
from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError

BUDGET_TICKS = 10
"""Seconds that the retry budget looks back: long enough to even out, short enough to forget a quiet hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """
    What to do with calls that did not get an answer, or got an error.

    A call that provably never left is offered to another endpoint, whatever it is; one that was refused
    before it was seen (REFUSED_STREAM) once, and then within *attempts* and *budget*. All the rest is for
    calls that may run twice: those of *methods*, and those whose caller says so (`GrpcUpstream.repeating`).

    Attributes:
        attempts: How often a call may be made in all, 1 to 10; 1 turns both off, but for that once.
        on: gRPC codes after which a call is made again. UNAVAILABLE also means a broken connection.
        budget: Repeats per call, of this instance and of the fleet, over ten seconds; 0 to 1.
        budget_free_per_s: Repeats a second that the whole fleet may make whatever *budget* says.
        wait_s: Longest wait before the first repeat; each further one doubles it, and each is drawn anew.
        max_wait_s: Longest wait before any repeat.
        attempt_timeout_s: How long one attempt may take; None for as long as the call.
        hedge_after_s: Time without an answer after which a second endpoint is asked as well; None never.
        hedge_quantile: The same as a share of recent calls, such as 0.95: a call that takes longer than
            those did is hedged.
        streams: Whether the two also hold for calls with one request and many answers, until the first of
            these. Not for methods whose first message may rightly take its time.
        buffer_bytes: How much of a request stream is kept, so that it can be sent again; 0 keeps nothing,
            and no request stream is begun twice.
        methods: Methods that may be called twice, as `package.Service/Method` or `package.Service/*`.

    Raises:
        ConfigError: If a number is out of range, or both kinds of hedging are asked for.
    """

    attempts: int = 3
    on: frozenset[int] = frozenset({Code.UNAVAILABLE})
    budget: float = 0.2
    budget_free_per_s: int = 10
    wait_s: float = 0.025
    max_wait_s: float = 1.0
    attempt_timeout_s: float | None = None
    hedge_after_s: float | None = None
    hedge_quantile: float | None = None
    streams: bool = False
    buffer_bytes: int = 65_536
    methods: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("wait_s", "max_wait_s", "attempt_timeout_s", "hedge_after_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"retry: {name} must be above 0, got {value}")
        if self.wait_s > self.max_wait_s:
            raise ConfigError(f"retry: wait_s {self.wait_s} is above max_wait_s {self.max_wait_s}")
        if self.hedge_quantile is not None and not 0 < self.hedge_quantile < 1:
            raise ConfigError(f"retry: hedge_quantile must be above 0 and below 1, got {self.hedge_quantile}")
        if self.hedge_after_s is not None and self.hedge_quantile is not None:
            raise ConfigError("retry: hedge after a time or after a quantile, not both")
        if self.buffer_bytes < 0:
            raise ConfigError(f"retry: buffer_bytes must be 0 or more, got {self.buffer_bytes}")
        if isinstance(self.methods, str):
            raise ConfigError(f"retry: methods is a set of names, not the one text {self.methods!r}")
        strange = [code for code in self.on if not isinstance(code, int)]
        if strange:
            raise ConfigError(f"retry: on is a set of codes, such as Code.UNAVAILABLE, not {strange[0]!r}")
        wrong = sorted(method for method in self.methods if method.count("/") != 1 or method.startswith("/"))
        if wrong:
            raise ConfigError(f"retry: write methods as package.Service/Method, not {', '.join(wrong)}")
        try:
            self.policy()
            self.budget_policy()
        except ValueError as error:
            raise ConfigError(f"retry: {error}") from error

    @property
    def hedges(self) -> bool:
        """Whether calls are hedged at all."""
        return self.attempts > 1 and (self.hedge_after_s is not None or self.hedge_quantile is not None)

    def policy(self) -> RetryPolicy:
        """Return when calls are repeated, in the integer microseconds of the core."""
        backoff = Backoff(first_us=round(self.wait_s * 1e6), cap_us=round(self.max_wait_s * 1e6))
        return RetryPolicy(attempts=self.attempts, codes=self.on, backoff=backoff)

    def budget_policy(self) -> BudgetPolicy:
        """Return what may be repeated within the window of the budget."""
        return BudgetPolicy(share=self.budget, free=self.budget_free_per_s * BUDGET_TICKS)
