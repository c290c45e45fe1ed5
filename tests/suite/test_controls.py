"""Controls resolve to the values that they stand for, and to none where they change nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import RunSpec, Suite, run_id
from gapbench.suite.runspec import GradientNoise

Load = Callable[..., Suite]
HEAD = '[run]\nrecipe = "digits"\n'


def one(load: Load, fields: str, rest: str = "") -> RunSpec:
    suite = load(f"{HEAD}{fields}\n{rest}")
    return suite.runs[0].spec


def test_noise_is_the_missing_covariance_and_keeps_the_small_batchs_rate(load: Load) -> None:
    spec = one(load, 'batch_size = 512\nregime = "noise"\nghost_batch_size = 16')
    assert spec.gradient_noise == GradientNoise(kind="multiplicative", variance=31.0, centred=True)
    assert (spec.learning_rate, spec.updates, spec.ghost_batch_size) == (0.1, 52, 16)
    paper = one(load, 'batch_size = 512\nregime = "noise-as-in-paper"')
    assert paper.gradient_noise == GradientNoise(kind="multiplicative", variance=31.0, centred=False)


def test_a_variance_can_be_given_and_a_run_may_name_noise_itself(load: Load) -> None:
    suite = load(f'{HEAD}batch_size = 64\ngradient_noise = {{ kind = "multiplicative", variance = 2.5 }}\n')
    assert suite.runs[0].spec.gradient_noise == GradientNoise(kind="multiplicative", variance=2.5, centred=True)
    assert suite.runs[0].labels.regime == "baseline, multiplicative gradient noise of variance 2.5"
    walk = one(load, 'batch_size = 64\ngradient_noise = { kind = "isotropic" }')
    assert walk.gradient_noise == GradientNoise(kind="isotropic")


def test_a_regime_that_says_nothing_of_noise_leaves_it_to_the_run(load: Load) -> None:
    arms = '[[arm]]\nlabel = "A"\nregime = "sqrt-lr"\n[[arm]]\nlabel = "B"\nregime = "noise-as-in-paper"\n'
    suite = load(f'{HEAD}batch_size = 64\ngradient_noise = {{ kind = "isotropic" }}\n{arms}')
    found = {run.labels.cell: run.spec.gradient_noise for run in suite.runs}
    assert found["A"] == GradientNoise(kind="isotropic")
    assert found["B"] == GradientNoise(kind="multiplicative", variance=3.0, centred=False)


@pytest.mark.parametrize("batch_size", [8, 16])
def test_there_is_no_noise_where_the_batch_is_no_larger_than_the_reference(load: Load, batch_size: int) -> None:
    noisy = one(load, f'batch_size = {batch_size}\nregime = "noise"')
    assert noisy.gradient_noise is None
    assert run_id(noisy) == run_id(one(load, f"batch_size = {batch_size}"))


def test_noise_with_batch_norm_over_the_whole_batch_is_warned_of(load: Load) -> None:
    def warned(fields: str) -> bool:
        suite = load(f"{HEAD}batch_size = 256\n{fields}\n")
        return any("only with ghost_batch_size = reference_batch_size" in warning for warning in suite.warnings)

    assert warned('regime = "noise"')
    assert not warned('regime = "noise"\nghost_batch_size = 16')
    assert not warned('regime = "noise"\nmodel = { norm = "none" }')
    assert not warned('regime = "noise-as-in-paper"')


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{ kind = "multiplicativ" }', "multiplicative"),
        ('{ kind = "isotropic", variance = 2.0 }', "variance and centred are only for"),
        ('{ kind = "multiplicative", variance = -1.0 }', "at least 0"),
        ('{ kind = "multiplicative", variance = "match" }', "matched"),
        ('{ kind = "none", sigma = 1.0 }', "sigma"),
    ],
)
def test_noise_that_cannot_be(load: Load, value: str, expected: str) -> None:
    with pytest.raises(SuiteError, match=expected):
        load(f"{HEAD}batch_size = 64\ngradient_noise = {value}\n")


def test_decay_that_follows_the_rate_keeps_rate_times_decay(load: Load) -> None:
    spec = one(load, 'batch_size = 512\nregime = "adapted-scaled-decay"')
    plain = one(load, 'batch_size = 512\nregime = "adapted"')
    assert spec.learning_rate * spec.weight_decay == pytest.approx(0.1 * 1e-4)
    assert spec.weight_decay == pytest.approx(plain.weight_decay / math.sqrt(32))
    assert (spec.learning_rate, spec.updates) == (plain.learning_rate, plain.updates)


def test_decay_of_phases_follows_too_and_what_an_override_sets_is_final(load: Load) -> None:
    phases = "phases = [{ start = 0.0 }, { start = 0.5, weight_decay = 1e-2 }]\n"
    spec = one(load, f'batch_size = 64\nlearning_rate_scaling = "linear"\nweight_decay_scaling = "inverse-learning-rate"\n{phases}')
    assert (spec.weight_decay, spec.phases[1].weight_decay) == (pytest.approx(2.5e-5), pytest.approx(2.5e-3))
    override = "[[override]]\nwhere = { batch_size = 64 }\nset = { weight_decay = 0.5 }\n"
    assert one(load, 'batch_size = 64\nregime = "adapted-scaled-decay"', override).weight_decay == 0.5
    rate = "[[override]]\nwhere = { batch_size = 64 }\nset = { learning_rate = 0.4 }\n"
    assert one(load, 'batch_size = 64\nregime = "adapted-scaled-decay"', rate).weight_decay == pytest.approx(2.5e-5)


def test_adaptation_on_the_same_augmentation_repeats_the_recipes_epochs(load: Load) -> None:
    augmented = "crop_padding = 1\n"
    assert one(load, f'batch_size = 512\nregime = "adapted-same-augmentation"\n{augmented}').augmentation_epochs == 30
    assert one(load, f'batch_size = 512\nregime = "adapted"\naugmentation_epochs = 7\n{augmented}').augmentation_epochs == 7
    assert one(load, f'batch_size = 512\nregime = "adapted-same-augmentation"\nepochs = 2.5\n{augmented}').augmentation_epochs == 3


def test_repeated_augmentation_is_none_where_nothing_comes_again(load: Load) -> None:
    assert one(load, "batch_size = 16\naugmentation_epochs = 30\ncrop_padding = 1").augmentation_epochs is None
    suite = load(f'{HEAD}batch_size = 512\nregime = "adapted-same-augmentation"\n')
    assert suite.runs[0].spec.augmentation_epochs is None
    assert any("without crops or flips" in warning for warning in suite.warnings)


def test_recalibration_of_a_model_without_norm_is_nothing(load: Load) -> None:
    assert one(load, 'batch_size = 16\nheadline_statistics = "recalibrated"').headline_statistics == "recalibrated"
    assert one(load, 'batch_size = 16\nheadline_statistics = "recalibrated"\nmodel = { norm = "none" }').headline_statistics == "running"


def test_longer_at_the_reference_batch_sees_what_a_batch_32_times_as_large_sees_adapted(load: Load) -> None:
    longer, adapted = one(load, 'batch_size = 16\nregime = "longer"'), one(load, 'batch_size = 512\nregime = "adapted"')
    assert abs(longer.examples - adapted.examples) < 2 * 512 * 16
    assert longer.learning_rate == 0.1


def test_controls_of_sampling_and_twins_are_values_of_the_run(load: Load) -> None:
    spec = one(load, 'batch_size = 16\nsampling = "replacement"\ninitial_perturbation = 1e-6')
    assert (spec.sampling, spec.initial_perturbation) == ("replacement", 1e-6)


def test_an_arm_may_be_held_against_another_arm(load: Load) -> None:
    arms = (
        '[[arm]]\nlabel = "SB"\nbatch_size = 16\n'
        '[[arm]]\nlabel = "SB unclipped"\nbatch_size = 16\nclip_norm = "off"\n'
        '[[arm]]\nlabel = "LB unclipped"\nbatch_size = 512\nclip_norm = "off"\nreference = "SB unclipped"\n'
    )
    suite = load(f"{HEAD}{arms}")
    assert {run.labels.cell: run.labels.reference for run in suite.runs} == {
        "SB": "", "SB unclipped": "", "LB unclipped": "SB unclipped",
    }  # fmt: skip
    plain = load(f"{HEAD}{arms.replace('reference = ', '# ')}")
    assert [run.run_id for run in plain.runs] == [run.run_id for run in suite.runs], "a label is no part of the identity"


def test_axes_that_an_arm_leaves_open_stand_in_the_name_of_its_reference(load: Load) -> None:
    arms = '[[arm]]\nlabel = "A"\nbatch_size = 16\n[[arm]]\nlabel = "B"\nbatch_size = 512\nreference = "A"\n'
    suite = load(f"{HEAD}batch_size = 16\n{arms}[grid]\nprecision = ['fp32', 'bf16']\n")
    assert {run.labels.cell: run.labels.reference for run in suite.runs if run.labels.arm == "B"} == {
        "B, fp32": "A, fp32", "B, bf16": "A, bf16",
    }  # fmt: skip


@pytest.mark.parametrize("label", ["SB unclip", "LB"])
def test_an_arm_is_held_against_another_one_that_exists(load: Load, label: str) -> None:
    arms = f'[[arm]]\nlabel = "SB unclipped"\nbatch_size = 16\n[[arm]]\nlabel = "LB"\nbatch_size = 512\nreference = "{label}"\n'
    with pytest.raises(SuiteError, match=rf'arm\[LB\].reference: unknown arm "{label}"'):
        load(f"{HEAD}{arms}")


def test_a_stratified_whole_is_the_whole(load: Load) -> None:
    plain, whole, part = (
        one(load, f"batch_size = 16\n{dataset}")
        for dataset in ("", "dataset = { stratified = true }", "dataset = { train_size = 300, stratified = true }")
    )  # fmt: skip
    assert run_id(plain) == run_id(whole)
    assert part.dataset.options["stratified"] is True
    assert run_id(part) != run_id(one(load, "batch_size = 16\ndataset = { train_size = 300 }"))


@pytest.mark.parametrize("probe", ["noise_scale", "noise_scale_stream"])
def test_a_noise_scale_needs_norm_groups_of_one_size_where_there_is_batch_norm(
    load: Load, mistakes: Callable[..., list[str]], probe: str
) -> None:
    fields = f'recipe = "digits"\nbatch_size = 64\nprobes = [{{ name = "{probe}"{", at = [1]" if probe == "noise_scale" else ""} }}]\n'
    (message,) = mistakes(f"[run]\n{fields}")
    assert f'the probe "{probe}" needs norm groups of a fixed size' in message
    assert "set ghost_batch_size = 32, at batch size 32, too, or train without batch norm" in message
    for more in ("ghost_batch_size = 16", 'model = { norm = "none" }', 'model = { norm = "group" }'):
        assert len(load(f"[run]\n{fields}{more}\n").runs) == 1
