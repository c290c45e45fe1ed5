"""The tuned suite: it extends, overrides cell by cell, says so, and means exactly what was found."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gapbench.core.errors import StoreError, SuiteError
from gapbench.suite import Suite, load_suite
from gapbench.suite.tunable import load_tunable
from gapbench.tuning import Trials, write_tuned_suite

from .conftest import Accuracy, best_at, flat_at, play
from .test_trials import ARMS

Make = Callable[..., Trials]


def written(search: Trials, rates: dict[int, float], accuracy: Callable[[dict[int, float]], Accuracy] = best_at) -> Suite:
    return write_tuned_suite(search, play(search, accuracy(rates)), Path("tuned.toml"))


def rates_of(suite: Suite) -> dict[str, float]:
    return {run.labels.cell: run.spec.learning_rate for run in suite.runs}


def references(suite: Suite) -> set[str]:
    return {run.labels.cell for run in suite.runs if run.labels.reference_cell}


def test_overrides_of_the_old_suite_stay_and_the_tuned_ones_come_last(trials: Make) -> None:
    old = '[[override]]\nwhere = { arm = "SB" }\nset = { learning_rate = 0.3, weight_decay = 0.001 }\n'
    suite = written(trials(ARMS + old), {16: 0.1, 512: 1.6})
    assert rates_of(suite) == {"SB": 0.1, "LB": 1.6, "LB+LR": 1.6, "LB+LR+RA": 1.6}
    assert {run.spec.weight_decay for run in suite.runs if run.labels.cell == "SB"} == {0.001}
    data = tomllib.loads(Path("tuned.toml").read_text(encoding="utf-8"))
    assert (data["extends"], data["name"]) == ("suite.toml", "suite-tuned")
    assert [override.get("tuned", False) for override in data["override"]] == [False, True, True, True, True]
    assert "arm" not in data


def test_cells_of_a_grid_are_told_apart_by_their_axes(trials: Make) -> None:
    text = """
    [run]
    recipe = "digits"
    split_seed = 0
    [grid]
    batch_size = [16, 128]
    ghost_batch_size = ["off", 16]
    budget = [{ kind = "epochs" }, { kind = "updates" }]
    model = [{ name = "mlp", norm = "batch" }, { name = "mlp", norm = "batch", widths = [64, 64] }]
    seed = [0, 1]
    """
    search = trials(text + "[tune]\nfolds = 1\n")
    tuned = play(search, lambda spec: 0.9 - 0.001 * abs(spec.learning_rate / spec.batch_size - 0.01 - 1e-5 * spec.updates))
    suite = write_tuned_suite(search, tuned, Path("tuned.toml"))
    best = {name: cell.rate for cell in tuned.cells for name in cell.cells}
    assert rates_of(suite) == best
    assert {run.labels.learning_rate_rule for run in suite.runs} == {"tuned"}


def cells_of(suite: Suite) -> dict[str, str]:
    """Returns what each cell of a suite is an alternative to; empty: nothing."""
    return {run.labels.cell: run.labels.alternative_to for run in suite.runs}


def test_the_ends_of_the_rates_that_cannot_be_told_apart_are_alternatives_and_no_reference(trials: Make) -> None:
    search = trials(ARMS)
    tuned = play(search, flat_at({16: 0.1, 512: 1.6}))
    suite = write_tuned_suite(search, tuned, Path("tuned.toml"))
    found = {cell.title: cell for cell in tuned.cells}["SB"]
    assert found.near == (0.05, 0.2)
    assert found.near_ends == (True, True)
    assert [tried.rate for tried in found.tried if tried.alike] == [0.05, 0.07071, 0.1, 0.1414, 0.2]
    alternatives = {name: rate for name, rate in rates_of(suite).items() if name.startswith("SB, rate")}
    assert alternatives == {f"SB, rate {rate:g}": rate for rate in found.near if rate != found.rate}
    assert {cells_of(suite)[name] for name in alternatives} == {"SB"}
    assert references(suite) == references(search.tunable.suite) == {"SB"}
    assert {run.labels.learning_rate_rule for run in suite.runs} == {"tuned"}
    assert {cells_of(suite)[name] for name in rates_of(suite) if name.startswith("LB")} == {"", "LB", "LB+LR+RA"}  # LB+LR shares LB's runs


def test_a_rate_that_diverged_is_no_end(trials: Make) -> None:
    search = trials(ARMS)
    flat = flat_at({16: 0.1, 512: 1.6})
    tuned = play(search, lambda spec: None if spec.learning_rate > 0.15 and spec.batch_size == 16 else flat(spec))
    suite = write_tuned_suite(search, tuned, Path("tuned.toml"))
    assert max(rate for name, rate in rates_of(suite).items() if name.startswith("SB")) < 0.15


def test_alternatives_to_grid_cells_and_to_the_cell_of_a_suite_of_one(trials: Make) -> None:
    grid = '[run]\nrecipe = "digits"\nsplit_seed = 0\n[grid]\nbatch_size = [16, 64]\nseed = [0, 1]\n'
    suite = written(trials(grid), {16: 0.1, 64: 0.4}, flat_at)
    assert set(cells_of(suite).values()) == {"", "B 16", "B 64"}
    assert references(suite) == {"B 16"}
    Path("tuned.toml").unlink()
    one = '[run]\nrecipe = "digits"\nsplit_seed = 0\nbatch_size = 16\n[grid]\nseed = [0, 1]\n'
    suite = written(trials(one), {16: 0.2}, flat_at)
    assert set(cells_of(suite).values()) == {"", "B 16"}
    assert references(suite) == {"B 16"}


def test_an_arm_with_open_axes_is_tuned_for_each_of_their_values(trials: Make) -> None:
    text = ARMS.replace("[grid]\n", 'batch_size = 64\n[grid]\nghost_batch_size = ["off", 16]\n')
    suite = written(trials(text), {16: 0.1, 64: 0.4, 512: 1.6}, flat_at)
    beside = [name for name, main in cells_of(suite).items() if main == "LB, ghost 16"]
    assert beside
    assert {run.spec.ghost_batch_size for run in suite.runs if run.labels.cell in beside} == {16}


def test_a_tuned_suite_is_not_tuned_again(trials: Make) -> None:
    written(trials(ARMS), {16: 0.1, 512: 1.6}, flat_at)
    with pytest.raises(SuiteError, match="tuned already"):
        load_tunable("tuned.toml")


def test_an_alternative_to_nothing_is_a_mistake(trials: Make) -> None:
    with pytest.raises(SuiteError, match=r'arm\[SB2\]\.alternative_to: unknown cell "SC"; known: LB'):
        trials(f'{ARMS}[[arm]]\nlabel = "SB2"\nbatch_size = 16\nalternative_to = "SC"\n')


def test_what_set_options_changed_stands_in_the_tuned_suite(trials: Make) -> None:
    search = trials(ARMS, epochs="7", **{"grid.seed": "0..4"})
    suite = written(search, {16: 0.1, 512: 1.6})
    assert suite.name == f"{search.tunable.suite.name}-tuned"
    own = {run.labels.cell: run.spec for run in search.tunable.suite.runs}
    assert {run.labels.cell: run.spec.updates for run in suite.runs} == {cell: spec.updates for cell, spec in own.items()}
    assert {run.spec.seed for run in suite.runs} == {0, 1, 2, 3, 4}


def test_a_shipped_suite_is_extended_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = Trials(load_tunable("quickstart", settings={"split_seed": "0"}))
    suite = written(search, {16: 0.1, 512: 1.6})
    assert 'extends = "quickstart"' in Path("tuned.toml").read_text(encoding="utf-8")
    assert {run.labels.learning_rate_rule for run in suite.runs} == {"tuned"}


def test_a_file_that_appears_meanwhile_is_not_written_over(trials: Make) -> None:
    search = trials(ARMS)
    Path("tuned.toml").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="exists already and is not written over"):
        written(search, {16: 0.1, 512: 1.6})
    assert Path("tuned.toml").read_text(encoding="utf-8") == "mine"


def test_the_tuned_label_needs_tuned_true_and_a_rate(trials: Make) -> None:
    trials(ARMS + '[[override]]\nwhere = { arm = "SB" }\nset = { learning_rate = 0.2 }\ntuned = true\n'
                  '[[override]]\nwhere = { arm = "LB" }\nset = { learning_rate = 0.2 }\n'
                  '[[override]]\nwhere = { arm = "LB+LR" }\nset = { weight_decay = 0.2 }\ntuned = true\n')  # fmt: skip
    rules = {run.labels.cell: run.labels.learning_rate_rule for run in load_suite("suite.toml").runs}
    assert rules == {"SB": "tuned", "LB": "untouched", "LB+LR": "sqrt", "LB+LR+RA": "sqrt"}  # LB has the rate of SB


def test_preset_fair_is_untuned_before_and_tuned_after(trials: Make) -> None:
    text = '[run]\nrecipe = "digits"\npreset = "fair"\nsplit_seed = 0\n[grid]\nbatch_size = [16, 64]\nseed = [0, 1]\n[tune]\nfolds = 1\n'
    search = trials(text)
    assert all("untuned" in run.labels.learning_rate_rule for run in search.tunable.suite.runs)
    suite = written(search, {16: 0.1, 64: 0.4})
    assert {run.labels.learning_rate_rule for run in suite.runs} == {"tuned"}
    assert references(suite) == references(search.tunable.suite)
