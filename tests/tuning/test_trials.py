"""From a suite to trials: which cells are tuned together, around which rates, on which parts of the training set, with which values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import load_suite
from gapbench.suite.runspec import identity
from gapbench.tuning import Point, Trials

from .conftest import best_at, play

Make = Callable[..., Trials]

ARMS = """
[run]
recipe = "digits"
split_seed = 0
[grid]
seed = "0..2"
[[arm]]
label = "SB"
batch_size = 16
[[arm]]
label = "LB"
batch_size = 512
[[arm]]
label = "LB+LR"
batch_size = 512
regime = "sqrt-lr"
[[arm]]
label = "LB+LR+RA"
batch_size = 512
regime = "adapted"
"""


def test_cells_that_differ_in_the_learning_rate_only_are_tuned_once_and_budgets_by_themselves(trials: Make) -> None:
    assert list(trials(ARMS).spaces) == ["SB", "LB = LB+LR", "LB+LR+RA"]


def test_grids_hold_the_square_root_and_the_linear_guess_of_every_batch_size(trials: Make) -> None:
    search = trials(ARMS)
    for space in search.spaces.values():
        rates = [search.rate(space, point.power) for point in search.rules.grid(space.centre).points(1)]
        ratio = space.cells[0].run.spec.batch_size / 16
        assert len(rates) == 7
        assert rates[0] <= 0.1 * ratio**0.5 <= rates[-1]
        assert rates[0] <= 0.1 * ratio <= rates[-1]


def test_a_trial_is_the_run_of_the_tuned_suite_but_for_seeds_and_the_held_out_part(trials: Make) -> None:
    text = ARMS.replace('regime = "adapted"', 'regime = "linear-lr"')
    search = trials(text)
    for title, space in search.spaces.items():
        for power in (-2, 1, 6):
            trial = search.of_point(title, Point(power), "check")[0].spec
            rate = search.rate(space, power)
            for cell in space.cells:
                override = f'[[override]]\nwhere = {{ arm = "{cell.name}" }}\nset = {{ learning_rate = {rate} }}\n'
                trials(text + override)
                final = next(run.spec for run in load_suite("suite.toml").runs if run.labels.cell == cell.name)
                own, other = identity(trial), identity(final)
                for name in ("init_seed", "order_seed", "holdout", "updates"):
                    own.pop(name, None)
                    other.pop(name, None)
                assert own == other


def test_trials_keep_a_part_of_the_training_set_and_leave_the_test_set_alone(trials: Make) -> None:
    search = trials(ARMS)
    for trial in search.of_point("SB", Point(0), "trial"):
        assert not trial.spec.test_evaluation
        assert (trial.spec.holdout, trial.spec.train_examples, trial.spec.split_seed) == (0.2, 720, 0)
        assert trial.spec.probes == trial.spec.keep_weights == ()


def test_trials_train_for_as_many_epochs_of_fewer_examples(trials: Make) -> None:
    search = trials(ARMS, epochs="10")
    assert search.of_point("SB", Point(0), "trial")[0].spec.updates == 450  # of 720 examples; of 900 they are 562


def test_as_many_parts_are_held_out_in_turn_as_make_up_a_test_set(trials: Make) -> None:
    assert trials(ARMS).folds == 5
    assert [trial.fold for trial in trials(ARMS).of_point("SB", Point(0), "trial")] == [0, 1, 2, 3, 4]
    assert trials(ARMS + "[tune]\nfolds = 2\n").folds == 2
    assert trials(ARMS + "[tune]\nholdout = 0.4\n").folds == 2
    assert trials(ARMS + "[tune]\nholdout = 0.1\n").folds == 10
    mnist = '[run]\nrecipe = "hoffer2017/f1-mnist"\n[grid]\nbatch_size = [128, 256]\nseed = [0]\n'
    assert trials(mnist).folds == 1


def test_check_seeds_are_fresh_and_the_trials_seeds_do_not_depend_on_those_of_the_suite(trials: Make) -> None:
    search = trials(ARMS)
    seeds = {stage: {trial.spec.init_seed for trial in search.of_point("SB", Point(0), stage)} for stage in ("trial", "check")}
    assert seeds == {"trial": {1000}, "check": {1001, 1002, 1003}}
    assert trials(ARMS, **{"grid.seed": '"0..8"'}).check_seeds == (1001, 1002, 1003, 1004, 1005)  # half as many as cells have
    assert trials(f"{ARMS}[tune]\ncheck_seeds = [7, 8]\n").check_seeds == (7, 8)


def test_momentum_weight_decay_and_warmup_are_searched_among_the_values_given(trials: Make) -> None:
    tune = """
    [tune]
    search = ["learning_rate", "momentum", "weight_decay", "warmup"]
    trials = 5
    folds = 1
    momentum = [0.8, 0.9]
    weight_decay = [0.0, 1e-4]
    warmup = [0.0, 0.1]
    """
    search = trials(ARMS + tune)
    points = search.rules.grid(0).points(search.rules.others)
    specs = [search.of_point("SB", point, "trial")[0].spec for point in points]
    found = {(spec.optimizer.option("momentum"), spec.weight_decay, spec.warmup, spec.learning_rate) for spec in specs}
    assert len(found) == len(points) == 5 * 8
    best = play(search, lambda spec: 0.9 + 0.01 * (spec.optimizer.option("momentum") == 0.8) - 0.001 * abs(spec.learning_rate - 0.1))
    assert {cell.title: cell.other["momentum"] for cell in best.cells} == dict.fromkeys(search.spaces, 0.8)
    assert all("momentum" in cell.other_at_edge for cell in best.cells)


def test_without_the_learning_rate_only_the_named_values_are_tried_at_the_rates_of_the_suite(trials: Make) -> None:
    search = trials(ARMS + '[tune]\nsearch = ["momentum"]\nmomentum = [0.8, 0.9, 0.95]\nfolds = 1\n')
    assert list(search.spaces) == ["SB", "LB", "LB+LR", "LB+LR+RA"]
    tuned = play(search, lambda spec: 0.9 + float(spec.optimizer.option("momentum")) / 100)
    assert {cell.title: cell.rate for cell in tuned.cells}["LB+LR"] == pytest.approx(0.1 * 32**0.5)
    assert {cell.interior for cell in tuned.cells} == {None}
    assert {cell.trials for cell in tuned.cells} == {3}


BARE = '[run]\nrecipe = "digits"\nsplit_seed = 0\nbatch_size = 16\n'
MOMENTUM = '[tune]\nsearch = ["momentum"]\nmomentum = [0.8, 0.9]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{BARE}[grid]\nlearning_rate = [0.1, 0.2]\n", "is an axis of the grid and is searched"),
        (f"{BARE}phases = [{{ start = 0 }}, {{ start = 0.5, momentum = 0.5 }}]\n{MOMENTUM}", "the phases of B 16 set it themselves"),
        (f'{BARE}optimizer = {{ name = "adamw" }}\nlearning_rate = 0.001\n{MOMENTUM}', 'the optimizer "adamw" of B 16 has none'),
        (
            f"{ARMS}[tune]\nstep = 1.4142\ntrials = 3\n",
            r"tune\.trials: 3 learning rates by factors of 1\.4142 .* for LB.*; give 7 trials, or a larger step",
        ),
        (f"{ARMS}[tune]\nfolds = 6\n", r"tune\.folds: 6 folds of 180 examples .* set holdout = 0\.1666, or give fewer folds"),
        (
            f"{ARMS}[tune]\nholdout = 0.5\n",
            r"the batch size 512 is larger than the training set \(450 examples\).*in the trials of LB",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(trials: Make, text: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        trials(text)


@pytest.mark.parametrize("tune", ["step = 1.4142\ntrials = 7", "folds = 6\nholdout = 0.1666"])
def test_what_a_refusal_says_would_do_does(trials: Make, tune: str) -> None:
    trials(f"{ARMS}[tune]\n{tune}\n")


def test_labels_of_trials_are_cells_of_their_own_and_no_reference(trials: Make) -> None:
    search = trials(ARMS)
    state = search.replay(lambda _: None)
    planned = search.planned(state.rounds)
    assert {run.labels.suite for run in planned} == {"suite.tune"}
    assert not any(run.labels.reference_cell for run in planned)
    names = list(dict.fromkeys(run.labels.cell for run in planned))
    assert names[:2] == ["SB, rate 0.0125", "SB, rate 0.025"]
    assert [run.labels.cell_order for run in planned] == sorted(run.labels.cell_order for run in planned)


def test_an_estimate_rests_on_seeds_and_each_of_them_on_all_its_folds(trials: Make) -> None:
    tuned = play(trials(ARMS), best_at({16: 0.1, 512: 1.6}))
    best = {cell.title: cell for cell in tuned.cells}["SB"]
    assert best.accuracy.n == 3
    assert best.accuracy.mean == pytest.approx(0.95 + 1e-4 + 2e-5)
    assert best.loss == pytest.approx(0.1)


def test_cells_whose_warmup_differs_at_high_rates_only_are_tuned_by_themselves(trials: Make) -> None:
    text = (
        ARMS.replace('regime = "sqrt-lr"', 'regime = "linear-lr"') + '[[arm]]\nlabel = "SB+warmup"\nbatch_size = 16\nregime = "linear-lr"\n'
    )
    assert list(trials(text).spaces) == ["SB", "LB", "LB+LR", "LB+LR+RA", "SB+warmup"]


def test_axes_name_the_models_options_that_differ_and_no_others(trials: Make) -> None:
    both = """
    [run]
    recipe = "digits"
    split_seed = 0
    batch_size = 16
    [grid]
    model = [{ norm = "batch" }, { norm = "none" }]
    seed = "0..2"
    """
    assert [cell.panel for cell in play(trials(both), best_at({16: 0.1})).cells] == ["digits, mlp (norm batch)", "digits, mlp (norm none)"]
    assert {cell.panel for cell in play(trials(ARMS), best_at({16: 0.1, 512: 1.0})).cells} == {"digits, mlp"}
