from __future__ import annotations

import numpy as np
import pytest

from gapbench.analysis.critical_batch.hyperbola import predict

PROGRESS = 2_000
"""Noise-free updates to the target."""


def noise_at(progress: np.ndarray) -> np.ndarray:
    """A noise scale that grows as training goes on."""
    return 100.0 * np.exp(3.5 * progress / PROGRESS)


def curve(batch_size: float) -> tuple[np.ndarray, np.ndarray]:
    """Real updates and noise scale of a run at a batch size, by the rule that is predicted from: progress 1 takes 1 + noise / B."""
    progress = np.arange(PROGRESS) + 0.5
    noise = noise_at(progress)
    return np.cumsum(1.0 + noise / batch_size), noise


@pytest.mark.parametrize("batch_size", [64.0, 512.0, 4096.0])
def test_identity_the_weighted_mean_recovers_what_the_rule_itself_made(batch_size: float) -> None:
    updates, noise = curve(batch_size)
    found = predict(updates, noise, batch_size, float(updates[-1]))
    truth = float(noise_at(np.arange(PROGRESS) + 0.5).mean())
    assert found.weighted == pytest.approx(truth, rel=0.05)
    assert found.smallest_steps == pytest.approx(PROGRESS, rel=0.05)
    assert found.naive > found.weighted


def test_the_naive_mean_overstates_it_most_at_small_batches() -> None:
    ratios = [(found := predict(*curve(size), size, float(curve(size)[0][-1]))).naive / found.weighted for size in (64.0, 512.0, 4096.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 1.5


def test_a_prediction_counts_only_near_where_it_was_measured() -> None:
    near, far = predict(*curve(512.0), 512.0, 1e4), predict(*curve(16.0), 16.0, 1e4)
    assert near.counts
    assert not far.counts
