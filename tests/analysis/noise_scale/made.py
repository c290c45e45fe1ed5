"""Tables as the probes of the noise scale leave them, made from a finite set of Gaussian gradients of single examples. No training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from gapbench.analysis.frames import Study
from gapbench.analysis.noise_scale import study
from tests.analysis import synthetic

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


def made_study(*, probed: tuple[int, ...] = (64, 256), seeds: int = 1, rates: tuple[float, ...] = (0.1,), mean: float = 1.0) -> Study:
    """Cells of batch sizes 64 and 256 at every rate, all streamed, those of `probed` also probed at three updates.

    The mean gradient of the data set is taken `mean` times.
    """
    random = np.random.default_rng(0)
    rows, curves = [], []
    for order, size in enumerate((64, 256)):
        for rate, seed in itertools.product(rates, range(seeds)):
            data = data_set(seed)
            data = data + (mean - 1.0) * data.mean(axis=0)
            name = f"B {size}" + (f", rate {rate}" if len(rates) > 1 else "")
            fields = {"batch_size": size, "learning_rate": rate, "reference_cell": order == 0, "cell_order": order, "train_examples": 400}
            rows.append(synthetic.run_row(name, seed, **fields))
            run_id = rows[-1]["run_id"]
            for update in (0, 10, 100) if size in probed else ():
                curves += probe_rows(run_id, update, data, random, 8, 64)
            for update in range(1, 17):
                curves += stream_rows(run_id, update, data, random, size // 4, 4, cut=True)
            curves += loss_rows(run_id, 100)
    return study("made", *synthetic.tables(rows, curves))


def _row(run_id: str, update: int, metric: str, value: float, layer: str = "") -> dict[str, Any]:
    return {"run_id": run_id, "update": update, "examples": update * 64, "metric": metric, "layer": layer, "value": float(value)}
