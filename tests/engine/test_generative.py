"""Models with their loss within: exact in pieces and after a stop, no accuracy anywhere, per-example gradients that add up."""

import pytest
import torch

from gapbench.core.events import Outcome
from gapbench.suite.runspec import Component, GradientNoise
from tests.engine.runs import advance, finished, make_trainer, run, snapshots_of
from tests.small import make_pool, make_spec

MODELS = [
    Component(name="autoencoder", options={"channels": [3], "latent": 4}),
    Component(name="variational-autoencoder", options={"channels": [3], "latent": 4}),
]
CPU = torch.device("cpu")
pytestmark = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


RATE = 1e-3
"""The loss is a sum over an image, so a rate for means would be too high."""


def trainer_of(model, micro_batch_size=None, **changes):
    return make_trainer([make_spec(model=model, learning_rate=RATE, **changes)], make_pool(), micro_batch_size=micro_batch_size)


def events_of(model, **options):
    return run([make_spec(model=model, learning_rate=RATE)], make_pool(), **options)


@pytest.mark.parametrize("size", [1, 5, 10])
def test_an_update_in_pieces_is_the_update(model, size):
    whole, pieces = trainer_of(model), trainer_of(model, size)
    advance(4, whole, pieces)
    torch.testing.assert_close(pieces.network.weights, whole.network.weights, rtol=1e-4, atol=1e-6)


def test_a_stop_in_the_middle_changes_no_bit(model):
    straight = finished(events_of(model))[0]
    first = events_of(model, stop_at=13)
    resumed = finished(events_of(model, snapshots=snapshots_of(first)))[0]
    for name in ("test_loss", "train_loss", "weight_distance"):
        assert resumed.summary[name] == straight.summary[name]


def test_there_is_a_loss_and_no_accuracy(model):
    end = finished(events_of(model))[0]
    assert end.outcome is Outcome.OK
    assert end.summary["test_loss"] > 0
    assert not [name for name in end.summary if "accuracy" in name]
    assert end.test_correct == b""


def test_it_learns(model):
    trainer = trainer_of(model, updates=200)
    before = trainer.evaluate().values["test_loss"][0]
    advance(200, trainer)
    assert trainer.evaluate().values["test_loss"][0] < before - 1


def test_evaluating_twice_gives_one_number(model):
    trainer = trainer_of(model)
    first, second = trainer.evaluate(), trainer.evaluate()
    assert first.values["test_loss"] == second.values["test_loss"]
    assert first.values["train_loss"] == second.values["train_loss"]


def test_the_batchs_gradient_is_the_mean_of_its_examples(model):
    trainer = trainer_of(model)
    batches = trainer.feed.micro_batches
    whole = trainer.program.gradients(None, batches(0, 20)).clone()
    one_by_one = trainer.program.gradients(None, batches(0, 1))
    torch.testing.assert_close(one_by_one, whole, rtol=1e-4, atol=1e-5)


def test_gradient_noise_weighs_each_examples_loss(model):
    noise = GradientNoise(kind="multiplicative", variance=1.0, centred=True)
    noisy = trainer_of(model, gradient_noise=noise)
    pieces = trainer_of(model, 5, gradient_noise=noise)
    plain = trainer_of(model)
    for trainer in (noisy, pieces, plain):
        trainer.step()
    torch.testing.assert_close(pieces.network.weights, noisy.network.weights, rtol=1e-4, atol=1e-6)
    assert not torch.equal(noisy.network.weights, plain.network.weights)
