"""The limits scripts and the pure functions give the same numbers for any trace."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.agreement.traces import START_US, SetClock, SteppedStore, Twin, check_trace, log_of, name_of

from silence_gateway.core.limits import (
    Algorithm,
    Alignment,
    Ask,
    Change,
    LimitRule,
    Mode,
    Op,
)
from silence_gateway.core.rates import Rate, rate_per_months
from silence_gateway.stores.limit_batch import pack_requests
from silence_gateway.stores.limit_names import BLOCK

pytestmark = pytest.mark.valkey

# Explaining why an example fails runs it hundreds of times more, each against the server.
NO_EXPLAIN = tuple(phase for phase in Phase if phase is not Phase.explain)
FEW = settings(
    max_examples=120,
    phases=NO_EXPLAIN,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

counts = st.one_of(st.integers(1, 8), st.integers(9, 200), st.integers(1, 1_000_000_000))
windows_us = st.one_of(st.integers(1_000, 4_000_000), st.integers(1_000, 86_400_000_000))
blocks_us = st.one_of(st.just(0), st.integers(1, 20_000_000))
RULES: dict[str, st.SearchStrategy[LimitRule]] = {
    "sliding_window": st.builds(
        lambda count, window_us, block_us, mode: LimitRule(
            name="w",
            algorithm=Algorithm.SLIDING_WINDOW,
            rate=Rate(count, window_us),
            block_us=block_us,
            mode=mode,
        ),
        st.one_of(st.integers(1, 8), st.integers(9, 200)),
        st.integers(1_000, 4_000_000),
        blocks_us,
        st.sampled_from(Mode),
    ),
    "sliding_counter": st.builds(
        lambda count, window_us, block_us, mode: LimitRule(
            name="n",
            algorithm=Algorithm.SLIDING_COUNTER,
            rate=Rate(count, window_us),
            block_us=block_us,
            mode=mode,
        ),
        counts,
        windows_us,
        blocks_us,
        st.sampled_from(Mode),
    ),
    "token_bucket": st.builds(
        lambda count, window_us, burst, block_us, mode: LimitRule(
            name="b",
            algorithm=Algorithm.TOKEN_BUCKET,
            rate=Rate(count, window_us),
            burst=burst,
            block_us=block_us,
            mode=mode,
        ),
        st.one_of(st.integers(1, 8), st.integers(1, 20_000)),
        windows_us,
        st.one_of(st.none(), st.integers(1, 30)),
        blocks_us,
        st.sampled_from(Mode),
    ),
    "fixed_window": st.builds(
        lambda count, window_us, align, block_us, mode: LimitRule(
            name="f",
            algorithm=Algorithm.FIXED_WINDOW,
            rate=Rate(count, window_us),
            align=align,
            block_us=block_us,
            mode=mode,
        ),
        counts,
        st.one_of(windows_us, st.sampled_from((604_800_000_000, 1_209_600_000_000))),
        st.sampled_from(Alignment),
        blocks_us,
        st.sampled_from(Mode),
    ),
    "months": st.builds(
        lambda count, months, mode: LimitRule(
            name="m", algorithm=Algorithm.FIXED_WINDOW, rate=rate_per_months(count, months), mode=mode
        ),
        counts,
        st.sampled_from((1, 2, 3, 4, 6, 12)),
        st.sampled_from(Mode),
    ),
    "concurrency": st.builds(
        lambda most, ttl_us, mode: LimitRule(
            name="c", algorithm=Algorithm.CONCURRENCY, max=most, ttl_us=ttl_us, mode=mode
        ),
        st.integers(1, 4),
        st.integers(1_000_000, 5_000_000),
        st.sampled_from(Mode),
    ),
}
any_rule = st.one_of(*RULES.values())
gaps_us = st.one_of(
    st.just(0),
    st.integers(0, 500_000),
    st.integers(0, 10_000_000),
    st.integers(-5_000_000, 0),
    st.integers(0, 40 * 86_400_000_000),
)
costs = st.one_of(st.just(1), st.integers(0, 12))
holders = st.sampled_from(("h1", "h2", "h3", "h4"))
one_ask = st.tuples(st.integers(0, 2), costs, holders)
requests_of = st.tuples(
    st.lists(one_ask, min_size=1, max_size=3, unique_by=lambda ask: ask[0]), st.sampled_from("xy")
)
steps = st.one_of(
    st.tuples(st.just("decide"), gaps_us, st.lists(requests_of, min_size=1, max_size=5)),
    st.tuples(
        st.just("adjust"),
        gaps_us,
        st.lists(
            st.tuples(
                st.sampled_from(Op),
                st.integers(0, 2),
                st.sampled_from("xy"),
                costs,
                st.integers(0, 3),
                holders,
            ),
            min_size=1,
            max_size=4,
        ),
    ),
)


@FEW
@given(
    rules=st.lists(any_rule, min_size=1, max_size=3, unique_by=lambda rule: rule.counter),
    trace=st.lists(steps, max_size=25),
)
def test_scripts_and_core_agree_on_every_number(
    valkey: redis.Redis, rules: list[LimitRule], trace: list[tuple[str, int, Any]]
) -> None:
    """Any mix of algorithms, blocks, charges and refunds."""
    check_trace(valkey, rules, trace)


@pytest.mark.parametrize("algorithm", RULES)
@settings(FEW, max_examples=60)
@given(data=st.data())
def test_each_algorithm_agrees_alone(valkey: redis.Redis, algorithm: str, data: st.DataObject) -> None:
    """With nothing else in the way, so that every example is about one algorithm."""
    check_trace(valkey, [data.draw(RULES[algorithm])], data.draw(st.lists(steps, max_size=30)))


@FEW
@given(
    st.integers(20, 300),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 7)), min_size=30, max_size=260),
    st.integers(1, 300),
    st.integers(0, 300),
)
def test_a_long_log_is_searched_alike(
    valkey: redis.Redis, count: int, trace: list[tuple[int, int]], cost: int, back: int
) -> None:
    """A cost above one and a refund make the script search its log; the log is long here."""
    valkey.flushall()
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, 1_000_000))
    twin, clock = Twin(valkey), SetClock()
    store = SteppedStore(clock)
    for gap_us, step_cost in trace:
        clock.at_us += gap_us
        asks = [Ask(rule, "k", step_cost)]
        assert twin.decide([asks], clock.at_us) == [store.decide_now(asks)]

    changes = [Change(Op.GIVE_BACK, rule, "k", back, clock.at_us)]
    assert twin.adjust(changes, clock.at_us) == store.adjust_now(changes)
    asks = [Ask(rule, "k", cost)]

    assert twin.decide([asks], clock.at_us) == [store.decide_now(asks)]


def test_a_changed_limit_goes_on_with_what_was_counted(valkey: redis.Redis) -> None:
    wide = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(10, 2_000_000))
    narrow = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(3, 1_000_000))
    twin, clock = Twin(valkey), SetClock()
    store = SteppedStore(clock)
    for rule in (wide, wide, wide, wide, narrow, narrow):
        asks = [Ask(rule, "k", 2)]
        clock.at_us += 400_000

        assert twin.decide([asks], clock.at_us) == [store.decide_now(asks)]


TIMES_TO_LIVE = {
    "sliding_window": (90_001, 90_001 + 11_251 + 2_000),
    "token_bucket": (120_000, 242_000),
    "sliding_counter": (90_000, 182_002),
    "fixed_window": (1, 92_002),
    "concurrency": (30_000, 32_000),
}


def test_every_key_has_a_time_to_live_that_outlasts_what_it_counts(valkey: redis.Redis) -> None:
    rate = Rate(10, 90_000_500)
    rules = [
        LimitRule(name="sliding_window", algorithm=Algorithm.SLIDING_WINDOW, rate=rate),
        LimitRule(name="token_bucket", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(1, 60_000_000), burst=3),
        LimitRule(name="sliding_counter", algorithm=Algorithm.SLIDING_COUNTER, rate=rate),
        LimitRule(name="fixed_window", algorithm=Algorithm.FIXED_WINDOW, rate=rate),
        LimitRule(name="concurrency", algorithm=Algorithm.CONCURRENCY, max=3),
    ]
    twin = Twin(valkey)
    twin.decide([[Ask(rule, "k", 1 if rule.kind == "c" else 2, "h") for rule in rules]], START_US)

    for rule in rules:
        low, high = TIMES_TO_LIVE[rule.name]
        assert low < valkey.pttl(name_of(rule, "k")) <= high, rule.name
    assert valkey.dbsize() == len(rules)


def test_a_block_has_a_time_to_live_of_its_own(valkey: redis.Redis) -> None:
    rule = LimitRule(
        name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 1_000_000), block_us=600_000_000
    )
    decisions = Twin(valkey).decide([[Ask(rule, "k")]] * 2, START_US)

    assert [decision[0].retry_after_us for decision in decisions] == [0, 600_000_000]
    assert 600_000 < valkey.pttl(name_of(rule, "k") + BLOCK) <= 601_000


def test_a_batch_writes_one_entry_per_key_however_often_it_is_asked(valkey: redis.Redis) -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1000, 60_000_000))

    decisions = Twin(valkey).decide([[Ask(rule, "k")]] * 64, START_US)

    assert [decision[0].remaining for decision in decisions] == list(range(999, 935, -1))
    assert valkey.get("w:w|k") == log_of(0, (START_US, 64))


def test_all_uses_of_one_microsecond_are_one_entry(valkey: redis.Redis) -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1000, 60_000_000))
    twin = Twin(valkey)

    left = [twin.decide([[Ask(rule, "k")]], START_US)[0][0].remaining for _ in range(120)]

    assert left == list(range(999, 879, -1))
    assert valkey.get("w:w|k") == log_of(0, (START_US, 120))


def test_a_log_does_not_grow_beyond_its_window(valkey: redis.Redis) -> None:
    """What is over is cut off in the front, once it is 32 entries."""
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(10, 1_000_000))
    twin = Twin(valkey)
    for number in range(200):
        twin.decide([[Ask(rule, "k")]], START_US + number * 100_000)

    assert valkey.strlen("w:w|k") <= 6 + 13 * (10 + 32)


def test_a_refusal_writes_nothing(valkey: redis.Redis) -> None:
    sliding = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 60_000_000))
    bucket = LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(9, 60_000_000))
    twin = Twin(valkey)
    twin.decide([[Ask(sliding, "k")]], START_US)

    refused = twin.decide([[Ask(sliding, "k"), Ask(bucket, "k")]], START_US)[0]

    assert [decision.allowed for decision in refused] == [False, True]
    assert refused[1].remaining == 9
    assert valkey.keys() == [b"w:w|k"]
    assert valkey.get("w:w|k") == log_of(0, (START_US, 1))


def test_the_server_clock_is_used_when_no_time_is_given(valkey: redis.Redis) -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 60_000_000))
    before: Any = valkey.time()
    script, keys, args = pack_requests([([Ask(rule, "k")], None)], name_of)  # type: ignore[list-item]
    answer: Any = valkey.eval(script.text, len(keys), *keys, *args)
    after: Any = valkey.time()

    assert before[0] * 1_000_000 + before[1] <= answer[0] <= after[0] * 1_000_000 + after[1]
    assert valkey.get(keys[0]) == log_of(0, (answer[0], 1))
