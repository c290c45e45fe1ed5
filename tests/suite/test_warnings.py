from __future__ import annotations

from collections.abc import Callable

from gapbench.suite import Suite

Load = Callable[..., Suite]
DIGITS = '[run]\nrecipe = "digits"\n'
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
