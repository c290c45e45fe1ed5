from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapbench.suite import Suite

Load = Callable[..., Suite]
DIGITS = '[run]\nrecipe = "digits"\n'


def cells(suite: Suite) -> list[str]:
    return list(dict.fromkeys(run.labels.cell for run in suite.runs))


def test_grid_is_the_product_of_its_axes_with_the_last_varying_fastest(load: Load) -> None:
    suite = load(
        f'{DIGITS}[grid]\nbatch_size = [16, 512]\nregime = ["baseline", "sqrt-lr"]\nghost_batch_size = ["off", 16]\nseed = "0..1"\n'
    )
    assert [(run.labels.cell, run.spec.seed) for run in suite.runs[:5]] == [
        ("B 16, baseline, ghost off", 0),
        ("B 16, baseline, ghost off", 1),
        ("B 16, baseline, ghost 16", 0),
        ("B 16, baseline, ghost 16", 1),
        ("B 16, sqrt-lr, ghost off", 0),
    ]
    assert len(suite.runs) == 16
    assert [run.labels.cell_order for run in suite.runs] == [index // 2 for index in range(16)]


def test_axes_of_one_value_are_left_out_of_cell_names(load: Load) -> None:
    assert cells(load(f'{DIGITS}[grid]\nbatch_size = [16]\nregime = ["baseline", "adapted"]\n')) == ["baseline", "adapted"]
    assert cells(load(f"{DIGITS}batch_size = 16\n[grid]\nseed = [0, 1]\n")) == ["B 16"]


def test_cell_names_tell_what_varies(load: Load) -> None:
    models = '[grid]\nmodel = ["f1", { name = "mlp", norm = "none" }, { name = "mlp", norm = "batch" }]\n'
    assert cells(load(f"{DIGITS}batch_size = 16\n{models}")) == ["f1", "mlp norm none", "mlp norm batch"]
    text = '[grid]\nlearning_rate = [0.1, 0.025]\nbudget = [{ kind = "epochs" }, { kind = "updates", factor = 2 }]\n'
    assert cells(load(f"{DIGITS}batch_size = 16\n{text}")) == [
        "rate 0.1, budget epochs",
        "rate 0.1, budget 2x updates",
        "rate 0.025, budget epochs",
        "rate 0.025, budget 2x updates",
    ]


def test_arms_with_a_grid_of_seeds_run_alone(load: Load) -> None:
    suite = load(
        f'{DIGITS}[grid]\nseed = "0..2"\n[[arm]]\nlabel = "SB"\nbatch_size = 16\n[[arm]]\nlabel = "LB"\nbatch_size = 512\nseed = 9\n'
    )
    assert [(run.labels.arm, run.spec.seed) for run in suite.runs] == [("SB", 0), ("SB", 1), ("SB", 2), ("LB", 9)]


def test_arms_multiply_with_the_axes_they_leave_open_and_the_grid_runs_besides(load: Load) -> None:
    suite = load(f'{DIGITS}[grid]\nbatch_size = [16, 512]\nseed = [0, 1]\n[[arm]]\nlabel = "A"\nregime = "adapted"\n')
    assert cells(suite) == ["A, B 16", "A, B 512", "B 16", "B 512"]
    assert {run.labels.arm for run in suite.runs} == {"A", ""}


def test_equal_runs_under_several_labels_have_one_id(load: Load) -> None:
    suite = load(
        f'{DIGITS}[grid]\nbatch_size = [16]\nregime = ["baseline", "sqrt-lr", "linear-lr", "adapted"]\nghost_batch_size = ["off", 16]\n'
    )
    assert len(suite.runs) == 8
    assert len({run.run_id for run in suite.runs}) == 1
    assert [run.labels.cell for run in suite.runs if run.labels.reference_cell] == ["baseline, ghost off"]


def test_orders_from_one_initialization_are_one_cell(load: Load) -> None:
    suite = load(f'{DIGITS}batch_size = 16\nsplit_seed = 0\ninit_seed = 0\n[grid]\norder_seed = "0..3"\n')
    assert cells(suite) == ["B 16"]
    assert [(run.spec.init_seed, run.spec.order_seed, run.spec.split_seed) for run in suite.runs] == [(0, seed, 0) for seed in range(4)]
    assert len({run.run_id for run in suite.runs}) == 4


def test_excluded_runs_are_listed_with_their_reason(load: Load) -> None:
    grid = '[grid]\nbatch_size = [16, 512]\nregime = ["baseline", "adapted"]\nseed = [0, 1]\n'
    exclude = '[[exclude]]\nbatch_size = 16\nregime = "adapted"\nreason = "the reference batch is already adapted"\n'
    suite = load(f"{DIGITS}{grid}{exclude}")
    assert [(run.labels.cell, run.seed, run.reason) for run in suite.dropped] == [
        ("B 16, adapted", 0, "the reference batch is already adapted"),
        ("B 16, adapted", 1, "the reference batch is already adapted"),
    ]
    assert len(suite.runs) == 6


def test_excludes_match_lists_components_and_the_grid_itself(load: Load) -> None:
    grid = '[grid]\nbatch_size = [16, 32, 64]\nmodel = ["f1", { name = "mlp", norm = "none" }]\n'
    grid += '[[arm]]\nlabel = "A"\nbatch_size = 128\nmodel = "f1"\n'
    assert cells(load(f'{DIGITS}{grid}[[exclude]]\nbatch_size = [16, 64]\nreason = "x"\n')) == ["A", "B 32, f1", "B 32, mlp norm none"]
    assert cells(load(f'{DIGITS}{grid}[[exclude]]\nmodel = "mlp"\nreason = "x"\n')) == ["A", "B 16, f1", "B 32, f1", "B 64, f1"]
    assert cells(load(f'{DIGITS}{grid}[[exclude]]\nmodel = {{ norm = "none" }}\nreason = "x"\n')) == [
        "A",
        "B 16, f1",
        "B 32, f1",
        "B 64, f1",
    ]
    assert cells(load(f'{DIGITS}{grid}[[exclude]]\narm = ""\nreason = "only the arms"\n')) == ["A"]


def test_overrides_are_final(load: Load) -> None:
    text = '[grid]\nbatch_size = [16, 512]\nregime = ["sqrt-lr"]\n'
    text += "[[override]]\nwhere = { batch_size = [512] }\nset = { learning_rate = 0.3, updates = 77 }\n"
    small, large = load(f"{DIGITS}{text}").runs
    assert (small.spec.learning_rate, small.spec.updates, small.labels.learning_rate_rule) == (0.1, 1687, "sqrt")
    assert (large.spec.learning_rate, large.spec.updates, large.labels.learning_rate_rule) == (0.3, 77, "set")
    assert large.spec.reference_learning_rate == 0.1


def test_override_of_another_field_leaves_the_rule_to_work(load: Load) -> None:
    text = '[[arm]]\nlabel = "LB"\nbatch_size = 512\nregime = "sqrt-lr"\n[[override]]\nwhere = { arm = "LB" }\nset = { batch_size = 64 }\n'
    (run,) = load(f"{DIGITS}{text}").runs
    assert (run.spec.batch_size, run.spec.learning_rate) == (64, 0.2)


def test_order_of_arms_is_that_of_the_report(load: Load) -> None:
    arms = "".join(f'[[arm]]\nlabel = "{label}"\nbatch_size = {size}\n' for label, size in (("A", 16), ("B", 32), ("C", 64)))
    suite = load(f'{DIGITS}{arms}[report]\narms = ["C", "A"]\n')
    assert [(run.labels.arm, run.labels.cell_order) for run in suite.runs] == [("C", 0), ("A", 1), ("B", 2)]


def test_label_that_is_a_cell_of_the_grid_is_an_error(mistakes: Callable[..., list[str]]) -> None:
    found = mistakes(f'{DIGITS}[grid]\nbatch_size = [16, 32]\n[[arm]]\nlabel = "B 16"\nbatch_size = 16\n')
    assert found == ['suite.toml:8: arm[B 16].label: "B 16" names two different cells, of an arm and of the grid; choose another label']


@pytest.mark.parametrize("reference", ['{ arm = "LB" }', "{ batch_size = 512 }", '{ batch_size = [512, 7], regime = "baseline" }'])
def test_reference_cell_can_be_named(load: Load, reference: str) -> None:
    arms = '[[arm]]\nlabel = "SB"\nbatch_size = 16\n[[arm]]\nlabel = "LB"\nbatch_size = 512\n'
    suite = load(f"{DIGITS}{arms}[report]\nreference = {reference}\n")
    assert [run.labels.arm for run in suite.runs if run.labels.reference_cell] == ["LB"]


def test_every_model_has_its_own_reference_cell(load: Load) -> None:
    suite = load(f'{DIGITS}[grid]\nbatch_size = [16, 512]\nmodel = ["mlp", "f1"]\n')
    assert [run.labels.cell for run in suite.runs if run.labels.reference_cell] == ["B 16, mlp", "B 16, f1"]


axes = st.fixed_dictionaries(
    {
        "batch_size": st.lists(st.sampled_from([8, 16, 32, 512]), min_size=1, max_size=3, unique=True),
        "regime": st.lists(st.sampled_from(["baseline", "sqrt-lr", "linear-lr", "adapted"]), min_size=1, max_size=3, unique=True),
        "seed": st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
        "weight_decay": st.lists(st.sampled_from([0.0, 1e-4, 1e-3]), min_size=1, max_size=2, unique=True),
    }
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(axes, st.permutations(["batch_size", "regime", "seed", "weight_decay"]))
def test_any_grid_is_its_product_whatever_the_order_of_its_axes(load: Load, values: dict[str, list[object]], order: list[str]) -> None:
    def text(names: list[str]) -> str:
        return DIGITS + "[grid]\n" + "".join(f"{name} = {str(values[name]).replace(chr(39), chr(34))}\n" for name in names)

    suite, reordered = load(text(sorted(values))), load(text(order))
    wanted = set(itertools.product(*(values[name] for name in ("batch_size", "seed", "weight_decay"))))
    assert {(run.spec.batch_size, run.spec.seed, run.spec.weight_decay) for run in suite.runs} == wanted
    product = len(wanted) * len(values["regime"])
    assert len(suite.runs) == product
    assert len({(run.labels.cell, run.spec.seed) for run in suite.runs}) == product
    assert {run.run_id for run in suite.runs} == {run.run_id for run in reordered.runs}


def test_runs_know_their_levels_on_the_axes_of_the_grid(load: Load) -> None:
    text = '[grid]\nlearning_rate_scaling = ["none", "sqrt"]\nbudget = [{ kind = "epochs" }, { kind = "updates" }]\nseed = [0, 1]\n'
    text += '[[arm]]\nlabel = "SB"\nbatch_size = 16\nlearning_rate_scaling = "none"\nbudget = { kind = "epochs" }\n'
    suite = load(f"{DIGITS}batch_size = 64\n{text}")
    levels = {run.labels.cell: run.labels.axes for run in suite.runs}
    assert levels["rule sqrt, budget updates"] == {"learning_rate_scaling": "sqrt", "budget": "updates"}
    assert levels["SB"] == {}


# What a plan warns of.

SB = '[[arm]]\nlabel = "SB"\nbatch_size = 16\n'


def test_short_phases_and_batches_beyond_a_quarter_are_warned_of(load: Load) -> None:
    assert load(f'{DIGITS}{SB}[[arm]]\nlabel = "LB"\nbatch_size = 512\n').warnings == (
        "short phases of 26, 13, 13 updates: momentum 0.9 needs 100 updates in each to come to its full effect: LB",
        "batch size 512 is more than a quarter of the 900 training examples, and the scaling rules assume far less: LB",
    )


def test_phases_of_a_growing_batch_are_counted_in_its_own_updates(load: Load) -> None:
    phases = "phases = [{}, {start = 0.5, batch_size_factor = 20}]\n"
    assert load(f"{DIGITS}{phases}{SB}").warnings == (
        "short phases of 844, 43 updates: momentum 0.9 needs 100 updates in each to come to its full effect: SB",
        "batch size 320 is more than a quarter of the 900 training examples, and the scaling rules assume far less: SB",
    )


def test_cells_with_the_same_warning_share_a_line(load: Load) -> None:
    arms = '[[arm]]\nlabel = "A"\nbatch_size = 512\n[[arm]]\nlabel = "B"\nbatch_size = 512\nregime = "sqrt-lr"\n'
    texts = load(f"{DIGITS}{SB}{arms}[grid]\nseed = [0, 1]\n").warnings
    assert [text.rsplit(": ", 1)[1] for text in texts] == ["A, B", "A, B"]


def test_long_phases_of_small_batches_are_not_warned_of(load: Load) -> None:
    assert load(f"{DIGITS}{SB}").warnings == ()
    assert load(f"{DIGITS}optimizer = {{ momentum = 0 }}\nepochs = 1\n{SB}").warnings == ()


def test_ghosts_without_batch_norm_are_warned_of(load: Load) -> None:
    suite = load(f'{DIGITS}model = {{ norm = "none" }}\n[grid]\nbatch_size = [16, 32]\nghost_batch_size = ["off", 8]\nseed = [0, 1]\n')
    assert suite.warnings == ("a ghost batch size has no effect on a model without batch norm (mlp): B 16, ghost 8, B 32, ghost 8",)


def test_missing_reference_cell_is_warned_of_once_a_workload(load: Load) -> None:
    (text,) = load(f"{DIGITS}batch_size = 32\n[grid]\nseed = [0, 1]\n").warnings
    assert text == (
        "no reference cell (batch size 16, regime baseline, ghost off) for digits with mlp, so tables have no batch gap for: B 32"
    )


def test_named_reference_cell_that_is_not_there_is_warned_of(load: Load) -> None:
    (text,) = load(f"{DIGITS}{SB}[report]\nreference = {{ batch_size = 32 }}\n").warnings
    assert text == "no reference cell (as in [report]) for digits with mlp, so tables have no batch gap for: SB"


def test_rules_that_match_nothing_are_warned_of(load: Load) -> None:
    text = '[[exclude]]\nbatch_size = 99\nreason = "x"\n[[override]]\nwhere = { batch_size = 99 }\nset = { epochs = 1 }\n'
    assert load(f"{DIGITS}{SB}{text}").warnings == ("suite.toml:8: exclude[0] matches no run", "suite.toml:11: override[0] matches no run")
