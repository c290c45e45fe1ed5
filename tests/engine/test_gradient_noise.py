"""Noise in gradients: its covariance is the one that is claimed, by Monte Carlo against gradients of single examples."""

import numpy as np
import pytest
import torch

from gapbench.core.events import Finished, Measured
from gapbench.engine import train
from gapbench.engine.adaptation import covariance_ratio
from gapbench.engine.feed import Feed
from gapbench.engine.program import UpdateNoise
from gapbench.suite.runspec import Component, GradientNoise
from tests.engine.runs import advance, make_trainer
from tests.small import make_pool, make_spec

CPU = torch.device("cpu")
NO_NORM = Component(name="mlp", options={"widths": [8], "norm": "none", "bias": True})
LARGE, SMALL = 80, 20
MATCHED = GradientNoise(kind="multiplicative", variance=LARGE / SMALL - 1, centred=True)
UNCENTRED = GradientNoise(kind="multiplicative", variance=LARGE / SMALL - 1, centred=False)
ISOTROPIC = GradientNoise(kind="isotropic")


def trainer_of(replicas=1, micro_batch_size=None, **changes):
    """A trainer at a rate so small that the weights stay where they are."""
    fields = {"model": NO_NORM, "batch_size": LARGE, "updates": 2000, "learning_rate": 1e-12, "weight_decay": 0.0, **changes}
    specs = [make_spec(seed=seed, **fields) for seed in range(replicas)]
    return make_trainer(specs, make_pool(), micro_batch_size=micro_batch_size)


def gradients(trainer, updates):
    """Gradients of many updates at the same weights, [updates, parameters] in float64, of the first replica."""
    rows = []
    for _ in range(updates):
        trainer.step()
        rows.append(trainer.network.gradients[0].double().clone())
    return torch.stack(rows)


def single_gradients(trainer, images, labels):
    """The obvious slow way: one backward pass an example."""
    rows = []
    for image, label in zip(images, labels, strict=True):
        logits = trainer.network.module(image[None, None]).float()
        trainer.network.backward(trainer.program.task.losses(logits, label[None, None]).mean(dim=1))
        rows.append(trainer.network.gradients[0].double().clone())
    return torch.stack(rows)


def trace(rows):
    return float((rows - rows.mean(dim=0)).square().sum(dim=1).sum() / (len(rows) - 1))


@pytest.mark.parametrize(("noise", "mean_too"), [(MATCHED, False), (UNCENTRED, True)])
def test_given_a_batch_the_noise_has_the_covariance_that_is_claimed(noise, mean_too):
    """sigma^2 / M of the gradients' covariance in the batch (of their second moment, where not centred), direction by direction."""
    trainer = trainer_of(gradient_noise=noise, batch_size=LARGE)
    batch = trainer.feed.batch(0)
    single = single_gradients(trainer, batch.images[0], batch.labels[0])
    weights = torch.cat([trainer.program.noise.weights(update).double() for update in range(4000)])
    found = weights @ single / LARGE
    assert torch.allclose(found.mean(dim=0), single.mean(dim=0), atol=5 * found.std(dim=0).max() / 4000**0.5)
    centred = single if mean_too else single - single.mean(dim=0)
    claimed = noise.variance / LARGE * centred.T @ centred / LARGE
    # 4,000 draws: a variance has a standard error of 2.2 %; the largest directions, and the trace
    values, vectors = torch.linalg.eigh(claimed)
    measured = (found - found.mean(dim=0)) @ vectors[:, -6:]
    assert torch.allclose(measured.var(dim=0), values[-6:], rtol=0.1)
    assert trace(found) == pytest.approx(float(claimed.trace()), rel=0.04)


def test_large_batches_with_noise_have_the_small_batchs_covariance_and_without_it_a_quarter():
    """Over batches drawn with replacement, at fixed weights; 1,500 updates give the ratio of traces to some percent."""
    common = {"sampling": "replacement", "batch_size": LARGE}
    small = trace(gradients(trainer_of(**(common | {"batch_size": SMALL})), 1500))
    assert trace(gradients(trainer_of(gradient_noise=MATCHED, **common), 1500)) / small == pytest.approx(1, abs=0.07)
    assert trace(gradients(trainer_of(**common), 1500)) / small == pytest.approx(SMALL / LARGE, abs=0.02)


def test_a_programs_gradient_is_the_weighted_mean_of_the_single_ones():
    trainer = trainer_of(gradient_noise=MATCHED)
    batch = trainer.feed.batch(0)
    single = single_gradients(trainer, batch.images[0], batch.labels[0])
    expected = trainer.program.noise.weights(0)[0].double() @ single / LARGE
    assert torch.allclose(gradients(trainer, 1)[0], expected, atol=1e-6)


def test_the_logged_loss_is_not_weighted():
    plain, noisy = (trainer_of(gradient_noise=noise) for noise in (None, MATCHED))
    states = [trainer.step() for trainer in (plain, noisy)]
    assert torch.equal(states[0].batch_loss, states[1].batch_loss)
    assert not torch.equal(states[0].gradients, states[1].gradients)


def test_centred_weights_have_mean_one_and_their_variance(spec):
    for noise in (MATCHED, UNCENTRED):
        weights = torch.cat([UpdateNoise([spec(gradient_noise=noise, batch_size=LARGE)], CPU).weights(update) for update in range(500)])
        assert weights.var() == pytest.approx(noise.variance, rel=0.05)
        means = weights.double().mean(dim=1)
        assert means.std() == pytest.approx((noise.variance / LARGE) ** 0.5, rel=0.15) if not noise.centred else means.std() < 1e-6


def test_weights_of_one_change_nothing(monkeypatch):
    plain, noisy = (trainer_of(gradient_noise=noise, learning_rate=0.1) for noise in (None, MATCHED))
    monkeypatch.setattr(UpdateNoise, "weights", lambda self, update: torch.ones(1, LARGE))
    advance(5, plain, noisy)
    assert torch.equal(plain.network.weights, noisy.network.weights)


@pytest.mark.parametrize("noise", [MATCHED, UNCENTRED, ISOTROPIC])
def test_a_replica_of_a_stack_gets_the_noise_that_it_gets_alone(noise):
    alone = trainer_of(gradient_noise=noise, learning_rate=0.1)
    stack = trainer_of(replicas=3, gradient_noise=noise, learning_rate=0.1)
    advance(4, alone, stack)
    assert torch.allclose(alone.network.weights[0], stack.network.weights[0], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(stack.network.weights[0], stack.network.weights[1])


def test_micro_batches_change_nothing_though_centring_needs_the_whole_batch():
    changes = {"gradient_noise": MATCHED, "learning_rate": 0.1}
    whole = trainer_of(**changes)
    pieces = trainer_of(micro_batch_size=16, **changes)
    advance(4, whole, pieces)
    assert torch.allclose(whole.network.weights, pieces.network.weights, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("noise", [MATCHED, ISOTROPIC])
def test_a_resumed_run_goes_on_bit_by_bit(noise):
    whole, first, second = (trainer_of(gradient_noise=noise, learning_rate=0.1, clip_norm=0.5) for _ in range(3))
    advance(8, whole)
    advance(3, first)
    second.restore([first.snapshot(0)])
    advance(5, second)
    assert torch.equal(whole.network.weights, second.network.weights)


def test_the_isotropic_direction_has_the_gradients_norm_and_nothing_else_of_it():
    plain, walk = (trainer_of(gradient_noise=noise) for noise in (None, ISOTROPIC))
    for update in range(50):
        states = [trainer.step() for trainer in (plain, walk)]
        row = walk.network.gradients[0]
        assert float(row.norm()) == pytest.approx(float(plain.network.gradients[0].norm()), rel=1e-5)
        cosine = torch.cosine_similarity(row, plain.network.gradients[0], dim=0)
        assert abs(float(cosine)) < 6 / 332**0.5  # 332 parameters
        if states[0] is not None:
            assert states[1].gradient_norm == pytest.approx(float(states[0].gradient_norm), rel=1e-5), update
    used = torch.zeros_like(walk.network.gradients[0], dtype=torch.bool)
    for layer in walk.network.layers:
        used[layer.start : layer.stop] = True
    assert not walk.network.gradients[0][~used].any()


def test_a_walk_without_gradients_learns_nothing_and_goes_as_far_as_a_walk_does():
    """|w_t - w_0| grows as the root of t, within the spread of a walk of 400 equal steps in some hundred dimensions."""
    fields = {"gradient_noise": ISOTROPIC, "optimizer": Component(name="sgd", options={"momentum": 0.0}), "learning_rate": 1e-6}
    trainer = trainer_of(**fields)
    distances = []
    for _ in range(400):
        trainer.step()
        distances.append(float((trainer.network.weights - trainer.network.initial_weights)[0].norm()))
    steps = np.arange(1, 401)
    exponent = np.polyfit(np.log(steps[20:]), np.log(distances[20:]), 1)[0]
    assert exponent == pytest.approx(0.5, abs=0.08)


def test_a_noisy_run_trains_and_reports(spec, pool, split):
    events = []
    noisy = spec(
        batch_size=100, model=NO_NORM, gradient_noise=GradientNoise(kind="multiplicative", variance=4.0, centred=True), clip_norm=5.0
    )
    train([noisy], pool(), [split(pool())], device="cpu", emit=events.append, stop=lambda: None)
    last = next(event for event in events if isinstance(event, Finished))
    assert last.summary["test_accuracy"] > 0.4
    assert any(isinstance(event, Measured) for event in events)


def test_replacement_draws_each_position_by_itself_and_uniformly(spec, pool, split):
    feed = Feed(pool(), [split(pool())], [spec(sampling="replacement", batch_size=50, updates=400)], CPU)
    indices = feed.examples(0, 20000)[0][0]
    counts = torch.bincount(indices, minlength=100).double()
    assert float((counts - 200).square().sum() / 200) < 99 + 5 * (2 * 99) ** 0.5  # chi-squared, 99 degrees
    assert len(set(indices[:100].tolist())) < 80  # an epoch leaves 37 % out
    parts = torch.cat([feed.examples(first, first + 50)[0][0] for first in range(0, 20000, 50)])
    assert torch.equal(parts, indices), "no draw depends on where a gather begins"
    other = Feed(pool(), [split(pool())], [spec(sampling="replacement", batch_size=25, updates=800)], CPU)
    assert torch.equal(other.examples(0, 20000)[0][0], indices), "two batch sizes see the same stream"


def test_an_example_that_comes_twice_is_augmented_twice(spec, pool, split):
    feed = Feed(pool(), [split(pool())], [spec(sampling="replacement", crop_padding=2, batch_size=100, updates=2, flip=True)], CPU)
    batch, indices = feed.batch(0), feed.examples(0, 100)[0][0]
    twice = [index for index in set(indices.tolist()) if (indices == index).sum() > 1]
    differ = [len({image.numpy().tobytes() for image in batch.images[0][indices == index]}) > 1 for index in twice]
    assert sum(differ) > 0.8 * len(differ)
    assert len(batch.keys.unique()) == 100


def test_crops_and_flips_come_again_after_so_many_epochs_and_order_does_not(spec, pool, split):
    changes = {"crop_padding": 2, "flip": True, "batch_size": 20, "updates": 30}
    repeated, fresh = (
        Feed(pool(), [split(pool())], [spec(**changes, augmentation_epochs=epochs)], CPU) for epochs in (2, None)
    )  # fmt: skip

    def by_example(feed, epoch):
        found = {}
        for update in range(5 * epoch, 5 * epoch + 5):
            batch, indices = feed.batch(update), feed.examples(update * 20, update * 20 + 20)[0][0]
            found.update(zip(indices.tolist(), (image.numpy().tobytes() for image in batch.images[0]), strict=True))
        return found

    assert by_example(repeated, 0) == by_example(repeated, 2) == by_example(repeated, 4) == by_example(fresh, 0)
    assert by_example(repeated, 1) == by_example(repeated, 3) == by_example(fresh, 1)
    assert by_example(fresh, 2) != by_example(fresh, 0)
    assert repeated.examples(0, 100)[0].tolist() != repeated.examples(200, 300)[0].tolist()
    assert not torch.equal(repeated.batch(0).keys, repeated.batch(10).keys), "dropout goes on"


def test_the_covariance_that_a_run_measures_of_itself_is_one_with_noise_and_without_norm():
    """Twelve large batches and 48 small ones: a tenth. The measurement moves neither weights nor statistics."""
    ratios = []
    for seed in range(6):
        trainer = trainer_of(gradient_noise=MATCHED, order_seed=seed, reference_batch_size=SMALL)
        trainer.step()
        before = trainer.network.weights.clone(), trainer.network.gradients.clone()
        ratios.append(covariance_ratio(trainer.program, trainer.feed, trainer.spec, 1, LARGE)[0])
        assert torch.equal(trainer.network.weights, before[0])
        assert torch.equal(trainer.network.gradients, before[1])
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)
    plain = trainer_of()
    assert covariance_ratio(plain.program, plain.feed, plain.spec, 0, LARGE) is None


@pytest.mark.parametrize("ghost", [None, SMALL])
def test_measuring_the_covariance_changes_no_number_of_a_run(spec, pool, split, ghost, monkeypatch):
    def final():
        events = []
        noisy = spec(batch_size=100, ghost_batch_size=ghost, gradient_noise=MATCHED, reference_batch_size=SMALL)
        train([noisy], pool(), [split(pool())], device="cpu", emit=events.append, stop=lambda: None)
        rows = [row for event in events if isinstance(event, Measured) for row in event.values]
        return [row for row in rows if row[0] != "gradient_covariance_ratio"], [
            row[2] for row in rows if row[0] == "gradient_covariance_ratio"
        ]

    measured, ratios = final()
    assert len(ratios) == 2
    assert all(ratio > 0 for ratio in ratios)
    monkeypatch.setattr("gapbench.engine.trainer.covariance_ratio", lambda *values: None)
    assert final() == (measured, [])


def test_the_measured_gradient_is_that_of_training():
    whole, pieces = trainer_of(gradient_noise=MATCHED), trainer_of(gradient_noise=MATCHED)
    rows = pieces.program.gradients(0, pieces.feed.micro_batches(0, 16))
    assert torch.allclose(gradients(whole, 1)[0], rows[0].double(), atol=1e-6)
