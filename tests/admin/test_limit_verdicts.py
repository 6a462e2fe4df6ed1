"""What one limit would make of a request: in numbers, and in words."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from silence_gateway.admin.limit_verdicts import Meeting, meeting, told, verdict_of
from silence_gateway.core.limits import NEVER, Algorithm, LimitRule, Mode, WhenDown
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.override_entry import Override
from silence_gateway.testing.limiters import local_limiter

NOW_US = 1_800_000_000_000_000
NOON = "2027-01-15 08:00:"
SECOND_US = 1_000_000
RULE = LimitRule(name="login", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/minute"))
BLOCKS = replace(RULE, block_us=600 * SECOND_US)
SHADOW = replace(RULE, mode=Mode.SHADOW)
DENIES = replace(BLOCKS, when_down=WhenDown.DENY)
PLACES = LimitRule(name="open", algorithm=Algorithm.CONCURRENCY, max=3)


def prospect(wait_s: float, left: int = 0, blocked_s: int = 0, at_us: int = 1) -> Prospect:
    wait_us = NEVER if wait_s < 0 else round(wait_s * SECOND_US)
    return Prospect(5, left, wait_us, 40 * SECOND_US, blocked_s * SECOND_US, at_us)


def met(
    looked: Prospect, rule: LimitRule = RULE, cost: int = 1, *, verb: str = "costs", **holds: Any
) -> Meeting:
    override = Override(limit=rule.name, shown="k", **holds) if holds else None
    in_force = rule if override is None else override.rule_of(rule)
    return Meeting(
        own=rule,
        rule=in_force,
        override=override,
        prospect=looked,
        cost=cost,
        verb=verb,
        now_us=NOW_US,
        shared=True,
    )


OUTCOMES = {
    "passes": (met(prospect(0, 3)), None, "passes", "one more use passes"),
    "refused": (
        met(prospect(11.2), cost=2),
        11.2,
        f"refuses: costs 2, 0 left; passes in 12s, at {NOON}12 UTC",
        f"a use that costs 2 is refused; retry after 12 s, at {NOON}12 UTC",
    ),
    "reserved": (
        met(prospect(1, 3), cost=4, verb="reserves"),
        1,
        f"refuses: reserves 4, 3 left; passes in 1s, at {NOON}01 UTC",
        f"a use that costs 4 is refused; retry after 1 s, at {NOON}01 UTC",
    ),
    "never": (
        met(prospect(-1, 3), cost=9),
        None,
        "refuses: costs 9, the whole limit is 5; it can never pass",
        "a use that costs 9 is refused; no retry will pass",
    ),
    "would-begin-a-block": (
        met(prospect(12), BLOCKS),
        600,
        (
            f"refuses: costs 1, 0 left; passes in 12s, at {NOON}12 UTC, "
            "but a refusal now blocks its key for 10m (block_for)"
        ),
        "one more use is refused; retry after 600 s, at 2027-01-15 08:10:00 UTC",
    ),
    "blocked-by-block-for": (
        met(prospect(42, 0, 42), BLOCKS),
        42,
        f"refuses: it was refused before, and block_for blocks its key for 42s, until {NOON}42 UTC",
        f"one more use is refused; retry after 42 s, at {NOON}42 UTC",
    ),
    "shadow": (
        met(prospect(12), SHADOW),
        12,
        f"would refuse, in shadow: costs 1, 0 left; passes in 12s, at {NOON}12 UTC",
        "one more use passes: a shadow limit refuses nothing",
    ),
    "places": (
        met(prospect(1), PLACES),
        1,
        "refuses: all 5 places are taken; ask again in 1s",
        f"one more at once is refused; retry after 1 s, at {NOON}01 UTC",
    ),
    "denied-while-away": (
        met(prospect(1, at_us=-1), DENIES),
        1,
        "refuses: the store is away, and when_down is deny; ask again in 1s",
        f"one more use is refused; retry after 1 s, at {NOON}01 UTC",
    ),
    "unlimited": (
        met(prospect(0, 5), unlimited=True),
        None,
        "passes: its key is unlimited",
        "one more use passes",
    ),
    "blocked-for-a-time": (
        met(
            prospect(30)._replace(reset_us=30 * SECOND_US),
            BLOCKS,
            blocked=True,
            until_us=NOW_US + 30 * SECOND_US,
        ),
        30,
        f"refuses: its key is blocked for 30s, until {NOON}30 UTC",
        f"one more use is refused; retry after 30 s, at {NOON}30 UTC",
    ),
    "blocked-for-ever": (
        met(prospect(-1)._replace(reset_us=NEVER), blocked=True),
        None,
        "refuses: its key is blocked for ever",
        "one more use is refused; no retry will pass",
    ),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_an_outcome_says_why_and_until_when(case: str) -> None:
    one, retry_after_s, outcome, verdict = OUTCOMES[case]
    said = told(one)

    assert (said["outcome"], verdict_of(one)) == (outcome, verdict)
    assert said["retry_after_s"] == retry_after_s
    assert said["retry_at_us"] == (None if retry_after_s is None else NOW_US + retry_after_s * SECOND_US)
    assert said["allowed"] is outcome.startswith("passes")


@pytest.mark.parametrize(
    ("case", "block"),
    [
        ("refused", None),
        ("would-begin-a-block", None),
        (
            "blocked-by-block-for",
            {"by": "block_for", "left_s": 42, "until_us": NOW_US + 42 * SECOND_US},
        ),
        ("blocked-for-a-time", {"by": "override", "left_s": 30, "until_us": NOW_US + 30 * SECOND_US}),
        ("blocked-for-ever", {"by": "override", "left_s": None, "until_us": None}),
    ],
)
def test_a_block_that_holds_says_by_what_and_until_when(case: str, block: dict[str, Any] | None) -> None:
    assert told(OUTCOMES[case][0])["blocked"] == block


@pytest.mark.parametrize(
    ("holds", "rate"),
    [
        ({}, "5/m"),
        ({"rate": "500/minute"}, "500/m"),
        ({"unlimited": True}, "unlimited"),
        ({"blocked": True}, "blocked"),
    ],
)
def test_the_rate_is_the_one_in_force_and_the_exception_is_told(holds: dict[str, Any], rate: str) -> None:
    said = told(met(prospect(0, 1), **holds))

    assert (said["rate"], said["own_rate"]) == (rate, "5/m")
    assert said["override"] == (holds or None)


def test_what_this_instance_tells_alone_says_so() -> None:
    assert told(met(prospect(0)))["counted_by"] == "fleet"
    assert told(met(prospect(0, at_us=-1)))["counted_by"] == "this instance"


def test_a_limiter_of_one_process_that_has_no_exceptions_tells_the_same() -> None:
    limiter = local_limiter([LimitSpec(rule=RULE, key=("client_ip",), any=True)])
    said = told(asyncio.run(meeting(limiter, "login", "k", 1)))

    assert (said["allowed"], said["remaining"], said["override"]) == (True, 5, None)
    assert said["counted_by"] == "this instance"
