from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import load_suite

Write = Callable[..., Path]

BASE = """
[run]
recipe = "digits"
batch_size = 16
model = { name = "mlp", widths = [32, 32], norm = "none" }
budget = { kind = "epochs", factor = 4 }

[grid]
seed = "0..4"
regime = ["baseline", "sqrt-lr"]

[[exclude]]
regime = "sqrt-lr"
reason = "from the base"

[regimes.short]
budget = { kind = "epochs", factor = 0.5 }
"""


def test_tables_merge_lists_replace_and_the_child_wins(write: Write) -> None:
    write(BASE, "base.toml")
    suite = load_suite(write('extends = "base.toml"\n[run]\nlearning_rate = 0.05\n[grid]\nseed = [7]\n[regimes.short]\nwarmup = 0.1\n'))
    assert suite.name == "suite"
    (run,) = suite.runs
    assert (run.spec.learning_rate, run.spec.batch_size, run.spec.seed) == (0.05, 16, 7)
    assert suite.document["regimes"]["short"] == {"budget": {"kind": "epochs", "factor": 0.5}, "warmup": 0.1}
    assert "extends" not in suite.document


def test_excludes_append(write: Write) -> None:
    write(BASE, "base.toml")
    suite = load_suite(write('extends = "base.toml"\n[[exclude]]\nseed = [1, 2]\nreason = "from the child"\n'))
    assert [run.spec.seed for run in suite.runs] == [0, 3, 4]
    assert sorted({run.reason for run in suite.dropped}) == ["from the base", "from the child"]


def test_arms_of_the_child_replace_those_of_the_parent(write: Write) -> None:
    write('[run]\nrecipe = "digits"\n[[arm]]\nlabel = "A"\nbatch_size = 16\n[[arm]]\nlabel = "B"\nbatch_size = 32\n', "base.toml")
    suite = load_suite(write('extends = "base.toml"\n[[arm]]\nlabel = "C"\nbatch_size = 64\n'))
    assert [run.labels.arm for run in suite.runs] == ["C"]


def test_named_component_of_the_child_begins_anew_and_an_unnamed_one_changes_options(write: Write) -> None:
    write(BASE, "base.toml")
    changed = load_suite(write('extends = "base.toml"\n[run]\nmodel = { norm = "batch" }\n[grid]\nseed = [0]\n'))
    assert changed.runs[0].spec.model.options == {"widths": [32, 32], "norm": "batch", "bias": False}
    anew = load_suite(write('extends = "base.toml"\n[run]\nmodel = { name = "mlp", bias = true }\n[grid]\nseed = [0]\n'))
    assert anew.runs[0].spec.model.options == {"widths": [128, 128, 128], "norm": "batch", "bias": True}


def test_budget_is_one_value_that_the_child_replaces(write: Write) -> None:
    write(BASE, "base.toml")
    suite = load_suite(write('extends = "base.toml"\n[run]\nbudget = { kind = "updates" }\nregime = "baseline"\n[grid]\nseed = [0]\n'))
    assert suite.runs[0].spec.updates == 1687


def test_what_the_child_varies_is_no_longer_fixed_by_its_parent(write: Write) -> None:
    write(BASE, "base.toml")
    suite = load_suite(write('extends = "base.toml"\n[run]\nseed = 3\n[grid]\nbatch_size = [16, 32]\n'))
    assert sorted({(run.spec.batch_size, run.spec.seed) for run in suite.runs}) == [(16, 3), (32, 3)]


def test_mistakes_in_the_extended_file_name_that_file_and_its_line(write: Write) -> None:
    write('[run]\nrecipe = "digits"\nbatch_size = 16\nweight_decay = -1\n[[exclude]]\nsed = 1\nreason = "x"\n', "shared/base.toml")
    path = write('extends = "shared/base.toml"\n[run]\nlearning_rate = 0\n[[exclude]]\nseeds = 1\nreason = "x"\n')
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    places = [problem.place for problem in caught.value.problems]
    assert places == [
        "shared/base.toml:6: run.weight_decay",
        "shared/base.toml:8: exclude[0].sed",
        "suite.toml:5: run.learning_rate",
        "suite.toml:7: exclude[1].seeds",
    ]


def test_extending_oneself_shows_the_cycle(write: Write) -> None:
    write('extends = "b.toml"\n', "a.toml")
    write('extends = "a.toml"\n', "b.toml")
    with pytest.raises(SuiteError) as caught:
        load_suite("a.toml")
    assert str(caught.value) == "b.toml:3: extends: a suite cannot extend itself: a.toml -> b.toml -> a.toml; remove one `extends`"


def test_missing_parent_is_shown_where_it_is_named(write: Write) -> None:
    with pytest.raises(SuiteError, match=r"^suite\.toml:3: extends: there is no suite file gone\.toml; "):
        load_suite(write('extends = "gone.toml"\n'))


def test_every_file_has_its_own_name(write: Write) -> None:
    write(BASE, "base.toml")
    with pytest.raises(SuiteError) as caught:
        load_suite(write('schema = 1\nextends = "base.toml"\n', header=False))
    assert str(caught.value) == "suite.toml: needs the key name"


def test_resolved_suite_gives_the_same_runs_from_anywhere(write: Write, tmp_path: Path) -> None:
    write(BASE, "base.toml")
    suite = load_suite(write('extends = "base.toml"\n[[exclude]]\nseed = 2\nreason = "x"\n'), settings={"epochs": "2", "grid.seed": "0..3"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "suite.toml").write_text(suite.resolved_toml())
    again = load_suite(elsewhere / "suite.toml")
    assert again.name == suite.name
    assert again.runs == suite.runs
    assert again.dropped == suite.dropped
    assert "extends" not in tomllib.loads(suite.resolved_toml())


def test_a_shipped_suite_is_extended_by_its_name_unless_a_file_of_that_name_is_there(write: Callable[..., Path]) -> None:
    own = write('extends = "quickstart"\n[run]\nepochs = 2\n')
    assert {run.labels.recipe for run in load_suite(own).runs} == {"digits"}
    assert len(load_suite(own).runs) == len(load_suite("quickstart").runs)
    write('[run]\nrecipe = "digits"\nbatch_size = 16\n', "quickstart")
    assert len(load_suite(own).runs) == 1
