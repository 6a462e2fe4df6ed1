"""
What the rate limit service has counted, as plain integers that are read when asked for.

Names are those of envoyproxy/ratelimit, so that dashboards go on. They come from callers too (values in
names, limits that callers bring), so their number is bounded: what is beyond is counted under one name.
"""

from __future__ import annotations

import re

MAX_NAMES = 10_000
"""Names besides those of configured rules."""

MAX_DOMAINS = 1_000
"""Unknown domains that are counted apart."""

OTHERS = "(others)"

NOT_IN_NAMES = re.compile(r"[:|]")
IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", re.ASCII)


class RuleStatistics:
    """
    Hits of one rule in this process.

    Attributes:
        total_hits: Hits asked for.
        over_limit: Those beyond the limit.
        near_limit: Those within it, but beyond `near_limit_ratio` of it.
        within_limit: Those of requests that were within it as a whole.
        over_limit_with_local_cache: Those beyond it that were refused without asking the store.
        shadow_mode: Those beyond it that passed because the rule only watches.
        total_negative_hits: Hits given back.
    """

    __slots__ = (
        "near_limit",
        "over_limit",
        "over_limit_with_local_cache",
        "shadow_mode",
        "total_hits",
        "total_negative_hits",
        "within_limit",
    )

    def __init__(self) -> None:
        self.total_hits = 0
        self.over_limit = 0
        self.near_limit = 0
        self.within_limit = 0
        self.over_limit_with_local_cache = 0
        self.shadow_mode = 0
        self.total_negative_hits = 0

    def values(self) -> dict[str, int]:
        """Return all of them by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class RlsStatistics:
    """
    Everything that the service has counted in this process.

    Attributes:
        rules: By name of the rule, or of what it is counted under: `domain.key_value.key`.
        domains_not_found: Descriptors of domains that there is no rule for, by domain.
        requests: Questions answered or refused.
        service_errors: Questions that could not be understood.
        store_errors: Questions for which the store did not answer.
        negative_hits_rejected: Questions refused because hits may not be given back.
        global_shadow_mode: Questions that passed only because `shadow_mode` is on for all.
        config_load_success: Times that rules were loaded.
        config_load_error: Times that they could not be, and the old ones stayed.
    """

    def __init__(self) -> None:
        self.rules: dict[str, RuleStatistics] = {}
        self.domains_not_found: dict[str, int] = {}
        self.requests = 0
        self.service_errors = 0
        self.store_errors = 0
        self.negative_hits_rejected = 0
        self.global_shadow_mode = 0
        self.config_load_success = 0
        self.config_load_error = 0
        self.made = 0

    def of(self, name: str, *, configured: bool = False) -> RuleStatistics:
        """Return what is counted under *name*; a *configured* rule always has its own."""
        shown = plain_name(name)
        found = self.rules.get(shown)
        if found is None:
            if not configured:
                if self.made >= MAX_NAMES:
                    return self.of(OTHERS, configured=True)
                self.made += 1
            found = self.rules[shown] = RuleStatistics()
        return found

    def domain_not_found(self, domain: str, descriptors: int) -> None:
        """Count *descriptors* of a domain that there is no rule for."""
        shown = plain_name(domain)
        known = self.domains_not_found
        if shown not in known and len(known) >= MAX_DOMAINS:
            shown = OTHERS
        known[shown] = known.get(shown, 0) + descriptors


def plain_name(name: str) -> str:
    """Return *name* without what separates in statsd: `:` and `|`, and the dots of IPv4 addresses."""
    name = NOT_IN_NAMES.sub("_", name)
    return IPV4.sub(lambda found: found[0].replace(".", "_"), name)
