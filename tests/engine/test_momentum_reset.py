"""The optimizer that the released code makes anew at every epoch, against torch.optim made anew at every epoch."""

import pytest
import torch
import torch.nn.functional as F

from gapbench.core.hashing import derive_seed
from gapbench.optimizers import schedule
from gapbench.suite.runspec import Component
from gapbench.workloads.models.mlp import mlp
from tests.engine.runs import advance, make_trainer

ADAMW = Component(name="adamw", options={"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8})


def plain_loop(spec, feed):
    """Makes a new optimizer wherever the update's first example begins or is in a new epoch; returns the final weights."""
    torch.manual_seed(derive_seed(spec.init_seed, "initial weights"))
    model = mlp((1, 6, 6), 4, **spec.model.options).train()
    table, optimizer, epoch_before = schedule(spec), None, -1
    per_epoch = 100 if spec.tail == "stream" else 100 // spec.batch_size * spec.batch_size
    for update in range(spec.updates):
        epoch = update * spec.batch_size // per_epoch
        if epoch != epoch_before:
            if spec.optimizer.name == "sgd":
                optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=spec.weight_decay)
            else:
                optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=spec.weight_decay)
        epoch_before = epoch
        optimizer.param_groups[0]["lr"] = table.learning_rate[update]
        batch = feed.batch(update)
        optimizer.zero_grad()
        F.cross_entropy(model(batch.images[0].contiguous()), batch.labels[0]).backward()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def assert_weights(trainer, replica, expected):
    found = trainer.network.state_dict(replica)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("tail", ["stream", "drop"])
@pytest.mark.parametrize("batch_size", [20, 24, 60])
def test_a_reset_at_every_epoch_is_sgd_made_anew_at_every_epoch(spec, pool, tail, batch_size):
    """24 and 60 do not divide the epoch of 100 examples: with tail "stream" a batch reaches into the next one."""
    wanted = spec(batch_size=batch_size, tail=tail, momentum_reset="epoch", updates=14)
    trainer = make_trainer([wanted], pool())
    advance(14, trainer)
    assert_weights(trainer, 0, plain_loop(wanted, trainer.feed))


def test_without_a_reset_the_weights_are_others(spec, pool):
    reset, kept = (make_trainer([spec(momentum_reset=when, updates=14)], pool()) for when in ("epoch", "never"))
    for update in range(14):
        reset.step()
        kept.step()
        assert torch.equal(reset.network.weights, kept.network.weights) == (update < 5)  # five updates an epoch


def test_adamw_forgets_its_moments_and_corrects_their_bias_anew(spec, pool):
    wanted = spec(optimizer=ADAMW, learning_rate=0.003, momentum_reset="epoch", updates=13)
    trainer = make_trainer([wanted], pool())
    advance(13, trainer)
    assert_weights(trainer, 0, plain_loop(wanted, trainer.feed))


def test_every_replica_of_a_stack_forgets(spec, pool):
    specs = [spec(momentum_reset="epoch", updates=13, batch_size=24, seed=seed, learning_rate=0.1 / (1 + seed)) for seed in range(3)]
    stack = make_trainer(specs, pool())
    advance(13, stack)
    for replica, wanted in enumerate(specs):
        assert_weights(stack, replica, plain_loop(wanted, make_trainer([wanted], pool()).feed))


@pytest.mark.parametrize("optimizer", [Component(name="sgd", options={"momentum": 0.9, "nesterov": False}), ADAMW])
@pytest.mark.parametrize("stopped_at", [4, 5, 6, 12])
def test_a_resumed_run_forgets_where_it_would_have(spec, pool, optimizer, stopped_at):
    """Before, at and after the end of an epoch of five updates; to the bit."""
    wanted = spec(optimizer=optimizer, momentum_reset="epoch", updates=14, learning_rate=0.01)
    whole, first, second = (make_trainer([wanted], pool()) for _ in range(3))
    advance(14, whole)
    advance(stopped_at, first)
    second.restore([first.snapshot(0)])
    advance(14 - stopped_at, second)
    assert torch.equal(second.network.weights, whole.network.weights)
