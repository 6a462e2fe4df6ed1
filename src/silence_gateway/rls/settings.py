"""How the rate limit service behaves, apart from its rules; envoyproxy/ratelimit's environment variables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderNames:
    """
    Names of the three header lines about the limit that is closest to refusing.

    Attributes:
        limit: Hits per window.
        remaining: Hits left in it.
        reset: Seconds until it ends.
    """

    limit: str = "RateLimit-Limit"
    remaining: str = "RateLimit-Remaining"
    reset: str = "RateLimit-Reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class RlsSettings:
    """
    How the rate limit service behaves.

    Attributes:
        headers: Header lines that Envoy is asked to add to the answer of its client; None for none.
        request_headers: Likewise for the request that it sends on.
        shadow_mode: Never refuse, but count what would have been refused.
        quota_mode: Treat every limit as a quota: refuse only where all that a request meets are reached.
        near_limit_ratio: Share of a limit from which hits are counted as near it, above 0 up to 1.
        local_cache: Most counters remembered here as over their limit, so that the store is not asked; 0
            for none.
        dynamic_metadata: Tell Envoy what was asked, and the `metadata` of rules that were not reached.
        negative_hits: Whether callers may give hits back.

    Raises:
        ValueError: A number is out of range.
    """

    headers: HeaderNames | None = None
    request_headers: HeaderNames | None = None
    shadow_mode: bool = False
    quota_mode: bool = False
    near_limit_ratio: float = 0.8
    local_cache: int = 0
    dynamic_metadata: bool = False
    negative_hits: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.near_limit_ratio <= 1:
            raise ValueError(f"near_limit_ratio is above 0 and at most 1, not {self.near_limit_ratio}")
        if self.local_cache < 0:
            raise ValueError(f"local_cache is 0 or more, not {self.local_cache}")
