"""Means over seeds whose updates differ, as those of batches that follow the noise scale do."""

import numpy as np
import pytest

from gapbench.analysis.curves import Curve, at_equal_examples, band


def curve(updates: list[float], examples: list[float], values: list[float]) -> Curve:
    return Curve(np.array(updates, dtype=float), np.array(values, dtype=float), np.array(examples, dtype=float))


def test_seeds_with_different_updates_are_averaged_at_equal_examples() -> None:
    one = curve([1, 10, 40], [10, 100, 400], [1.0, 0.5, 0.1])
    other = curve([1, 8, 25], [10, 110, 400], [2.0, 0.7, 0.3])
    assert (found := band([one, other])) is not None
    assert list(found.updates) == [1]  # what they share
    aligned = at_equal_examples([one, other])
    assert (found := band(aligned)) is not None
    assert list(found.updates) == pytest.approx([1, (10 + 1 + 7 * 0.9) / 2, 32.5])
    assert list(found.mean) == pytest.approx([1.5, (0.5 + 2.0 - 1.3 * 0.9) / 2, 0.2])
    logarithmic = at_equal_examples([one, other], logarithmic=True)[1].values
    assert logarithmic[1] == pytest.approx(2.0**0.1 * 0.7**0.9)


def test_one_run_and_runs_without_examples_stay_as_they_are() -> None:
    one, without = curve([1, 2], [8, 16], [1, 2]), Curve(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert at_equal_examples([one]) == [one]
    assert at_equal_examples([one, without]) == [one, without]
