"""Decisions of the rate limit service, from serialised question to serialised answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rls.asking import Asked, described, rules_of, run

from silence_gateway.errors import BadRequest, RpcError, StoreUnavailable
from silence_gateway.rls.messages import RateLimitRequest
from silence_gateway.rls.settings import HeaderNames, RlsSettings

RULES = """
domain: d
descriptors:
  - key: addr
    rate_limit: {unit: minute, requests_per_unit: 2}
  - key: addr
    value: banned
    rate_limit: {unit: second, requests_per_unit: 0}
  - key: tenant
    rate_limit: {unit: hour, requests_per_unit: 10, name: per_tenant}
  - key: vip
    rate_limit: {unit: hour, requests_per_unit: 100, replaces: [{name: per_tenant}]}
  - key: long
    rate_limit: {unit: minute, unit_multiplier: 10, requests_per_unit: 5}
  - key: free
    rate_limit: {unlimited: true}
  - key: free
    value: instead
    rate_limit: {unlimited: true, replaces: [{name: per_tenant}]}
  - key: watched
    rate_limit: {unit: minute, requests_per_unit: 1}
    shadow_mode: true
  - key: files
    value: files/*
    share_threshold: true
    rate_limit: {unit: minute, requests_per_unit: 2}
  - key: quota
    rate_limit: {unit: minute, requests_per_unit: 1}
    quota_mode: true
"""


def test_what_is_within_its_limit_passes_and_counting_goes_on_beyond_it() -> None:
    asked = Asked(RULES)

    assert [asked.codes("addr=1") for _ in range(4)] == [
        ["OK", "OK"],
        ["OK", "OK"],
        ["OVER_LIMIT", "OVER_LIMIT"],
        ["OVER_LIMIT", "OVER_LIMIT"],
    ]
    assert asked.codes("addr=2") == ["OK", "OK"]
    assert [count.hits for [count] in asked.counters.asked] == [1] * 5


def test_a_status_tells_the_limit_what_is_left_and_when_it_is_over() -> None:
    asked = Asked(RULES)

    [status] = asked.answer("tenant=a").statuses
    assert (status.current_limit.requests_per_unit, status.current_limit.unit.name) == (10, "HOUR")
    assert status.current_limit.name == "per_tenant"
    assert status.current_limit.unit_multiplier is None
    assert status.limit_remaining == 9
    assert status.duration_until_reset.seconds == 2_790


def test_a_part_of_a_second_until_the_end_is_a_whole_one() -> None:
    asked = Asked(RULES)
    asked.clock.step_wall(29.5)

    assert asked.answer("addr=1").statuses[0].duration_until_reset.seconds == 1


def test_a_window_may_have_several_units() -> None:
    asked = Asked(RULES)

    [status] = asked.answer("long=1").statuses
    assert status.current_limit.unit.name == "MINUTE"
    assert status.current_limit.unit_multiplier.value == 10
    assert status.duration_until_reset.seconds == 390
    assert asked.counters.asked[0][0].window_us == 600_000_000


def test_the_next_window_begins_anew() -> None:
    asked = Asked(RULES)
    for _ in range(3):
        asked.answer("addr=1")
    asked.clock.step_wall(30)

    assert asked.codes("addr=1") == ["OK", "OK"]


@pytest.mark.parametrize(
    ("descriptor", "status"),
    [
        pytest.param("unknown=1", ("OK", None, 0), id="no rule"),
        pytest.param("addr=1,addr=2", ("OK", None, 0), id="no rule at that depth"),
        pytest.param("free=1", ("OK", None, (1 << 32) - 1), id="unlimited"),
        pytest.param("addr=banned", ("OVER_LIMIT", 0, 0), id="a limit of nothing"),
    ],
)
def test_what_is_not_counted_or_never_passes(descriptor: str, status: tuple[str, int | None, int]) -> None:
    asked = Asked(RULES)

    [found] = asked.answer(descriptor).statuses
    limit = found.current_limit
    assert (found.code.name, limit and limit.requests_per_unit, found.limit_remaining) == status
    assert len(asked.counters.asked) == (descriptor == "addr=banned")


def test_an_unknown_domain_has_no_limits_and_is_counted() -> None:
    asked = Asked(RULES)

    assert asked.codes("addr=1", "addr=2", domain="else|where") == ["OK", "OK", "OK"]
    assert asked.codes(described("addr=1", limit={"unit": "DAY"}), domain="else|where") == ["OK", "OK"]
    assert asked.service.statistics.domains_not_found == {"else_where": 3}


def test_each_descriptor_is_counted_and_one_over_its_limit_refuses_all() -> None:
    asked = Asked(RULES)
    for _ in range(2):
        assert asked.codes("addr=1", "tenant=a", "free=1") == ["OK"] * 4

    assert asked.codes("addr=1", "tenant=a", "free=1") == ["OVER_LIMIT", "OVER_LIMIT", "OK", "OK"]
    assert asked.answer("tenant=a").statuses[0].limit_remaining == 6


def test_one_descriptor_twice_is_counted_twice() -> None:
    asked = Asked(RULES)

    assert [one.limit_remaining for one in asked.answer("addr=1", "addr=1").statuses] == [1, 0]
    assert asked.codes("addr=1") == ["OVER_LIMIT", "OVER_LIMIT"]


def test_values_that_share_a_threshold_are_one_counter() -> None:
    asked = Asked(RULES)

    assert [asked.codes(f"files=files/{name}")[0] for name in ("a", "b", "c")] == ["OK", "OK", "OVER_LIMIT"]


# Costs -----------------------------------------------------------------------------------------


def test_the_request_says_what_it_costs_unless_a_descriptor_does() -> None:
    asked = Asked(RULES)

    answer = asked.answer("tenant=a", described("tenant=b", hitsAddend=7), hitsAddend=3)
    assert [one.limit_remaining for one in answer.statuses] == [7, 3]


def test_nothing_said_costs_one_and_zero_of_a_descriptor_asks() -> None:
    asked = Asked(RULES)

    answer = asked.answer("tenant=a", described("tenant=b", hitsAddend=0), hitsAddend=0)
    assert [one.limit_remaining for one in answer.statuses] == [9, 10]


def test_asking_passes_at_the_limit_and_not_beyond_it() -> None:
    asked = Asked(RULES)
    peek = described("addr=1", hitsAddend=0)
    asked.answer("addr=1", hitsAddend=2)
    assert asked.codes(peek) == ["OK", "OK"]
    asked.answer("addr=1")

    assert asked.codes(peek) == ["OVER_LIMIT", "OVER_LIMIT"]


def test_the_largest_cost_there_is_is_over_every_limit() -> None:
    asked = Asked(RULES)

    assert asked.codes(described("tenant=a", hitsAddend=str((1 << 64) - 1))) == ["OVER_LIMIT", "OVER_LIMIT"]
    assert asked.counters.asked[0][0].hits == 1 << 32


REFUNDS = RlsSettings(negative_hits=True)


def test_hits_given_back_can_be_spent_again() -> None:
    asked = Asked(RULES, REFUNDS)
    asked.answer("tenant=a", hitsAddend=12)

    [status] = asked.answer(described("tenant=a", hitsAddend=1, isNegativeHits=True)).statuses
    assert (status.code.name, status.limit_remaining) == ("OK", 0)
    [status] = asked.answer(described("tenant=a", hitsAddend=5, isNegativeHits=True)).statuses
    assert (status.code.name, status.limit_remaining) == ("OK", 4)
    assert asked.counted("d.tenant") == {
        "total_hits": 12,
        "near_limit": 2,
        "over_limit": 2,
        "total_negative_hits": 6,
    }


def test_giving_hits_back_is_refused_where_it_is_off() -> None:
    asked = Asked(RULES)

    with pytest.raises(RpcError) as caught:
        asked.answer("addr=1", described("tenant=a", isNegativeHits=True))
    assert caught.value.code == 12
    assert asked.counters.asked == []
    assert asked.service.statistics.negative_hits_rejected == 1


# Limits that callers bring ---------------------------------------------------------------------


def test_a_limit_that_the_caller_brings_takes_the_place_of_the_rule() -> None:
    asked = Asked(RULES)
    brought = described("addr=1", limit={"requestsPerUnit": 42, "unit": "HOUR", "unitMultiplier": 2})

    [status] = asked.answer(brought).statuses
    limit = status.current_limit
    assert (limit.requests_per_unit, limit.unit.name, limit.unit_multiplier.value) == (42, "HOUR", 2)
    assert status.limit_remaining == 41
    assert asked.counted("d.addr_1") == {"total_hits": 1, "within_limit": 1}


def test_a_limit_that_the_caller_brings_is_enforced_where_the_rule_only_watches() -> None:
    asked = Asked(RULES)

    assert asked.codes(described("watched=1", limit={"unit": "MINUTE"})) == ["OVER_LIMIT", "OVER_LIMIT"]


def test_a_week_has_no_name_in_a_limit_that_is_brought_but_its_number_works() -> None:
    asked = Asked(RULES)

    [status] = asked.answer(described("addr=1", limit={"requestsPerUnit": 1, "unit": 7})).statuses
    assert status.current_limit.unit.name == "WEEK"


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"requestsPerUnit": 1}, id="no unit"),
        pytest.param({"requestsPerUnit": 1, "unit": 99}, id="a unit that there is not"),
        pytest.param({"requestsPerUnit": 1, "unit": "DAY", "unitMultiplier": 0}, id="no window"),
        pytest.param(
            {"requestsPerUnit": 1, "unit": "YEAR", "unitMultiplier": 5000}, id="a window without end"
        ),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limit: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="limit in the request"):
        Asked(RULES).answer(described("addr=1", limit=limit))


# Rules that replace, watch, or share out ---------------------------------------------------------


@pytest.mark.parametrize("replacing", ["vip=a", "free=instead"])
def test_a_replaced_limit_is_not_counted(replacing: str) -> None:
    asked = Asked(RULES)

    assert asked.codes("tenant=a", replacing) == ["OK", "OK", "OK"]
    assert asked.answer("tenant=a", replacing).statuses[0].current_limit is None
    assert asked.answer("tenant=a").statuses[0].limit_remaining == 9


def test_a_rule_that_only_watches_counts_what_it_would_refuse() -> None:
    asked = Asked(RULES)

    assert [asked.codes("watched=1") for _ in range(3)] == [["OK", "OK"]] * 3
    assert asked.answer("watched=1").statuses[0].limit_remaining == 0
    assert asked.counted("d.watched") == {
        "total_hits": 4,
        "within_limit": 1,
        "near_limit": 1,
        "over_limit": 3,
        "shadow_mode": 3,
    }


def test_shadow_mode_for_all_lets_everything_pass_and_says_what_it_would_refuse() -> None:
    asked = Asked(RULES, RlsSettings(shadow_mode=True))
    for _ in range(2):
        asked.answer("addr=1")

    assert asked.codes("addr=1") == ["OK", "OVER_LIMIT"]
    assert asked.service.statistics.global_shadow_mode == 1
    assert asked.counted("d.addr")["over_limit"] == 1


def test_quotas_refuse_only_together() -> None:
    asked = Asked(RULES)
    assert asked.codes("quota=a", "quota=b")[0] == "OK"
    assert asked.codes("quota=a", "quota=c") == ["OK", "OVER_LIMIT", "OK"]

    assert asked.codes("quota=a", "quota=b")[0] == "OVER_LIMIT"
    assert asked.codes("quota=a", "quota=b", "tenant=a")[0] == "OVER_LIMIT"


def test_all_limits_may_be_quotas() -> None:
    asked = Asked(RULES, RlsSettings(quota_mode=True))
    for _ in range(2):
        asked.answer("addr=1")

    assert asked.codes("addr=1", "tenant=a")[0] == "OK"
    assert asked.codes("addr=1", "unknown=1")[0] == "OK"
    assert asked.codes("addr=1")[0] == "OVER_LIMIT"
    assert asked.codes("addr=1", "free=1")[0] == "OVER_LIMIT"
    assert asked.codes("x=1", domain="unknown")[0] == "OK"


# Headers -----------------------------------------------------------------------------------------


def headers(asked: Asked, *descriptors: str) -> dict[str, str]:
    return {line.key: line.value for line in asked.answer(*descriptors).response_headers_to_add}


def test_headers_are_about_the_limit_that_is_closest_to_refusing() -> None:
    asked = Asked(RULES, RlsSettings(headers=HeaderNames()))

    assert headers(asked, "tenant=a", "addr=1") == {
        "RateLimit-Limit": "2",
        "RateLimit-Remaining": "1",
        "RateLimit-Reset": "30",
    }
    assert headers(asked, "tenant=a") == {
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "8",
        "RateLimit-Reset": "2790",
    }


def test_headers_of_a_refusal_are_about_the_limit_that_refuses() -> None:
    asked = Asked(RULES, RlsSettings(headers=HeaderNames()))
    for _ in range(3):
        asked.answer("addr=1")

    assert headers(asked, "addr=1", "tenant=a")["RateLimit-Limit"] == "2"
    assert headers(asked, "addr=1", "addr=banned")["RateLimit-Limit"] == "0"


def test_there_are_no_headers_without_a_limit_or_where_they_are_off() -> None:
    assert headers(Asked(RULES, RlsSettings(headers=HeaderNames())), "free=1", "unknown=1") == {}
    assert headers(Asked(RULES), "addr=1") == {}


def test_names_of_headers_are_free_and_requests_may_have_them_too() -> None:
    names = HeaderNames(limit="x-l", remaining="x-m", reset="x-r")
    asked = Asked(RULES, RlsSettings(request_headers=names))

    answer = asked.answer("addr=1")
    assert answer.response_headers_to_add == []
    assert [(line.key, line.value) for line in answer.request_headers_to_add] == [
        ("x-l", "2"),
        ("x-m", "1"),
        ("x-r", "30"),
    ]


# Without the store -------------------------------------------------------------------------------


def test_an_instance_by_itself_gives_out_its_part() -> None:
    asked = Asked(RULES)
    asked.counters.parts = 3

    assert [asked.answer("tenant=a").statuses[0].limit_remaining for _ in range(4)] == [2, 1, 0, 0]
    assert asked.codes("tenant=a")[0] == "OVER_LIMIT"
    assert asked.answer("tenant=b").statuses[0].current_limit.requests_per_unit == 10
    assert asked.counted("d.tenant")["over_limit"] == 2


def test_a_part_is_never_less_than_one_of_what_may_pass_at_all() -> None:
    asked = Asked(RULES)
    asked.counters.parts = 50

    assert [asked.codes("tenant=a")[0] for _ in range(2)] == ["OK", "OVER_LIMIT"]
    assert asked.codes("addr=banned")[0] == "OVER_LIMIT"


def test_no_answer_of_the_counters_is_no_limit() -> None:
    asked = Asked(RULES)
    asked.counters.error = StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        asked.answer("addr=1")
    assert asked.codes("free=1") == ["OK", "OK"]
    assert asked.service.statistics.store_errors == 1


# Questions that cannot be understood ---------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xff", id="no message"),
        pytest.param(b"\x0a\x02\xff\xfe", id="not UTF-8"),
        pytest.param(b"\x53" * 1_000, id="too deep"),
        pytest.param(b"", id="no domain"),
        pytest.param(b"\x0a\x01d", id="no descriptor"),
        pytest.param(b"\x0a\x01d" + b"\x12\x00" * 1_001, id="too many descriptors"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_and_counted(message: bytes) -> None:
    asked = Asked(RULES)

    with pytest.raises(BadRequest):
        run(asked.service.should_rate_limit(message))
    assert asked.service.statistics.service_errors == 1
    assert asked.counters.asked == []


# Rules and questions that are remembered ---------------------------------------------------------


def test_other_rules_decide_from_the_next_question_on() -> None:
    asked = Asked(RULES)
    assert [asked.codes("addr=1")[0] for _ in range(3)] == ["OK", "OK", "OVER_LIMIT"]

    asked.service.use(rules_of(RULES.replace("requests_per_unit: 2}", "requests_per_unit: 4}")))

    assert asked.codes("addr=1")[0] == "OK"
    assert asked.codes("addr=1")[0] == "OVER_LIMIT"
    assert asked.counted("d.addr")["total_hits"] == 5


def test_only_some_questions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MAX_PLANS", 3), ("MAX_SEEN", 4), ("MAX_TERMS", 2)):
        monkeypatch.setattr(f"silence_gateway.rls.plans.{name}", most)
    asked = Asked(RULES)
    planner = asked.service.planner
    for number in range(10):
        for key in ("addr", "tenant", "quota"):
            for _ in range(3):
                asked.answer(f"{key}={number}")
                assert len(planner.plans) <= 3
                assert len(planner.seen) <= 4
                assert len(planner.terms) <= 2
    assert asked.counted("d.tenant")["total_hits"] == 30

    long = RateLimitRequest.from_json(
        '{"domain": "d", "descriptors": [{"entries": [{"key": "addr", "value": "%s"}]}]}' % ("x" * 600)
    ).to_binary()
    for _ in range(3):
        run(asked.service.should_rate_limit(long))
    assert long not in planner.plans


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["addr=1", "addr=banned", "tenant=a", "free=1", "watched=1", "quota=1", "x=1"]
                ),
                st.integers(0, 3),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=6,
    )
)
def test_headers_agree_with_the_statuses(questions: list[list[tuple[str, int]]]) -> None:
    asked = Asked(RULES, RlsSettings(headers=HeaderNames()))
    for question in questions:
        answer = asked.answer(*(described(text, hitsAddend=hits) for text, hits in question))
        limited = [status for status in answer.statuses if status.current_limit is not None]
        said = [int(line.value) for line in answer.response_headers_to_add]

        assert bool(said) is bool(limited)
        if said:
            assert said[1] == min(status.limit_remaining for status in limited)
            assert said in [
                [
                    status.current_limit.requests_per_unit,
                    status.limit_remaining,
                    status.duration_until_reset.seconds,
                ]
                for status in limited
            ]
