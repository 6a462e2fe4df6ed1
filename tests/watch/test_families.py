"""Metric families are written as Prometheus reads them, and several workers' become one."""

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.histogram import BOUNDS_S, Histogram
from silence_gateway.watch.families import (
    MAX_SERIES,
    Family,
    Sample,
    as_json,
    from_json,
    histogram_sample,
    merged,
    render,
)


def sample_of(histogram: Histogram) -> Sample:
    return histogram_sample(histogram.counts, histogram.sum_s, (("kind", "test"),))


def counter(value: float, route: str = "/a", merging: str = "sum") -> Family:
    return Family("hits_total", "counter", "Hits.", (Sample((("route", route),), value),), merging)  # type: ignore[arg-type]


def test_a_counter_is_written_with_its_help_and_type() -> None:
    assert (
        render([counter(3)])
        == b'# HELP hits_total Hits.\n# TYPE hits_total counter\nhits_total{route="/a"} 3\n'
    )


def test_a_label_value_cannot_break_out_of_its_quotes() -> None:
    text = render([counter(1, 'a"b\\c\nd')]).decode()

    assert 'hits_total{route="a\\"b\\\\c\\nd"} 1' in text
    assert len(text.splitlines()) == 3


def test_a_histogram_counts_upwards_to_infinity() -> None:
    histogram = Histogram()
    for seconds in (0.00005, 0.003, 0.003, 99.0):
        histogram.add(seconds)

    text = render([Family("took_seconds", "histogram", "Took.", (sample_of(histogram),))]).decode()

    assert 'took_seconds_bucket{kind="test",le="0.0001"} 1' in text
    assert 'took_seconds_bucket{kind="test",le="0.005"} 3' in text
    assert 'took_seconds_bucket{kind="test",le="+Inf"} 4' in text
    assert 'took_seconds_count{kind="test"} 4' in text


def test_workers_add_up_and_a_state_is_the_worst() -> None:
    both = merged([[counter(1), counter(5, "/b")], [counter(2)]])

    assert {sample.labels: sample.value for sample in both[0].samples} == {
        (("route", "/a"),): 3,
        (("route", "/b"),): 5,
    }
    assert merged([[counter(0, merging="max")], [counter(1, merging="max")]])[0].samples[0].value == 1
    assert merged([[counter(0, merging="min")], [counter(1, merging="min")]])[0].samples[0].value == 0


def test_too_many_series_are_cut_and_said() -> None:
    family = Family("x", "gauge", "X.", tuple(Sample((("n", str(n)),), n) for n in range(MAX_SERIES + 7)))

    text = render([family]).decode()

    assert text.count("\nx{") == MAX_SERIES
    assert "# x: 7 series left out" in text


@given(
    st.lists(st.floats(min_value=0, max_value=1e6), max_size=30),
    st.lists(st.floats(min_value=0, max_value=1e6), max_size=30),
)
def test_merged_histograms_are_the_histogram_of_both(one: list[float], two: list[float]) -> None:
    parts, whole = (Histogram(), Histogram()), Histogram()
    for part, values in zip(parts, (one, two), strict=True):
        for value in values:
            part.add(value)
            whole.add(value)

    families = [[Family("h", "histogram", "", (sample_of(part),))] for part in parts]

    assert merged(families)[0].samples[0].buckets == sample_of(whole).buckets
    assert len(whole.counts) == len(BOUNDS_S) + 1


def test_families_survive_the_way_to_the_supervisor() -> None:
    histogram = Histogram()
    histogram.add(0.2)
    families = [counter(1.5), Family("h", "histogram", "H.", (sample_of(histogram),))]

    assert from_json(as_json(families)) == families
