"""The breaker's short way of counting a success, against the long one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.breaker import Breaker, BreakerPolicy

SECOND = 1_000_000
POLICY = BreakerPolicy(min_calls=10, window_us=10 * SECOND, consecutive=5, cool_down_us=5 * SECOND)


@given(
    st.lists(
        st.tuples(st.integers(0, 3 * SECOND), st.sampled_from(["well", "badly", "old", "cool"])), max_size=60
    )
)
def test_a_success_counts_the_same_by_the_short_way(trace: list[tuple[int, str]]) -> None:
    """`succeeded` and `on_success` agree, wherever the former says that it has done the work."""
    now_us, short, long = 0, Breaker(POLICY, 0), Breaker(POLICY, 0)
    for gap_us, what in trace:
        now_us += gap_us
        generation = long.generation - (what == "old")
        if what == "badly":
            assert short.on_failure(generation, now_us) is long.on_failure(generation, now_us)
        elif what == "cool":
            assert short.on_cool_down_over(now_us) is long.on_cool_down_over(now_us)
        else:
            moved = long.on_success(generation, now_us)
            if short.succeeded(generation, now_us / 1e6):
                assert moved is None
            else:
                assert short.on_success(generation, now_us) is moved
        assert (short.state, short.generation) == (long.state, long.generation)
        assert short.counted(now_us) == long.counted(now_us)
