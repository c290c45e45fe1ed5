"""How far the weighted prediction is off where its assumption, the best rate at every update, does not hold: reported, not bounded.

The table stands in golden_quadratic.md; write it anew with `python -m pytest tests/analysis/critical_batch/test_quadratic.py` after
deleting it, and look at what changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapbench.analysis.critical_batch.hyperbola import Hyperbola, Predicted, fit_hyperbola, predict
from tests.analysis.critical_batch import quadratic

GOLDEN = Path(__file__).with_name("golden_quadratic.md")


@pytest.fixture(scope="module")
def tuned() -> list[Any]:
    """The best constant rate of every batch size."""
    return [quadratic.best_of(size) for size in quadratic.SIZES]


@pytest.fixture(scope="module")
def fit(tuned: list[Any]) -> Hyperbola:
    return fit_hyperbola([one.batch_size for one in tuned], [one.steps for one in tuned])


def test_the_closed_form_is_the_recursion_and_what_sampled_runs_do_on_average() -> None:
    rate, size, updates = 0.3, 32, 40
    squares = quadratic.START.copy()
    random = np.random.default_rng(0)
    weights = np.ones((20_000, len(squares)))
    for _ in range(updates):
        squares = (1 - rate * quadratic.CURVATURES) ** 2 * squares + rate**2 * quadratic.NOISE / size
        noise = np.sqrt(quadratic.NOISE / size) * random.standard_normal(weights.shape)
        weights -= rate * (quadratic.CURVATURES * weights + noise)
    assert quadratic.at(np.array([updates]), rate, size)[0] == pytest.approx(squares, rel=1e-10)
    sampled = 0.5 * (weights**2 @ quadratic.CURVATURES)
    assert abs(sampled.mean() - quadratic.loss(squares)) < 4 * sampled.std() / np.sqrt(len(sampled))


def test_steps_are_counted_to_the_first_update_at_the_target() -> None:
    steps = int(quadratic.steps_at(0.3, 512))
    before, there = (quadratic.loss(squares) for squares in quadratic.at(np.array([steps - 1, steps]), 0.3, 512))
    assert there <= quadratic.TARGET * quadratic.loss(quadratic.START) < before
    assert quadratic.steps_at(0.9, 1) == np.inf  # the noise alone keeps it above


def test_the_best_rates_lie_inside_and_their_steps_are_a_hyperbola(tuned: list[Any], fit: Hyperbola) -> None:
    assert all(1e-3 < one.rate < 1.95 for one in tuned)
    assert [one.rate for one in tuned] == sorted(one.rate for one in tuned)
    for one in tuned:
        assert min(quadratic.steps_at(min(1.95, one.rate * factor), one.batch_size) for factor in (0.8, 1.25)) >= one.steps
    assert not fit.extrapolated
    assert fit.residual < 0.1


def test_the_error_of_the_prediction_is_reported(tuned: list[Any], fit: Hyperbola) -> None:
    found = [predict(*quadratic.noise_scales(one), one.batch_size, one.steps) for one in tuned]
    text = table(tuned, fit, found)
    if not GOLDEN.exists():
        GOLDEN.write_text(text, encoding="utf-8")
        pytest.fail(f"{GOLDEN.name} was not there and has been written; look at it")
    assert text == GOLDEN.read_text(encoding="utf-8")
    print(text)


def table(tuned: list[Any], fit: Hyperbola, found: list[Predicted]) -> str:
    critical = fit.critical_batch
    lines = [
        "# A noisy quadratic with the best constant rate of every batch size",
        f"The hyperbola of its steps has a critical batch size of {critical.value:.0f} (95 % interval {critical.low:.0f} to "
        f"{critical.high:.0f}). Predicted from the noise scale on the way of one batch size, in multiples of that:",
        "| batch size | best rate | updates | weighted | naive | counts (within a factor 4) |\n|---:|---:|---:|---:|---:|---|",
    ]
    rows = [
        f"| {one.batch_size:,} | {one.rate:.2g} | {one.steps:,} | {own.weighted / critical.value:.1f} | {own.naive / critical.value:.1f} | "
        f"{'yes' if own.counts else 'no'} |"
        for one, own in zip(tuned, found, strict=True)
    ]
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + "\n"
