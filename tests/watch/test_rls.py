"""What the rate limit service has counted, as metrics."""

from __future__ import annotations

from tests.rls.asking import Asked

from silence_gateway.edge.grpc_server import GrpcServer
from silence_gateway.rls.statistics import RuleStatistics
from silence_gateway.stores.windows_falling_back import FallingBackCounters
from silence_gateway.stores.windows_memory import MemoryCounters
from silence_gateway.watch.families import MAX_SERIES, Family
from silence_gateway.watch.rls import OF_A_RULE, rls_families

RULES = """
domain: d
descriptors:
  - key: addr
    rate_limit: {unit: minute, requests_per_unit: 2}
  - key: user
    detailed_metric: true
    rate_limit: {unit: minute, requests_per_unit: 2}
"""


class Down:
    """A store that is away."""

    up = False
    partly_away = ""
    live_instances = 1


def families(asked: Asked, falling_back: FallingBackCounters | None = None) -> dict[str, Family]:
    return {family.name: family for family in rls_families(asked.service, GrpcServer({}), falling_back)}


def values(family: Family) -> dict[str, float]:
    return {",".join(value for _, value in sample.labels): sample.value for sample in family.samples}


def test_every_count_of_a_rule_has_a_metric() -> None:
    assert set(OF_A_RULE) == set(RuleStatistics.__slots__)


def test_hits_are_told_by_rule() -> None:
    asked = Asked(RULES)
    for _ in range(3):
        asked.answer("addr=1")
    asked.answer("user=bob")
    shown = families(asked)

    assert values(shown["silence_rls_hits_total"]) == {"d.addr": 3, "d.user": 0, "d.user_bob": 1}
    assert values(shown["silence_rls_over_limit_total"])["d.addr"] == 1
    assert values(shown["silence_rls_requests_total"]) == {"": 4}
    assert values(shown["silence_rls_config_load_success_total"]) == {"": 1}


def test_names_that_callers_make_up_push_no_configured_rule_out() -> None:
    asked = Asked(RULES.replace("addr", "first"))
    for number in range(MAX_SERIES + 10):
        asked.service.statistics.of(f"d.user_{number}")
    asked.service.use(Asked(RULES.replace("addr", "later")).service.rules)
    names = list(values(families(asked)["silence_rls_hits_total"]))

    assert names[:2] == ["d.later", "d.user"]
    assert "d.first" in names


def test_unknown_domains_and_bounds_are_told() -> None:
    asked = Asked(RULES)
    asked.answer("addr=1", "addr=2", domain="nowhere")
    shown = families(asked)

    assert values(shown["silence_rls_domain_not_found_total"]) == {"nowhere": 2}
    assert values(shown["silence_rls_calls_total"])["OK"] == 0
    assert values(shown["silence_rls_capped_total"])["reset_flood"] == 0


def test_what_was_decided_without_the_store_is_told() -> None:
    asked = Asked(RULES)
    falling_back = FallingBackCounters(MemoryCounters(asked.clock), Down(), asked.clock)
    asked.service.counters = falling_back
    asked.answer("addr=1")

    assert values(families(asked, falling_back)["silence_rls_local_decisions_total"]) == {"": 1}
