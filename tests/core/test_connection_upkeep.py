"""What nobody needs is closed, what is old is renewed, and what must be there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.connection_upkeep import LineState, Upkeep, UpkeepRules, upkeep


def line(quiet_s: float = 0, overdue_s: float = -100, *, busy: bool = False) -> LineState:
    return LineState(busy=busy, quiet_s=quiet_s, overdue_s=overdue_s)


NEW, QUIET, BUSY, OLD = line(), line(60), line(60, busy=True), line(0, 5)
CASES = [
    pytest.param([NEW, NEW], 1, True, Upkeep(), id="nothing-to-do"),
    pytest.param([QUIET, QUIET], 1, True, Upkeep(close=(1,)), id="further-ones-go"),
    pytest.param([QUIET, QUIET], 2, False, Upkeep(), id="as-many-as-are-wanted-stay"),
    pytest.param([BUSY, BUSY], 0, False, Upkeep(), id="calls-are-never-cut-off"),
    pytest.param([NEW, QUIET], 0, True, Upkeep(close=(1,)), id="only-the-quiet-ones-go"),
    pytest.param([QUIET], 0, True, Upkeep(), id="the-last-stays-while-there-are-calls"),
    pytest.param([QUIET], 0, False, Upkeep(close=(0,)), id="or-goes"),
    pytest.param([line(60, 3), QUIET], 1, True, Upkeep(close=(0,)), id="rather-the-old"),
    pytest.param([NEW, OLD, line(0, 7)], 1, True, Upkeep(renew=2), id="the-oldest-is-renewed"),
    pytest.param([OLD, OLD], 1, True, Upkeep(renew=0), id="or-the-first"),
    pytest.param([line(60, 3)], 1, False, Upkeep(renew=0), id="what-stays-is-renewed-though-quiet"),
    pytest.param([NEW], 3, True, Upkeep(missing=2), id="what-is-missing-is-opened"),
]


@pytest.mark.parametrize(("lines", "least", "in_use", "wanted"), CASES)
def test_what_is_done(lines: list[LineState], least: int, in_use: bool, wanted: Upkeep) -> None:
    rules = UpkeepRules(min_connections=least, idle_timeout_s=60)

    assert upkeep(lines, rules, in_use=in_use) == wanted


LINES = st.builds(line, st.floats(0, 120), st.floats(-50, 50), busy=st.booleans())


@given(st.lists(LINES, min_size=1, max_size=8), st.integers(0, 5), st.booleans())
def test_what_is_kept_is_kept_whatever_the_state(lines: list[LineState], least: int, in_use: bool) -> None:
    did = upkeep(lines, UpkeepRules(min_connections=least, idle_timeout_s=60), in_use=in_use)

    left = len(lines) - len(did.close)
    assert left + did.missing >= max(least, in_use)
    assert not did.close or left >= least
    assert not any(lines[index].busy for index in did.close)
    assert did.renew is None or (did.renew not in did.close and lines[did.renew].overdue_s >= 0)
