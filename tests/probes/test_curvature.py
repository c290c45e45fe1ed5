"""Sharpness and Hessian probes where the answer is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from quadratic_losses import LAYERS, REAL, random_state, state_of
from torch.func import functional_call, jacrev

from gapbench.probes.hessian import hessian
from gapbench.probes.sharpness import sharpness
from gapbench.suite.runspec import Component
from tests.engine.runs import make_trainer


def diagonal_state(slope, curvature, weight=0.5):
    """Returns a state whose loss is a separable quadratic, the same for all parameters."""
    weights, tilt = torch.zeros(2, 1, 128).unbind()
    weights[:, REAL], tilt[:, REAL] = weight, slope
    bend = torch.zeros(128)
    bend[REAL] = curvature
    return state_of(weights, tilt, torch.diag(bend)[None], LAYERS)


@pytest.mark.parametrize(("slope", "curvature"), [(1.0, 0.0), (-0.3, 2.0)])
def test_sharpness_is_the_maximum_in_the_corner_of_the_box(slope, curvature):
    """Separable and convex: every coordinate goes to the end of the box at which slope and curvature push alike."""
    epsilon = 0.01
    found = sharpness(diagonal_state(slope, curvature), epsilon=epsilon, filter_epsilon=0.1, subspace=3, iterations=20)
    width = epsilon * 1.5
    rise = 108 * (abs(slope) * width + 0.5 * curvature * width**2)
    assert found["sharpness"].item() == pytest.approx(100 * rise / 2.0, rel=1e-5)  # 1 + f(w) = 2
    width = 0.1 * 0.5  # all weights are 0.5, and so is each filter's root mean square; the 8 biases stay
    rise = 100 * (abs(slope) * width + 0.5 * curvature * width**2)
    assert found["sharpness_filter"].item() == pytest.approx(100 * rise / 2.0, rel=1e-5)
    assert found["sharpness_loss"].item() == 1.0


def test_sharpness_in_a_subspace_is_the_maximum_over_its_corners():
    """A convex function is largest in a corner of the box: all 16 of 4 dimensions are tried."""
    from gapbench.probes.directions import column_mask
    from gapbench.probes.sharpness import _basis

    state = random_state(replicas=2, curved=0.1)
    epsilon, objective = 0.01, state.objective
    found = sharpness(state, epsilon=epsilon, subspace=4, iterations=30)
    basis = _basis(state, 4, column_mask(state)).double()
    for replica in range(2):
        inside = torch.linalg.lstsq(basis.T, state.weights[replica].double()[:, None]).solution[:, 0]
        width = epsilon * (inside.abs() + 1)
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 4) * width @ basis
        rises = corners @ objective.slope[replica] + 0.5 * ((corners @ objective.curvature[replica]) * corners).sum(1)
        assert found["sharpness_subspace"][replica].item() == pytest.approx(100 * rises.max().item() / 2.0, rel=1e-4)


def test_sharpness_never_falls_below_zero_and_takes_the_iterations_it_is_given():
    state = diagonal_state(0.0, -1.0)  # a maximum: nothing rises
    assert sharpness(state, subspace=2)["sharpness"].item() == 0.0
    state = random_state(replicas=1)
    few, many = (sharpness(state, subspace=2, iterations=iterations)["sharpness"].item() for iterations in (1, 30))
    assert 0 < few <= many


def test_a_diverged_replica_has_neither_sharpness_nor_curvature():
    state = random_state()
    state.weights[1] = torch.nan
    state.objective.center[0] = state.weights[0].double()
    state.objective.slope[1] = torch.nan
    assert math.isnan(sharpness(state, subspace=2)["sharpness"][1])
    found = hessian(state)
    assert math.isnan(found["hessian_top"][1])
    assert math.isfinite(found["hessian_top"][0])


def test_top_eigenvalue_and_trace_of_a_known_matrix():
    state = random_state(curved=3.0)
    found = hessian(state, tolerance=1e-4, iterations=100, trace_vectors=200)
    for replica in range(2):
        matrix = state.objective.curvature[replica]
        top = torch.linalg.eigvalsh(matrix)[-1].item()
        assert found["hessian_top"][replica].item() == pytest.approx(top, rel=1e-3)
        assert found["hessian_top_residual"][replica] < 1e-3 * top
        assert found["hessian_edge"][replica].item() == pytest.approx(found["hessian_top"][replica].item() * 0.1 / 3.8, rel=1e-6)
        error = found["hessian_trace_error"][replica].item()
        assert found["hessian_trace"][replica].item() == pytest.approx(matrix.trace().item(), abs=4 * error)
        # Random signs: the variance of v H v is twice the sum of squares off the diagonal.
        off = (matrix - torch.diag(matrix.diagonal())).square().sum().item()
        assert error == pytest.approx(math.sqrt(2 * off / 200), rel=0.25)


def test_the_largest_eigenvalue_is_meant_and_not_the_largest_in_size():
    state = diagonal_state(0.0, -5.0)
    state.objective.curvature[0, 3, 3] = 2.0
    found = hessian(state, iterations=100)
    assert found["hessian_top"].item() == pytest.approx(2.0, rel=1e-3)
    assert found["hessian_trace"].item() == pytest.approx(2.0 - 5.0 * 107, rel=1e-5)  # diagonal: exact


def test_an_eigenvalue_that_lanczos_does_not_reach_is_not_recorded():
    state = random_state()
    assert math.isnan(hessian(state, tolerance=1e-12, iterations=1)["hessian_top"][0])


def test_an_optimizer_without_momentum_has_no_such_edge():
    state = random_state()
    state.momentum = None
    assert torch.isnan(hessian(state)["hessian_edge"]).all()


@pytest.mark.parametrize("replicas", [1, 2])
def test_probes_of_a_network_agree_with_its_exact_hessian(spec, pool, replicas):
    """A tiny model whose whole Hessian torch.func can write down."""
    model = Component(name="mlp", options={"widths": [6], "norm": "none", "bias": True})
    data = pool(height=3)
    specs = [spec(model=model, seed=seed) for seed in range(replicas)]
    trainer = make_trainer(specs, data, objective=True)
    for _ in range(10):
        state = trainer.step()
    state = trainer.program._state(10, trainer.spec.batch_size, *[state.batch_loss] * 2, state.gradients)
    network = trainer.network
    batch = state.objective.fixed(60)
    images = trainer.feed.evaluation_batch(batch.indices)
    found = hessian(state, examples=60, tolerance=1e-4, iterations=100, trace_vectors=100)
    for replica in range(replicas):

        def loss(row, replica=replica):
            rows = torch.stack([row if other == replica else network.weights[other] for other in range(replicas)])
            parameters = dict(zip(network.names, network.views(rows), strict=True))
            logits = functional_call(network.module, parameters, (images.images,))[replica]
            return F.cross_entropy(logits.T, images.labels[replica])

        exact = jacrev(jacrev(loss))(network.weights[replica].clone()).double()
        top = torch.linalg.eigvalsh(exact)[-1].item()
        assert found["hessian_top"][replica].item() == pytest.approx(top, rel=1e-3)
        assert found["hessian_trace"][replica].item() == pytest.approx(
            exact.trace().item(), abs=4 * found["hessian_trace_error"][replica].item()
        )
        assert found["hessian_edge"][replica].item() == pytest.approx(top * 0.1 / (2 * 1.9), rel=1e-3)
