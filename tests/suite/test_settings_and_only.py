from __future__ import annotations

from collections.abc import Callable

import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import Suite

Load = Callable[..., Suite]
ARMS = """
[run]
recipe = "digits"

[grid]
seed = "0..2"

[[arm]]
label = "SB"
batch_size = 16

[[arm]]
label = "LB+LR"
batch_size = 512
regime = "sqrt-lr"
ghost_batch_size = 16

[[exclude]]
arm = "SB"
seed = 2
reason = "two are enough"
"""


def test_settings_change_run_by_default_and_any_table_by_its_path(load: Load) -> None:
    suite = load(ARMS, settings={"epochs": "3", "grid.seed": "0..1", "model.widths": "[8, 8]", "weight_decay_on": "matrices"})
    assert [run.spec.updates for run in suite.runs] == [168, 168, 5, 5]
    assert {run.spec.model.option("widths")[0] for run in suite.runs} == {8}
    assert {run.spec.weight_decay_on for run in suite.runs} == {"matrices"}


def test_settings_give_results_a_name_of_their_own(load: Load) -> None:
    plain = load(ARMS)
    one, same, other = (load(ARMS, settings=settings) for settings in ({"epochs": "3"}, {"epochs": "3"}, {"epochs": "4"}))
    assert plain.name == "suite"
    assert one.name == same.name != other.name
    assert one.name.startswith("suite+")
    assert {run.labels.suite for run in one.runs} | {run.labels.suite for run in one.dropped} == {one.name}


def test_setting_replaces_an_axis_of_the_grid(load: Load) -> None:
    assert [run.spec.seed for run in load(ARMS, settings={"seed": "1"}).runs] == [1, 1]


def test_setting_that_every_arm_replaces_is_warned_of(load: Load) -> None:
    assert (
        "--set batch_size has no effect: every arm or override sets batch_size itself" in load(ARMS, settings={"batch_size": "32"}).warnings
    )
    assert not [text for text in load(ARMS, settings={"epochs": "32"}).warnings if "--set" in text]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epoch", "3", '--set: run.epoch: unknown key "epoch" (did you mean "epochs"?)'),
        ("learning_rate", "-1", "--set: run.learning_rate: must be greater than 0, not -1"),
        ("learning_rate", "fast", '--set: run.learning_rate: must be a number, not "fast"'),
        ("grid.sed", "[1]", '--set: grid.sed: unknown axis "sed" (did you mean "seed"?)'),
        ("name", "x", "--set: name cannot be set here; set keys of [run], [grid], [report], [tune] or [regimes.NAME]"),
        ("run..x", "1", '--set: "run..x=1" is not of the form key=value, such as epochs=2 or grid.seed=0..2'),
    ],
)
def test_settings_are_checked_like_the_file(mistakes: Callable[..., list[str]], key: str, value: str, message: str) -> None:
    assert mistakes(ARMS, settings={key: value})[0].startswith(message)


@pytest.mark.parametrize(
    ("only", "runs", "dropped"),
    [
        ("arm=SB", [("SB", 0), ("SB", 1)], 1),
        ("arm=SB, seed=0", [("SB", 0)], 0),
        ("arm=SB,arm=LB+LR,seed=1", [("SB", 1), ("LB+LR", 1)], 0),
        ("batch_size=512,seed=2", [("LB+LR", 2)], 0),
        ("ghost_batch_size=off", [("SB", 0), ("SB", 1)], 0),
        ("regime=sqrt-lr,seed=0", [("LB+LR", 0)], 0),
        ("model=mlp,seed=0", [("SB", 0), ("LB+LR", 0)], 0),
    ],
)
def test_only_keeps_what_matches(load: Load, only: str, runs: list[tuple[str, int]], dropped: int) -> None:
    suite = load(ARMS, only=only)
    assert [(run.labels.arm, run.spec.seed) for run in suite.runs] == runs
    assert len(suite.dropped) == dropped
    assert suite.name == "suite"


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("arm=LB", 'no run has arm = "LB"; there are: SB, LB+LR'),
        ("arm=LB+LRR", 'no run has arm = "LB+LRR" (did you mean "LB+LR"?); there are: SB, LB+LR'),
        ("arm=SB,batch_size=512", "no run has all of these values; see `gapbench plan`"),
        ("armm=SB", 'unknown key "armm" (did you mean "arm"?); known: arm, batch_size, budget'),
        ("SB", '"SB" is not of the form key=value, such as arm=LB or seed=0'),
    ],
)
def test_only_that_matches_nothing_says_what_there_is(load: Load, only: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(ARMS, only=only)
    assert str(caught.value).startswith(f"--only: {message}")


def test_labels_do_not_depend_on_what_is_kept(load: Load) -> None:
    whole = {run.run_id: run.labels for run in load(ARMS).runs}
    assert all(whole[run.run_id] == run.labels for run in load(ARMS, only="seed=1").runs)
