"""The table says what was measured, what can be claimed of it, and what was not measured."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.bench.cases import KINDS, Comparison
from gapbench.bench.compare import write_outputs
from gapbench.bench.records import Records
from gapbench.bench.summary import (
    CSV_COLUMNS,
    Ratio,
    bench_csv,
    bench_markdown,
    goals_of,
    median_ratio,
    ratio_of_medians,
    ratio_text,
    spread,
    summarize,
)


@pytest.fixture
def report(tmp_path, case):
    def make(*rounds, of=case, reasons=()):
        with Records.open(tmp_path) as kept:
            for timings in rounds:
                kept.add_round(timings)
            return summarize(kept.table, dict(reasons), {of.name: of})

    return make


def test_ours_is_held_against_the_fastest_rival(report, timings):
    first, second = report(*(timings(number, [30, 10, 12, 30]) for number in range(3))).rows
    assert first.what == "ours / quick"
    assert first.ratio.estimate == pytest.approx(2.5)
    assert first.verdict == "reached"
    assert (first.rounds, first.spread) == (3, 0.0)
    assert first.side.share_of_peak == pytest.approx(30 * 1e6 / 1e9)
    assert first.side.cores_busy == pytest.approx(1.5)
    assert second.what == "ours / slow"
    assert second.ratio.estimate == pytest.approx(1 / 3)  # seconds of ours, of those of theirs


@pytest.mark.parametrize(
    ("speeds", "goal", "kind", "verdict"),
    [
        ([[30, 10], [31, 10], [30, 10]], 2.5, "speedup", "reached"),
        ([[20, 10], [31, 10], [20, 10], [31, 10]], 2.5, "speedup", "open"),
        ([[20, 10], [21, 10], [20, 10]], 2.5, "speedup", "short"),
        ([[99, 100], [99, 100]], 1.03, "cost", "reached"),
        ([[90, 100], [91, 100]], 1.03, "cost", "short"),
        ([[10, 10], [10, 10]], None, "speedup", "within A/A"),
        ([[20, 10], [20, 10]], None, "speedup", ""),
        ([[20, 10]], 1.5, "speedup", "reached"),
    ],
)
def test_a_verdict_needs_the_whole_interval(report, case, timings, speeds, goal, kind, verdict):
    one = replace(case, comparisons=(Comparison("ours", ("slow",), goal, kind),))
    rounds = [timings(number, [ours, slow, 1, ours]) for number, (ours, slow) in enumerate(speeds)]
    (row,) = report(*rounds, of=one).rows
    assert row.verdict == verdict


@pytest.mark.parametrize(
    ("predicted", "verdict"),
    [
        ([10.0, 10.5, 10.2], "reached"),
        ([12.0, 12.1, 12.4], "short"),  # seconds predicted: 10 / 12 of those it took
        ([8.0, 8.1, 8.2], "short"),
        ([11.0, 12.5, 11.0, 12.5], "open"),
    ],
)
def test_a_prediction_agrees_where_it_is_neither_too_long_nor_too_short(report, case, timings, predicted, verdict):
    one = replace(case, comparisons=(Comparison("ours", ("slow",), 0.15, "agreement"),))
    rounds = [timings(number, [speed, 10, 1, speed], first_update_seconds=None) for number, speed in enumerate(predicted)]
    (row,) = report(*rounds, of=one).rows
    assert row.verdict == verdict
    assert goals_of(one) == ("ours / slow within 15 % in seconds",)
    assert KINDS["agreement"].bounds(0.15) == pytest.approx((0.85, 1.15))
    assert row.side.first_update_seconds is None


def test_no_difference_below_the_spread_is_claimed(report, case, timings):
    """Two timings of ours differ by 5 %: 2.05 is then no more than 2."""
    one = replace(case, comparisons=(Comparison("ours", ("slow",), 2.0),))
    (row,) = report(*(timings(number, [20.5, 10, 1, 21.5]) for number in range(4)), of=one).rows
    assert row.spread == pytest.approx(1 / 20.5)
    assert row.verdict == "open"


def test_the_newest_group_of_a_machine_counts_and_older_rounds_stay(report, timings):
    old = timings(0, [30, 10, 12, 30], group="old", at="2026-01-01T00:00:00+00:00")
    new = timings(0, [60, 10, 12, 60], group="new", at="2026-01-02T00:00:00+00:00")
    elsewhere = timings(0, [90, 10, 12, 90], group="elsewhere", machine="Another")
    found = report(old, new, elsewhere)
    assert [(row.machine, row.ratio.estimate) for row in found.rows[::2]] == [("Another", 7.5), ("Some Processor, 2 cores", 5.0)]


def test_rounds_of_a_loaded_machine_give_way_to_those_of_a_quiet_one(report, timings):
    loaded = timings(0, [30, 10, 12, 30], loaded=True, load_cores=1.7)
    found = report(loaded)
    assert found.rows[0].loaded
    assert found.notes == ("tiny: timed on a loaded machine (up to 1.7 cores in use by others); not to be quoted",)
    found = report(timings(1, [60, 10, 12, 60]))
    assert not found.rows[0].loaded
    assert (found.rows[0].rounds, found.rows[0].ratio.estimate, found.notes) == (1, 5.0, ())


def test_half_a_round_is_no_round(report, timings):
    assert report(timings(0, [30, 10, 12, 30])[:2]).rows == ()


def test_a_share_is_of_what_peak_and_bandwidth_allow(report, case, timings):
    one = replace(case, comparisons=(Comparison("ours", (), 0.45, "share"),))
    more = {"bytes_per_example": 10.0, "peak_bytes_per_second": 600.0}
    (row,) = report(*(timings(number, [30, 10, 12, 30], **more) for number in range(2)), of=one).rows
    assert row.ratio.estimate == pytest.approx(0.5)  # 1000 images/s by arithmetic, 60 by bandwidth
    assert row.side.share_of_roofline == pytest.approx(0.5)
    assert row.what == "ours / roofline"
    assert row.verdict == "reached"


def test_clocks_that_disagree_are_noted(report, timings):
    assert report(timings(0, [30, 10, 12, 30], event_seconds=1.9)).notes == ("tiny: CUDA's clock and the host's differ by up to 5.0%",)


def test_what_was_not_measured_stands_with_its_goals_and_the_reason(report):
    found = report(reasons={"tiny": "no CUDA device here"})
    assert found.rows == ()
    assert found.missing[0].reason == "no CUDA device here"
    text = bench_markdown(found)
    assert "| tiny | a tiny case | ours / the best of 2 >= 2; ours / slow <= 1.05 in seconds | no CUDA device here |" in text
    assert bench_csv(found).splitlines() == [",".join(CSV_COLUMNS)]


def test_the_tables_hold_every_number(report, timings):
    found = report(*(timings(number, [30, 10, 12, 30]) for number in range(3)))
    rows = list(csv.DictReader(io.StringIO(bench_csv(found))))
    assert [float(row["ratio"]) for row in rows] == pytest.approx([2.5, 1 / 3])
    assert rows[0]["against"] == "quick"
    text = bench_markdown(found)
    assert "| a tiny case | ours / quick | 30 / 12 | 2.50 [2.50, 2.50] | >= 2 | reached | 3 | 0.0 % | 3.0 % | 0.5 / 0.5 | eager |" in text
    assert "Not measured here" not in text


def test_table_and_figure_are_functions_of_the_timings(report, timings, tmp_path):
    found = report(*(timings(number, [30 + number, 10, 12, 30]) for number in range(3)))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_outputs(tmp_path / folder, found)
    for name in ("bench.md", "bench.csv", "bench.svg", "bench.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("ratio", "kind", "text"),
    [
        (Ratio(3.123, 2.98, 3.2), "speedup", "3.12 [2.98, 3.20]"),
        (Ratio(1.0123, None, None), "cost", "1.012"),
        (Ratio(0.471, 0.46, 0.482), "share", "47.1 % [46.0, 48.2]"),
        (Ratio(228.05, 220.1, 235.5), "speedup", "228 [220, 236]"),
    ],
)
def test_ratios_read_well(ratio, kind, text):
    assert ratio_text(ratio, kind) == text


SPEEDS = st.floats(0.1, 1e6)


def every_resample(above, below):
    """The slow oracle: the ratio of medians of all n^n equally likely resamples of n rounds, one after another."""
    resamples = itertools.product(range(len(above)), repeat=len(above))
    return np.sort([np.median([above[i] for i in drawn]) / np.median([below[i] for i in drawn]) for drawn in resamples])


@pytest.mark.parametrize("seed", range(5))
def test_the_bootstrap_interval_is_that_of_all_resamples(seed):
    generator = np.random.default_rng(seed)
    above, below = generator.lognormal(1.0, 0.2, (2, 5))
    ratio = ratio_of_medians(above.tolist(), below.tolist())
    ratios = every_resample(above, below)
    assert ratio.estimate == pytest.approx(np.median(above) / np.median(below))
    for found, share in ((ratio.low, 0.025), (ratio.high, 0.975)):
        # Ratios are few and lumpy, so the quantile is looked for within one percent of the resamples.
        assert np.quantile(ratios, max(0.0, share - 0.01)) <= found <= np.quantile(ratios, min(1.0, share + 0.01))


def test_a_slow_minute_that_hits_both_sides_leaves_the_ratio():
    ratio = ratio_of_medians([10.0, 5.0, 10.0, 2.0, 10.0], [2.0, 1.0, 2.0, 0.4, 2.0])
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((5.0, 5.0, 5.0))


def test_one_round_has_no_interval():
    ratio = ratio_of_medians([6.0], [2.0])
    assert (ratio.estimate, ratio.low, ratio.high) == (3.0, None, None)
    assert spread([1.0], [1.1]) is None


@given(st.lists(st.tuples(SPEEDS, SPEEDS), min_size=2, max_size=7))
def test_the_interval_lies_within_what_rounds_allow(pairs):
    above, below = zip(*pairs, strict=True)
    ratio = ratio_of_medians(above, below)
    least, most = min(above) / max(below), max(above) / min(below)
    assert least * (1 - 1e-9) <= ratio.low <= ratio.high <= most * (1 + 1e-9)


def test_the_spread_is_the_far_end_of_the_interval_of_equal_things():
    first, second = [100.0, 100.0, 100.0], [104.0, 100.0, 98.0]
    ratio = ratio_of_medians(second, first)
    assert spread(first, second) == pytest.approx(max(abs(ratio.low - 1), abs(ratio.high - 1))) == pytest.approx(0.04)
    assert spread(first, first) == 0.0


def test_sides_of_different_rounds_are_refused():
    with pytest.raises(ValueError, match="as many numerators as denominators, not 2 and 1"):
        ratio_of_medians([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="not 0 and 0"):
        ratio_of_medians([], [])


def test_rounds_of_sides_in_turns_are_compared_one_by_one():
    slow_minutes = [1.0, 2.0, 5.0, 9.0]
    with_it = [1.02 * minute for minute in slow_minutes]
    ratio = median_ratio(with_it, slow_minutes)
    assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx((1.02, 1.02, 1.02))
    assert spread(with_it, slow_minutes, median_ratio) == pytest.approx(1.0 - 1 / 1.02)
