"""
What each rule does for the slowest calls when one endpoint is slow, against random choice.

Ten servers that take 10 ms for a call and work on four at once, at half of what they can take.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from tests.core.balancing.simulation import Choose, Server, quantile, simulated

from silence_gateway.core.balancing.consistent_hash import hash_of, pick_by_key, points_per_share, ring_of
from silence_gateway.core.balancing.least_request import pick_less_busy
from silence_gateway.core.balancing.peak_ewma import pick_cheaper
from silence_gateway.core.balancing.random_choice import pick_at_random
from silence_gateway.core.balancing.round_robin import pick_in_turn
from silence_gateway.core.balancing.shares import smooth_order
from silence_gateway.core.balancing.slow_start import share_of

RATE = 1800.0


def at_random(servers: list[Server], rng: Random) -> Server:
    return pick_at_random(servers, rng.random())


def less_busy(servers: list[Server], rng: Random) -> Server:
    return pick_less_busy(servers, rng.random())


def cheaper(servers: list[Server], rng: Random) -> Server:
    return pick_cheaper(servers, rng.random())


def in_turn(servers: list[Server]) -> Choose:
    order = [servers[index] for index in smooth_order([one.share for one in servers])]
    turn = -1

    def choose(_servers: list[Server], _rng: Random) -> Server:
        nonlocal turn
        turn += 1
        return pick_in_turn(order, turn)

    return choose


def by_key(servers: list[Server], max_load: float, keys: int) -> Choose:
    ring = ring_of([one.name for one in servers], servers, [1] * len(servers), points_per_share(10))
    places = [hash_of(f"user-{number}".encode()) for number in range(keys)]

    def choose(_servers: list[Server], rng: Random) -> Server:
        # A few keys have most of the calls, as users do.
        key = places[int(keys * rng.random() ** 3)]
        return pick_by_key(ring, key, sum(one.in_flight for one in servers), max_load)

    return choose


def fleet(slow_s: float = 0.01, stalls_s: tuple[float, float] = (0.0, 0.0)) -> list[Server]:
    servers = [Server(f"10.0.0.{number}:1") for number in range(10)]
    servers[3].mean_s, servers[3].stalls_s = slow_s, stalls_s
    return servers


def p99(choose: Choose, servers: list[Server], rate: float = RATE) -> float:
    return quantile(simulated(servers, choose, rate=rate), 0.99)


@pytest.mark.parametrize(
    ("choose", "times_better"),
    [pytest.param(less_busy, 4, id="least_request"), pytest.param(cheaper, 8, id="peak_ewma")],
)
def test_one_endpoint_ten_times_slower_hardly_shows(choose: Choose, times_better: float) -> None:
    by_chance = p99(at_random, fleet(slow_s=0.1))
    chosen = p99(choose, fleet(slow_s=0.1))

    assert chosen * times_better < by_chance


@pytest.mark.parametrize("choose", [less_busy, cheaper])
def test_an_endpoint_that_stalls_for_three_seconds_gets_few_calls(choose: Choose) -> None:
    """With random choice a tenth of the calls of these seconds are late; here it is a handful."""
    stalls_s = (0.5, 3.5)

    late = {
        name: sum(took_s > 0.5 for took_s in simulated(fleet(stalls_s=stalls_s), rule, rate=RATE))
        for name, rule in (("random", at_random), ("chosen", choose))
    }

    assert late["chosen"] * 10 < late["random"]


def test_turns_spread_load_better_than_chance() -> None:
    """With equal endpoints there is little to know, and round robin is enough; here at 85 % load."""
    servers = fleet()

    assert p99(in_turn(servers), servers, rate=3400.0) < 0.8 * p99(at_random, fleet(), rate=3400.0)


def test_a_bounded_load_keeps_popular_keys_from_drowning_an_endpoint() -> None:
    free, bounded = fleet(), fleet()

    unbounded_p99 = p99(by_key(free, 100.0, keys=50), free)
    bounded_p99 = p99(by_key(bounded, 1.25, keys=50), bounded)

    assert bounded_p99 * 2 < unbounded_p99


def test_with_a_bound_nearly_all_calls_of_a_key_still_go_home_when_nobody_is_overloaded() -> None:
    servers = fleet()
    ring = ring_of([one.name for one in servers], servers, [1] * 10, points_per_share(10))
    choose = by_key(servers, 1.25, keys=5000)
    away: Counter[bool] = Counter()

    def watched(every: list[Server], rng: Random) -> Server:
        state = rng.getstate()
        key = hash_of(f"user-{int(5000 * rng.random() ** 3)}".encode())
        home = pick_by_key(ring, key, 0, 1e9)
        rng.setstate(state)
        chosen = choose(every, rng)
        away[chosen is not home] += 1
        return chosen

    simulated(servers, watched, rate=600.0)

    assert away[True] < 0.05 * away.total()


def test_a_cold_endpoint_is_slower_for_fewer_calls_with_a_slow_start() -> None:
    """One endpoint takes 100 ms for a call in its first seconds and 10 ms then."""

    def late_calls(window_s: float) -> int:
        servers = fleet(slow_s=0.1)
        cold = servers[3]
        orders: dict[int, Choose] = {}
        calls = 0

        def choose(every: list[Server], rng: Random) -> Server:
            nonlocal calls
            calls += 1
            now_s = calls / RATE
            cold.mean_s = 0.1 if now_s < 2 else 0.01
            cold.share = share_of(1, now_s, window_s)
            for other in every:
                if other is not cold:
                    other.share = share_of(1, 1e9, window_s)
            if cold.share not in orders:
                orders[cold.share] = in_turn(every)
            return orders[cold.share](every, rng)

        return sum(took_s > 0.1 for took_s in simulated(servers, choose, rate=RATE))

    assert late_calls(8.0) * 3 < late_calls(0.0)
