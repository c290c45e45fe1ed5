from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.suite import RunSpec, Suite, run_id
from gapbench.suite.runspec import (
    MIXED,
    NEUTRAL,
    Component,
    GradientNoise,
    Labels,
    PlannedRun,
    RunValues,
    differing,
    identity,
    values_by_cell,
    values_of,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "run_ids.json").read_text())
SPECS = {name: RunSpec.model_validate(entry["spec"]) for name, entry in GOLDEN.items()}
SPEC = SPECS["digits SB"]
Spec = Callable[..., RunSpec]


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_stay_what_they_were(name: str) -> None:
    """A failure here means that results of older versions would no longer be found. Raise a component's version instead."""
    assert run_id(SPECS[name]) == GOLDEN[name]["run_id"]


def test_fields_that_change_no_trained_number_are_no_part_of_the_identity() -> None:
    assert set(RunSpec.model_fields) - set(RunValues.model_fields) == {
        "seed", "train_examples", "reference_batch_size", "reference_updates", "reference_learning_rate", "split_drawn", "evaluations",
        "keep_weights", "probes", "time_limit_seconds", "test_evaluation",
    }  # fmt: skip


def test_neutral_values_are_frozen() -> None:
    """A failure here means that a default of RunValues was changed, and with it the ids of runs that have it or had it."""
    assert NEUTRAL == {
        "ghost_batch_size": None, "unramped_updates": None, "adaptive_batch": None, "tail": "stream", "warmup": 0.0, "warmup_start": 0.0,
        "phases": [{"start": 0.0, "learning_rate_factor": 1.0}], "weight_decay": 0.0, "weight_decay_on": "all", "clip_norm": None,
        "schedule": "phases", "label_smoothing": 0.0,
        "extrapolation": None,
        "momentum_reset": "never", "crop_padding": 0, "crop_fill": 0, "crop_size": 0, "crop_scale": 0.0, "flip": False,
        "normalization": {"kind": "global"}, "running_statistics": "mean", "norm_momentum": 0.1, "gradient_noise": None,
        "sampling": "permutation", "augmentation_epochs": None, "initial_perturbation": 0.0, "headline_statistics": "running",
        "precision": "fp32", "headline_evaluations": 1, "holdout": 0.0, "fold": 0, "init_seed": 0, "order_seed": 0, "split_seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"updates": 1},
        {"learning_rate": 0.05},
        {"ghost_batch_size": 4},
        {"tail": "drop"},
        {"tail": "ragged"},
        {"unramped_updates": 2000},
        {"phases": tuple(phase.model_copy(update={"batch_size_factor": 2.0}) for phase in SPEC.phases)},
        {"warmup": 0.1},
        {"phases": ()},
        {"weight_decay": 0.0},
        {"weight_decay_on": "matrices"},
        {"clip_norm": None},
        {"crop_padding": 1},
        {"crop_size": 4},
        {"crop_scale": 0.08},
        {"flip": True},
        {"running_statistics": "sequential"},
        {"norm_momentum": None},
        {"precision": "bf16"},
        {"gradient_noise": GradientNoise(kind="isotropic")},
        {"gradient_noise": GradientNoise(kind="multiplicative", variance=31.0, centred=True)},
        {"sampling": "replacement"},
        {"augmentation_epochs": 30},
        {"initial_perturbation": 1e-6},
        {"headline_statistics": "recalibrated"},
        {"headline_evaluations": 2},
        {"holdout": 0.1},
        {"fold": 1},
        {"init_seed": 1},
        {"order_seed": 1},
        {"split_seed": 1},
        {"dataset": SPEC.dataset.model_copy(update={"version": 2})},
        {"model": SPEC.model.model_copy(update={"options": {**SPEC.model.options, "bias": True}})},
        {"optimizer": SPEC.optimizer.model_copy(update={"options": {"momentum": 0.8, "nesterov": False}})},
    ],
)
def test_whatever_changes_the_numbers_changes_the_id(change: dict[str, Any]) -> None:
    assert run_id(SPEC.model_copy(update=change)) != run_id(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"evaluations": 60},
        {"keep_weights": (1.0,)},
        {"probes": ()},
        {"probes": (Component(name="hessian", options={"examples": 64}),)},
        {"time_limit_seconds": 5.0},
        {"reference_batch_size": 99},
        {"split_drawn": False},
        {"train_examples": 5},
    ],
)
def test_what_changes_no_number_does_not(change: dict[str, Any]) -> None:
    assert run_id(SPEC.model_copy(update=change)) == run_id(SPEC)


def test_values_equal_to_their_neutral_are_left_out() -> None:
    assert identity(SPECS["neutral"]) == {
        "dataset": {"name": "digits", "version": 1, "options": {}},
        "model": {"name": "f1", "version": 1, "options": {}},
        "optimizer": {"name": "sgd", "version": 1, "options": {"momentum": 0.9}},
        "batch_size": 16,
        "updates": 10,
        "learning_rate": 0.1,
    }


def test_new_option_with_its_neutral_value_keeps_the_id() -> None:
    older = SPEC.model.model_copy(update={"options": {name: value for name, value in SPEC.model.options.items() if name != "bias"}})
    assert run_id(SPEC.model_copy(update={"model": older})) == run_id(SPEC)


def test_models_from_before_the_option_norm_keep_their_ids() -> None:
    for name in ("f1", "c1", "c3", "resnet"):
        older = SPEC.model.model_copy(update={"name": name, "options": {"depth": 44} if name == "resnet" else {}})
        ids = {}
        for norm in ("batch", "group", "none"):
            model = older.model_copy(update={"options": {**older.options, "norm": norm}})
            ids[norm] = run_id(SPEC.model_copy(update={"model": model}))
        assert ids["batch"] == run_id(SPEC.model_copy(update={"model": older}))
        assert len(set(ids.values())) == 3


@given(st.randoms(use_true_random=False))
def test_order_of_keys_does_not_matter(shuffler: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, shuffled(item)) for key, item in value.items()]
            shuffler.shuffle(items)
            return dict(items)
        return value

    for name, entry in GOLDEN.items():
        assert run_id(RunSpec.model_validate(shuffled(entry["spec"]))) == entry["run_id"], name


@given(st.floats(1e-6, 10.0), st.integers(1, 4096), st.integers(0, 2**31))
def test_ids_survive_storage_and_are_file_names(learning_rate: float, batch_size: int, seed: int) -> None:
    spec = SPEC.model_copy(update={"learning_rate": learning_rate, "batch_size": batch_size, "order_seed": seed})
    name = run_id(spec)
    assert run_id(RunSpec.model_validate_json(spec.model_dump_json())) == name
    assert name == name.lower()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._+")
    assert len(name) < 120


def test_labels_and_names_of_regimes_do_not_count(load: Callable[..., Suite]) -> None:
    arms = '[[arm]]\nlabel = "A"\nregime = "sqrt-lr"\n[[arm]]\nlabel = "B"\nlearning_rate_scaling = "sqrt"\n'
    arms += '[[arm]]\nlabel = "C"\nregime = "mine"\n'
    suite = load(f'[run]\nrecipe = "digits"\nbatch_size = 64\n{arms}[regimes.mine]\nlearning_rate_scaling = "sqrt"\n')
    assert len({run.run_id for run in suite.runs}) == 1


def test_slug_tells_what_a_reader_wants_to_see() -> None:
    assert run_id(SPECS["digits LB+LR+GBN"]).startswith("digits-mlp-b512-g16-lr0.566-u52-s3-")
    assert run_id(SPEC.model_copy(update={"init_seed": 4})).startswith("digits-mlp-b16-lr0.1-u1687-i4-o0-")


def test_the_first_fold_and_a_look_at_the_test_set_are_no_part_of_the_identity_and_another_fold_is() -> None:
    base = SPEC
    assert run_id(base.model_copy(update={"fold": 0, "test_evaluation": False})) == run_id(base)
    assert run_id(base.model_copy(update={"holdout": 0.2, "fold": 1})) != run_id(base.model_copy(update={"holdout": 0.2}))


# A cell is its effective values: what a label says does not count, and what differs is said as people write it.


def planned(spec: Spec, cell: str = "SB", **changes: Any) -> PlannedRun:
    one = spec(**changes)
    return PlannedRun(run_id=run_id(one), spec=one, labels=Labels(suite="s", cell=cell))


def test_runs_that_differ_only_in_their_seeds_have_the_same_values(spec: Spec) -> None:
    assert values_of(spec(seed=0)) == values_of(spec(seed=3, split_seed=3))
    assert values_of(spec(init_seed=4)) == values_of(spec(order_seed=5))


@pytest.mark.parametrize(
    ("changes", "key", "texts"),
    [
        ({"learning_rate": 0.2}, "learning_rate", ("0.1", "0.2")),
        ({"ghost_batch_size": 10}, "ghost_batch_size", ("off", "10")),
        ({"weight_decay": 0.0}, "weight_decay", ("0.001", "0.0")),
        ({"norm_momentum": None}, "norm_momentum", ("0.1", "not set")),
        ({"precision": "bf16"}, "precision", ("fp32", "bf16")),
        (
            {"model": Component(name="mlp", options={"widths": [16, 8], "norm": "batch", "bias": False})},
            "model.widths",
            ("[16,16]", "[16,8]"),
        ),
        (
            {"model": Component(name="mlp", version=2, options={"widths": [16, 16], "norm": "batch", "bias": False})},
            "model.version",
            ("1", "2"),
        ),
    ],
)
def test_what_differs_is_named_with_both_values(spec: Spec, changes: dict[str, Any], key: str, texts: tuple[str, str]) -> None:
    first, second = values_of(spec()), values_of(spec(**changes))
    assert differing(first, second) == {key: texts}
    assert differing(second, first) == {key: texts[::-1]}


def test_a_cell_whose_override_touches_one_seed_says_so(spec: Spec) -> None:
    runs = [planned(spec, seed=0, learning_rate=0.3), planned(spec, seed=1), planned(spec, "LB", seed=0)]
    values = values_by_cell(runs)
    assert values["SB"][MIXED] == ['{"learning_rate":0.1}', '{"learning_rate":0.3}']
    assert differing(values["LB"], values["SB"])[MIXED][0] == "the same for all seeds"
    assert "batch_size" in values["SB"]
