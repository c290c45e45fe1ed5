"""Training with batches that differ within a run, against plain loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.core.events import Finished, Measured
from gapbench.core.hashing import derive_seed
from gapbench.cost.guess import work_of
from gapbench.engine.trainer import Trainer
from gapbench.optimizers import schedule
from gapbench.suite.batches import evaluation_updates, ramp
from gapbench.suite.runspec import Component, Phase
from gapbench.workloads.models.mlp import mlp
from gapbench.workloads.models.resnet import resnet
from tests.engine.runs import make_trainer, run, snapshots_of

CPU = torch.device("cpu")
RESNET8 = Component(name="resnet", options={"depth": 8})
BUILD = {"mlp": mlp, "resnet": resnet}
RAMP = (
    Phase(),
    Phase(start=0.3, batch_size_factor=2.0),
    Phase(start=0.5, batch_size_factor=4.0, learning_rate_factor=0.5, momentum=0.5),
)


def ramped(spec, unramped=23, **changes):
    """A batch of 10, then 20, then 40, over the examples of 23 updates of 10: neither later phase is a multiple of its batch."""
    updates = ramp(10, unramped, [(phase.start, phase.batch_size_factor) for phase in RAMP]).updates
    return spec(**{"batch_size": 10, "phases": RAMP, "updates": updates, "unramped_updates": unramped} | changes)


def released_loop(spec, feed, input_shape, classes):
    """main_gbn.py of the released code: chunk after chunk through plain batch norm, gradients divided by the number of chunks."""
    torch.manual_seed(derive_seed(spec.init_seed, "initial weights"))
    model = BUILD[spec.model.name](input_shape, classes, **spec.model.options).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=spec.weight_decay)
    table = schedule(spec)
    for update in range(spec.updates):
        batch = feed.batch(update)
        full = spec.batches.at(update).batch_size
        chunks = full // (spec.ghost_batch_size or full)
        pairs = list(zip(batch.images[0].contiguous().chunk(chunks), batch.labels[0].chunk(chunks), strict=True))
        optimizer.param_groups[0].update(lr=table.learning_rate[update], momentum=table.momentum[update])
        optimizer.zero_grad()
        losses = []
        for images, labels in pairs:
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            losses.append(loss.item())
        for parameter in model.parameters():
            parameter.grad.div_(len(pairs))
        nn.utils.clip_grad_norm_(model.parameters(), spec.clip_norm)
        optimizer.step()
        yield model, sum(losses) / len(losses)


def follow(trainer, spec, expected):
    for model, loss in expected:
        state = trainer.step()
        if state is not None:
            assert state.batch_loss.item() == pytest.approx(loss, rel=1e-4)
            assert state.batch_size == spec.batches.at(trainer.update - 1).size
        found = trainer.network.state_dict(0)
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                torch.testing.assert_close(found[name], tensor.detach(), rtol=2e-3, atol=5e-5, msg=f"{trainer.update}: {name}")
    assert trainer.update == spec.updates


@pytest.mark.parametrize("micro_batch_size", [None, 16, 8])
@pytest.mark.parametrize("changes", [{}, {"model": RESNET8, "crop_padding": 1, "flip": True}], ids=["stack", "resnet"])
def test_ragged_epochs_train_as_the_released_code_does(spec, pool, split, changes, micro_batch_size):
    """Epochs of 3 x 32 and 27 of 123 examples, ghost batches of 8: the last batch is cut into 3 groups of 7 and one of 6."""
    channels = 3 if changes else 1
    data = pool(height=8, channels=channels, train=123)
    wanted = spec(
        tail="ragged", batch_size=32, ghost_batch_size=8, updates=10, train_examples=123, clip_norm=1.0, running_statistics="sequential",
        **changes,
    )  # fmt: skip
    assert [wanted.batches.at(update).size for update in range(5)] == [32, 32, 32, 27, 32]
    trainer = Trainer(
        [wanted], data, [split(data, train=123)], device=CPU, emit=lambda _event: None, micro_batch_size=micro_batch_size
    )  # fmt: skip
    follow(trainer, wanted, released_loop(wanted, trainer.feed, (channels, 8, 8), 4))
    assert trainer.batches.examples(10) == 2 * 123 + 2 * 32


def test_a_ragged_batch_without_ghost_batches_is_one_group_and_takes_a_full_step(spec, pool):
    data = pool(height=8)
    wanted = spec(tail="ragged", batch_size=30, updates=9, clip_norm=1.0)
    trainer = make_trainer([wanted], data)
    assert [wanted.batches.at(update).size for update in range(5)] == [30, 30, 30, 10, 30]
    follow(trainer, wanted, released_loop(wanted, trainer.feed, (1, 8, 8), 4))


@pytest.mark.parametrize("model", [None, RESNET8], ids=["stack", "resnet"])
@pytest.mark.parametrize("ghost", [None, 5])
def test_a_growing_batch_trains_as_a_plain_loop_with_the_tables_rates_and_momenta(spec, pool, model, ghost):
    data = pool(height=8, channels=3)
    changes = {"clip_norm": 1.0, "ghost_batch_size": ghost, "running_statistics": "sequential"} | ({"model": model} if model else {})
    wanted = ramped(spec, **changes)
    trainer = make_trainer([wanted], data)
    # 7 updates of 10; phase two has 50 examples, so 10 and twice 20; phase three has 110, so 30 and twice 40.
    assert [wanted.batches.at(update).size for update in range(wanted.updates)] == [10] * 7 + [10, 20, 20] + [30, 40, 40]
    follow(trainer, wanted, released_loop(wanted, trainer.feed, (3, 8, 8), 4))


def test_micro_batches_follow_the_table_of_a_growing_batch(spec, pool):
    data = pool(height=8)
    wanted = ramped(spec, ghost_batch_size=5, clip_norm=0.5)
    whole, pieces = (make_trainer([wanted], data, micro_batch_size=size) for size in (None, 20))
    assert [len(list(pieces.feed.micro_batches(update, 20))) for update in (0, 8, 10, 12)] == [1, 1, 2, 2]
    assert [batch.labels.shape[1] for batch in pieces.feed.micro_batches(10, 20)] == [20, 10]
    for _ in range(wanted.updates):
        whole.step()
        pieces.step()
        torch.testing.assert_close(pieces.network.weights, whole.network.weights, rtol=1e-3, atol=2e-5)


def values(events, replica):
    return {
        (event.update, name, layer): (event.examples, value)
        for event in events
        if isinstance(event, Measured) and event.replica == replica
        for name, layer, value in event.values
    }


def ragged(spec, **changes):
    return spec(tail="ragged", batch_size=30, ghost_batch_size=10, updates=13, **changes)  # 10 left: groups of 4, 4 and 2


@pytest.mark.parametrize("make", [ramped, ragged])
@pytest.mark.parametrize("stop_at", [3, 4, 8, 11])
def test_a_run_resumed_in_the_middle_equals_an_undisturbed_one_bit_by_bit(spec, pool, split, make, stop_at):
    data = pool(height=8)
    specs = [make(spec, seed=seed, clip_norm=0.5, crop_padding=1) for seed in range(3)]
    splits = [split(data)] * 3
    undisturbed = run(specs, data, splits)
    first = run(specs, data, splits, stop_at=stop_at)
    snapshots = snapshots_of(first)
    assert [snapshot["update"] for snapshot in snapshots] == [stop_at] * 3
    second = run(specs, data, splits, snapshots=snapshots)
    for replica in range(3):
        assert values(first, replica) | values(second, replica) == values(undisturbed, replica)
        alone = run([specs[replica]], data, splits[:1])
        assert values(alone, 0) == values(undisturbed, replica)


@pytest.mark.parametrize("make", [ramped, ragged])
def test_every_measurement_carries_the_exact_examples_seen(spec, pool, make):
    wanted = make(spec)
    events = run([wanted], pool())
    sizes = [wanted.batches.at(update).size for update in range(wanted.updates)]
    measured = {event.update: event.examples for event in events if isinstance(event, Measured)}
    assert measured == {update: sum(sizes[:update]) for update in measured}
    (end,) = [event for event in events if isinstance(event, Finished)]
    assert end.summary["examples"] == wanted.examples == sum(sizes)


def test_a_growing_run_is_evaluated_at_the_examples_at_which_the_plain_one_is(spec, pool):
    growing, plain = ramped(spec, unramped=1000, evaluations=12), spec(batch_size=10, updates=1000, evaluations=12)
    data = pool()
    ours, theirs = (make_trainer([item], data) for item in (growing, plain))
    examples = sorted(growing.batches.examples(update) for update in ours.evaluation_updates)
    wanted = sorted(10 * update for update in theirs.evaluation_updates)
    assert growing.updates == 300 + 100 + 125
    assert len(examples) == len(wanted)
    assert all(0 <= found - asked < 40 for found, asked in zip(examples, wanted, strict=True))
    assert sorted(ours.evaluation_updates) == list(evaluation_updates(growing.batches, growing.evaluations))
    assert work_of(growing).updates == growing.updates


def test_warmup_and_phases_of_a_growing_run_are_fractions_of_its_examples(spec):
    growing = ramped(spec, warmup=0.2, warmup_start=0.1, learning_rate=1.0)
    plain = growing.model_copy(
        update={"updates": 23, "unramped_updates": None, "phases": tuple(p.model_copy(update={"batch_size_factor": 1.0}) for p in RAMP)}
    )
    ours, theirs = schedule(growing), schedule(plain)
    assert list(ours.learning_rate[:7]) == list(theirs.learning_rate[:7])
    assert list(ours.learning_rate[7:]) == [1.0] * 3 + [0.5] * 3
    assert list(ours.momentum) == [0.9] * 10 + [0.5] * 3
    for update in range(growing.updates):  # each update has the hyperparameters of the plain update that begins where it does
        before = growing.batches.examples(update) // 10
        assert ours.momentum[update] == theirs.momentum[before]


def test_a_feed_refuses_a_table_of_another_training_set(spec, pool):
    with pytest.raises(TrainingError, match="planned for 90 training examples, and the data have 100"):
        make_trainer([spec(tail="ragged", train_examples=90)], pool())
