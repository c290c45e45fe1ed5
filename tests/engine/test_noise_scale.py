"""The probes of the noise scale on real networks, against gradients of single examples, and training as if they were not there."""

from __future__ import annotations

import numpy as np
import opacus
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

from gapbench.analysis.noise_scale import Blocks, scale_of_blocks, squared_gradient, trace_of_covariance
from gapbench.probes.noise_scale import noise_scale, noise_scale_stream
from gapbench.suite.runspec import Component
from tests.engine.runs import advance, make_trainer
from tests.small import make_pool, make_spec

CPU = torch.device("cpu")
PLAIN = Component(name="mlp", options={"widths": [8], "norm": "none", "bias": True})
NORMED = Component(name="mlp", options={"widths": [8], "norm": "batch", "bias": False})


def trainer_of(replicas=1, probes=None, micro_batch_size=None, updates=3, **changes):
    data = make_pool(height=8, channels=1, train=400)
    specs = [make_spec(seed=seed, **changes) for seed in range(replicas)]
    trainer = make_trainer(specs, data, probes=probes or {}, objective=True,
                      micro_batch_size=micro_batch_size)  # fmt: skip
    advance(updates, trainer)
    return trainer


def state_of(trainer):
    state = trainer.program.untrained()
    state.provided = trainer.program.objective.at(trainer.update)
    return state


def blocks_of(found, replica=0):
    squares = found["noise_squares/bucket"][replica].numpy()
    count = len(squares)
    products = np.zeros((count, count))
    products[np.triu_indices(count)] = found["noise_products/bucket"][replica].numpy()
    products += np.triu(products, 1).T
    return Blocks(float(found["noise_size"][replica]), int(found["noise_count"][replica]), squares, products)


def example_gradients(trainer, batches):
    """Returns the gradient of every example, [example, parameter], by torch.func on the module itself."""
    network = trainer.network
    parameters = {name: value.detach() for name, value in zip(network.names, network.views(network.weights), strict=True)}
    data = [trainer.feed.drawn_batch(batch.indices, batch.draws) for batch in batches]
    images, labels = torch.cat([one.images[0] for one in data]), torch.cat([one.labels[0] for one in data])

    def loss(values, image, label):
        logits = functional_call(network.module, values, (image[None, None],))  # a stack of one: [replica, classes, batch]
        return F.cross_entropy(logits[0].T, label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    return torch.cat([found[name].flatten(1) for name in network.names], dim=1).double()


def plain(spec, pool, split, **changes):
    """A trainer of one replica without batch norm."""
    return trainer_of(model=PLAIN, **changes)


def test_estimates_are_those_of_single_examples_gradients(spec, pool, split):
    trainer = plain(spec, pool, split)
    state = state_of(trainer)
    found = noise_scale(state, examples=128, micro_batch=4, blocks=4)
    rows = example_gradients(trainer, [state.objective.fresh(4, draw, purpose="noise scale") for draw in range(32)])
    micro = rows.view(32, 4, -1).mean(dim=1)
    s, q = float((micro**2).sum(1).mean()), float((micro.mean(0) ** 2).sum())
    blocks = blocks_of(found)
    assert (blocks.size, blocks.count) == (4, 32)
    assert blocks.squares.mean() == pytest.approx(s, rel=1e-5)
    assert blocks.products.mean() == pytest.approx(q, rel=1e-4)
    trace, square, _, _ = blocks.estimates()
    assert trace == pytest.approx(float(trace_of_covariance(s, q, 4, 32)), rel=1e-5)
    assert square == pytest.approx(float(squared_gradient(s, q, 32)), rel=1e-3)


def test_opacus_agrees_on_gradients_of_single_examples(spec, pool, split):
    """A second opinion, by hooks instead of vmap, on a plain network with the same weights."""
    trainer = plain(spec, pool, split)
    batch = trainer.program.objective.fresh(24, 0)
    rows = example_gradients(trainer, [batch])
    weights = list(trainer.network.state_dict(0).values())
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, len(weights[-1])))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), weights, strict=True):
            parameter.copy_(value)
    data = trainer.feed.drawn_batch(batch.indices, batch.draws)
    sampled = opacus.GradSampleModule(network, loss_reduction="mean")
    F.cross_entropy(sampled(data.images[0].requires_grad_()), data.labels[0]).backward()
    squares = sum((parameter.grad_sample.flatten(1).double() ** 2).sum(1) for parameter in network.parameters())
    torch.testing.assert_close((rows**2).sum(1), squares, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("size", [1, 8, 32])
def test_without_batch_norm_the_noise_does_not_depend_on_the_micro_batch(spec, pool, split, size):
    trainer = plain(spec, pool, split)
    state = state_of(trainer)
    rows = example_gradients(trainer, _all(trainer))
    truth = float(((rows - rows.mean(0)) ** 2).sum(1).mean())
    found = scale_of_blocks(blocks_of(noise_scale(state, examples=4096, micro_batch=size, blocks=16)))
    assert found.trace == pytest.approx(truth, rel=0.2)
    assert found.low is not None
    dataset = float((rows.mean(0) ** 2).sum())
    assert found.low < truth / dataset * 1.3
    assert found.high is None or found.high > truth / dataset / 1.3


def _all(trainer):
    """The whole training set as training sees it (this data set is not augmented)."""
    batch = trainer.program.objective.fresh(trainer.feed.train_size, 0)
    return [type(batch)(trainer.feed.members, torch.zeros_like(trainer.feed.members), "train", 1)]


def test_with_batch_norm_the_unit_is_the_ghost_batch_at_every_batch_size():
    found = []
    for batch_size in (8, 16, 32):
        ghost = None if batch_size == 8 else 8
        trainer = trainer_of(model=NORMED, batch_size=batch_size, ghost_batch_size=ghost, updates=0)
        values = noise_scale(state_of(trainer), examples=256, blocks=4)
        assert float(values["noise_size"][0]) == 8.0
        found.append(values["noise_products/bucket"])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-7)  # the same weights and examples, whatever the run's batch
    torch.testing.assert_close(found[2], found[0], rtol=1e-4, atol=1e-7)


def test_layers_add_up_to_the_whole(spec, pool, split):
    found = noise_scale(state_of(plain(spec, pool, split)), examples=64, micro_batch=4, blocks=4)
    blocks = blocks_of(found)
    assert float(found["noise_mean_square/layer"].sum()) == pytest.approx(blocks.squares.mean(), rel=1e-5)
    assert float(found["noise_square_of_mean/layer"].sum()) == pytest.approx(blocks.products.mean(), rel=1e-4)


class Kept:
    """A probe that keeps what another returns."""

    def __init__(self, probe, **options):
        self.probe, self.options, self.found = probe, options, []

    def __call__(self, state):
        values = self.probe(state, **self.options)
        self.found.append({name: value.clone() for name, value in values.items()})
        return {}


def test_a_batch_in_one_piece_gives_the_sums_that_its_micro_batches_give():
    sums = []
    for micro_batch_size in (None, 8):
        kept = Kept(noise_scale_stream, pieces=4)
        norms = Kept(lambda state: {"norm": state.gradient_norm})
        trainer_of(model=NORMED, batch_size=32, ghost_batch_size=8, micro_batch_size=micro_batch_size, updates=1,
                   probes={"micro-batch": [kept], "update": [norms]})  # fmt: skip
        sums.append([sum(values[name] for values in kept.found) for name in ("noise_stream_count", "noise_stream_squares")])
        if micro_batch_size is None:
            own = kept.found[0]["noise_stream_square_of_mean"]
    assert float(sums[0][0]) == float(sums[1][0]) == 4.0
    torch.testing.assert_close(sums[0][1], sums[1][1], rtol=1e-5, atol=0.0)
    assert own.item() > 0.0


def test_one_norm_group_is_no_measurement():
    kept = Kept(noise_scale_stream)
    trainer_of(model=NORMED, batch_size=8, updates=1, probes={"micro-batch": [kept]})
    (found,) = kept.found
    assert all(torch.isnan(value).all() for value in found.values())


@pytest.mark.parametrize("replicas", [1, 2])
def test_training_goes_where_it_goes_without_them(replicas):
    sizes = {"batch_size": 32, "ghost_batch_size": 8, "updates": 6}
    probes = {"micro-batch": [noise_scale_stream], "update": [lambda state: noise_scale(state, examples=64, blocks=4)]}
    bare = trainer_of(replicas, model=NORMED, **sizes)
    probed = trainer_of(replicas, model=NORMED, probes=probes, **sizes)
    assert torch.equal(bare.network.weights, probed.network.weights)
    for mine, theirs in zip(bare.network.module.buffers(), probed.network.module.buffers(), strict=True):
        assert torch.equal(mine, theirs)
