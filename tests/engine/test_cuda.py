"""What only a CUDA device can show. Skipped where there is none."""

import pytest
import torch

from gapbench.core.events import Finished
from gapbench.engine import train
from gapbench.engine.prepared import LADDER, PreparedProgram, usual_updates
from gapbench.engine.program import Program
from gapbench.engine.trainer import Measurements, Trainer
from gapbench.suite.runspec import Component, GradientNoise
from tests.engine.runs import advance
from tests.small import make_optimizer, make_spec

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
NOISE = {
    "gradient_noise": GradientNoise(kind="multiplicative", variance=3.0, centred=True),
    "ghost_batch_size": 5,
    "sampling": "replacement",
}
RESNET8 = Component(name="resnet", options={"depth": 8})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        NOISE,
        {"gradient_noise": GradientNoise(kind="isotropic")},
        {"clip_norm": 0.5, "ghost_batch_size": 5},
        {"model": RESNET8, "crop_padding": 1, "flip": True, "ghost_batch_size": 5},
    ],
)
def test_the_first_updates_agree_with_the_cpu(spec, pool, split, changes):
    data = pool(height=8)
    trainers = [
        Trainer([spec(**changes)], data, [split(data)], device=torch.device(name), emit=lambda _event: None) for name in ("cpu", "cuda:0")
    ]
    for _ in range(5):
        for trainer in trainers:
            trainer.step()
    torch.testing.assert_close(trainers[0].network.weights, trainers[1].network.weights.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_norm": 0.5},
        NOISE,
        {"gradient_noise": GradientNoise(kind="isotropic")},
        {"model": RESNET8, "ghost_batch_size": 5, "clip_norm": 0.5, "running_statistics": "sequential"},
    ],
)
def test_nothing_in_the_update_loop_waits_for_the_device(spec, pool, split, changes):
    data = pool(height=8)
    trainer = Trainer([spec(updates=400, **changes)], data, [split(data)], device=torch.device("cuda:0"), emit=lambda _event: None)
    trainer.prepare()
    advance(3, trainer)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        advance(300, trainer)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_stack_trains_on_cuda(spec, pool, split):
    data = pool()
    ends = []
    specs = [spec(seed=seed) for seed in range(4)]
    train(
        specs,
        data,
        [split(data)] * 4,
        device="cuda:0",
        emit=lambda event: ends.append(event) if isinstance(event, Finished) else None,
        stop=lambda: None,
    )
    assert [end.outcome for end in ends] == ["ok"] * 4


def test_batches_from_the_disk_are_those_from_the_device(spec, pool, split):
    from gapbench.engine.feed import Feed

    data, device = pool(height=12, channels=3), torch.device("cuda:0")
    specs = [spec(seed=seed, crop_size=8, flip=True) for seed in range(2)]
    resident, streamed = (Feed(data, [split(data)] * 2, specs, device, resident=there) for there in (True, False))
    for update in range(30):
        one, other = resident.batch(update), streamed.batch(update)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.keys, other.keys)


RECORDABLE = [
    {},
    {"clip_norm": 0.5, "ghost_batch_size": 5, "running_statistics": "sequential"},
    {"optimizer": Component(name="adamw", options={"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}), "learning_rate": 1e-3},
    {"optimizer": make_optimizer("lars", trust_coefficient=0.1), "weight_decay": 1e-2, "weight_decay_on": "matrices"},
    {"optimizer": make_optimizer("lamb"), "learning_rate": 1e-2, "weight_decay": 0.1},
    {"model": RESNET8, "crop_padding": 1, "flip": True, "ghost_batch_size": 5, "micro_batch_size": 10},
    {"model": RESNET8, "precision": "bf16"},
    {"gradient_noise": GradientNoise(kind="multiplicative", variance=3.0, centred=True), "ghost_batch_size": 5},
]


@pytest.mark.parametrize("changes", RECORDABLE)
@pytest.mark.parametrize("compiles", [False, True])
def test_recorded_updates_are_those_of_the_plain_program(spec, pool, split, changes, compiles):
    changes = dict(changes)
    pieces = changes.pop("micro_batch_size", None)
    data = pool(height=8, channels=3)
    ours, theirs = (
        Trainer([spec(updates=200, **changes)], data, [split(data)], device=torch.device("cuda:0"), emit=lambda _event: None,
                micro_batch_size=pieces)
        for _ in range(2)
    )  # fmt: skip
    assert isinstance(ours.program, PreparedProgram)
    ours.program.compiles = compiles
    ours.prepare()
    assert ours.program.kind == LADDER[0 if compiles else 1].kind, ours.program.refused
    assert type(theirs.program) is PreparedProgram  # not prepared: the plain updates
    assert theirs.program.kind == Program.kind
    for _ in range(10):
        mine, other = ours.step(), theirs.step()
        if mine is not None:
            torch.testing.assert_close(mine.batch_loss, other.batch_loss, rtol=0.1, atol=1e-3)
    way = theirs.network.weights - theirs.network.initial_weights
    tolerance = 1.0 if changes.get("precision") == "bf16" else 0.05
    assert float((ours.network.weights - theirs.network.weights).norm()) <= tolerance * float(way.norm())
    for one, other in zip(ours.network.norms, theirs.network.norms, strict=True):
        assert torch.equal(one.steps, other.steps)


def test_recordings_of_all_shapes_share_their_memory(spec, pool, split):
    data = pool(height=8, channels=3)
    train_examples = len(split(data).train)
    ragged = {"tail": "ragged", "train_examples": train_examples, "batch_size": 12, "ghost_batch_size": 4, "updates": 900}
    trainer = Trainer([spec(**ragged)], data, [split(data)], device=torch.device("cuda:0"), emit=lambda _event: None)
    assert len(usual_updates(trainer.feed, trainer.micro_batch_size)) == 2
    trainer.prepare()
    assert len(trainer.program._recorded) == 2
    advance(50, trainer)
    assert trainer.first_bad() == [-1]


def test_what_is_recorded_goes_to_the_host_without_waiting_and_is_not_written_over():
    events = []
    values = torch.arange(4.0, device="cuda:0")
    recorder = Measurements(events.append, make_spec(updates=100).batches, [])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for update in range(1, 51):
            torch.cuda._sleep(100_000)
            recorder.record(update, {"value": values})
            values.add_(1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    recorder.flush([-1] * 4)
    assert [event.values[0][2] for event in events if event.replica == 2] == [2.0 + step for step in range(50)]
