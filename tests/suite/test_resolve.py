from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from gapbench.suite import Component, PlannedRun, Suite
from gapbench.suite.runspec import Phase

Load = Callable[..., Suite]
DIGITS = '[run]\nrecipe = "digits"\n'
BARE = """
[run]
dataset = "digits"
model = "f1"
optimizer = { name = "adamw", beta2 = 0.99 }
batch_size = 64
reference_batch_size = 32
epochs = 2
learning_rate = 0.001
"""


def only_run(suite: Suite) -> PlannedRun:
    (run,) = suite.runs
    return run


def test_suite_needs_no_recipe(load: Load) -> None:
    run = only_run(load(BARE))
    assert run.spec.optimizer == Component(name="adamw", options={"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8})
    assert (run.spec.updates, run.spec.reference_updates) == (28, 56)
    assert (run.labels.recipe, run.labels.preset, run.labels.regime) == ("", "", "baseline")


def test_merge_order_is_recipe_preset_run_arm_override(load: Load) -> None:
    text = '[run]\nrecipe = "hoffer2017/f1-mnist"\nepochs = 10\nweight_decay = 0.1\nclip_norm = 1\n'
    text += '[[arm]]\nlabel = "A"\nbatch_size = 128\nweight_decay = 0.2\nclip_norm = 2\n'
    text += '[[override]]\nwhere = { arm = "A" }\nset = { clip_norm = 3 }\n'
    spec = only_run(load(text)).spec
    assert spec.dataset.name == "mnist"  # recipe
    assert spec.crop_padding == 2  # preset
    assert spec.updates == 10 * 60000 // 128  # [run]
    assert spec.weight_decay == 0.2  # arm
    assert spec.clip_norm == 3.0  # override


def test_quickstart_arms_of_the_digits_recipe(load: Load) -> None:
    text = f'{DIGITS}[grid]\nbatch_size = [512]\nregime = ["baseline", "sqrt-lr", "linear-lr", "adapted"]\n'
    baseline, sqrt, linear, adapted = (run.spec for run in load(text).runs)
    assert (baseline.updates, sqrt.updates, linear.updates, adapted.updates) == (52, 52, 52, 1687)
    assert baseline.learning_rate == 0.1
    assert sqrt.learning_rate == adapted.learning_rate == 0.1 * math.sqrt(32)
    assert linear.learning_rate == pytest.approx(3.2)
    assert (linear.warmup, linear.warmup_start) == (0.05, pytest.approx(1 / 32))
    assert (sqrt.warmup, sqrt.warmup_start) == (0.0, 0.0)


def test_linear_rule_warms_up_only_towards_a_higher_rate(load: Load) -> None:
    text = f'{DIGITS}regime = "linear-lr"\n[grid]\nbatch_size = [8, 16, 32]\n'
    assert [(run.spec.warmup, run.spec.warmup_start) for run in load(text).runs] == [(0.0, 0.0), (0.0, 0.0), (0.05, 0.5)]


def test_regime_fields_beside_a_regime_or_above_it_win_and_show_in_its_label(load: Load) -> None:
    arms = '[[arm]]\nlabel = "A"\nregime = "adapted"\nbudget = { kind = "epochs", factor = 2 }\n'
    arms += '[[arm]]\nlabel = "B"\nlearning_rate_scaling = "linear"\nwarmup = 0.1\nwarmup_start = 0.25\n'
    first, second = load(f"{DIGITS}batch_size = 32\n{arms}").runs
    assert (first.labels.regime, first.labels.budget, first.labels.learning_rate_rule) == ("adapted, 2x epochs", "epochs", "sqrt")
    assert first.spec.updates == 1687
    assert second.labels.regime == "baseline, linear rate, warmup 0.1, warmup start 0.25"
    assert (second.spec.warmup, second.spec.warmup_start) == (0.1, 0.25)


def test_regime_named_above_a_field_replaces_it(load: Load) -> None:
    text = f'{DIGITS}batch_size = 32\nbudget = {{ kind = "updates" }}\nwarmup = 0.2\n[grid]\nregime = ["baseline", "linear-lr"]\n'
    baseline, linear = load(text).runs
    assert (baseline.spec.updates, baseline.spec.warmup) == (843, 0.2)  # baseline has a budget and says nothing of warmup
    assert (linear.spec.updates, linear.spec.warmup) == (843, 0.05)


def test_own_regimes_have_the_same_fields(load: Load) -> None:
    regime = '[regimes.mine]\nlearning_rate_scaling = "sqrt"\nwarmup = 0.1\nwarmup_start = "reference"\n'
    regime += 'budget = { kind = "examples", factor = 2 }\n'
    run = only_run(load(f'{DIGITS}batch_size = 64\nregime = "mine"\n{regime}'))
    assert (run.labels.regime, run.labels.budget) == ("mine", "examples")
    assert run.spec.updates == 1687 * 16 * 2 // 64
    assert (run.spec.learning_rate, run.spec.warmup, run.spec.warmup_start) == (0.2, 0.1, 0.5)


def test_ghost_of_the_whole_batch_is_off(load: Load) -> None:
    runs = load(f'{DIGITS}[grid]\nbatch_size = [32]\nghost_batch_size = ["off", 32, 16]\n').runs
    assert [run.spec.ghost_batch_size for run in runs] == [None, None, 16]
    assert runs[0].run_id == runs[1].run_id != runs[2].run_id


def test_what_has_no_effect_is_neutral(load: Load) -> None:
    plain = only_run(load(f"{DIGITS}batch_size = 32\n"))
    odd = 'running_statistics = "sequential"\ncrop_fill = 9\nwarmup_start = 0.3\nsplit_seed = "seed"\n'
    odd += "phases = [{ start = 0, weight_decay = 1e-4, momentum = 0.9 }, { start = 0.5, learning_rate_factor = 0.1 },"
    odd += "{ start = 0.75, learning_rate_factor = 0.01 }]\n"
    assert only_run(load(f"{DIGITS}batch_size = 32\n{odd}")).run_id == plain.run_id
    no_norm = f'{DIGITS}batch_size = 32\nmodel = {{ norm = "none" }}\n'
    with_norm_fields = only_run(load(f"{no_norm}ghost_batch_size = 8\nnorm_momentum = 0.5\n"))
    assert with_norm_fields.run_id == only_run(load(no_norm)).run_id
    no_decay = f"{DIGITS}batch_size = 32\nweight_decay = 0\n"
    assert only_run(load(f'{no_decay}weight_decay_on = "matrices"\n')).run_id == only_run(load(no_decay)).run_id


def test_words_stand_for_what_toml_cannot_say(load: Load) -> None:
    spec = only_run(load(f'{DIGITS}batch_size = 32\nclip_norm = "off"\nnorm_momentum = "cumulative"\nghost_batch_size = "off"\n')).spec
    assert (spec.clip_norm, spec.norm_momentum, spec.ghost_batch_size) == (None, None, None)


def test_drawn_splits_follow_the_seed(load: Load) -> None:
    spec = only_run(load(f"{DIGITS}batch_size = 16\nseed = 5\n")).spec
    assert (spec.init_seed, spec.order_seed, spec.split_seed, spec.split_drawn) == (5, 5, 5, True)
    fixed = only_run(load(f"{DIGITS}batch_size = 16\nseed = 5\nsplit_seed = 1\n")).spec
    assert (fixed.split_seed, fixed.split_drawn) == (1, False)


def test_official_splits_are_fixed_unless_a_subset_follows_the_seed(load: Load) -> None:
    mnist = '[run]\nrecipe = "hoffer2017/f1-mnist"\nbatch_size = 128\nseed = 5\n'
    for text, expected in [
        ("", (0, False)),
        ("split_seed = 3\n", (0, False)),  # nothing is drawn, so it has no effect
        ("dataset = { train_size = 1000 }\n", (0, False)),
        ('dataset = { train_size = 1000 }\nsplit_seed = "seed"\n', (5, True)),
        ("dataset = { train_size = 1000 }\n[grid]\nsplit_seed = [7]\n", (7, True)),
    ]:
        spec = only_run(load(mnist + text)).spec
        assert (spec.split_seed, spec.split_drawn) == expected, text


def test_training_examples_are_what_subsets_and_holdout_leave(load: Load) -> None:
    spec = only_run(load('[run]\nrecipe = "hoffer2017/f1-mnist"\nbatch_size = 128\nholdout = 0.1\ndataset = { train_size = 1001 }\n')).spec
    assert spec.train_examples == 901
    assert spec.updates == 50 * 901 // 128


def test_all_arms_have_the_same_number_of_evaluations(load: Load) -> None:
    arms = '[[arm]]\nlabel = "A"\nbatch_size = 16\n[[arm]]\nlabel = "B"\nbatch_size = 512\nepochs = 300\nregime = "adapted"\n'
    assert {run.spec.evaluations for run in load(f"{DIGITS}{arms}").runs} == {12}
    assert {run.spec.evaluations for run in load(f"{DIGITS}evaluations = 33\n{arms}").runs} == {33}


def test_probes_are_the_default_ones_unless_named(load: Load) -> None:
    assert "weight_distance" in only_run(load(f"{DIGITS}batch_size = 16\n")).spec.probes
    named = only_run(load(f'{DIGITS}batch_size = 16\nprobes = ["weight_norm"]\nkeep_weights = [0, 0.5, 1]\n')).spec
    assert (named.probes, named.keep_weights) == (("weight_norm",), (0.0, 0.5, 1.0))


def test_a_probe_with_options_has_them_all_and_changes_no_id(load: Load) -> None:
    plain, asked = (
        only_run(load(f"{DIGITS}batch_size = 16\nprobes = {probes}\nkeep_weights = [1]\n"))
        for probes in ('["hessian"]', '["weight_norm", { name = "hessian", examples = 64, at = [0, 0.5] }]')
    )
    assert plain.spec.probe_options == {"hessian": {}}
    wanted = {"examples": 64, "norm": "train", "tolerance": 0.01, "iterations": 20, "trace_vectors": 16, "at": [0.0, 0.5]}
    assert asked.spec.probe_options == {"weight_norm": {}, "hessian": wanted}
    assert plain.run_id == asked.run_id
    assert type(asked.spec).model_validate_json(asked.spec.model_dump_json()) == asked.spec


@pytest.mark.parametrize(
    ("recipe", "options", "updates", "learning_rate", "momentum"),
    [
        ("hoffer2017/f1-mnist", {}, 23437, 0.1, 0.9),
        ("hoffer2017/c1-cifar10", {}, 78125, 0.01, 0.0),
        ("hoffer2017/c3-cifar100", {}, 78125, 0.01, 0.0),
        ("hoffer2017/resnet44-cifar10", {"depth": 44}, 39062, 0.1, 0.9),
        ("hoffer2017/vgg-cifar10", {"depth": 16, "dropout": True}, 78125, 0.1, 0.9),
    ],
)
def test_paper_presets_train_as_the_paper(
    load: Load, recipe: str, options: dict[str, Any], updates: int, learning_rate: float, momentum: float
) -> None:
    run = only_run(load(f'[run]\nrecipe = "{recipe}"\nbatch_size = 4096\nghost_batch_size = 128\nregime = "adapted"\n'))
    spec = run.spec
    assert run.labels.preset == "paper"
    assert spec.model.options == {**options, "norm": "batch"}
    assert spec.updates == updates
    assert spec.learning_rate == learning_rate * math.sqrt(32)
    assert spec.optimizer.options == {"momentum": momentum, "nesterov": False}
    assert (spec.clip_norm, spec.running_statistics, spec.weight_decay_on, spec.crop_fill) == (5.0, "sequential", "all", 0)
    assert spec.flip == ("cifar" in recipe)


def test_every_seed_resolves_as_it_does_alone(load: Load) -> None:
    """Seeds of a cell are resolved from its first one: an override that meets some of them must not be lost."""
    overrides = {
        1: "[[override]]\nwhere = { seed = 1 }\nset = { epochs = 2, order_seed = 7 }\n",
        2: "[[override]]\nwhere = { seed = 2 }\nset = { init_seed = 9, split_seed = 4 }\n",
    }
    text = DIGITS + "[grid]\nbatch_size = [32, 64]\nseed = [{}]\n"
    together = load(text.format("0, 1, 2, 3") + "".join(overrides.values())).runs
    alone = [run for seed in range(4) for run in load(text.format(seed) + overrides.get(seed, "")).runs]
    assert {run.run_id: run.spec for run in together} == {run.run_id: run.spec for run in alone}
    assert [run.spec.order_seed for run in together] == [0, 7, 2, 3] * 2


DIGITS_RUN = '[run]\nrecipe = "digits"\nbatch_size = 16\n'


def test_a_schedule_by_name_replaces_the_phases_below_it_and_not_those_above(load) -> None:
    (cosine,), (constant,), (phases,) = (
        load(DIGITS_RUN + text).runs
        for text in (
            'schedule = "cosine"\n',
            'schedule = "constant"\n',
            'schedule = "cosine"\n[[arm]]\nlabel = "A"\nphases = [{ start = 0.0, learning_rate_factor = 0.5 }]\n',
        )
    )
    assert (cosine.spec.schedule, cosine.spec.phases) == ("cosine", (Phase(),))
    assert (constant.spec.schedule, constant.spec.phases) == ("phases", (Phase(),))
    assert (phases.spec.schedule, phases.spec.phases[0].learning_rate_factor) == ("phases", 0.5)
    (plain,) = load(DIGITS_RUN + "phases = [{ start = 0.0, learning_rate_factor = 1.0 }]\n").runs
    assert plain.run_id == constant.run_id  # equal runs have equal ids, however they are written
    assert cosine.run_id != plain.run_id
