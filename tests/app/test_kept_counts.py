"""The totals of workers that come and go never fall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app.kept_counts import KeptCounts
from silence_gateway.watch.families import Family, Sample, histogram_sample, merged


def said(requests: int, connections: int = 0) -> list[Family]:
    return [
        Family("requests", "counter", "", (Sample((("route", "/x"),), requests),)),
        Family("connections", "gauge", "", (Sample((), connections),)),
        Family("seconds", "histogram", "", (histogram_sample([requests] + [0] * 19, 0.5 * requests),)),
    ]


def totals(kept: KeptCounts, answers: dict[str, list[Family]], running: set[str]) -> dict[str, float]:
    families = merged(kept.with_all(answers, running))
    return {family.name: sum(sample.value for sample in family.samples) for family in families}


def test_what_a_dead_worker_counted_stays_and_what_it_held_does_not() -> None:
    kept = KeptCounts()
    assert totals(kept, {"0/7": said(30, 3), "1/8": said(10, 1)}, {"0/7", "1/8"}) == {
        "requests": 40, "connections": 4, "seconds": 20,
    }  # fmt: skip

    assert totals(kept, {"0/9": said(0, 1), "1/8": said(11, 1)}, {"0/9", "1/8"}) == {
        "requests": 41, "connections": 2, "seconds": 20.5,
    }  # fmt: skip


def test_a_worker_that_does_not_answer_is_not_forgotten_meanwhile() -> None:
    kept = KeptCounts()
    totals(kept, {"0/7": said(30, 3), "1/8": said(10, 1)}, {"0/7", "1/8"})

    assert totals(kept, {"1/8": said(12, 1)}, {"0/7", "1/8"})["requests"] == 42
    assert totals(kept, {"0/7": said(31, 3), "1/8": said(12, 1)}, {"0/7", "1/8"})["requests"] == 43


workers = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 5), max_size=4)


@given(st.lists(st.tuples(workers, st.sets(st.sampled_from(["a", "b", "c", "d"])))))
def test_no_total_ever_falls(steps: list[tuple[dict[str, int], set[str]]]) -> None:
    """Whoever dies, is silent, or counts on, in whatever order."""
    kept, counted, ended = KeptCounts(), dict[str, int](), set[str]()
    before = 0.0
    for more, gone in steps:
        ended |= gone
        answers = {}
        for name, count in more.items():
            if name not in ended:
                counted[name] = counted.get(name, 0) + count
                answers[name] = said(counted[name])
        now = totals(kept, answers, set(counted) - ended).get("requests", 0.0)
        assert now >= before
        before = now
