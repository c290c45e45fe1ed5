"""Recipes, and what sets preset `code` and preset `fair` apart from `paper`: one claim each."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from gapbench import catalog
from gapbench.catalog import Budget, RecipeEntry
from gapbench.optimizers import schedule
from gapbench.suite import RunSpec, Suite
from gapbench.suite.batches import plain, updates_of_budget, updates_of_epochs
from gapbench.suite.plan import spec_of
from gapbench.suite.regime import momentum_gain
from gapbench.suite.resolve import REQUIRED
from gapbench.suite.schema import RunFields

Load = Callable[..., Suite]
RESNET, F1, C1, C3 = (f"hoffer2017/{name}" for name in ("resnet44-cifar10", "f1-mnist", "c1-cifar10", "c3-cifar100"))
HOFFER = (RESNET, F1, C1, C3)


def one(load: Load, recipe: str, preset: str, rest: str = "", batch_size: int = 4096) -> RunSpec:
    (run,) = load(f'[run]\nrecipe = "{recipe}"\npreset = "{preset}"\nbatch_size = {batch_size}\n{rest}').runs
    return run.spec


def code_updates(batch_size: int, *, adapted: bool, base: int = 128) -> int:
    """Of ResNet-44 as the released code counts: 100 epochs of 50,000 images, short last batches included."""
    return updates_of_budget(
        Budget(kind="updates" if adapted else "epochs", rounding="epochs-up"),
        epochs=100, examples=50000, batch_size=batch_size, reference_batch_size=128, tail="ragged", scaling_batch_size=base,
    )  # fmt: skip


def test_every_recipe_has_its_presets() -> None:
    """McCandlish et al. 2018 released no code."""
    for recipe in catalog.recipes().values():
        wanted = {"paper", "fair"} if recipe.name.startswith("mccandlish2018/") else {"paper", "code", "fair"}
        assert wanted <= set(recipe.presets), recipe.name
        assert {name for name, preset in recipe.presets.items() if preset.needs_tuning} == {"fair"}


def test_every_value_of_code_and_fair_has_a_note() -> None:
    for recipe in catalog.recipes().values():
        for name in {"code", "fair"} & set(recipe.presets):
            own = {field for field, value in recipe.presets[name].fields.items() if value != recipe.presets["paper"].fields.get(field)}
            assert own <= set(recipe.presets[name].notes), (recipe.name, name)


def test_a_preset_has_what_it_extends_but_no_note_on_what_it_replaces() -> None:
    paper = {"summary": "first", "fields": {"flip": False, "epochs": 2}, "notes": {"flip": "paper", "epochs": "paper"}}
    code = {"summary": "second", "extends": "paper", "fields": {"flip": True}}
    recipe = RecipeEntry(name="r", summary="", fields={}, presets={"code": code, "paper": paper})  # type: ignore[dict-item]
    assert recipe.presets["code"].fields == {"flip": True, "epochs": 2}
    assert recipe.presets["code"].notes == {"epochs": "paper"}


# Preset code: the steps and rates of its two scripts.


@pytest.mark.parametrize(
    ("batch_size", "adapted", "base", "updates", "drop"),
    [
        (128, False, 128, 39100, 31671),
        (2048, False, 128, 2500, 2025),
        (4096, False, 128, 1300, 1053),
        (2048, True, 128, 40000, 32400),
        (4096, True, 128, 41600, 33696),
        (4096, True, 256, 20800, 16848),
    ],
)
def test_updates_and_the_drop_are_where_the_code_has_them(
    spec: Any, batch_size: int, adapted: bool, base: int, updates: int, drop: int
) -> None:
    """Its regime counts in whole epochs, and 81 of 100 of them are the same update as the fraction 0.81 of the updates."""
    assert code_updates(batch_size, adapted=adapted, base=base) == updates
    phases = ({"start": 0.0}, {"start": 0.81, "learning_rate_factor": 0.1})
    rates = schedule(spec(updates=updates, phases=phases, learning_rate=1.0)).learning_rate
    assert (rates[drop - 1], rates[drop]) == (1.0, 0.1)
    per_epoch = math.ceil(50000 / batch_size)
    assert drop == 81 * (updates // 100 // per_epoch) * per_epoch


def test_the_codes_rounding_is_six_percent_more_updates_than_the_papers_rule() -> None:
    exact = updates_of_budget(Budget(kind="updates"), epochs=100, examples=50000, batch_size=4096, reference_batch_size=128, tail="stream")
    assert (exact, code_updates(4096, adapted=True)) == (39062, 41600)


def test_rounded_up_epochs_are_whole_whatever_the_kind_of_budget() -> None:
    def updates(kind: str, epochs: float, factor: float = 1.0) -> int:
        budget = Budget(kind=kind, factor=factor, rounding="epochs-up")  # type: ignore[arg-type]
        return updates_of_budget(budget, epochs=epochs, examples=100, batch_size=50, reference_batch_size=16, tail="ragged")

    assert updates("epochs", 1.5) == 2 * 2
    assert updates("examples", 2, factor=1.1) == 3 * 2
    assert updates("updates", 2) == 8 * 2  # ceil(50 / 16) = 4 times 2 epochs


@pytest.mark.parametrize(
    ("batch_size", "ghost", "rate"),
    [
        (128, "off", 0.1 * math.sqrt(0.5)),
        (2048, "off", 0.1 * math.sqrt(8)),
        (4096, "off", 0.4),
        (128, 128, 0.1),
        (2048, 128, 0.4),
        (4096, 128, 0.1 * math.sqrt(32)),
        (2048, 256, 0.1 * math.sqrt(8)),
        (4096, 256, 0.4),
    ],
)
def test_rates_scale_from_256_without_ghost_batch_norm_and_from_its_size_with_it(
    load: Load, batch_size: int, ghost: str | int, rate: float
) -> None:
    shown = f'"{ghost}"' if ghost == "off" else ghost
    spec = one(load, RESNET, "code", f'regime = "sqrt-lr"\nghost_batch_size = {shown}\n', batch_size)
    assert spec.learning_rate == pytest.approx(rate, rel=1e-12)


def test_the_base_batch_leaves_rates_alone_that_nothing_scales(load: Load) -> None:
    assert one(load, RESNET, "code", batch_size=128).learning_rate == 0.1
    assert one(load, RESNET, "code").learning_rate == 0.1
    assert one(load, RESNET, "paper", 'regime = "sqrt-lr"\n').learning_rate == 0.1 * math.sqrt(32)


def test_regime_adaptation_multiplies_epochs_by_the_scripts_own_base(load: Load) -> None:
    with_ghost = one(load, RESNET, "code", 'regime = "adapted"\nghost_batch_size = 128\n')
    without = one(load, RESNET, "code", 'regime = "adapted"\n')
    assert with_ghost.updates == updates_of_epochs(Fraction(3200), 50000, 4096, with_ghost.tail)
    assert without.updates == updates_of_epochs(Fraction(1600), 50000, 4096, without.tail)


def test_the_code_forgets_momentum_at_every_epoch(load: Load) -> None:
    assert [one(load, recipe, "code").momentum_reset for recipe in (RESNET, F1)] == ["epoch", "epoch"]
    assert [one(load, recipe, "paper").momentum_reset for recipe in (RESNET, F1)] == ["never", "never"]


def test_without_momentum_there_is_nothing_to_forget(load: Load) -> None:
    """C1 and C3 train without momentum, so their resets change no number and no id."""
    assert [one(load, recipe, "code").momentum_reset for recipe in (C1, C3)] == ["never", "never"]


def test_the_code_mirrors_digits(load: Load) -> None:
    assert (one(load, F1, "code").flip, one(load, F1, "paper").flip) == (True, False)


@pytest.mark.parametrize("recipe", [RESNET, C1, C3])
def test_the_code_pads_with_gray_and_takes_imagenets_statistics(load: Load, recipe: str) -> None:
    code, paper = one(load, recipe, "code"), one(load, recipe, "paper")
    assert (code.crop_fill, paper.crop_fill) == (127, 0)
    assert (code.normalization.kind, paper.normalization.kind) == ("fixed", "channel")
    assert code.normalization.mean == (0.485, 0.456, 0.406)
    assert code.normalization.standard_deviation == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("recipe", HOFFER)
@pytest.mark.parametrize("rest", ["", 'regime = "sqrt-lr"\n', 'regime = "adapted"\nghost_batch_size = 128\n'])
def test_the_code_clips_at_five_in_every_arm(load: Load, recipe: str, rest: str) -> None:
    assert one(load, recipe, "code", rest).clip_norm == 5.0


# The control of the momentum reset.


@pytest.mark.parametrize(("updates_an_epoch", "gain"), [(391, 0.98), (25, 0.67), (13, 0.48), (10, 0.414)])
def test_momentums_gain_with_a_reset_is_the_formulas(updates_an_epoch: int, gain: float) -> None:
    n = updates_an_epoch
    found = momentum_gain(0.9, plain(100, 30 * n, 100 * n, "ragged").epoch_starts(100 * n), 30 * n)
    assert found == pytest.approx((n - 9 * (1 - 0.9**n)) / n)
    assert found == pytest.approx(gain, abs=0.005)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("tail", ["stream", "drop", "ragged"])
def test_momentums_gain_is_how_far_a_constant_gradient_moves(momentum: float, tail: str) -> None:
    starts, updates, velocity, moved = plain(24, 47, 100, tail).epoch_starts(100), 47, 0.0, 0.0
    for update in range(updates):
        velocity = momentum * (0.0 if update in starts else velocity) + (1 - momentum)
        moved += velocity
    assert momentum_gain(momentum, starts, updates) == pytest.approx(moved / updates)


CONTROL = 'momentum_reset = "never"\nlearning_rate_factor = "momentum-gain"\n'


def test_matched_gain_multiplies_the_scaled_rate_and_shows_in_labels_and_ids(load: Load) -> None:
    arms = f'[[arm]]\nlabel = "none"\nmomentum_reset = "never"\n[[arm]]\nlabel = "matched"\n{CONTROL}'
    arms += f'[[arm]]\nlabel = "matched, sqrt"\nregime = "sqrt-lr"\n{CONTROL}[[arm]]\nlabel = "half"\nlearning_rate_factor = 0.5\n'
    suite = load(f'[run]\nrecipe = "{RESNET}"\npreset = "code"\nbatch_size = 4096\n{arms}')
    by_arm = {run.labels.arm: run for run in suite.runs}
    spec = by_arm["matched"].spec
    gain = momentum_gain(0.9, plain(4096, spec.updates, 50000, spec.tail).epoch_starts(50000), spec.updates)
    assert spec.learning_rate == 0.1 * gain == pytest.approx(0.047, abs=0.0015)
    assert by_arm["matched, sqrt"].spec.learning_rate == pytest.approx(0.4 * gain)
    assert by_arm["half"].spec.learning_rate == 0.05
    assert [run.labels.learning_rate_rule for run in suite.runs] == ["untouched", "matched gain", "sqrt, matched gain", "times 0.5"]
    assert [run.labels.regime for run in suite.runs] == [
        "baseline, no momentum reset",
        "baseline, rate at matched gain, no momentum reset",
        "sqrt-lr, rate at matched gain, no momentum reset",
        "baseline, rate times 0.5",
    ]
    assert len({run.run_id for run in suite.runs}) == 4
    assert "-lr0.05-" in by_arm["half"].run_id


def test_a_factor_and_the_rate_that_it_comes_to_are_one_run(load: Load) -> None:
    arms = '[[arm]]\nlabel = "A"\nlearning_rate_factor = 0.5\n[[arm]]\nlabel = "B"\nlearning_rate = 0.05\n'
    first, second = load(f'[run]\nrecipe = "digits"\nbatch_size = 64\n{arms}').runs
    assert first.run_id == second.run_id


def test_an_overridden_rate_is_final_unless_the_override_has_a_factor_of_its_own(load: Load) -> None:
    text = '[run]\nrecipe = "digits"\nbatch_size = 64\nlearning_rate_factor = 0.5\n'
    rule = "[[override]]\nwhere = { batch_size = 64 }\nset = { learning_rate = 0.3"
    (final,) = load(f"{text}{rule} }}\n").runs
    assert (final.spec.learning_rate, final.labels.learning_rate_rule) == (0.3, "set")
    (multiplied,) = load(f"{text}{rule}, learning_rate_factor = 0.1 }}\n").runs
    assert multiplied.spec.learning_rate == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ('optimizer = "adamw"\nlearning_rate_factor = "momentum-gain"\n', 'the optimizer "adamw" has none; give a number'),
        (
            'phases = [{ start = 0 }, { start = 0.5, momentum = 0.5 }]\nlearning_rate_factor = "momentum-gain"\n',
            "is of one momentum, and the phases have several",
        ),
        ("learning_rate_factor = 0\n", 'must be "momentum-gain" or a number greater than 0, not 0'),
        ('scaling_batch_size = "ghost"\n', 'must be "reference", a whole number of at least 1, or a table'),
        ("scaling_batch_size = { with_ghost = 3 }\n", "scaling_batch_size"),
        ("minimum_warmup_updates = 60\nepochs = 1\n", "a warmup of 60 updates is not shorter than the run, which makes 14"),
        ('budget = { rounding = "up" }\n', 'must be one of "down", "epochs-up", not "up"'),
        ('momentum_reset = "batch"\n', 'must be one of "never", "epoch", not "batch"'),
    ],
)
def test_values_that_cannot_be_get_one_error(load: Load, rest: str, message: str) -> None:
    with pytest.raises(Exception, match=r"suite\.toml") as caught:
        load(f'[run]\nrecipe = "digits"\nbatch_size = 64\n{rest}')
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_resets_axis_holds_every_cell_against_the_one_without(load: Load) -> None:
    suite = load('[run]\nrecipe = "digits"\n[grid]\nbatch_size = [16, 64]\nmomentum_reset = ["never", "epoch"]\n')
    assert [run.labels.reference_cell for run in suite.runs] == [True, False, False, False]
    assert [run.labels.regime for run in suite.runs] == ["baseline", "baseline, momentum reset"] * 2


# Preset fair.


@pytest.mark.parametrize("recipe", [*HOFFER, "digits"])
def test_fair_does_not_clip_and_decays_matrices_only(load: Load, recipe: str) -> None:
    spec = one(load, recipe, "fair", batch_size=512)
    assert (spec.clip_norm, spec.weight_decay_on) == (None, "matrices")
    assert spec.weight_decay == one(load, recipe, "paper", batch_size=512).weight_decay


@pytest.mark.parametrize("recipe", [*HOFFER, "digits"])
def test_fair_has_one_ghost_batch_size_for_all_batch_sizes_and_holds_them_against_it(load: Load, recipe: str) -> None:
    reference = 16 if recipe == "digits" else 128
    suite = load(f'[run]\nrecipe = "{recipe}"\npreset = "fair"\n[grid]\nbatch_size = [{reference}, 256, 512]\n')
    assert len({run.spec.ghost_batch_size or run.spec.batch_size for run in suite.runs}) == 1
    assert [run.labels.reference_cell for run in suite.runs] == [True, False, False]


def test_fair_without_its_ghost_batch_size_is_no_reference_cell(load: Load) -> None:
    suite = load(f'[run]\nrecipe = "{F1}"\npreset = "fair"\nbatch_size = 128\n[grid]\nghost_batch_size = [32, "off"]\n')
    assert [run.labels.reference_cell for run in suite.runs] == [True, False]


@pytest.mark.parametrize(
    ("batch_size", "fraction"),
    [(128, 0.05), (1024, 0.05), (4096, 50 / 1220), (8192, 50 / 610)],
)
def test_fair_warms_up_for_five_percent_and_at_least_five_times_momentums_gain(load: Load, batch_size: int, fraction: float) -> None:
    """5 / (1 - 0.9) = 50 updates."""
    spec = one(load, RESNET, "fair", batch_size=batch_size)
    assert spec.warmup == max(0.05, fraction)
    assert spec.warmup_start == 0.0
    assert one(load, C1, "fair", batch_size=batch_size).warmup == 0.05  # without momentum: 5 updates


def test_the_least_warmup_follows_the_runs_own_momentum(load: Load) -> None:
    rest = 'learning_rate = 0.001\noptimizer = { name = "adamw", beta1 = 0.95 }\n'
    spec = one(load, "digits", "fair", rest, batch_size=64)
    assert spec.warmup * spec.updates == pytest.approx(100)


@pytest.mark.parametrize(("batch_size", "evaluations"), [(16, 5), (256, 5), (512, 1)])
def test_fair_reports_five_late_evaluations_where_there_are_a_hundred_updates(load: Load, batch_size: int, evaluations: int) -> None:
    spec = one(load, "digits", "fair", batch_size=batch_size)
    assert (spec.updates >= 100) == (evaluations == 5)
    assert spec.headline_evaluations == evaluations


def test_fair_is_called_untuned_until_its_rate_is_set(load: Load) -> None:
    text = '[run]\nrecipe = "digits"\npreset = "fair"\n[grid]\nbatch_size = [16, 64]\nregime = ["baseline", "sqrt-lr"]\n'
    suite = load(text)
    assert [run.labels.learning_rate_rule for run in suite.runs] == ["untouched, untuned", "sqrt, untuned"] * 2
    assert any("preset fair is untuned" in warning for warning in suite.warnings)
    tuned = load(f"{text}[[override]]\nwhere = {{ batch_size = 64 }}\nset = {{ learning_rate = 0.2 }}\n")
    assert [run.labels.learning_rate_rule for run in tuned.runs] == ["untouched, untuned", "sqrt, untuned", "set", "set"]
    everywhere = load(f"{text}[[override]]\nwhere = {{ batch_size = [16, 64] }}\nset = {{ learning_rate = 0.2 }}\n")
    assert {run.labels.learning_rate_rule for run in everywhere.runs} == {"untouched"}  # it is the reference cell's
    assert not any("untuned" in warning for warning in everywhere.warnings)


def test_a_warmup_that_outlasts_the_first_phase_is_warned_of(load: Load) -> None:
    suite = load('[run]\nrecipe = "digits"\npreset = "fair"\nbatch_size = 512\n')
    assert any("a warmup of 50 updates reaches beyond the first phase of 26" in warning for warning in suite.warnings)


# Budgets take their rounding from the recipe where they do not say.


def test_a_budgets_own_rounding_wins_over_the_presets_and_shows(load: Load) -> None:
    text = '[run]\nrecipe = "digits"\npreset = "code"\nepochs = 30.5\nbatch_size = 512\nregime = "adapted"\nghost_batch_size = 16\n'
    (preset,) = load(text).runs
    (own,) = load(f'{text}budget = {{ kind = "updates", rounding = "down" }}\n').runs
    assert preset.labels.regime == "adapted"
    assert own.labels.regime == "adapted, updates rounded down"
    assert own.spec.updates == own.spec.reference_updates == updates_of_epochs(Fraction(61, 2), 900, 16, own.spec.tail)
    assert preset.spec.updates == updates_of_epochs(Fraction(976), 900, 512, preset.spec.tail)  # 30.5 times 32


# Recipes.


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, recipe in catalog.recipes().items() for preset in recipe.presets])
def test_recipes_are_complete_and_of_the_schema(name: str, preset: str) -> None:
    recipe = catalog.recipes()[name]
    fields = {**recipe.fields, **recipe.presets[preset].fields}
    RunFields.model_validate(fields, strict=True)
    assert set(REQUIRED) - set(fields) == {"batch_size"}


MCCANDLISH = [name for name in catalog.recipes() if name.startswith("mccandlish2018/")]


@pytest.mark.parametrize("name", MCCANDLISH)
def test_every_value_of_a_paper_without_code_says_whether_it_is_the_papers(name: str) -> None:
    recipe = catalog.recipes()[name]
    paper = recipe.presets["paper"]
    assert {*recipe.fields, *paper.fields} - set(paper.notes) <= {"dataset"}
    assert all("chosen here" in note or note.startswith("paper:") for field, note in paper.notes.items() if field != "dataset")


@pytest.mark.parametrize("name", MCCANDLISH)
def test_the_noise_scale_is_defined_for_every_workload_of_its_paper(name: str) -> None:
    """Without batch norm, or with one ghost batch size for every batch size."""
    recipe = catalog.recipes()[name]
    entry = catalog.models()[recipe.fields["model"]["name"]]  # type: ignore[index, call-overload]
    assert not entry.has_batch_norm({}) or isinstance(recipe.fields["ghost_batch_size"], int)


def test_the_rate_of_svhn_is_the_papers_rule() -> None:
    recipe = catalog.recipes()["mccandlish2018/cnn-svhn"]
    batch = recipe.fields["reference_batch_size"]
    assert isinstance(batch, int)
    assert recipe.fields["learning_rate"] == pytest.approx(0.27 * batch / (96 + batch))


# What the released code makes of each row, counted by hand: an epoch has ceil(N / B) updates, the last one of what is left; regime
# adaptation multiplies the epochs by ceil(B / 128). A new SGD at every epoch forgets momentum 0.9; with momentum 0 there is none to forget.
RELEASED = {
    "digits": (16, 512, 16, 30 * 57, 30 * 2, 30 * 32 * 2, "epoch"),
    "hoffer2017/f1-mnist": (128, 4096, 128, 50 * 469, 50 * 15, 50 * 32 * 15, "epoch"),
    "hoffer2017/c1-cifar10": (128, 4096, 128, 200 * 391, 200 * 13, 200 * 32 * 13, "never"),
    "hoffer2017/c3-cifar100": (128, 4096, 128, 200 * 391, 200 * 13, 200 * 32 * 13, "never"),
    "hoffer2017/resnet44-cifar10": (128, 4096, 128, 100 * 391, 100 * 13, 100 * 32 * 13, "epoch"),
    "hoffer2017/vgg-cifar10": (128, 4096, 128, 200 * 391, 200 * 13, 200 * 32 * 13, "epoch"),
    "hoffer2017/wresnet16-4-cifar100": (256, 4096, 128, 200 * 196, 200 * 13, 200 * 32 * 13, "epoch"),
}
"""By recipe: small, large and ghost batch size; updates of SB, of LB, of regime adaptation; momentum reset."""


@pytest.mark.parametrize("recipe", RELEASED)
def test_preset_code_makes_the_updates_of_the_released_code(recipe: str) -> None:
    small, large, ghost, of_small, of_large, adapted, reset = RELEASED[recipe]
    own = {"recipe": recipe, "preset": "code"}
    sb, lb = (spec_of({**own, "batch_size": size}) for size in (small, large))
    ra = spec_of({**own, "batch_size": large, "regime": "adapted", "ghost_batch_size": ghost})
    assert [(one.updates, one.tail, one.momentum_reset) for one in (sb, lb, ra)] == [
        (updates, "ragged", reset) for updates in (of_small, of_large, adapted)
    ]


def test_every_preset_code_says_tail_reset_and_rounding() -> None:
    presets = {name: recipe.presets["code"] for name, recipe in catalog.recipes().items() if "code" in recipe.presets}
    # Of two recipes the data are the user's.
    assert set(presets) == {*RELEASED, "hoffer2017/alexnet-imagenet", "hoffer2017/resnet50-imagenet"}
    for preset in presets.values():
        assert (preset.fields["tail"], preset.fields["momentum_reset"]) == ("ragged", "epoch")
        assert preset.fields["budget"] == {"rounding": "epochs-up"}
