"""What was changed against the recipe, as data: labels are made from it, and results that lack it tell it by their labels."""

from __future__ import annotations

import json
from collections.abc import Callable

from gapbench.store.schema import with_records
from gapbench.suite import Suite
from gapbench.suite.change import Change

Load = Callable[..., Suite]
SUITE = """
[run]
recipe = "digits"
[grid]
preset = ["paper", "code"]
batch_size = [16, 512]
regime = ["baseline", "sqrt-lr", "adapted"]
[[arm]]
label = "all of it, code"
preset = "code"
batch_size = 512
regime = "baseline"
ghost_batch_size = 16
momentum_reset = "never"
learning_rate_scaling = "sqrt"
learning_rate_factor = "momentum-gain"
budget = { kind = "examples", factor = 2, rounding = "epochs-up" }
gradient_noise = { kind = "isotropic" }
warmup = 0.1
[[arm]]
label = "half"
preset = "paper"
batch_size = 512
regime = "sqrt-lr"
learning_rate_factor = 0.5
[[arm]]
label = "by hand"
preset = "paper"
batch_size = 512
regime = "sqrt-lr"
[[override]]
where = { arm = "by hand" }
set = { learning_rate = 0.3 }
"""


def changes(suite: Suite) -> dict[str, Change]:
    return {run.labels.cell: run.labels.change for run in suite.runs}


def test_a_run_carries_what_was_changed_against_its_recipe(load: Load) -> None:
    found = changes(load(SUITE))
    changed = found["all of it, code"]
    assert (changed.preset, changed.regime, changed.budget, changed.budget_factor) == ("code", "baseline", "examples", 2.0)
    assert (changed.learning_rate_rule, changed.learning_rate_factor, changed.matched_gain) == ("sqrt", "momentum-gain", True)
    assert [*changed.beside] == [
        "learning_rate_scaling", "budget", "rounding", "warmup", "gradient_noise", "learning_rate_factor", "momentum_reset",
    ]  # fmt: skip
    assert changed.beside["momentum_reset"] == "never"
    assert (found["half"].learning_rate_rule, found["half"].learning_rate_factor) == ("sqrt", 0.5)
    assert found["by hand"].learning_rate_rule == "set"
    assert (found["paper, B 512, adapted"].budget, found["paper, B 512, adapted"].beside) == ("updates", {})


def test_labels_are_made_from_the_record(load: Load) -> None:
    suite = load(SUITE)
    assert all(run.labels.regime == run.labels.change.regime_label for run in suite.runs)
    assert all(run.labels.learning_rate_rule == run.labels.change.rate_label for run in suite.runs)
    assert changes(suite)["all of it, code"].regime_label == (
        "baseline, square-root rate, 2x examples, epochs rounded up, warmup 0.1, isotropic gradient noise, rate at matched gain, "
        "no momentum reset"
    )
    assert changes(suite)["all of it, code"].without_reset == (
        "baseline, square-root rate, 2x examples, epochs rounded up, warmup 0.1, isotropic gradient noise"
    )


def test_a_cell_is_as_its_recipe_with_the_presets_own_ghost_batch_size_or_none() -> None:
    assert Change().as_recipe(512, None)
    assert Change().as_recipe(512, 512)
    assert not Change().as_recipe(512, 16)
    assert Change(preset_ghost_batch_size=16).as_recipe(512, 16)
    assert Change(preset_ghost_batch_size=16).as_recipe(16, None)
    assert not Change(regime="sqrt-lr").as_recipe(512, None)
    assert not Change(beside={"momentum_reset": "epoch"}).as_recipe(512, None)


def test_a_cells_name_is_put_together_from_words_that_tell_their_field(load: Load) -> None:
    words = {run.labels.cell: run.labels.words for run in load(SUITE).runs}
    assert words["paper, B 16, sqrt-lr"] == {"preset": "paper", "batch_size": "B 16", "regime": "sqrt-lr"}
    assert words["all of it, code"] == {"arm": "all of it", "preset": "code"}
    assert all(cell == ", ".join(own.values()) for cell, own in words.items())


def test_results_without_records_tell_them_by_their_labels(load: Load) -> None:
    for run in load(SUITE).runs:
        labels = run.labels
        kept = {"batch_size": run.spec.batch_size, **labels.model_dump(exclude={"change", "words"})}
        found = with_records(kept)
        change, words = found["change"], found["words"]
        assert (change.regime_label, change.rate_label) == (labels.regime, labels.learning_rate_rule)
        assert change.as_recipe(512, None) == labels.change.as_recipe(512, None)
        for name in (
            "preset",
            "preset_ghost_batch_size",
            "regime",
            "budget",
            "budget_factor",
            "learning_rate_rule",
            "learning_rate_factor",
        ):
            assert getattr(change, name) == getattr(labels.change, name)
        assert change.beside.get("momentum_reset") == labels.change.beside.get("momentum_reset")
        assert ", ".join(words.values()) == labels.cell
        assert words.get("preset") == labels.words.get("preset")


def test_records_are_read_as_they_were_kept() -> None:
    change = Change(learning_rate_factor=0.1, beside={"learning_rate_factor": 0.1})
    found = with_records({"regime": "reworded", "change": change.model_dump_json(), "words": json.dumps({"arm": "LB"})})
    assert (found["change"], found["words"]) == (change, {"arm": "LB"})
