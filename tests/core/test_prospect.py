"""What a request would meet: an algorithm's answers and a block, joined."""

from __future__ import annotations

import pytest

from silence_gateway.core.limits import NEVER, Decision
from silence_gateway.core.prospect import Prospect, prospect_of

LOOKED = Decision(True, 5, 2, 0, 40, 7)


def asked(retry_us: int) -> Decision:
    return Decision(retry_us == 0, 5, 2, retry_us, 60, 7)


@pytest.mark.parametrize(
    ("told", "blocked_us", "prospect"),
    [
        pytest.param(asked(0), 0, Prospect(5, 2, 0, 40, 0, 7), id="passes-and-what-is-left-is-before-it"),
        pytest.param(asked(9), 0, Prospect(5, 2, 9, 40, 0, 7), id="refused"),
        pytest.param(asked(NEVER), 30, Prospect(5, 0, NEVER, 40, 30, 7), id="never-stays-never"),
        pytest.param(asked(0), 30, Prospect(5, 0, 30, 40, 30, 7), id="a-block-refuses-what-would-pass"),
        pytest.param(asked(9), 90, Prospect(5, 0, 90, 90, 90, 7), id="the-longer-wait-counts"),
        pytest.param(LOOKED, 30, Prospect(5, 0, 0, 40, 30, 7), id="a-cost-of-nothing-always-passes"),
    ],
)
def test_a_prospect_joins_what_the_algorithm_says_and_a_block(
    told: Decision, blocked_us: int, prospect: Prospect
) -> None:
    assert prospect_of(LOOKED, told, blocked_us) == prospect
    assert prospect.passes is (prospect.retry_after_us == 0)
