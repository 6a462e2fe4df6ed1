"""Room for large messages: bounded together, in order, and nobody waits for ever."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.h2_grants import Grants


def test_one_alone_gets_more_than_there_is() -> None:
    grants: Grants[str] = Grants(100)

    assert grants.ask("a", 5_000)
    assert not grants.ask("b", 1)
    assert grants.give_back(5_000) == [("b", 1)]


def test_who_asks_later_does_not_overtake() -> None:
    grants: Grants[str] = Grants(100)

    assert grants.ask("a", 60)
    assert not grants.ask("b", 60)
    assert not grants.ask("c", 10)
    assert grants.give_back(60) == [("b", 60), ("c", 10)]


def test_who_leaves_the_line_makes_room_for_those_behind() -> None:
    grants: Grants[str] = Grants(100)
    grants.ask("a", 60)
    grants.ask("b", 60)
    grants.ask("c", 10)

    assert grants.leave("b") == [("c", 10)]
    assert grants.lent == 70


@settings(deadline=None)
@given(
    limit=st.integers(0, 100),
    steps=st.lists(st.one_of(st.integers(1, 150), st.sampled_from(["give back", "leave"])), max_size=60),
)
def test_the_bound_holds_and_everybody_is_served(limit: int, steps: list[int | str]) -> None:
    grants: Grants[int] = Grants(limit)
    lent: dict[int, int] = {}
    asked: dict[int, int] = {}
    for number, step in enumerate(steps):
        served: list[tuple[int, int]] = []
        if isinstance(step, int):
            asked[number] = step
            if grants.ask(number, step):
                served = [(number, step)]
        elif step == "give back" and lent:
            served = grants.give_back(lent.pop(next(iter(lent))))
        elif asked:
            last = next(reversed(asked))
            del asked[last]
            served = grants.leave(last)
        for who, size in served:
            assert asked.pop(who) == size
            lent[who] = size
        assert grants.lent == sum(lent.values())
        assert grants.lent <= limit or len(lent) == 1
        assert lent or not asked

    while lent:
        lent.update(grants.give_back(lent.pop(next(iter(lent)))))
    assert not grants.waiting
    assert grants.lent == 0
