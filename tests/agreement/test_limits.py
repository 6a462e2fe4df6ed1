"""The limits script and the pure functions give the same numbers for any trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import Algorithm, Ask, Decision, LimitRule, Mode
from silence_gateway.core.rates import Rate
from silence_gateway.stores.limits_memory import MemoryLimitStore, Table
from silence_gateway.stores.limits_valkey import DECIDE, declaration

pytestmark = pytest.mark.valkey

START_US = 1_764_000_000_000_000
FEW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class SetClock:
    """A clock that stands where it was put; also the monotonic one, so that time may step back."""

    def __init__(self) -> None:
        self.at_us = START_US


class SteppedStore(MemoryLimitStore):
    """The memory store on a clock that may step back."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__(clock)  # type: ignore[arg-type]  # only `now_us` below is ever asked
        self.set_clock = clock

    def now_us(self) -> int:
        return self.set_clock.at_us

    def forget(self, rule: LimitRule, table: Table, now_us: int) -> None:
        """Keep everything: what was forgotten in time does not come back when time does."""


class Twin:
    """The script on a real server, with the time given."""

    def __init__(self, valkey: redis.Redis) -> None:
        self.valkey = valkey
        self.digest = valkey.script_load(DECIDE.text)

    def decide(self, requests: Sequence[Sequence[Ask]], now_us: int) -> list[list[Decision]]:
        rules = list(dict.fromkeys(ask.rule for asks in requests for ask in asks))
        keys = [f"{ask.rule.counter}|{ask.key}" for asks in requests for ask in asks]
        args: list[Any] = [now_us, len(rules)]
        for rule in rules:
            args += declaration(rule)
        for asks in requests:
            args.append(len(asks))
            for ask in asks:
                args += (rules.index(ask.rule) + 1, ask.cost)
        numbers = iter(self.valkey.evalsha(self.digest, len(keys), *keys, *args))
        return [
            [
                Decision(next(numbers) == 1, ask.rule.capacity, next(numbers), next(numbers), next(numbers))
                for ask in asks
            ]
            for asks in requests
        ]


sliding_rules = st.builds(
    lambda name, count, window_us, mode: LimitRule(
        name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, window_us), mode=mode
    ),
    st.just("w"),
    st.one_of(st.integers(1, 8), st.integers(9, 200)),
    st.integers(1_000, 4_000_000),
    st.sampled_from(Mode),
)
bucket_rules = st.builds(
    lambda name, count, window_us, burst, mode: LimitRule(
        name=name, algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(count, window_us), burst=burst, mode=mode
    ),
    st.just("b"),
    st.one_of(st.integers(1, 8), st.integers(1, 5_000_000)),
    st.one_of(st.integers(1_000, 4_000_000), st.integers(1_000, 86_400_000_000)),
    st.one_of(st.none(), st.integers(1, 30)),
    st.sampled_from(Mode),
)
gaps_us = st.one_of(
    st.just(0), st.integers(0, 500_000), st.integers(0, 10_000_000), st.integers(-5_000_000, 0)
)
costs = st.one_of(st.just(1), st.integers(0, 12))
batches = st.lists(
    st.tuples(
        gaps_us,
        st.lists(
            st.tuples(st.sampled_from(("w", "b", "wb", "bw")), st.sampled_from("xy"), costs),
            min_size=1,
            max_size=5,
        ),
    ),
    max_size=25,
)


@FEW
@given(sliding=sliding_rules, bucket=bucket_rules, trace=batches)
def test_script_and_core_agree_on_every_number(
    valkey: redis.Redis,
    sliding: LimitRule,
    bucket: LimitRule,
    trace: list[tuple[int, list[tuple[str, str, int]]]],
) -> None:
    valkey.flushall()
    twin, clock = Twin(valkey), SetClock()
    store = SteppedStore(clock)
    for gap_us, batch in trace:
        clock.at_us += gap_us
        requests = [
            [Ask(sliding if kind == "w" else bucket, key, cost) for kind in kinds]
            for kinds, key, cost in batch
        ]

        assert twin.decide(requests, clock.at_us) == [store.decide_now(asks) for asks in requests]


@FEW
@given(
    st.integers(20, 300),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 7)), min_size=30, max_size=120),
    st.integers(1, 300),
)
def test_the_moment_at_which_many_uses_are_free_is_found(
    valkey: redis.Redis, count: int, trace: list[tuple[int, int]], cost: int
) -> None:
    """A cost above one makes the script search its log; the log is long here."""
    valkey.flushall()
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, 1_000_000))
    twin, clock = Twin(valkey), SetClock()
    store = SteppedStore(clock)
    for gap_us, step_cost in trace:
        clock.at_us += gap_us
        asks = [Ask(rule, "k", step_cost)]
        assert twin.decide([asks], clock.at_us) == [store.decide_now(asks)]

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


def test_every_key_has_a_time_to_live_that_outlasts_what_it_counts(valkey: redis.Redis) -> None:
    sliding = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(10, 90_000_500))
    bucket = LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(1, 60_000_000), burst=3)
    Twin(valkey).decide([[Ask(sliding, "k"), Ask(bucket, "k", 2)]], START_US)

    assert 90_001 < valkey.pttl(f"{sliding.counter}|k") <= 90_001 + 11_251 + 1_000
    assert 120_000 < valkey.pttl(f"{bucket.counter}|k") <= 121_000
    assert valkey.dbsize() == 2


def test_a_batch_writes_one_entry_per_key_however_often_it_is_asked(valkey: redis.Redis) -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1000, 60_000_000))

    decisions = Twin(valkey).decide([[Ask(rule, "k")]] * 64, START_US)

    assert [decision[0].remaining for decision in decisions] == list(range(999, 935, -1))
    assert valkey.zrange("w:w|k", 0, -1, withscores=True) == [(b"b64:64", START_US)]


def test_totals_of_one_moment_sort_as_numbers(valkey: redis.Redis) -> None:
    """Members of one score sort by bytes, where 9 comes after 10; the length letter prevents that."""
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1000, 60_000_000))
    twin = Twin(valkey)

    left = [twin.decide([[Ask(rule, "k")]], START_US)[0][0].remaining for _ in range(120)]

    assert left == list(range(999, 879, -1))


def test_a_refusal_writes_nothing(valkey: redis.Redis) -> None:
    sliding = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 60_000_000))
    bucket = LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(9, 60_000_000))
    twin = Twin(valkey)
    twin.decide([[Ask(sliding, "k")]], START_US)

    refused = twin.decide([[Ask(sliding, "k"), Ask(bucket, "k")]], START_US)[0]

    assert [decision.allowed for decision in refused] == [False, True]
    assert refused[1].remaining == 9
    assert valkey.keys() == [b"w:w|k"]
    assert valkey.zcard("w:w|k") == 1


def test_the_server_clock_is_used_when_no_time_is_given(valkey: redis.Redis) -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 60_000_000))
    before: Any = valkey.time()
    valkey.eval(DECIDE.text, 1, "k", "", 1, *declaration(rule), 1, 1, 1)
    after: Any = valkey.time()
    scored: Any = valkey.zrange("k", 0, -1, withscores=True)

    assert before[0] * 1_000_000 + before[1] <= scored[0][1] <= after[0] * 1_000_000 + after[1]
