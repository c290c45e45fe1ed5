"""Recorded updates are those of the plain program, whatever differs between them; what cannot be recorded trains plainly and says so."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gapbench.engine import prepared
from gapbench.engine.prepared import Graphs, PreparedProgram
from gapbench.engine.program import LOSSES, Program
from gapbench.suite.runspec import Component, GradientNoise, Phase
from tests.engine.emulated_graphs import AskedError, EmulatedGraphs
from tests.engine.runs import advance, make_trainer
from tests.small import make_optimizer, make_pool, make_spec

ADAMW = Component(name="adamw", options={"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8})
NESTEROV = Component(name="sgd", options={"momentum": 0.9, "nesterov": True})
RESNET8 = Component(name="resnet", options={"depth": 8})
C1 = Component(name="c1")
SHORT = {"updates": 60, "batch_size": 20}
PHASES = (Phase(start=0.0, learning_rate_factor=1.0), Phase(start=0.5, learning_rate_factor=0.1, momentum=0.5, weight_decay=1e-3))
CASES = {
    "plain": {},
    "schedule": {"phases": PHASES, "warmup": 0.2, "warmup_start": 0.1, "weight_decay": 1e-2},
    "clipping": {"clip_norm": 0.5},
    "nesterov": {"optimizer": NESTEROV, "weight_decay": 1e-2, "weight_decay_on": "matrices"},
    "adamw": {"optimizer": ADAMW, "learning_rate": 1e-3, "weight_decay": 0.1, "weight_decay_on": "matrices", "clip_norm": 1.0},
    "adamw, momentum reset": {"optimizer": ADAMW, "learning_rate": 1e-3, "momentum_reset": "epoch"},
    "lars": {
        "optimizer": make_optimizer("lars", trust_coefficient=0.1),
        "weight_decay": 1e-2,
        "weight_decay_on": "matrices",
        "phases": PHASES,
    },
    "lamb": {"optimizer": make_optimizer("lamb"), "learning_rate": 1e-2, "weight_decay": 0.1, "momentum_reset": "epoch"},
    "momentum reset": {"momentum_reset": "epoch"},
    "ghosts": {"ghost_batch_size": 5},
    "ghosts, sequential": {"ghost_batch_size": 5, "running_statistics": "sequential"},
    "ghosts, averaged": {"ghost_batch_size": 5, "norm_momentum": None},
    "multiplicative noise": {"gradient_noise": GradientNoise(kind="multiplicative", variance=3.0, centred=True), "ghost_batch_size": 5},
    "replacement": {"sampling": "replacement"},
    "resnet": {"model": RESNET8, "crop_padding": 1, "flip": True, "ghost_batch_size": 5, "clip_norm": 0.5},
    "dropout": {"model": C1, "ghost_batch_size": 10},
    "bf16": {"model": RESNET8, "precision": "bf16"},
}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> EmulatedGraphs:
    """Where updates are recorded, however few there are of a shape."""
    monkeypatch.setattr(prepared, "RECORDED_FROM", 2)
    return EmulatedGraphs()


def trainer_of(replicas=1, graphs=None, **changes):
    """A trainer that records its updates where it is given graphs."""
    options = {name: changes.pop(name) for name in ("micro_batch_size", "compiles") if name in changes}
    if graphs is not None:
        options["make"] = functools.partial(PreparedProgram, graphs=graphs)
    changes = SHORT | changes
    data = make_pool(height=32 if changes.get("model") == C1 else 8, channels=3)
    return make_trainer([make_spec(seed=seed, **changes) for seed in range(replicas)], data, **options)


def both(graphs, **changes):
    """Returns a trainer that records and one that does not, of the same run."""
    recording, plain = trainer_of(graphs=graphs, **changes), trainer_of(**changes)
    assert type(plain.program) is Program
    recording.prepare()
    assert recording.program.refused == ()
    assert recording.program.kind == "graph"
    return recording, plain


def assert_alike(ours, theirs, tolerance=1e-3):
    """The weights are as far from where they began but for a share of the way, and everything that is counted is the same."""
    moved, difference = (other - one for one, other in ((theirs.network.initial_weights, theirs.network.weights),
                                                        (theirs.network.weights, ours.network.weights)))  # fmt: skip
    assert float(difference.norm()) <= tolerance * float(moved.norm())
    assert torch.equal(ours.program.clipped_updates, theirs.program.clipped_updates)
    for one, other in zip(ours.network.norms, theirs.network.norms, strict=True):
        assert torch.equal(one.steps, other.steps)
        torch.testing.assert_close(one.running_mean, other.running_mean, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(one.running_var, other.running_var, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_recorded_updates_are_those_of_the_plain_program(graphs, case):
    ours, theirs = both(graphs, **CASES[case])
    tolerance = 0.1 if case == "bf16" else 1e-2 if "model" in CASES[case] else 1e-3  # rounding grows with depth
    for _ in range(10):
        mine, other = ours.step(), theirs.step()
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine.batch_loss, other.batch_loss, rtol=tolerance, atol=1e-6)
            torch.testing.assert_close(mine.gradient_norm, other.gradient_norm, rtol=tolerance, atol=1e-6)
            assert case == "bf16" or torch.equal(mine.batch_correct, other.batch_correct)
            assert torch.equal(mine.learning_rate, other.learning_rate)
    assert_alike(ours, theirs, tolerance)
    assert graphs.replays == 10 + 2  # each recording made one update for the check


def test_a_recording_holds_for_every_phase_of_a_schedule(graphs):
    ours, theirs = both(graphs, **CASES["schedule"])
    advance(60, ours, theirs)
    assert_alike(ours, theirs, 1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": 3, "clip_norm": 0.5, "ghost_batch_size": 5},
        {"micro_batch_size": 10, "ghost_batch_size": 5, "running_statistics": "sequential"},
    ],
    ids=["stack", "micro-batches"],
)
def test_a_stack_or_the_pieces_of_a_batch_are_recorded_as_one_update(graphs, changes):
    ours, theirs = both(graphs, **changes)
    advance(20, ours, theirs)
    assert_alike(ours, theirs)
    assert graphs.replays == 20 + 2


def test_replicas_of_one_recording_have_hyperparameters_of_their_own(graphs):
    changes = [{"learning_rate": 0.1, "weight_decay": 0.0}, {"learning_rate": 0.01, "weight_decay": 0.1}]
    specs, data = [make_spec(**SHORT, **own) for own in changes], make_pool(height=8)
    ours, theirs = make_trainer(specs, data, make=functools.partial(PreparedProgram, graphs=graphs)), make_trainer(specs, data)
    ours.prepare()
    advance(20, ours, theirs)
    assert ours.program.kind == "graph"
    assert_alike(ours, theirs)


@pytest.mark.parametrize(("worth_it", "recordings"), [(2, 2), (20, 1)])
def test_ragged_tails_have_recordings_of_their_own_where_they_come_often_enough(graphs, monkeypatch, worth_it, recordings):
    monkeypatch.setattr(prepared, "RECORDED_FROM", worth_it)
    ours, theirs = both(graphs, tail="ragged", train_examples=100, batch_size=12, ghost_batch_size=4)
    assert len(ours.program._recorded) == recordings
    advance(20, ours, theirs)
    assert_alike(ours, theirs)
    assert graphs.replays == 20 + 4 if recordings == 2 else 2 < graphs.replays < 20 + 2


def test_a_short_run_records_nothing_and_says_so(graphs, monkeypatch):
    monkeypatch.setattr(prepared, "RECORDED_FROM", 1000)
    trainer = trainer_of(graphs=graphs)
    trainer.prepare()
    trainer.step()
    assert (trainer.program.kind, trainer.program.refused, graphs.replays) == ("eager", (), 0)


def test_preparing_moves_nothing(graphs):
    trainer = trainer_of(graphs=graphs, model=RESNET8, clip_norm=0.01)
    before = [tensor.clone() for tensor in (*trainer.network.moved, *trainer.program.optimizer.moved, trainer.program.clipped_updates)]
    random = torch.get_rng_state()
    trainer.prepare()
    after = (*trainer.network.moved, *trainer.program.optimizer.moved, trainer.program.clipped_updates)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert trainer.first_bad() == [-1]


@pytest.mark.parametrize("updates", [LOSSES - 1, LOSSES, 2 * LOSSES + 7])
def test_the_first_loss_that_is_not_finite_is_found_in_the_ring(graphs, updates):
    trainer = trainer_of(graphs=graphs, updates=3 * LOSSES, batch_size=5, learning_rate=1e-4)
    trainer.prepare()
    advance(updates, trainer)
    assert trainer.first_bad() == [-1]
    with torch.no_grad():
        trainer.network.weights.fill_(torch.nan)
        trainer.network.weights_moved()
    advance(5, trainer)
    assert trainer.first_bad() == [updates + 1]


def test_a_run_that_goes_on_is_recorded_anew_and_makes_the_same_updates(graphs):
    changes = {**CASES["adamw, momentum reset"], "clip_norm": 0.5}
    whole, begun, resumed = (trainer_of(graphs=graphs, **changes) for _ in range(3))
    for trainer in (whole, begun):
        trainer.prepare()
    advance(25, whole)
    advance(13, begun)
    resumed.restore([begun.snapshot(0)])
    resumed.prepare()
    advance(12, resumed)
    # Noted intermediate results lie elsewhere in memory, and on a CPU that may change a last bit.
    assert_alike(whole, resumed, 1e-5)
    assert whole.first_bad() == resumed.first_bad()


def test_micro_batch_probes_see_every_gradient_and_the_rest_is_recorded(graphs, spec):
    probes = tuple(spec().probes)
    changes = {"ghost_batch_size": 5, "micro_batch_size": 10, "probes": (*probes, Component(name="noise_scale_stream"))}
    ours, theirs = both(graphs, **changes)
    for _ in range(20):
        mine, other = ours.step(), theirs.step()
        if mine is not None:
            assert mine.early
            assert mine.early.keys() == other.early.keys()
            for name in mine.early:
                torch.testing.assert_close(mine.early[name], other.early[name], rtol=1e-2, atol=1e-8, equal_nan=True)
    assert_alike(ours, theirs)
    assert 1 < graphs.replays < 21


class Broken(Graphs):
    """Records, and the recording does less or something else."""

    def __init__(self, harm):
        self.harm = harm

    def record(self, work):
        replay = EmulatedGraphs().record(work)
        return lambda: self.harm(replay)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_recording_that_makes_other_updates_is_refused_and_the_run_trains_plainly(times, precision):
    def harm(replay):
        for _ in range(times):
            replay()

    trainer, plain = trainer_of(graphs=Broken(harm), precision=precision), trainer_of(precision=precision)
    trainer.prepare()
    assert trainer.program.kind == "eager"
    assert len(trainer.program.refused) == 1
    assert "graph: RefusedError: an update of length" in trainer.program.refused[0]
    advance(5, trainer, plain)
    assert torch.equal(trainer.network.weights, plain.network.weights)


def test_what_fails_on_the_way_up_the_ladder_leaves_no_trace_but_its_reason():
    class NoGraphs(Graphs):
        def record(self, work):
            work()
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore of it")

    ours, theirs = trainer_of(graphs=NoGraphs()), trainer_of()
    ours.prepare()
    advance(60, ours, theirs)
    summary, without = ours.summary(0, 0.0), theirs.summary(0, 0.0)
    assert summary["program"] == "eager"
    assert summary["program_refused"] == "graph: RuntimeError: CUDA error: operation not permitted when stream is capturing"
    assert summary["weight_distance"] == without["weight_distance"]
    assert without["program_refused"] is None


def test_the_emulation_forbids_what_a_recording_forbids_and_freezes_what_it_freezes():
    values = torch.zeros(2)
    with pytest.raises(AskedError):
        EmulatedGraphs().record(lambda: values.sum().item())
    factor = 1.0
    replay = EmulatedGraphs().record(lambda: values.add_(torch.ones(2) * factor))
    values.zero_()
    factor = 5.0
    replay()
    assert values.tolist() == [1.0, 1.0]


def test_why_a_run_cannot_be_recorded_is_said(spec):
    assert prepared.why_not_recorded(spec()) == ""
    assert "drawn by the host" in prepared.why_not_recorded(spec(gradient_noise=GradientNoise(kind="isotropic")))
    assert prepared.LADDER[0].kind == "compiled graph"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In the compiler's place stands the network as it is; what is returned grows by the examples of each of its calls in training."""
    calls = []

    def form(module):
        def forward(images):
            calls.append(images.shape[-4])
            return module(images)

        return forward

    monkeypatch.setattr(prepared, "compiled_form", form)
    return calls


def on_a_cpu(**changes):
    """Returns two trainers of the same run on a CPU, of which the first is asked to compile, and its answer."""
    ours, theirs = trainer_of(compiles=True, **changes), trainer_of(**changes)
    ours.prepare()
    assert (theirs.program.kind, theirs.program.refused) == ("eager", ())
    return ours, theirs


@pytest.mark.parametrize("case", CASES)
def test_a_cpu_compiles_the_network_and_leaves_the_rest_as_it_is(compiled, case):
    ours, theirs = on_a_cpu(**CASES[case])
    assert (ours.program.kind, ours.program.refused) == ("compiled", ())
    compiled.clear()
    for _ in range(10):
        mine, other = ours.step(), theirs.step()
        if mine is not None:
            assert torch.equal(mine.batch_loss, other.batch_loss)
    assert compiled == [20] * 10
    assert torch.equal(ours.network.weights, theirs.network.weights)
    assert torch.equal(ours.program.clipped_updates, theirs.program.clipped_updates)
    assert ours.first_bad() == [-1]


def test_shapes_that_come_seldom_are_not_compiled(compiled):
    """A compiler takes as long for the one odd batch of an epoch as for all the others."""
    changes = {"tail": "ragged", "train_examples": 100, "batch_size": 6, "updates": 51, "ghost_batch_size": 2}
    ours, theirs = on_a_cpu(**changes)
    compiled.clear()
    sizes = [int(ours.batches.at(update).size) for update in range(34)]
    for _ in sizes:
        ours.step(), theirs.step()
    assert sorted(set(sizes)) == [4, 6]
    assert compiled == [6] * 32
    assert torch.equal(ours.network.weights, theirs.network.weights)


def test_a_run_that_goes_on_is_compiled_anew_and_makes_the_same_updates(compiled):
    whole, _ = on_a_cpu(clip_norm=0.5)
    begun, resumed = on_a_cpu(clip_norm=0.5)[0], on_a_cpu(clip_norm=0.5)[0]
    for _ in range(58):  # few are left when it goes on
        whole.step(), begun.step()
    resumed.restore([begun.snapshot(0)])
    resumed.prepare()
    assert resumed.program.kind == "compiled"
    advance(2, whole, resumed)
    assert torch.equal(whole.network.weights, resumed.network.weights)


def failing(module):
    raise RuntimeError("No working C++ compiler found\nmore of it")


def wrong(module):
    return lambda images: 1.5 * module(images)


@pytest.mark.parametrize(
    ("form", "reason"),
    [(failing, "compiled: RuntimeError: No working C++ compiler found"), (wrong, "compiled: RefusedError: an update of")],
)
def test_without_a_compiler_that_works_a_cpu_trains_plainly_and_says_why(monkeypatch, form, reason):
    monkeypatch.setattr(prepared, "compiled_form", form)
    ours, theirs = on_a_cpu()
    assert ours.program.kind == "eager"
    assert len(ours.program.refused) == 1
    assert ours.program.refused[0].startswith(reason)
    advance(5, ours, theirs)
    assert torch.equal(ours.network.weights, theirs.network.weights)


HEADER = """
import functools, torch
from gapbench.engine.prepared import Graphs, PreparedProgram
from gapbench.layers import ghost_batch_norm
from gapbench.suite.runspec import Component
from tests.engine.runs import advance, make_trainer
from tests.small import make_pool, make_spec

torch.set_num_threads(1)
data = make_pool(height=8, channels=3)
RESNET = {"model": Component(name="resnet", options={"depth": 8})}
"""
COMPILED = """
class NoGraphs(Graphs):
    def record(self, work):
        raise RuntimeError("no GPU")

recording = functools.partial(PreparedProgram, graphs=NoGraphs())
ghost_batch_norm.normalize_chunks = ghost_batch_norm.normalize_groups  # as on a GPU
for model in ({}, RESNET):
    spec = make_spec(updates=60, ghost_batch_size=5, clip_norm=0.5, **model)
    ours, again = (make_trainer([spec], data, make=recording, compiles=True) for _ in range(2))
    theirs = make_trainer([spec], data)
    ours.prepare()
    assert ours.program.kind == "compiled", ours.program.refused
    assert [text.split(":")[0] for text in ours.program.refused] == ["compiled graph", "graph"]
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    advance(5, ours, theirs)
    difference = (ours.network.weights - theirs.network.weights).norm()
    assert difference <= 1e-3 * (theirs.network.weights - theirs.network.initial_weights).norm(), difference
    ours.evaluate()  # plain
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled
    again.prepare()
    assert again.program.kind == "compiled"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled, "a second run of the program compiled anew"
print("alike")
"""
COMPILED_ON_A_CPU = """
def trainer_of(compiles=True, seeds=(0,), **changes):
    return make_trainer([make_spec(updates=60, clip_norm=0.5, seed=seed, **changes) for seed in seeds], data, compiles=compiles)

for changes in ({"seeds": (0, 1)}, RESNET, RESNET | {"ghost_batch_size": 5}, RESNET | {"precision": "bf16"}):
    ours, theirs = trainer_of(**changes), trainer_of(compiles=False, **changes)
    ours.prepare(), theirs.prepare()
    assert (ours.program.kind, ours.program.refused, theirs.program.kind) == ("compiled", (), "eager"), ours.program.refused
    advance(5, ours, theirs)
    way = theirs.network.weights - theirs.network.initial_weights
    share = float((ours.network.weights - theirs.network.weights).norm() / way.norm())
    assert 0 < share <= (0.2 if "precision" in changes else 1e-3), share  # not to the same bits: it was compiled
    resumed = trainer_of(**changes)
    resumed.restore([ours.snapshot(replica) for replica in range(len(ours.specs))])
    resumed.prepare()
    advance(5, ours, resumed)
    assert torch.equal(ours.network.weights, resumed.network.weights), "a run that goes on has other bits"
print("alike")
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("program", [COMPILED, COMPILED_ON_A_CPU], ids=["a second run compiles nothing", "same bits after a stop"])
def test_compiled_updates_are_those_of_the_plain_program(program):
    # In a process of its own: the checks of shapes that tests install cannot be compiled.
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", HEADER + program], capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.strip() == "alike", done.stderr[-3000:]
