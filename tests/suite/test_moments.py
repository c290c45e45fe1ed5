"""When probes and evaluations happen."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gapbench.suite.batches import evaluation_fractions, evaluation_updates, keep_updates, late_evaluations, probe_updates, uniform


@given(st.integers(1, 200_000))
def test_probes_are_log_spaced_about_twenty_a_decade_and_end_with_the_run(updates):
    points = sorted(probe_updates(updates))
    assert points[0] >= 1
    assert points[-1] == updates
    decade = [point for point in points if 1000 <= point < 10_000]
    if updates >= 20_000:
        assert 18 <= len(decade) <= 22


@given(st.integers(1, 60), st.integers(1, 50_000))
def test_evaluations_end_with_the_run_and_are_no_more_than_asked(evaluations, updates):
    points = evaluation_updates(uniform(20, updates), evaluations)
    assert points[-1] == updates
    assert points[0] >= 1
    assert len(points) <= evaluations
    assert list(points) == sorted(set(points))


@given(st.integers(6, 60), st.integers(100, 50_000))
def test_five_evaluations_lie_in_the_last_five_percent(evaluations, updates):
    assert sum(point >= 0.955 * updates for point in evaluation_updates(uniform(20, updates), evaluations)) == 5


def test_runs_of_different_length_are_evaluated_at_the_same_fractions():
    assert evaluation_fractions(20) == evaluation_fractions(20)
    short, long = (evaluation_updates(uniform(20, updates), 20) for updates in (1000, 100_000))
    assert [point / 1000 for point in short] == [round(point / 100_000, 3) for point in long]


def test_fewer_than_a_hundred_updates_have_one_last_evaluation():
    assert [point for point in evaluation_updates(uniform(20, 52), 20) if point > 0.95 * 52] == [52]


def test_weights_are_kept_at_fractions_of_the_updates():
    assert keep_updates(uniform(20, 52), (0.0, 0.5, 1.0)) == {0: 0.0, 26: 0.5, 52: 1.0}


def test_late_evaluations_are_those_in_the_last_five_percent():
    for updates in (40, 99, 100, 101, 1687):
        assert sum(update > 0.95 * updates for update in evaluation_updates(uniform(16, updates), 20)) == late_evaluations(updates, 20)
    assert late_evaluations(1000, 3) == 3


@given(st.integers(1, 400_000))
def test_probes_are_numpys_geometric_spacing(updates):
    points = max(2, math.ceil(20 * math.log10(max(updates, 2))) + 1)
    assert probe_updates(updates) == {int(update) for update in np.rint(np.geomspace(1, updates, points))}
