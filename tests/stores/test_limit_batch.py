"""One script call for many requests: what is the same is said once, and every answer finds its asker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import NEVER, Algorithm, Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.rates import parse_rate
from silence_gateway.stores.limit_batch import Waiting, deliver, pack_changes, pack_requests, read_changes
from silence_gateway.stores.limit_scripts import declaration

WINDOW = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/s"))
BUCKET = LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("7/s"))
JAIL = LimitRule(name="j", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/s"), block_us=1_000_000)
PLACES = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=3)


def name_of(rule: LimitRule, whom: str) -> bytes:
    return f"{rule.name}/{whom}".encode()


def waiting(*requests: Sequence[Ask]) -> list[Waiting]:
    loop = asyncio.new_event_loop()
    try:
        return [(asks, loop.create_future()) for asks in requests]
    finally:
        loop.close()


def packed(*requests: Sequence[Ask]) -> tuple[list[bytes], int, list[bytes | int]]:
    """Return the keys, how many rules there are, and what stands behind them."""
    _, keys, args = pack_requests(waiting(*requests), name_of)
    assert args[0] == b"", "the server's own clock"
    rules = args[1]
    assert isinstance(rules, int)
    return keys, rules, args[2 + 8 * rules :]


def test_requests_that_ask_the_same_are_a_run() -> None:
    keys, rules, told = packed([Ask(WINDOW, "a")], [Ask(WINDOW, "b")], [Ask(WINDOW, "c")])

    assert keys == [b"w/a", b"w/b", b"w/c"]
    assert rules == 1
    assert told == [1, 3, 1, 1, 1]  # no key twice; 3 requests of 1 ask each: rule 1, cost 1


def test_another_cost_or_rule_begins_another_run() -> None:
    _, rules, told = packed(
        [Ask(WINDOW, "a")], [Ask(WINDOW, "b", 2)], [Ask(BUCKET, "b", 2)], [Ask(WINDOW, "c", 2)]
    )

    assert rules == 2
    assert told == [1, *(1, 1, 1, 1), *(1, 1, 1, 2), *(1, 1, 2, 2), *(1, 1, 1, 2)]


def test_requests_with_several_limits_are_runs_too() -> None:
    both = [[Ask(WINDOW, key), Ask(BUCKET, key, 3)] for key in "ab"]
    keys, _, told = packed(*both, [Ask(WINDOW, "c")], *both)

    assert keys == [b"w/a", b"b/a", b"w/b", b"b/b", b"w/c", b"w/a", b"b/a", b"w/b", b"b/b"]
    assert told == [0, *(2, 2, 1, 1, 2, 3), *(1, 1, 1, 1), *(2, 2, 1, 1, 2, 3)]


def test_blocks_have_keys_of_their_own_and_places_say_for_whom() -> None:
    keys, _, told = packed(
        [Ask(PLACES, "a", 1, "h1")],
        [Ask(PLACES, "a", 1, "h2")],
        [Ask(JAIL, "a"), Ask(PLACES, "b", 1, "h3")],
        [Ask(JAIL, "a"), Ask(PLACES, "c", 1, "h4")],
    )

    assert keys == [b"c/a", b"c/a", b"j/a", b"j/a:block", b"c/b", b"j/a", b"j/a:block", b"c/c"]
    assert told == [0, *(2, 1, 1, 1, b"h1", b"h2"), *(2, 2, 2, 1, 1, 1, b"h3", b"h4")]


def test_every_rule_is_told_once() -> None:
    script, _, args = pack_requests(
        waiting([Ask(WINDOW, "a"), Ask(BUCKET, "a")], [Ask(BUCKET, "b")], [Ask(WINDOW, "b")]), name_of
    )

    assert args[1:18] == [2, *declaration(WINDOW), *declaration(BUCKET)]
    assert script.name == "limits_decide (sliding_window, token_bucket)"


ASKS = st.lists(
    st.builds(
        Ask,
        st.sampled_from([WINDOW, BUCKET, JAIL, PLACES]),
        st.sampled_from("abc"),
        st.integers(0, 2),
        st.just("h"),
    ),
    min_size=1,
    max_size=3,
)


@given(st.lists(ASKS, min_size=1, max_size=12))
def test_what_was_packed_says_who_asked_what_in_order(requests: list[list[Ask]]) -> None:
    """Read back as decide.lua reads it."""
    _, keys, args = pack_requests(waiting(*requests), name_of)
    rules = args[1]
    assert isinstance(rules, int)
    kinds = [args[2 + 8 * number] for number in range(rules)]
    blocks = [args[9 + 8 * number] for number in range(rules)]
    told: list[Any] = list(args[2 + 8 * rules :])
    assert told.pop(0) == (len(set(keys)) == len(keys))
    key = iter(keys)
    heard: list[list[tuple[bytes, int]]] = []
    while told:
        count, size, *told = told
        shape, told = told[: 2 * size], told[2 * size :]
        for _ in range(count):
            request = []
            for rule, cost in zip(shape[::2], shape[1::2], strict=True):
                request.append((next(key), cost))
                if blocks[rule - 1]:
                    assert next(key) == request[-1][0] + b":block"
                if kinds[rule - 1] == b"c":
                    assert told.pop(0) == b"h"
            heard.append(request)

    assert next(key, None) is None
    assert heard == [[(name_of(ask.rule, ask.key), ask.cost) for ask in asks] for asks in requests]


def test_answers_go_to_those_who_asked_and_to_nobody_who_left() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        batch: list[Waiting] = [
            ([Ask(WINDOW, "a"), Ask(BUCKET, "a", 9)], loop.create_future()),
            ([Ask(WINDOW, "b")], loop.create_future()),
            ([Ask(BUCKET, "c")], loop.create_future()),
        ]
        batch[1][1].cancel()
        deliver(batch, [77, 4, 0, 10, 7, NEVER, 0, 1, 0, 10, 0, 250, 900])

        assert await batch[0][1] == [Decision(True, 5, 4, 0, 10, 77), Decision(False, 7, 7, NEVER, 0, 77)]
        assert await batch[2][1] == [Decision(False, 7, 0, 250, 900, 77)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("op", "letter"),
    [(Op.CHARGE, b"s"), (Op.TAKE, b"t"), (Op.GIVE_BACK, b"b"), (Op.RENEW, b"h"), (Op.RELEASE, b"r")],
)
def test_changes_are_told_one_by_one(op: Op, letter: bytes) -> None:
    script, keys, args = pack_changes([Change(op, WINDOW, "a", 3, 55, "h"), Change(op, WINDOW, "a")], name_of)

    assert script.name == "limits_adjust (sliding_window)"
    assert keys == [b"w/a", b"w/a"]
    assert args == [b"", 1, *declaration(WINDOW), letter, 1, 3, 55, b"h", letter, 1, 0, 0, b""]


def test_what_changes_came_to_is_read() -> None:
    assert read_changes([77, 3, 5, 900, 0, 0, 0]) == [Changed(3, 5, 900, 77), Changed(0, 0, 0, 77)]
    assert read_changes([77]) == []
