"""The landscape experiment where the answer is known: on a quadratic."""

import math

import pytest
import torch
from quadratic_losses import LAYERS, REAL, random_state

from gapbench.core.errors import TrainingError
from gapbench.probes.directions import filter_directions, filters, parameter_count, uniform_directions
from gapbench.probes.landscape import landscape


def taken(drawn, count):
    return torch.stack([next(drawn) for _ in range(count)])


def test_the_spread_of_the_loss_grows_by_gradient_norm_over_root_of_parameters():
    """On a plane, to within the sampling error of 4,000 directions; the predicted slope itself is exact."""
    state = random_state(curved=0.0)
    found = landscape(state, directions=4000, largest_distance=10.0)
    for replica in range(2):
        wanted = state.objective.slope[replica].norm().item() / math.sqrt(108)
        assert found["landscape_slope"][replica].item() == pytest.approx(wanted, rel=1e-6)
        assert found["landscape_gradient_norm"][replica].item() == pytest.approx(wanted * math.sqrt(108), rel=1e-6)
        ratios = (found["landscape_loss/bucket"][replica] - 1.0) / found["landscape_distance/bucket"][replica]
        assert ratios.std().item() == pytest.approx(wanted, rel=4 / math.sqrt(2 * 4000))
        assert ratios.mean().item() == pytest.approx(0.0, abs=4 * wanted / math.sqrt(4000))
        ratios = (found["landscape_filter_loss/bucket"][replica] - 1.0) / found["landscape_distance/bucket"][replica]
        assert ratios.std().item() == pytest.approx(found["landscape_filter_slope"][replica].item(), rel=4 / math.sqrt(2 * 4000))
    assert found["landscape_curvature"].tolist() == [0.0, 0.0]
    assert found["landscape_center"].tolist() == [1.0, 1.0]


def test_the_mean_of_the_loss_rises_by_trace_over_parameters():
    state = random_state(slope=0.0)
    found = landscape(state, directions=2000, largest_distance=3.0, curvature_directions=400)
    for replica in range(2):
        wanted = state.objective.curvature[replica].trace().item() / 108
        error = found["landscape_curvature_error"][replica].item()
        assert found["landscape_curvature"][replica].item() == pytest.approx(wanted, abs=4 * error)
        assert 0 < error < 0.1 * wanted
        rises = 2 * (found["landscape_loss/bucket"][replica] - 1.0) / found["landscape_distance/bucket"][replica] ** 2
        # Close to the weights a rise is lost in the rounding of w + z v.
        rises = rises[found["landscape_distance/bucket"][replica] > 0.1]
        assert rises.mean().item() == pytest.approx(wanted, rel=0.02)


def test_distances_reach_as_far_as_asked_or_a_share_of_the_weights():
    state = random_state()
    found = landscape(state, directions=500, largest_distance=2.0)["landscape_distance/bucket"]
    assert found.shape == (2, 500)
    assert 1.9 < found.max() <= 2.0
    assert found.min() < 0.05
    found = landscape(state, directions=500)["landscape_distance/bucket"]
    assert found.amax(dim=1).tolist() == pytest.approx((0.15 * state.weights.norm(dim=1)).tolist(), rel=0.02)


def test_directions_have_length_one_and_leave_the_padding_alone():
    state = random_state()
    assert parameter_count(state) == 108
    for drawn in (uniform_directions(state, "test"), filter_directions(state, "test")):
        rows = taken(drawn, 5)
        assert rows.norm(dim=2).flatten().tolist() == pytest.approx([1.0] * 10, rel=1e-5)
        padding = torch.ones(128, dtype=torch.bool)
        padding[REAL] = False
        assert rows[:, :, padding].abs().max() == 0
        assert not torch.equal(rows[0], rows[1])


def test_filter_directions_move_each_filter_by_its_share_of_the_weights():
    state = random_state()
    direction = next(filter_directions(state, "test"))
    shares = [
        moved.norm(dim=2) / kept.norm(dim=2) for moved, kept in zip(filters(state, direction), filters(state, state.weights), strict=True)
    ]
    assert [share.shape for share in shares] == [(2, 6), (2, 5)]
    for replica in range(2):
        values = torch.cat([share[replica] for share in shares])
        assert values.tolist() == pytest.approx([values[0].item()] * 11, rel=1e-4)
    vector = LAYERS[1]
    assert direction[:, vector.start : vector.stop].abs().max() == 0  # biases and norm scales do not move


def test_the_floor_is_the_rounding_of_the_weights():
    """Each of 108 weights of size 1 to 2 is rounded by 2^-23 / sqrt(12): known to the factor of 8 samples and of sizes."""
    state = random_state(curved=0.0)
    slope = state.objective.slope.norm(dim=1)
    floor = landscape(state, directions=2)["landscape_floor"]
    assert ((floor > 1e-9 * slope) & (floor < 4e-8 * slope)).all()


def test_one_direction_has_no_spread():
    with pytest.raises(TrainingError, match="at least 2 directions"):
        landscape(random_state(), directions=1)
