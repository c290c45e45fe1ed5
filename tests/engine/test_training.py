"""The engine as a whole, against a plain training loop that anybody would write."""

import functools
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.core.events import Finished, Measured, Outcome, Progressed, Snapshotted, Started, WeightsKept
from gapbench.core.hashing import derive_seed
from gapbench.engine.flat import check_untied
from gapbench.layers.ghost_batch_norm import convert_batch_norm
from gapbench.optimizers import schedule
from gapbench.suite.runspec import Component
from gapbench.workloads.models.mlp import mlp
from gapbench.workloads.models.resnet import resnet
from tests.engine.runs import advance, curve, finished, make_trainer, run, snapshots_of
from tests.small import make_optimizer

CPU = torch.device("cpu")
RESNET8 = Component(name="resnet", options={"depth": 8})


def plain_loop(spec, feed, input_shape, classes, updates):
    """nn.BatchNorm, clip_grad_norm_, torch.optim on separate tensors: returns the weights after each update."""
    torch.manual_seed(derive_seed(spec.init_seed, "initial weights"))
    build = {"mlp": mlp, "resnet": resnet}[spec.model.name]
    model = build(input_shape, classes, **spec.model.options).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=spec.optimizer.options["momentum"], weight_decay=spec.weight_decay)
    table = schedule(spec)
    weights, losses = [], []
    for update in range(updates):
        batch = feed.batch(update)
        optimizer.param_groups[0]["lr"] = table.learning_rate[update]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch.images[0].contiguous()), batch.labels[0])
        loss.backward()
        if spec.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), spec.clip_norm)
        optimizer.step()
        losses.append(loss.item())
        weights.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})
    return weights, losses


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip_norm": 0.5}, {"model": RESNET8, "crop_padding": 2, "flip": True}, {"model": RESNET8, "clip_norm": 0.5}],
    ids=["mlp", "mlp-clipped", "resnet", "resnet-clipped"],
)
def test_training_equals_a_plain_loop(spec, pool, changes):
    channels = 3 if "model" in changes else 1
    data = pool(height=8, channels=channels)
    wanted = spec(**changes)
    trainer = make_trainer([wanted], data)
    expected, losses = plain_loop(wanted, trainer.feed, (channels, 8, 8), 4, 12)
    for update in range(12):
        state = trainer.step()
        if state is not None:
            assert state.batch_loss.item() == pytest.approx(losses[update], rel=1e-4)
        for name, tensor in trainer.network.state_dict(0).items():
            if name in expected[update]:
                torch.testing.assert_close(tensor, expected[update][name], rtol=2e-3, atol=2e-5, msg=name)
    if "clip_norm" in changes:
        assert trainer.program.clipped_updates.item() > 0


def test_weight_decay_on_matrices_spares_biases_and_norms(spec, pool):
    options = {"widths": [16], "norm": "batch", "bias": True}
    decayed = spec(weight_decay=0.5, weight_decay_on="matrices", learning_rate=1e-9, model=Component(name="mlp", options=options))
    trainer = make_trainer([decayed], pool())
    decayed_names = {layer.name for layer in trainer.network.layers if layer.start < trainer.network.decayed}
    assert decayed_names == {"linear1.weight", "output.weight"}
    trainer.step()
    momentum = trainer.program.optimizer.state["momentum_buffer"][0]
    gradient, weights = trainer.network.gradients[0], trainer.network.initial_weights[0]
    boundary = trainer.network.decayed
    torch.testing.assert_close(momentum[:boundary], (gradient + 0.5 * weights)[:boundary])
    torch.testing.assert_close(momentum[boundary:], gradient[boundary:])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip_norm": 0.5, "ghost_batch_size": 5},
        {"optimizer": Component(name="adamw", options={}), "learning_rate": 0.01},
        {"optimizer": make_optimizer("lars", trust_coefficient=0.1)},
        {"optimizer": make_optimizer("lamb"), "learning_rate": 0.01},
    ],
)
def test_a_stack_trains_every_replica_as_it_would_alone_bit_by_bit(spec, pool, changes):
    data = pool()
    specs = [spec(seed=seed, **changes) for seed in range(4)]
    specs[2] = specs[2].model_copy(update={"learning_rate": specs[2].learning_rate / 4})  # hyperparameters may differ
    together = finished(run(specs, data))
    for replica, alone in enumerate(specs):
        single = finished(run([alone], data))[0]
        for name in ("test_accuracy", "test_loss", "train_loss", "weight_distance", "clipped_share"):
            assert together[replica].summary[name] == single.summary[name], name
        assert together[replica].test_correct == single.test_correct


def test_the_first_updates_of_a_stack_agree_with_the_unstacked_module(spec, pool):
    data = pool(height=8)
    specs = [spec(seed=seed, clip_norm=0.5) for seed in range(3)]
    trainer = make_trainer(specs, data)
    expected = []
    for alone in specs:
        single = make_trainer([alone], data)
        expected.append(plain_loop(alone, single.feed, (1, 8, 8), 4, 3)[0])
    for update in range(3):
        trainer.step()
        for replica in range(3):
            for name, tensor in expected[replica][update].items():
                torch.testing.assert_close(trainer.network.state_dict(replica)[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", [None, RESNET8], ids=["stack", "resnet"])
@pytest.mark.parametrize("stop_at", [1, 7, 15, 29])
def test_a_resumed_run_equals_an_undisturbed_one_bit_by_bit(spec, pool, split, model, stop_at):
    data = pool(height=8)
    changes = {"clip_norm": 0.5, "ghost_batch_size": 10, "crop_padding": 1, "headline_evaluations": 2} | ({"model": model} if model else {})
    specs = [spec(seed=seed, **changes) for seed in range(1 if model else 3)]
    splits = [split(data)] * len(specs)
    undisturbed = run(specs, data, splits)

    first = run(specs, data, splits, stop_at=stop_at)
    assert {event.outcome for event in first if isinstance(event, Finished)} == {Outcome.INTERRUPTED}
    snapshots = snapshots_of(first)
    assert [snapshot["update"] for snapshot in snapshots] == [stop_at] * len(specs)
    torch.rand(100)  # whatever else happens in the process changes nothing
    second = run(specs, data, splits, snapshots=snapshots)

    for replica in range(len(specs)):
        for metric in ("test_accuracy", "test_loss", "batch_loss", "weight_distance", "recalibrated_train_loss", "gradient_norm"):
            assert curve(first, metric, replica) | curve(second, metric, replica) == curve(undisturbed, metric, replica), metric
        mine, theirs = finished(second)[replica], finished(undisturbed)[replica]
        assert mine.test_correct == theirs.test_correct
        timing = {"train_seconds", "evaluation_seconds", "other_seconds", "peak_memory_mib"}
        assert {k: v for k, v in mine.summary.items() if k not in timing} == {k: v for k, v in theirs.summary.items() if k not in timing}


def test_replicas_resume_in_another_stack_with_the_same_bits(spec, pool):
    data = pool()
    specs = [spec(seed=seed) for seed in range(4)]
    undisturbed = finished(run(specs, data))
    first = run(specs, data, stop_at=12)
    snapshots = snapshots_of(first)
    rest = finished(run(specs[1:3], data, snapshots=snapshots[1:3]))
    for position, replica in enumerate((1, 2)):
        assert rest[position].summary["test_loss"] == undisturbed[replica].summary["test_loss"]


def test_snapshots_of_different_updates_cannot_resume_together(spec, pool):
    data = pool()
    snapshots = []
    for update in (3, 4):
        snapshots += snapshots_of(run([spec()], data, stop_at=update))
    with pytest.raises(TrainingError, match="different updates"):
        run([spec(), spec(seed=1)], data, snapshots=snapshots)


def test_a_diverging_replica_ends_with_its_curve_up_to_there_and_the_others_go_on(spec, pool):
    data = pool()
    specs = [spec(seed=0), spec(seed=1, learning_rate=1e20), spec(seed=2)]
    events = run(specs, data)
    ends = finished(events)
    assert [ends[replica].outcome for replica in range(3)] == [Outcome.OK, Outcome.DIVERGED, Outcome.OK]
    bad = ends[1].update
    assert f"not finite at update {bad} of 30" in ends[1].reason
    assert "test_accuracy" not in ends[1].summary
    assert ends[1].test_correct == b""
    assert max(curve(events, "batch_loss", 1), default=0) < bad <= 30
    alone = finished(run([specs[2]], data))[0]
    assert alone.summary["test_loss"] == ends[2].summary["test_loss"]


def test_a_job_stops_early_once_every_replica_has_diverged(spec, pool):
    data = pool()
    events = run([spec(learning_rate=1e20, updates=3000)], data)
    assert finished(events)[0].outcome is Outcome.DIVERGED
    assert finished(events)[0].summary["updates"] < 3000


def test_a_timeout_ends_without_numbers(spec, pool):
    asked = iter([None] * 5 + [Outcome.TIMEOUT])
    events = run([spec()], pool(), stop=lambda: next(asked))
    end = finished(events)[0]
    assert (end.outcome, end.reason) == (Outcome.TIMEOUT, "stopped after 5 of 30 updates")
    assert "test_accuracy" not in end.summary
    assert not [event for event in events if isinstance(event, Snapshotted)]


def test_checkpoints_come_after_everything_measured_before_them(spec, pool):
    events = run([spec()], pool(), checkpoint_seconds=0.0)
    taken = [position for position, event in enumerate(events) if isinstance(event, Snapshotted)]
    assert len(taken) >= 25
    for position in taken:
        update = events[position].update
        assert all(event.update <= update for event in events[:position] if isinstance(event, Measured))
        assert all(event.update > update for event in events[position:] if isinstance(event, Measured))


def test_the_headline_is_the_mean_of_the_last_evaluations(spec, pool):
    events = run([spec(headline_evaluations=3, updates=200, evaluations=8)], pool())
    accuracies = curve(events, "test_accuracy")
    assert list(accuracies)[-3:] == [196, 198, 200]
    assert finished(events)[0].summary["test_accuracy"] == pytest.approx(sum(list(accuracies.values())[-3:]) / 3)


def test_evaluation_equals_a_slow_one_and_bits_count_it(spec, pool, split):
    import numpy as np

    data = pool()
    wanted = spec(keep_weights=(0.0, 1.0), ghost_batch_size=10)
    events = run([wanted], data, [split(data, validation=20)])
    kept = {event.fraction: event.state_dict for event in events if isinstance(event, WeightsKept)}
    assert set(kept) == {0.0, 1.0}
    model = convert_batch_norm(mlp((1, 6, 6), 4, **wanted.model.options), ghost_batch_size=10)
    model.load_state_dict(kept[1.0])
    train_set = data.images[20:100].astype(np.float64) / 255
    pixels = (data.images[100:] / 255.0 - train_set.mean()) / train_set.std()
    logits = model.eval()(torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2))
    labels = torch.from_numpy(data.labels[100:])
    end = finished(events)[0]
    assert end.summary["test_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
    right = logits.argmax(1) == labels
    assert end.summary["test_accuracy"] == pytest.approx(right.float().mean().item())
    assert np.unpackbits(np.frombuffer(end.test_correct, dtype=np.uint8))[:60].tolist() == right.int().tolist()
    assert {"validation_accuracy", "validation_loss"} <= set(end.summary)


def test_what_is_measured(spec, pool):
    events = run([spec(clip_norm=0.5)], pool())
    metrics = {name for event in events if isinstance(event, Measured) for name, _, _ in event.values}
    assert metrics == {
        "test_accuracy", "test_loss", "train_accuracy", "train_loss",
        "recalibrated_test_accuracy", "recalibrated_test_loss", "recalibrated_train_accuracy", "recalibrated_train_loss",
        "batch_loss", "batch_accuracy", "weight_distance", "weight_norm", "gradient_norm", "clipped_share", "learning_rate",
    }  # fmt: skip
    layers = {layer for event in events if isinstance(event, Measured) for name, layer, _ in event.values if name == "weight_distance"}
    assert layers == {
        "",
        "linear1.weight",
        "norm1.weight",
        "norm1.bias",
        "linear2.weight",
        "norm2.weight",
        "norm2.bias",
        "output.weight",
        "output.bias",
    }
    assert isinstance(events[0], Started)
    summary = finished(events)[0].summary
    assert summary["examples"] == 30 * 20
    assert 0 <= summary["clipped_share_late"] <= 1
    assert curve(events, "weight_distance")[30] == pytest.approx(summary["weight_distance"], rel=1e-6)


@pytest.mark.parametrize("model", [None, RESNET8], ids=["mlp", "resnet"])
def test_the_bf16_copy_of_the_weights_gives_the_bits_of_autocast(spec, pool, model, monkeypatch):
    data = pool(height=8, channels=3)
    wanted = spec(precision="bf16", **({"model": model} if model else {}))
    rounded_once = make_trainer([wanted], data)
    monkeypatch.setattr("gapbench.engine.flat.SHADOWED", ())
    autocast = make_trainer([wanted], data)
    advance(5, rounded_once, autocast)
    assert {parameter.dtype for parameter in rounded_once.network.parameters} == {torch.float32, torch.bfloat16}
    assert {parameter.dtype for parameter in autocast.network.parameters} == {torch.float32}
    assert torch.equal(rounded_once.network.weights, autocast.network.weights)
    kept = rounded_once.network.state_dict(0)
    assert all(tensor.dtype == torch.float32 for tensor in kept.values() if tensor.is_floating_point())


def test_bf16_keeps_weights_and_statistics_in_fp32_and_learns_alike(spec, pool):
    data = pool()
    trainer = make_trainer([spec(precision="bf16", model=RESNET8)], data)
    trainer.step()
    assert trainer.network.weights.dtype == torch.float32
    assert {norm.running_var.dtype for norm in trainer.network.norms} == {torch.float32}
    exact = finished(run([spec()], data))[0].summary
    rounded = finished(run([spec(precision="bf16")], data))[0].summary
    assert rounded["train_loss"] == pytest.approx(exact["train_loss"], rel=0.2)
    assert rounded["train_loss"] != exact["train_loss"]


@pytest.mark.parametrize(("model", "headline"), [("mlp", "test_accuracy"), ("autoencoder", "test_loss")])
def test_progress_is_reported_with_the_last_value_of_the_tasks_headline(spec, pool, monkeypatch, model, headline):
    monkeypatch.setattr("gapbench.engine.loop.PROGRESS_SECONDS", 0.0)
    changes = {"model": Component(name=model, options={"channels": [3], "latent": 4}), "learning_rate": 1e-3} if model != "mlp" else {}
    events = run([spec(**changes)], pool())
    signs = [event for event in events if isinstance(event, Progressed)]
    assert [event.update for event in signs] == list(range(1, 31))
    assert signs[0].headline == (None,)
    assert signs[-1].headline == (curve(events, headline)[30],)


@functools.cache
def golden() -> dict[str, list[float]]:
    import json
    from pathlib import Path

    return json.loads((Path(__file__).parent / "golden_losses.json").read_text())


@pytest.mark.parametrize("name", ["mlp", "mlp-ghost", "resnet8"])
def test_the_loss_curves_have_not_moved(spec, pool, name):
    """A change that moves these changes every published number: it needs a new version of the component and a run that shows why."""
    changes = {
        "mlp": {},
        "mlp-ghost": {"ghost_batch_size": 5, "clip_norm": 1.0},
        "resnet8": {"model": RESNET8, "crop_padding": 1, "flip": True},
    }[name]
    data = pool(height=8)
    losses = curve(run([spec(**changes)], data), "batch_loss")
    assert list(losses.values())[:12] == pytest.approx(golden()[name], rel=2e-3)


def tied(kind):
    """A model with one parameter under two names, or one layer in two places."""
    layers = [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)]
    if kind == "weight":
        layers[2].weight = layers[0].weight
    if kind == "layer":
        layers[2] = layers[0]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("kind", "names"), [("weight", "0.weight and 2.weight"), ("layer", "0.weight and 2.weight"), ("", "")])
def test_tied_weights_are_refused_in_words(kind, names):
    words = f"{names} are one tensor, and tied weights cannot be trained here; give each layer its own"
    with pytest.raises(TrainingError, match=words) if names else nullcontext():
        check_untied(tied(kind))
