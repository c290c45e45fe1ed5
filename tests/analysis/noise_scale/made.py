"""Tables as the probes of the noise scale leave them, made from a finite set of Gaussian gradients of single examples. No training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

DIMENSIONS = 30
EXAMPLES = 400
"""N, of the training set."""
BLOCKS = 8
SPREAD = np.exp(0.5 * np.random.default_rng(1).standard_normal(DIMENSIONS))
MEAN = np.full(DIMENSIONS, 0.12)
TRACE, SQUARE = float((SPREAD**2).sum()), float(MEAN @ MEAN)
"""tr(Sigma) and |G|^2 of the population."""


def data_set(seed: int) -> np.ndarray:
    """Gradients of the training set's examples, [example, dimension], drawn from the population."""
    return MEAN + SPREAD * np.random.default_rng(seed).standard_normal((EXAMPLES, DIMENSIONS))


def probe_rows(run_id: str, update: int, rows: np.ndarray, random: np.random.Generator, size: int, each: int) -> Iterable[dict[str, Any]]:
    """What noise_scale records: micro-batches drawn from the rows with replacement."""
    drawn = rows[random.integers(0, len(rows), (BLOCKS, each, size))].mean(axis=2)
    means = drawn.mean(axis=1)
    products = (means @ means.T)[np.triu_indices(BLOCKS)]
    yield _row(run_id, update, "noise_size", size)
    yield _row(run_id, update, "noise_count", BLOCKS * each)
    yield from (_row(run_id, update, "noise_squares", value, str(i)) for i, value in enumerate((drawn**2).sum(2).mean(1)))
    yield from (_row(run_id, update, "noise_products", value, str(i)) for i, value in enumerate(products))


def stream_rows(
    run_id: str, update: int, rows: np.ndarray, random: np.random.Generator, size: int, count: int, *, cut: bool
) -> Iterable[dict[str, Any]]:
    """What noise_scale_stream records: micro-batches of one batch, which share no example."""
    drawn = rows[random.permutation(len(rows))[: size * count]].reshape(count, size, -1).mean(axis=1)
    mean = float((drawn.mean(axis=0) ** 2).sum())
    yield _row(run_id, update, "noise_stream_count", count)
    yield _row(run_id, update, "noise_stream_squares", float((drawn**2).sum()))
    yield _row(run_id, update, "noise_stream_square_of_mean", mean) if cut else _row(run_id, update, "gradient_norm", mean**0.5)


def loss_rows(run_id: str, last: int, metric: str = "recalibrated_train_loss") -> Iterable[dict[str, Any]]:
    """A train loss of 2 / sqrt(update)."""
    return (_row(run_id, int(update), metric, 2.0 / update**0.5) for update in np.unique(np.geomspace(1, last, 30).astype(int)))


def _row(run_id: str, update: int, metric: str, value: float, layer: str = "") -> dict[str, Any]:
    return {"run_id": run_id, "update": update, "examples": update * 64, "metric": metric, "layer": layer, "value": float(value)}
