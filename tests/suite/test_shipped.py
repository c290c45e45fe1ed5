from __future__ import annotations

import subprocess
import sys
from collections import defaultdict

import pytest

from gapbench.suite import RunSpec, find_suite, load_suite, shipped_suites
from gapbench.suite.batches import evaluation_updates
from gapbench.suite.runspec import PlannedRun, differing, values_of

OWN_DATA = {"hoffer2017-table2"}
"""Suites that need a folder of the user's own; see tests/api/test_paper_suites.py."""


def cell(runs: tuple[PlannedRun, ...], name: str) -> PlannedRun:
    return next(run for run in runs if run.labels.cell == name)


def test_what_is_shipped() -> None:
    assert {"quickstart", "smoke", "mnist", "cifar10", "cifar100"} <= set(shipped_suites())


@pytest.mark.parametrize("name", sorted(set(shipped_suites()) - OWN_DATA))
def test_shipped_suites_are_right_and_explain_themselves(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name == find_suite(name).stem
    assert suite.summary
    assert any(run.labels.reference_cell for run in suite.runs)
    assert find_suite(name).read_text().splitlines()[1].startswith("# ")


def test_quickstart_is_the_paper_in_small_with_its_controls() -> None:
    runs = load_suite("quickstart").runs
    labels = ["SB", "LB", "LB+LR", "LB+LR+GBN", "LB+LR+GBN+RA", "SB+4x epochs", "SB no norm", "LB no norm"]
    assert list(dict.fromkeys(run.labels.arm for run in runs)) == labels
    assert [run.spec.seed for run in runs] == [*range(8)] * 8
    assert all(run.spec.split_drawn and run.spec.split_seed == run.spec.seed for run in runs)
    assert [cell(runs, label).spec.updates for label in labels] == [1687, 52, 52, 52, 1687, 6750, 1687, 52]
    assert [cell(runs, label).spec.ghost_batch_size for label in labels] == [None, None, None, 16, 16, None, None, None]
    assert [label for label in labels if cell(runs, label).labels.reference_cell] == ["SB", "SB no norm"]


ONE_CHANGE = {
    "RA without GBN": ("LB+LR+GBN+RA", {"ghost_batch_size"}),
    "RA unscaled rate": ("LB+LR+GBN+RA", {"learning_rate"}),
    "RA scaled decay": ("LB+LR+GBN+RA", {"weight_decay"}),
    "RA same crops": ("LB+LR+GBN+RA", {"augmentation_epochs"}),
    "SB longer": ("SB", {"updates"}),
    "LB+noise paper": ("LB", {"gradient_noise"}),
    "LB+noise": ("LB", {"gradient_noise", "ghost_batch_size"}),
    "LB+linear": ("LB+LR", {"learning_rate", "warmup", "warmup_start"}),
    "SB no clip": ("SB", {"clip_norm"}),
    "LB+LR no clip": ("LB+LR", {"clip_norm"}),
    "SB no decay": ("SB", {"weight_decay"}),
    "LB+LR no decay": ("LB+LR", {"weight_decay"}),
    "SB recalibrated": ("SB", {"headline_statistics"}),
    "LB recalibrated": ("LB", {"headline_statistics"}),
    "LB+LR recalibrated": ("LB+LR", {"headline_statistics"}),
}
"""Controls: the arm that each is a control of, and the values in which alone it differs."""


@pytest.mark.parametrize("name", ["controls-digits", "controls-f1-mnist"])
def test_a_control_differs_from_what_it_controls_in_one_thing(name: str) -> None:
    runs = load_suite(name).runs
    assert len({run.run_id for run in runs}) == len(runs), "no control is another arm under another name"
    for label, (of, keys) in ONE_CHANGE.items():
        changed = differing(values_of(cell(runs, label).spec), values_of(cell(runs, of).spec))
        assert {key for key in changed if key != "running_statistics"} == keys, label
    small, adapted = cell(runs, "SB longer").spec, cell(runs, "LB+LR+GBN+RA").spec
    assert abs(small.examples - adapted.examples) <= 32 * adapted.batch_size
    held = {run.labels.arm: run.labels.reference for run in runs if run.labels.reference}
    assert held == {
        "LB+LR no clip": "SB no clip", "LB+LR no decay": "SB no decay",
        "LB recalibrated": "SB recalibrated", "LB+LR recalibrated": "SB recalibrated",
    }  # fmt: skip


def test_the_factorial_on_digits_is_a_whole_one_beside_its_small_batch() -> None:
    runs = load_suite("factorial-digits").runs
    levels = {tuple(run.labels.axes.values()) for run in runs if not run.labels.arm}
    assert len(levels) == 16
    assert [run.labels.cell for run in runs if run.labels.reference_cell and run.spec.seed == 0] == ["SB"]


def test_suites_of_the_paper_compare_128_with_4096() -> None:
    for name in ("mnist", "cifar10", "cifar100"):
        runs = load_suite(name).runs
        small, adapted = cell(runs, "SB").spec, cell(runs, "LB+LR+GBN+RA").spec
        assert (small.batch_size, adapted.batch_size, adapted.ghost_batch_size) == (128, 4096, 128)
        assert small.updates == adapted.updates


def test_loading_a_suite_imports_nothing_heavy() -> None:
    code = """
import sys
from gapbench import cost, suite
from gapbench.catalog import published
for run in suite.load_suite("cifar10").runs:
    cost.estimate(run.spec)
heavy = {"torch", "torchvision", "pandas", "scipy", "matplotlib", "pyarrow", "sklearn"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_suite_to_time_is_the_grid_that_it_says() -> None:
    runs = load_suite("speed-f1-mnist").runs
    assert len(runs) == 5 * 6 * 3
    assert len({run.run_id for run in runs}) == 5 * (5 * 3 + 1)
    assert {run.spec.model.name for run in runs} == {"f1"}
    assert {run.spec.train_examples for run in runs} == {10_000}
    assert {run.labels.regime for run in runs} == {"baseline", "sqrt-lr", "adapted"}


# The suite of the noise scale asks every batch size for as much, and looks often enough.

PASSAGE = 0.36
"""Fraction of the updates at which the easiest target is reached at a good rate, seen in trials."""


@pytest.fixture(scope="module")
def by_size() -> dict[int, list[RunSpec]]:
    found: dict[int, list[RunSpec]] = defaultdict(list)
    for run in load_suite("mnist-noise-scale").runs:
        found[run.spec.batch_size].append(run.spec)
    return dict(found)


def test_every_batch_size_has_as_many_rates_about_its_own_guess_and_as_many_seeds(by_size: dict[int, list[RunSpec]]) -> None:
    assert sorted(by_size) == [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    for size, specs in by_size.items():
        rates = sorted({spec.learning_rate for spec in specs})
        assert len(specs) == 15
        assert [rate / rates[0] for rate in rates] == pytest.approx([1, 2, 4, 8, 16])
        assert rates[2] == pytest.approx(0.3 / (1 + 64 / size), rel=0.1)


def test_all_runs_share_the_data_set_and_nothing_bends_their_steps(by_size: dict[int, list[RunSpec]]) -> None:
    specs = [spec for own in by_size.values() for spec in own]
    assert {spec.split_seed for spec in specs} == {0}
    assert {spec.optimizer.options["momentum"] for spec in specs} == {0.0}
    assert all(len(spec.phases) == 1 and spec.weight_decay == 0 and spec.clip_norm is None and not spec.crop_padding for spec in specs)


def test_two_evaluations_around_a_passage_are_close_to_each_other(by_size: dict[int, list[RunSpec]]) -> None:
    for specs in by_size.values():
        updates = evaluation_updates(specs[0].batches, specs[0].evaluations)
        after = next(update for update in updates if update >= PASSAGE * specs[0].updates)
        before = updates[updates.index(after) - 1]
        assert after - before <= max(1.0, 0.022 * after) + 1  # a whole update is the least
