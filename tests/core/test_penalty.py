"""Keys that stay refused for a while after a refusal."""

from __future__ import annotations

import pytest

from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule
from silence_gateway.core.penalty import standing_block, with_block
from silence_gateway.core.rates import Rate

NOW_US = 1_764_000_000_000_000
RULE = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(5, 1_000_000), block_us=600_000_000)
ALLOWED = Decision(True, 5, 3, 0, 1_000_000, NOW_US)
REFUSED = Decision(False, 5, 2, 400_000, 900_000, NOW_US)


def test_a_refusal_begins_a_block() -> None:
    answer, until_us = with_block(RULE, 0, NOW_US, 3, REFUSED)

    assert answer == Decision(False, 5, 0, 600_000_000, 600_000_000, NOW_US)
    assert until_us == NOW_US + 600_000_000


def test_a_block_refuses_what_the_limit_would_allow() -> None:
    answer, until_us = with_block(RULE, NOW_US + 1_000, NOW_US, 1, ALLOWED)

    assert answer == Decision(False, 5, 0, 1_000, 1_000_000, NOW_US)
    assert until_us == NOW_US + 1_000


def test_a_refusal_within_a_block_does_not_prolong_it() -> None:
    answer, until_us = with_block(RULE, NOW_US + 1_000, NOW_US, 3, REFUSED)

    assert (answer.retry_after_us, until_us) == (400_000, NOW_US + 1_000)


def test_looking_tells_of_a_block_and_is_not_refused() -> None:
    answer, _ = with_block(RULE, NOW_US + 1_000, NOW_US, 0, ALLOWED)

    assert answer == Decision(True, 5, 0, 0, 1_000_000, NOW_US)


def test_what_can_never_pass_begins_no_block_and_stays_so_within_one() -> None:
    never = Decision(False, 5, 3, NEVER, 1_000_000, NOW_US)

    assert with_block(RULE, 0, NOW_US, 9, never) == (never, 0)
    assert with_block(RULE, NOW_US + 9, NOW_US, 9, never)[0].retry_after_us == NEVER


def test_what_is_allowed_passes_where_nothing_is_blocked() -> None:
    assert with_block(RULE, 0, NOW_US, 1, ALLOWED) == (ALLOWED, 0)


@pytest.mark.parametrize(
    ("until_us", "stands"),
    [
        pytest.param(NOW_US + 1, True, id="not-over-yet"),
        pytest.param(NOW_US, False, id="just-over"),
        pytest.param(NOW_US + 600_000_000, True, id="a-whole-block"),
        pytest.param(NOW_US + 600_000_001, False, id="of-another-clock"),
    ],
)
def test_a_block_that_ends_too_late_was_written_by_another_clock(until_us: int, stands: bool) -> None:
    assert standing_block(RULE, until_us, NOW_US) == (until_us if stands else 0)
