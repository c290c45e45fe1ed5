"""The peers compute what ours computes, from the same weights, and each trains on its own data path."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from gapbench.bench.cases import CASES, Case, Side
from gapbench.bench.measure import COMPARED, TOLERANCE, gate
from gapbench.bench.peers import Build
from gapbench.bench.peers.parts import initial_model
from gapbench.bench.peers.resident import ChunkedBatchNorm, _cropped
from gapbench.bench.programs import PROGRAMS, random_pool, workers_of
from gapbench.sizing import program_key
from gapbench.suite.batches import probe_updates

CPU = torch.device("cpu")


def gated(task, *sides):
    return {item.side: item for item in gate(Case("tiny", "", "cpu", task, sides, ()), CPU)}


@pytest.mark.parametrize("program", sorted(COMPARED - {"ours", "ours singly"}))
def test_three_updates_of_every_peer_have_the_losses_of_ours(tiny, program):
    task = replace(tiny, batch_size=32, ghost_batch_size=8) if program in ("released", "chunked") else tiny
    assert gated(task, Side("theirs", program))["theirs"].difference < 1e-5


def test_our_stack_has_the_losses_of_ours_singly_and_of_a_loop_in_memory(tiny_mlp):
    found = gated(tiny_mlp, Side("singly", "ours singly"), Side("memory", "memory"))
    assert found["singly"].difference < 1e-6
    assert found["memory"].difference < 1e-5


@pytest.mark.parametrize("program", ["ours", "reference", "resident", "resident compiled", "memory"])
def test_in_bf16_losses_agree_as_far_as_rounding_allows(tiny, program):
    assert 0.0 < gated(tiny, Side("side", program, "bf16"))["side"].difference < TOLERANCE["bf16"]


def test_the_gate_sees_another_method(tiny):
    """Whole-batch norm is no ghost batch norm: the reference loop knows no ghosts."""
    task = replace(tiny, batch_size=32, ghost_batch_size=8)
    assert gated(task, Side("reference", "reference"))["reference"].difference > 3 * TOLERANCE["fp32"]


def test_the_data_paths_make_the_same_pixels(tiny):
    (found,) = gated(tiny, Side("ours", "our feed")).values()
    assert found.difference < 1e-6


def test_dropout_of_peers_is_torch_s_own_and_does_not_disturb_the_gate():
    task = replace(CASES["c1"].task, batch_size=8, examples=32)
    model = initial_model(task)
    assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]
    assert gated(task, Side("reference", "reference"))["reference"].difference < 1e-4


def test_peers_start_from_our_initial_weights(tiny, build):
    ours = build(tiny).sessions[0].network.state_dict(0)
    theirs = dict(initial_model(tiny).named_parameters())
    assert set(theirs) <= set(ours)
    for name, parameter in theirs.items():
        assert torch.equal(parameter.detach(), ours[name])


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_every_program_trains_on_its_own_data_path(tiny, build, program):
    task = replace(tiny, ghost_batch_size=8) if program in ("chunked", "released", "ours without ghosts") else tiny
    loop = build(task, program)
    steps = loop.run()
    assert [next(steps) for _ in range(6)] == [16] * 6  # into the second epoch
    assert loop.form


def test_chunked_batch_norm_is_torch_s_own_on_each_chunk():
    layer, plain = ChunkedBatchNorm(3, 4), nn.BatchNorm2d(3)
    images = torch.randn(12, 3, 5, 5)
    expected = torch.cat([plain(images[start : start + 4]) for start in (0, 4, 8)])
    assert torch.equal(layer(images), expected)
    assert torch.equal(layer.running_var, plain.running_var)


def test_a_resident_loop_is_compiled_where_a_compiler_is_there_and_says_where_none_is(tiny, monkeypatch):
    def refuses(model, mode):
        def forward(images):
            raise RuntimeError("no C++ compiler\nand more lines")

        return forward

    forms = []
    for compiles in (lambda model, mode: model, refuses):
        monkeypatch.setattr(torch, "compile", compiles)
        loop = PROGRAMS["resident compiled"](Build(tiny, random_pool(tiny), "fp32", CPU))
        assert next(loop.run()) == tiny.batch_size
        forms.append(loop.form)
    assert forms == ["compiled", "eager (no C++ compiler)"]
    assert PROGRAMS["resident"](Build(tiny, random_pool(tiny), "fp32", CPU)).form == "eager"


def test_resident_crops_are_windows_of_their_images():
    torch.manual_seed(0)
    padded = torch.arange(20 * 6 * 6, dtype=torch.float32).view(20, 1, 6, 6).contiguous(memory_format=torch.channels_last)
    crops = _cropped(padded, 1)
    corners = set()
    for image, crop in zip(padded, crops, strict=True):
        windows = {(top, left): image[:, top : top + 4, left : left + 4] for top in range(3) for left in range(3)}
        (place,) = [place for place, window in windows.items() if torch.equal(window, crop)]
        corners.add(place)
    assert len(corners) > 4


def test_without_probes_or_evaluation_none_is_due(tiny, build):
    whole = replace(tiny, updates=10)
    off, on = (build(whole, program).sessions[0] for program in ("ours without probes", "ours with evaluation"))
    assert not off.probe_updates
    assert not off.evaluation_updates
    assert on.probe_updates
    assert 10 in on.evaluation_updates
    assert off.step() is None


@pytest.mark.parametrize(
    ("updates", "recipe", "often"), [(2000, 23_437, 7), (4000, 39_062, 8), (3000, 3000, 60), (10, 23_437, 1), (1, 2, 1)]
)
def test_a_run_has_its_recipes_share_of_probes(tiny, build, updates, recipe, often):
    due = build(replace(tiny, updates=updates, recipe_updates=recipe)).sessions[0].probe_updates
    assert len(due) == often == max(1, round(len(probe_updates(recipe)) * updates / recipe))
    assert max(due) == updates
    gaps = {after - before for before, after in itertools.pairwise(sorted({0, *due}))}
    assert max(gaps) - min(gaps) <= 1


def test_a_whole_run_goes_back_to_its_first_update(tiny, build):
    ours = build(replace(tiny, updates=10))
    (session,) = ours.sessions
    before = session.network.weights.clone()
    steps = ours.run()
    for _ in range(4):
        next(steps)
    ours.again()
    assert session.update == 0
    assert torch.equal(session.network.weights, before)
    assert sum(next(steps) for _ in range(10)) == 160


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_cases_are_sound(case):
    names = [side.name for side in case.sides]
    assert len(set(names)) == len(names)
    assert case.suite is not None or {side.program for side in case.sides} <= set(PROGRAMS)
    assert case.comparisons
    for comparison in case.comparisons:
        assert {comparison.side, *comparison.against} <= set(names)
        assert bool(comparison.against) == (comparison.kind != "share")
    assert len({program_key(spec) for spec in case.task.specs("fp32")}) == 1


def test_a_data_loader_gets_one_worker_a_thread_eight_at_most():
    assert workers_of(None, 2) == 2
    assert workers_of(None, 64) == 8
    assert workers_of(0, 64) == 0


def test_a_smaller_task_keeps_ghosts_that_divide_its_batch(tiny):
    small = replace(tiny, batch_size=4096, ghost_batch_size=128).smaller(64)
    assert (small.batch_size, small.ghost_batch_size) == (64, 16)
    assert replace(tiny, batch_size=4096).smaller(64).ghost_batch_size is None
    assert tiny.smaller(64) is tiny


def test_the_price_of_the_noise_scale_is_of_that_probe_alone_in_micro_batches(tiny, build):
    task = replace(tiny, batch_size=16, ghost_batch_size=4, micro_batch_size=4, updates=10)
    with_it, without = (build(task, program).sessions[0] for program in ("ours with noise scale", "ours with default probes"))
    for session in (with_it, without):
        assert session.micro_batch_size == 4
        assert session.probe_updates
    extra = set(with_it.specs[0].probe_options) - set(without.specs[0].probe_options)
    assert extra == {"noise_scale_stream"}
