"""Every probe against a slow re-computation."""

import math

import pytest
import torch

from gapbench.probes import Columns, TrainState
from gapbench.probes.gradients import batch_metrics, clipping, gradient_norm, learning_rate
from gapbench.probes.weights import weight_distance, weight_norm


@pytest.fixture
def state() -> TrainState:
    torch.manual_seed(0)
    weights, initial = torch.randn(2, 16), torch.randn(2, 16)
    return TrainState(
        update=50,
        batch_size=8,
        weights=weights,
        initial_weights=initial,
        gradients=torch.randn(2, 16),
        gradient_norm=torch.tensor([3.0, 4.0]),
        batch_loss=torch.tensor([0.5, 0.25]),
        batch_correct=torch.tensor([4.0, 6.0]),
        clipped_updates=torch.tensor([5.0, 0.0]),
        learning_rate=torch.tensor([0.1, 0.2]),
        layers=(Columns("a", 0, 5), Columns("b", 5, 16)),
    )


def slow_norm(values: list[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values))


def test_weight_distance_is_the_norm_of_the_difference_whole_and_by_layer(state):
    found = weight_distance(state)
    for replica in range(2):
        difference = (state.weights[replica] - state.initial_weights[replica]).tolist()
        assert found["weight_distance"][replica].item() == pytest.approx(slow_norm(difference), rel=1e-6)
        layers = [slow_norm(difference[layer.start : layer.stop]) for layer in state.layers]
        assert found["weight_distance/layer"][replica].tolist() == pytest.approx(layers, rel=1e-6)
        assert slow_norm(layers) == pytest.approx(found["weight_distance"][replica].item(), rel=1e-6)


def test_weight_norm(state):
    assert weight_norm(state)["weight_norm"].tolist() == pytest.approx([slow_norm(row) for row in state.weights.tolist()], rel=1e-6)


def test_the_others_hand_out_what_the_update_knew(state):
    assert batch_metrics(state)["batch_loss"].tolist() == [0.5, 0.25]
    assert batch_metrics(state)["batch_accuracy"].tolist() == [0.5, 0.75]
    assert gradient_norm(state)["gradient_norm"].tolist() == [3.0, 4.0]
    assert clipping(state)["clipped_share"].tolist() == pytest.approx([0.1, 0.0])
    assert learning_rate(state)["learning_rate"].tolist() == pytest.approx([0.1, 0.2])
