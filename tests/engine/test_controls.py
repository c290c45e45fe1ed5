"""Twins and recalibrated headlines."""

import pytest
import torch

from gapbench.core.events import Finished, Measured
from gapbench.engine.trainer import Trainer
from gapbench.suite.runspec import Component
from tests.engine.runs import run

CPU = torch.device("cpu")


def trainer_of(specs, pool, split):
    return Trainer(specs, pool, [split(pool)] * len(specs), device=CPU, emit=lambda event: None)


@pytest.mark.parametrize(("share", "tolerance"), [(1e-2, 1e-4), (1e-4, 1e-3), (1e-6, 0.2)])
def test_a_twin_begins_so_far_from_the_other(spec, pool, split, share, tolerance):
    plain = trainer_of([spec()], pool(), split).network.weights[0].double()
    twin = trainer_of([spec(initial_perturbation=share)], pool(), split).network.weights[0].double()
    assert float((twin - plain).norm() / plain.norm()) == pytest.approx(share, rel=tolerance)


def test_twins_of_one_seed_are_equal_and_those_of_two_go_different_ways(spec, pool, split):
    weights = [
        trainer_of([spec(init_seed=seed, initial_perturbation=share)], pool(), split).network.weights[0].double()
        for seed, share in ((0, 0.0), (0, 1e-2), (0, 1e-2), (1, 0.0), (1, 1e-2))
    ]
    assert torch.equal(weights[1], weights[2])
    assert abs(float(torch.cosine_similarity(weights[1] - weights[0], weights[4] - weights[3], dim=0))) < 0.3


def test_a_twin_trains_in_one_stack_with_the_other_as_it_would_alone(spec, pool, split):
    specs = [spec(), spec(initial_perturbation=1e-3)]
    stack, alone = trainer_of(specs, pool(), split), trainer_of(specs[1:], pool(), split)
    for _ in range(5):
        stack.step(), alone.step()
    assert torch.allclose(stack.network.weights[1], alone.network.weights[0], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(stack.network.weights[0], stack.network.weights[1], rtol=1e-5, atol=1e-7)


def test_a_recalibrated_headline_is_what_recalibration_says_of_the_same_weights(spec, pool, split):
    """Few updates, so that running averages lag: both statistics differ, and the weights do not."""
    running, recalibrated = (
        run([spec(updates=5, headline_statistics=kind)], pool(), [split(pool())]) for kind in ("running", "recalibrated")
    )
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


def test_training_goes_on_with_running_statistics_after_a_recalibrated_evaluation(spec, pool, split):
    """The running averages themselves are restored: a run evaluated in between ends where one evaluated at the end does."""
    changes = {"updates": 10, "headline_statistics": "recalibrated", "model": Component(name="mlp", options={"widths": [8]})}
    often, seldom = (trainer_of([spec(**changes)], pool(), split) for _ in range(2))
    for _ in range(10):
        often.step(), seldom.step()
        often.evaluate()
    assert torch.equal(often.network.weights, seldom.network.weights)
    for one, other in zip(often.network.module.buffers(), seldom.network.module.buffers(), strict=True):
        assert torch.equal(one, other)
