"""
What the rate limit service has counted, as metric families.

Names are `silence_rls_` and the word of envoyproxy/ratelimit. A rule's name comes from files of rules and,
where those say so, from callers; the service bounds how many there are. Configured rules come first.
"""

from __future__ import annotations

from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_server import GrpcServer
from silence_gateway.rls.service import RateLimitService
from silence_gateway.rls.statistics import RlsStatistics, plain_name
from silence_gateway.stores.windows_falling_back import FallingBackCounters
from silence_gateway.watch.families import Family, Sample

OF_A_RULE = {
    "total_hits": ("silence_rls_hits_total", "Hits asked for."),
    "over_limit": ("silence_rls_over_limit_total", "Hits beyond the limit."),
    "near_limit": ("silence_rls_near_limit_total", "Hits within the limit, beyond near_limit_ratio of it."),
    "within_limit": ("silence_rls_within_limit_total", "Hits of requests that were within the limit."),
    "over_limit_with_local_cache": (
        "silence_rls_over_limit_with_local_cache_total",
        "Hits refused without asking the store.",
    ),
    "shadow_mode": (
        "silence_rls_shadow_mode_total",
        "Hits beyond the limit that passed because the rule only watches.",
    ),
    "total_negative_hits": ("silence_rls_negative_hits_total", "Hits given back."),
}


def rls_families(
    service: RateLimitService, grpc: GrpcServer, falling_back: FallingBackCounters | None
) -> list[Family]:
    """Return what one process has counted."""
    statistics = service.statistics
    configured = [plain_name(name) for name, _ in service.rules.rules()]
    rules = {name: statistics.rules[name] for name in dict.fromkeys([*configured, *statistics.rules])}
    families = [
        Family(
            metric,
            "counter",
            text,
            tuple(Sample((("rule", name),), getattr(rule, word)) for name, rule in rules.items()),
        )
        for word, (metric, text) in OF_A_RULE.items()
    ]
    families += [
        Family(
            "silence_rls_domain_not_found_total",
            "counter",
            "Descriptors of domains that there is no rule for.",
            tuple(Sample((("domain", name),), count) for name, count in statistics.domains_not_found.items()),
        ),
        Family(
            "silence_rls_calls_total",
            "counter",
            "gRPC calls ended, health and reflection among them, by their status.",
            tuple(Sample((("code", Code(code).name),), count) for code, count in enumerate(grpc.by_code())),
        ),
        Family(
            "silence_rls_connections",
            "gauge",
            "Open gRPC connections.",
            (Sample((), grpc.statistics.connections_open),),
        ),
        Family(
            "silence_rls_capped_total",
            "counter",
            "Times gRPC clients ran into a bound, by bound.",
            tuple(Sample((("bound", cap.value),), count) for cap, count in grpc.statistics.capped.items()),
        ),
    ]
    return families + totals(statistics, falling_back)


def totals(statistics: RlsStatistics, falling_back: FallingBackCounters | None) -> list[Family]:
    """Return the counts that are about no rule."""
    local, charged, uncharged = (
        (0, 0, 0)
        if falling_back is None
        else (falling_back.local_decisions, falling_back.charged, falling_back.uncharged)
    )
    counted = (
        ("silence_rls_requests_total", "Questions, answered or refused.", statistics.requests),
        (
            "silence_rls_service_errors_total",
            "Questions that could not be understood.",
            statistics.service_errors,
        ),
        (
            "silence_rls_store_errors_total",
            "Questions that were not answered because of the store.",
            statistics.store_errors,
        ),
        (
            "silence_rls_negative_hits_rejected_total",
            "Questions refused because hits may not be given back.",
            statistics.negative_hits_rejected,
        ),
        (
            "silence_rls_global_shadow_mode_total",
            "Questions that passed only because rls.shadow_mode is on.",
            statistics.global_shadow_mode,
        ),
        (
            "silence_rls_config_load_success_total",
            "Times rules were loaded, by each worker.",
            statistics.config_load_success,
        ),
        (
            "silence_rls_config_load_error_total",
            "Times changed rules could not be used, by each worker.",
            statistics.config_load_error,
        ),
        (
            "silence_rls_local_decisions_total",
            "Questions decided without the store, by store.when_down.",
            local,
        ),
        (
            "silence_rls_charged_hits_total",
            "Hits counted here while the store was away, and added to it afterwards.",
            charged,
        ),
        (
            "silence_rls_uncharged_hits_total",
            "Hits counted here while the store was away and not known to be added: too many, or no answer.",
            uncharged,
        ),
    )
    return [Family(name, "counter", text, (Sample((), value),)) for name, text, value in counted]
