"""Updates computed in micro-batches are those of the whole batch, or they are refused."""

import pytest
import torch

from gapbench.catalog import plugins
from gapbench.core.errors import TrainingError
from gapbench.suite.runspec import Component
from tests.engine.runs import advance, finished, make_trainer, run, snapshots_of
from tests.small import make_pool, make_spec

CPU = torch.device("cpu")
MODELS = {
    "mlp": Component(name="mlp", options={"widths": [16, 16], "norm": "batch", "bias": False}),
    "resnet": Component(name="resnet", options={"depth": 8}),
    "c1": Component(name="c1"),
}


def trainer_of(micro_batch_size=None, replicas=1, **changes):
    data = make_pool(height=32 if changes.get("model", MODELS["mlp"]).name == "c1" else 8, channels=3)
    specs = [make_spec(seed=seed, **changes) for seed in range(replicas)]
    return make_trainer(specs, data, micro_batch_size=micro_batch_size)


@pytest.mark.parametrize("statistics", ["mean", "sequential"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("micro_batch_size", [5, 10])
def test_micro_batches_make_the_update_of_the_whole_batch(model, micro_batch_size, statistics):
    changes = {
        "model": MODELS[model],
        "batch_size": 20,
        "ghost_batch_size": 5,
        "running_statistics": statistics,
        "clip_norm": 0.5,
        "crop_padding": 1,
        "flip": True,
    }
    whole = trainer_of(**changes)
    pieces = trainer_of(micro_batch_size, **changes)
    for _ in range(4):
        ours, theirs = (trainer.program.update(0, trainer.feed.micro_batches(0, size), observe=True) for trainer, size in
                        ((pieces, micro_batch_size), (whole, 20)))  # fmt: skip
        torch.testing.assert_close(ours.gradients, theirs.gradients, rtol=2e-3, atol=2e-5)
        torch.testing.assert_close(ours.batch_loss, theirs.batch_loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(ours.batch_correct, theirs.batch_correct)
        torch.testing.assert_close(pieces.network.weights, whole.network.weights, rtol=1e-3, atol=2e-5)
    assert float(pieces.program.clipped_updates[0]) == float(whole.program.clipped_updates[0]) > 0
    for ours, theirs in zip(pieces.network.norms, whole.network.norms, strict=True):
        assert torch.equal(ours.steps, theirs.steps)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-3, atol=1e-5)


def test_a_stack_in_micro_batches_gives_each_replica_the_bits_it_has_alone(spec, pool):
    changes = {"batch_size": 20, "ghost_batch_size": 5}
    together = trainer_of(10, replicas=3, **changes)
    data = pool(height=8, channels=3)
    alone = make_trainer([spec(seed=1, **changes)], data, micro_batch_size=10)
    advance(5, together, alone)
    assert torch.equal(together.network.weights[1], alone.network.weights[0])


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize(("name", "options"), [("mlp", {"widths": [16], "bias": True}), ("wresnet", {"depth": 10, "width": 1})])
def test_a_model_without_batch_norm_may_be_cut_anywhere(name, options, norm):
    plain = Component(name=name, options={**options, "norm": norm})
    whole, pieces = (trainer_of(size, model=plain, batch_size=20) for size in (None, 2))
    advance(3, whole, pieces)
    torch.testing.assert_close(pieces.network.weights, whole.network.weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("ghost", "micro_batch_size", "message"),
    [(None, 10, "off"), (10, 5, "ghost batch size is 10"), (5, 15, "cannot be cut into"), (5, 0, None)],
)
def test_what_would_not_be_exact_is_refused(ghost, micro_batch_size, message):
    if message is None:  # 0 is no size: the whole batch
        assert trainer_of(micro_batch_size, ghost_batch_size=ghost).micro_batch_size == 20
        return
    with pytest.raises(TrainingError, match=message):
        trainer_of(micro_batch_size, ghost_batch_size=ghost)


CENTRED = """
import math
from torch import nn
import gapbench.catalog.plugins as plugins

class Centred(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.head = nn.Linear(inputs, classes)

    def forward(self, images):
        flat = images.flatten(1)
        return self.head(flat - flat.mean(dim=0))

@plugins.model(name="centred")
def centred(input_shape, classes):
    return Centred(math.prod(input_shape), classes)
"""


def test_a_users_model_that_couples_examples_is_found_out(tmp_path):
    (tmp_path / "own.py").write_text(CENTRED)
    plugins.load_plugins([tmp_path / "own.py"])
    changes = {"model": Component(name="centred"), "batch_size": 20}
    trainer_of(**changes).step()  # whole, it trains
    with pytest.raises(TrainingError, match="couples the examples"):
        trainer_of(10, **changes)


def test_a_stopped_run_goes_on_in_the_pieces_in_which_it_began(spec, pool):
    data, wanted = pool(), spec(batch_size=20, ghost_batch_size=5)
    straight = run([wanted], data, micro_batch_size=10)
    first = run([wanted], data, micro_batch_size=10, stop_at=13)
    second = run([wanted], data, snapshots=snapshots_of(first))  # the planner of another machine might choose otherwise
    ours, theirs = finished(second)[0], finished(straight)[0]
    assert ours.summary["micro_batch_size"] == 10
    for name in ("test_accuracy", "test_loss", "train_loss", "weight_distance"):
        assert ours.summary[name] == theirs.summary[name]


def test_micro_batch_probes_see_each_piece_and_move_no_bit(tmp_path):
    (tmp_path / "own.py").write_text(
        "import gapbench.catalog.plugins as plugins\n"
        "SEEN = []\n"
        '@plugins.probe(stage="micro-batch", name="pieces", metrics=["pieces"])\n'
        "def pieces(state):\n"
        "    SEEN.append((state.update, state.batch_size, state.gradients.clone(), state.batch_loss.clone()))\n"
        '    return {"pieces": state.gradient_norm * 0 + 1}\n'
    )
    plugins.load_plugins([tmp_path / "own.py"])
    from gapbench.catalog import probes
    from gapbench.core.registry import load_target

    changes = {"batch_size": 15, "ghost_batch_size": 5, "train_examples": 100}
    quiet = trainer_of(5, **changes)
    watched = trainer_of(5, probes=("pieces",), **changes)
    _, state = quiet.step(), watched.step()
    whole = state.gradients.clone()
    quiet.step(), watched.step()
    assert torch.equal(quiet.network.weights, watched.network.weights)
    seen = load_target(probes()["pieces"].target).__globals__["SEEN"]
    assert [(update, size) for update, size, _, _ in seen[:3]] == [(1, 5), (1, 5), (1, 5)]
    torch.testing.assert_close(torch.stack([piece for _, _, piece, _ in seen[:3]]).mean(dim=0), whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.stack([loss for _, _, _, loss in seen[:3]]).mean(dim=0), state.batch_loss)
    assert float(state.early["pieces"]) == 3.0
