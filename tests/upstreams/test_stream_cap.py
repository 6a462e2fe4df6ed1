"""How many streams a peer has room for: what it says, and less for a moment after it turned one away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.upstreams.pool_bench import run

from silence_gateway.testing.clock import FakeClock
from silence_gateway.upstreams.stream_cap import PATIENCE_S, StreamCap

SAID = 100


def test_who_was_turned_away_goes_on_with_what_there_is_room_for_and_half_of_the_rest_is_tried_again() -> (
    None
):
    async def scenario() -> None:
        clock, caps = FakeClock(), list[int]()
        cap = StreamCap(SAID, clock, caps.append)
        cap.turned_away(40)
        for _ in range(9):
            await clock.advance(PATIENCE_S)
        assert caps == [40, 70, 85, 93, 97, 99, 100]

    run(scenario)


def test_one_stream_is_always_tried_where_the_peer_says_one() -> None:
    async def scenario() -> None:
        caps = list[int]()
        StreamCap(1, FakeClock(), caps.append).turned_away(0)
        StreamCap(0, FakeClock(), caps.append).turned_away(0)
        assert caps == [1, 0]

    run(scenario)


def test_a_new_word_of_the_peer_counts_at_once_and_is_final() -> None:
    async def scenario() -> None:
        clock, caps = FakeClock(), list[int]()
        cap = StreamCap(SAID, clock, caps.append)
        cap.turned_away(10)
        cap.say(30)
        await clock.advance(10 * PATIENCE_S)
        assert caps == [10, 30]

    run(scenario)


def test_a_connection_that_has_ended_holds_no_timer() -> None:
    async def scenario() -> None:
        clock, caps = FakeClock(), list[int]()
        cap = StreamCap(SAID, clock, caps.append)
        cap.turned_away(10)
        cap.stop()
        await clock.advance(10 * PATIENCE_S)
        assert caps == [10]

    run(scenario)


@given(
    st.integers(0, 200),
    st.lists(st.tuples(st.sampled_from(("turned away", "says", "waits")), st.integers(0, 200))),
)
def test_whatever_happens_the_cap_is_never_above_what_the_peer_says_and_comes_back_to_it(
    said: int, happenings: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        clock, caps = FakeClock(), [said]
        cap = StreamCap(said, clock, caps.append)
        for what, number in happenings:
            if what == "says":
                cap.say(number)
            elif what == "turned away":
                cap.turned_away(min(number, caps[-1]))
            else:
                await clock.advance(number * PATIENCE_S / 100)
            assert min(1, cap.said) <= caps[-1] <= cap.said
        await clock.advance(PATIENCE_S * 20)
        assert caps[-1] == cap.said

    run(scenario)
