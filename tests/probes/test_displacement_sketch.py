"""The sketch against exact vectors: unbiased, with the error that is claimed, the same for every run of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gapbench.analysis.diffusion.walks import decompose
from gapbench.core.hashing import stream
from gapbench.probes import Columns, TrainState
from gapbench.probes.weights import BUCKETS, PURPOSE, displacement_sketch, weight_cosine

LAYERS = (Columns("0.weight", 0, 3000), Columns("0.bias", 3008, 3072), Columns("1.weight", 3072, 5000))
WIDTH = 5008


def state(displacement, layers=LAYERS, initial=None):
    initial = torch.zeros_like(displacement) if initial is None else initial
    ones = torch.ones(len(displacement))
    return TrainState(1, 8, initial + displacement, initial, displacement, ones, ones, ones, ones, ones, layers)


def vectors(count, seed=0):
    """Random displacements, zero between the layers as the flat rows are."""
    rows = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    rows[:, 3000:3008] = rows[:, 5000:] = 0
    return rows


def sketch(rows, layers=LAYERS):
    return displacement_sketch(state(rows, layers))["displacement_sketch/bucket"]


def test_every_parameter_is_in_one_bucket_with_its_sign():
    rows = vectors(2)
    expected = np.zeros((2, BUCKETS))
    for layer in LAYERS:
        for place in range(layer.stop - layer.start):
            word = stream(0, f"{PURPOSE} {layer.name}").at(0, place)
            sign = 1 - 2 * (word // BUCKETS % 2)
            expected[:, word % BUCKETS] += sign * rows[:, layer.start + place].double().numpy()
    assert sketch(rows).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_squared_norms_and_inner_products_are_unbiased_with_an_error_of_sqrt_2_over_256():
    rows = vectors(600)
    short = sketch(rows).double()
    exact, found = rows.double().square().sum(1), short.square().sum(1)
    assert float((found / exact).mean()) == pytest.approx(1, abs=0.02)
    assert float((found / exact).std()) == pytest.approx((2 / BUCKETS) ** 0.5, rel=0.15)
    pairs = (rows[::2].double() * rows[1::2]).sum(1), (short[::2] * short[1::2]).sum(1)
    error = (pairs[1] - pairs[0]) / (exact[::2] * exact[1::2]).sqrt()
    assert float(error.mean()) == pytest.approx(0, abs=0.02)
    assert float(error.std()) < 1.15 * (2 / BUCKETS) ** 0.5


def test_the_spread_of_eight_orders_is_known_to_a_few_percent_and_the_claimed_error_is_right():
    ratios, claimed = [], []
    for seed in range(60):
        rows = 3 * vectors(1, seed=1000 + seed) + vectors(8, seed=seed)  # a drift that is larger than the spread
        exact = float((rows - rows.mean(0)).square().sum()) / 7
        found = decompose(np.array([1.0]), rows.norm(dim=1)[:, None].double().numpy(), sketch(rows).double().numpy()[:, None])
        ratios.append(np.exp(2 * found.logs["spread"].value[0]) / exact)
        claimed.append(found.sketch_share)
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)
    assert np.std(ratios) == pytest.approx(np.mean(claimed), rel=0.35)
    assert np.mean(claimed) == pytest.approx((2 / BUCKETS / 7) ** 0.5, rel=0.1)


def test_where_a_layer_lies_in_the_rows_does_not_matter():
    """Sparing biases from decay moves them behind the matrices; runs with and without decay are still comparable."""
    rows = vectors(1)
    moved = torch.cat([rows[:, :3008], rows[:, 3072:], rows[:, 3008:3072]], dim=1)
    layers = (LAYERS[0], Columns("1.weight", 3008, 4936), Columns("0.bias", 4944, 5008))
    assert torch.allclose(sketch(moved, layers), sketch(rows), atol=1e-4)


def test_the_cosine_is_that_of_the_angle_to_the_initial_weights():
    initial, rows = vectors(2, seed=5), vectors(2, seed=6)
    found = weight_cosine(state(rows, initial=initial))["weight_cosine"]
    weights = (initial + rows).double()
    expected = (weights * initial).sum(1) / (weights.norm(dim=1) * initial.double().norm(dim=1))
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
