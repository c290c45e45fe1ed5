# ruff: noqa: E501 - messages stand on one line, as they are shown
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import load_suite

Mistakes = Callable[..., list[str]]
RUN = '[run]\nrecipe = "digits"\nbatch_size = 16\n'


def test_unknown_key_names_line_and_nearest_spelling(mistakes: Mistakes) -> None:
    (found,) = mistakes(f"{RUN}learning_rat = 0.1\n")
    assert found.startswith(
        'suite.toml:6: run.learning_rat: unknown key "learning_rat" (did you mean "learning_rate"?); known: augmentation_epochs, batch_size, '
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('dataset = "digit"', 'run.dataset: unknown dataset "digit" (did you mean "digits"?); known: cifar10, cifar100, digits, fashion-mnist, imagefolder, mnist, npz, svhn, svhn-extra'),
        ('model = "resnet44"', 'run.model: unknown model "resnet44" (did you mean "resnet"?); known: alexnet, autoencoder, c1, c3, cnn, f1, mlp, resnet, resnet-imagenet, variational-autoencoder, vgg, wresnet'),
        ('optimizer = "sdg"', 'run.optimizer: unknown optimizer "sdg" (did you mean "sgd"?); known: adam, adamw, lamb, lars, lion, muon, sgd'),
        ('regime = "adapt"', 'run.regime: unknown regime "adapt" (did you mean "adapted"?); known: adapted, adapted-same-augmentation, adapted-scaled-decay, adapted-unscaled-rate, adaptive, baseline, batch-ramp, linear-lr, longer, noise, noise-as-in-paper, sqrt-lr'),
        ('preset = "papers"', 'run.preset: unknown preset "papers" (did you mean "paper"?); known: code, fair, paper'),
        ('probes = ["weight_distanc"]', 'run.probes[0]: unknown probe "weight_distanc" (did you mean "weight_distance"?); known: batch_metrics, clipping, displacement_sketch, gradient_norm, hessian, landscape, learning_rate, noise_scale, noise_scale_stream, sharpness, weight_cosine, weight_distance, weight_norm'),
        ('probes = ["landscape"]', 'run.probes[0]: the probe "landscape" looks where weights are kept, and they are kept nowhere; set keep_weights = [0, 0.5, 1], or write {name = "landscape", at = [0, 0.5, 1]}'),
        ('probes = [{ name = "hessian", at = [2] }]', "run.probes[0].at: must be a list of numbers, at least 0, at most 1, not [2]"),
        ('probes = [{ name = "hessian", at = [1], exampels = 3 }]', 'run.probes[0].exampels: probe "hessian" has no option exampels (did you mean "examples"?); its options: at, examples, iterations, norm, tolerance, trace_vectors'),
        ('probes = [{ examples = 3 }]', 'run.probes[0]: must be the name of a probe in quotes or a table {name = "...", option = ...}, not {examples = 3}'),
        ('probes = ["weight_norm", { name = "weight_norm" }]', 'run.probes[1]: the probe "weight_norm" stands twice; its values would be two of one name'),
        ("learning_rate = -1", "run.learning_rate: must be greater than 0, not -1"),
        ("learning_rate = inf", "run.learning_rate: must be a finite number, not inf"),
        ('learning_rate = "0.1"', 'run.learning_rate: must be a number, not "0.1"'),
        ("ghost_batch_size = 0", 'run.ghost_batch_size: must be "off" or a whole number of at least 1, not 0'),
        ("ghost_batch_size = 3", 'run.ghost_batch_size: the ghost batch size 3 does not divide the batch size 16; choose a divisor, "off", or drop the run by [[exclude]]'),
        ("ghost_batch_size = 1", "run.ghost_batch_size: batch norm needs groups of two examples or more, not one"),
        ("reference_batch_size = 901", "run.reference_batch_size: the reference batch size 901 is larger than the training set (900 examples); choose a smaller one"),
        ("clip_norm = 0", 'run.clip_norm: must be "off" or a number greater than 0, not 0'),
        ("flip = 1", "run.flip: must be true or false, not 1"),
        ("epochs = 0.01", "run.epochs: 0.01 epochs of 900 examples make no update at batch size 16; train for longer"),
        ('budget = { kind = "epoch" }', 'run.budget.kind: must be one of "epochs", "updates", "examples", "gradients", not "epoch" (did you mean "epochs"?)'),
        ("epochs = 1e300", "run.epochs: 1e+300 epochs and this budget are more examples than can be counted (9223372036854775807); train shorter"),
        ('tail = "cut"', 'run.tail: must be one of "stream", "drop", "ragged", not "cut"'),
        ("holdout = 0.0001", "run.holdout: holdout = 0.0001 takes 0 of 900 training examples; it must take some and leave some"),
        ("model = { norm = \"bach\" }", 'run.model.norm: must be one of "batch", "group", "none", not "bach" (did you mean "batch"?)'),
        ("model = { width = [1] }", 'run.model.width: model "mlp" has no option width (did you mean "widths"?); its options: bias, norm, widths'),
        ("model = { widths = [0] }", "run.model.widths: must be a list of whole numbers, at least 1, not [0]"),
        ('model = { name = "resnet", depth = 45 }', "run.model.depth: must be a whole number, at least 8, of the form 6n + 2, not 45"),
        ('model = "c1"', 'run.model: model "c1" takes inputs of 32 x 32 x 3, and the data set has 8 x 8 x 1; choose another model'),
        ("dataset = { train_size = 901 }", "run.dataset.train_size: must be a whole number, at least 0, at most 900, not 901"),
        ("optimizer = { momentum = 0, nesterov = true }", "run.optimizer.nesterov: nesterov = true needs momentum > 0"),
        ("phases = [{ start = 0.5 }]", "run.phases: phases must begin at start = 0 and follow each other, not at 0.5"),
        ("phases = [{ factor = 0.5 }]", 'run.phases[0].factor: unknown key "factor" (did you mean "learning_rate_factor"?); known: batch_size_factor, learning_rate_factor, momentum, start, weight_decay'),
        ('normalization = "fixed"', 'run.normalization: kind = "fixed" needs mean = [...] and standard_deviation = [...] of the same length'),
        ("headline_evaluations = 13", "run.headline_evaluations: headline_evaluations is the mean of so many last evaluations, and there are only 12; set evaluations in [run]"),
        ("evaluations = 0", "run.evaluations: must be at least 1, not 0"),
        ("momentum = 0.5", 'run.momentum: unknown key "momentum": it is an option of the optimizer (sgd, lars, muon), so write optimizer = { momentum = ... }'),
    ],
)  # fmt: skip
def test_values_in_run_that_cannot_be(mistakes: Mistakes, text: str, expected: str) -> None:
    found = mistakes(f"{RUN}{text}\n")
    assert found == [f"suite.toml:6: {expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[grid]", "3: grid: the grid is empty; give at least one axis, such as seed = [0, 1, 2], or remove [grid]"),
        ("[grid]\nseed = []", "4: grid.seed: the axis seed is empty; give at least one value or remove it"),
        ("[grid]\nseed = [9223372036854775808]", "4: grid.seed[0]: must be at most 9223372036854775807, the largest whole number of a table, not 9223372036854775808"),
        ("[grid]\ninit_seed = [-9223372036854775809]", "4: grid.init_seed[0]: must be at most 9223372036854775807, the largest whole number of a table, not -9223372036854775809"),
        ('[grid]\nseed = "9223372036854775807..9223372036854775808"', '4: grid.seed: "9223372036854775807..9223372036854775808" goes beyond 9223372036854775807, the largest seed; choose smaller ones'),
        ("[grid]\nseed = 3", "4: grid.seed: an axis must be a list, such as [3], not 3"),
        ("[grid]\nseed = \"4..0\"", '4: grid.seed: must be a list or a range such as "0..4" (both ends included), not "4..0"'),
        ("[grid]\nseed = [1, 1]", "4: grid.seed[1]: 1 stands twice in the axis seed"),
        ("[grid]\nevaluations = [1]", "4: grid.evaluations: evaluations changes no number of a run, so it cannot be an axis; put it into [run]"),
        ("[grid]\nregime = ['baselin']", '4: grid.regime[0]: unknown regime "baselin" (did you mean "baseline"?); known: adapted, adapted-same-augmentation, adapted-scaled-decay, adapted-unscaled-rate, adaptive, baseline, batch-ramp, linear-lr, longer, noise, noise-as-in-paper, sqrt-lr'),
        ("[arm]\nlabel = 'A'", "3: arm: must be written as [[arm]], with two brackets"),
        ("[[arm]]\nbatch_size = 16", "3: arm[0]: needs the key label"),
        (
            '[run]\nrecipe = "digits"\nbatch_size = 16\nschedule = "cosine"\nphases = [{ start = 0.0, learning_rate_factor = 1.0 }]',
            '6: run.schedule: schedule = "cosine" and phases both say how the rate falls; choose one of them',
        ),
        ("[[arm]]\nlabel = 'A'\n[[arm]]\nlabel = 'A'", '6: arm[A].label: the label "A" stands twice; labels must be unique'),
        ("[[exclude]]\nbatch_size = 16", '3: exclude[0]: needs reason = "...": dropped runs are shown with it'),
        ("[[exclude]]\nreason = 'x'", "3: exclude[0]: needs at least one key that says which runs are dropped"),
        ("[[override]]\nwhere = {}\nset = {epochs = 1}", "3: override[0]: needs where = { key = value }"),
        ("[[override]]\nwhere = {batch_size = 16}\nset = {seed = 1}", "5: override[0].set.seed: the seed cannot be overridden; set init_seed, order_seed or split_seed"),
        ("[regimes.adapted]", '3: regimes.adapted: the regime "adapted" exists already; choose another name (see `gapbench ls regimes`)'),
        ("[report]\narms = ['LB']\n[[arm]]\nlabel = 'SB'", '4: report.arms[0]: unknown arm "LB"; known: SB'),
        ("[report]\nfigures = ['curves']", '4: report.figures[0]: must be one of "weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss", "accuracy_vs_final_loss", "factorial", not "curves" (did you mean "training_curves"?)'),
    ],
)  # fmt: skip
def test_sections_that_cannot_be(mistakes: Mistakes, text: str, expected: str) -> None:
    assert mistakes(f"{text}\n{RUN}")[0] == f"suite.toml:{expected}"


DIGITS = '[run]\nrecipe = "digits"\n'
NAMELESS = 'model = { norm = "none" }\noptimizer = "sgd"\nbatch_size = 4\nreference_batch_size = 4\nepochs = 1\nlearning_rate = 1\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"batch_size = 3\n{RUN}", ":3: batch_size: unknown key batch_size at the top of the file; it belongs to [run], [grid] or an [[arm]]"),
        (f'{RUN}[grid]\nseed = "0..99999999999"\n', ':7: grid.seed: "0..99999999999" are more than 100,000 seeds; choose a shorter range'),
        (f'{RUN}[grid]\nseed = "0..1000"\norder_seed = "0..1000"\n', ":6: grid: the suite has 1,002,001 runs; at most 100,000 make one suite"),
        (f"{RUN}[grid]\nbatch_size = [16, 32]\n", ":7: grid.batch_size: batch_size stands in [run] and in [grid]; a key stands in one of them"),
        (f'{DIGITS}[grid]\nbatch_size = [16, 1024]\nseed = "0..4"\n', ":6: grid.batch_size[1]: the batch size 1024 is larger than the training set (900 examples); choose a smaller one"),
        ('[run]\nmodel = "f1"\nbatch_size = 4\n', ":3: run: the run lacks dataset, optimizer, reference_batch_size, epochs, learning_rate; give them in [run], or name a recipe there"),
        (f'{DIGITS}[[arm]]\nlabel = "A"\n', ":5: arm[A]: the arm lacks batch_size; give it in [run], [grid] or the arm"),
        ('[run]\npreset = "paper"\nbatch_size = 4\n', ":4: run.preset: a preset is a version of a recipe, and there is none; name the recipe, or remove the preset"),
        (f'[run]\ndataset = "digits"\n{NAMELESS}', ':5: run.model: the model has options but no name; write model = { name = "...", ... }'),
        ("", ": the suite has no runs; give a [run], a [grid] or an [[arm]]"),
    ],
)  # fmt: skip
def test_suites_that_cannot_be(mistakes: Mistakes, text: str, expected: str) -> None:
    assert mistakes(text) == [f"suite.toml{expected}"]


def test_unknown_axis_names_the_nearest_field(mistakes: Mistakes) -> None:
    (found,) = mistakes(f'{RUN}[grid]\nregim = ["baseline"]\n')
    assert found.startswith(
        'suite.toml:7: grid.regim: unknown axis "regim" (did you mean "regime"?); known: augmentation_epochs, batch_size, '
    )


def test_excluded_runs_are_not_checked(load: Callable[..., object]) -> None:
    text = '[run]\nrecipe = "digits"\n[grid]\nbatch_size = [16, 512]\nghost_batch_size = ["off", 32]\n'
    load(f'{text}[[exclude]]\nbatch_size = 16\nghost_batch_size = 32\nreason = "larger than the batch"\n')


def test_every_mistake_is_told_at_once_in_the_order_of_lines(mistakes: Mistakes) -> None:
    found = mistakes(
        """
        [run]
        recipe = "digits"
        batch_size = 16
        learning_rat = 1
        weight_decay = -1
        [[arm]]
        label = "A"
        batch_siz = 16
        [[arm]]
        label = "B"
        regime = "sqrt"
        """
    )
    assert [text.split(":")[1] for text in found] == ["6", "7", "10", "13"]


def test_mistakes_of_two_arms_are_told_together_though_one_is_found_late(mistakes: Mistakes) -> None:
    found = mistakes('[run]\nrecipe = "digits"\n[[arm]]\nlabel = "A"\nbatch_size = "x"\n[[arm]]\nlabel = "B"\nbatch_size = 2000\n')
    assert [text.split(": ")[1] for text in found] == ["arm[A].batch_size", "arm[B].batch_size"]


def test_file_that_is_missing_lists_the_shipped_suites(write: Callable[..., Path]) -> None:
    with pytest.raises(
        SuiteError, match=r"^there is no suite file gone\.toml; name a \.toml file, or one of the shipped suites: .*quickstart"
    ):
        load_suite("gone.toml")
    with pytest.raises(SuiteError, match=r'^unknown suite "quikstart" \(did you mean "quickstart"\?\); known: '):
        load_suite("quikstart")


def test_directory_is_no_suite_but_hides_no_shipped_one(write: Callable[..., Path]) -> None:
    write("")
    Path("mine").mkdir()
    Path("quickstart").mkdir()
    with pytest.raises(SuiteError, match=r"^mine is a directory; name a \.toml file in it$"):
        load_suite("mine")
    assert load_suite("quickstart").name == "quickstart"


def test_file_that_is_not_toml_is_shown_with_its_line(mistakes: Mistakes) -> None:
    (found,) = mistakes("[run]\nrecipe = digits  # no quotes\n")
    assert found.startswith("suite.toml:4: is not TOML: invalid value")
    assert found.endswith("in: recipe = digits  # no quotes")
    (found,) = mistakes("[run]\nbatch_size = [1,\n")
    assert found.startswith("suite.toml:4: is not TOML: ")


def test_bytes_that_are_not_utf8_are_an_error(write: Callable[..., Path]) -> None:
    path = write("")
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(SuiteError, match=r"is not TOML: byte 8 is not UTF-8"):
        load_suite(path)


def test_header_is_needed_and_newer_schemas_are_refused(mistakes: Mistakes) -> None:
    assert mistakes(RUN, header=False) == ["suite.toml: needs the key schema", "suite.toml: needs the key name"]
    assert mistakes(f'schema = 2\nname = "x"\nfuture = 1\n{RUN}', header=False) == [
        "suite.toml:1: schema: the suite is of schema 2 and this gapbench knows schema 1; install a newer gapbench"
    ]
    (found,) = mistakes(f'schema = 1\nname = "Über allem"\n{RUN}', header=False)
    assert found.startswith("suite.toml:2: name: must consist of a-z, 0-9")
