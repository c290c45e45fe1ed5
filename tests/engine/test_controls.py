"""Twins and recalibrated headlines."""

import pytest
import torch

from gapbench.core.events import Finished, Measured
from gapbench.suite.runspec import Component
from tests.engine.runs import advance, make_trainer, run

CPU = torch.device("cpu")


@pytest.mark.parametrize(("share", "tolerance"), [(1e-2, 1e-4), (1e-4, 1e-3), (1e-6, 0.2)])
def test_a_twin_begins_so_far_from_the_other(spec, pool, share, tolerance):
    plain = make_trainer([spec()], pool()).network.weights[0].double()
    twin = make_trainer([spec(initial_perturbation=share)], pool()).network.weights[0].double()
    assert float((twin - plain).norm() / plain.norm()) == pytest.approx(share, rel=tolerance)


def test_twins_of_one_seed_are_equal_and_those_of_two_go_different_ways(spec, pool):
    weights = [
        make_trainer([spec(init_seed=seed, initial_perturbation=share)], pool()).network.weights[0].double()
        for seed, share in ((0, 0.0), (0, 1e-2), (0, 1e-2), (1, 0.0), (1, 1e-2))
    ]
    assert torch.equal(weights[1], weights[2])
    assert abs(float(torch.cosine_similarity(weights[1] - weights[0], weights[4] - weights[3], dim=0))) < 0.3


def test_a_twin_trains_in_one_stack_with_the_other_as_it_would_alone(spec, pool):
    specs = [spec(), spec(initial_perturbation=1e-3)]
    stack, alone = make_trainer(specs, pool()), make_trainer(specs[1:], pool())
    advance(5, stack, alone)
    assert torch.allclose(stack.network.weights[1], alone.network.weights[0], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(stack.network.weights[0], stack.network.weights[1], rtol=1e-5, atol=1e-7)


def test_a_recalibrated_headline_is_what_recalibration_says_of_the_same_weights(spec, pool):
    """Few updates, so that running averages lag: both statistics differ, and the weights do not."""
    running, recalibrated = (run([spec(updates=5, headline_statistics=kind)], pool()) for kind in ("running", "recalibrated"))
    values = [
        {
            name: value
            for event in events if isinstance(event, Measured) and event.update == 5
            for name, layer, value in event.values if not layer
        }
        for events in (running, recalibrated)
    ]  # fmt: skip
    assert values[0]["weight_distance"] == values[1]["weight_distance"]
    for name in ("test_loss", "train_loss", "test_accuracy", "train_accuracy"):
        assert values[1][name] == values[1][f"recalibrated_{name}"] == values[0][f"recalibrated_{name}"]
    assert values[0]["test_loss"] != values[1]["test_loss"]
    summary, bits = next((event.summary, event.test_correct) for event in recalibrated if isinstance(event, Finished))
    assert summary["test_loss"] == values[1]["test_loss"]
    right = sum(bin(byte).count("1") for byte in bits)
    assert right == round(60 * summary["test_accuracy"]), "the stored bits are those of the headline"


def test_training_goes_on_with_running_statistics_after_a_recalibrated_evaluation(spec, pool):
    """The running averages themselves are restored: a run evaluated in between ends where one evaluated at the end does."""
    changes = {"updates": 10, "headline_statistics": "recalibrated", "model": Component(name="mlp", options={"widths": [8]})}
    often, seldom = (make_trainer([spec(**changes)], pool()) for _ in range(2))
    for _ in range(10):
        often.step(), seldom.step()
        often.evaluate()
    assert torch.equal(often.network.weights, seldom.network.weights)
    for one, other in zip(often.network.module.buffers(), seldom.network.module.buffers(), strict=True):
        assert torch.equal(one, other)
