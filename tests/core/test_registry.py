from __future__ import annotations

import pytest

from gapbench.core.errors import GapbenchError, Problem, SuiteError, UnknownNameError
from gapbench.core.registry import Registry, did_you_mean, load_target, nearest


def registry() -> Registry[int]:
    made: Registry[int] = Registry("model")
    made.add("resnet", 1)
    made.add("mlp", 2)
    return made


def test_unknown_name_tells_the_nearest_spelling_and_what_is_known() -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry()["resnt"]
    assert str(caught.value) == 'unknown model "resnt" (did you mean "resnet"?); known: mlp, resnet'


def test_registry_is_a_mapping_in_the_order_of_entries() -> None:
    assert dict(registry()) == {"resnet": 1, "mlp": 2}
    assert "mlp" in registry()
    assert "f1" not in registry()


def test_names_are_taken_once() -> None:
    made = registry()
    with pytest.raises(GapbenchError, match='model "mlp" is already defined; choose another name'):
        made.add("mlp", 3)
    made.remove("mlp")
    made.add("mlp", 3)
    assert made["mlp"] == 3


def test_targets_name_module_and_object() -> None:
    assert load_target("gapbench.core.registry:Registry") is Registry
    with pytest.raises(GapbenchError, match=r'target "os" is not of the form "package\.module:object"'):
        load_target("os")


def test_suite_error_lists_every_problem_on_a_line() -> None:
    error = SuiteError([Problem("a.toml:1: x", "is wrong"), Problem("", "is worse")])
    assert str(error) == "a.toml:1: x: is wrong\nis worse"
    assert error.exit_status == 2


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Learning-Rate", "learning_rate"),
        ("learning rate", "learning_rate"),
        ("f1-mnist", "hoffer2017/f1-mnist"),
        ("sb", "SB"),
        ("ffer", None),  # two have it
        ("zzz", None),
        ("SB", None),  # it is that name already
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_whatever_joins_its_words(name: str, near: str | None) -> None:
    assert nearest(name, ["learning_rate", "hoffer2017/f1-mnist", "hoffer2017/c1-cifar10", "SB"]) == near


def test_letters_that_only_look_right_are_named() -> None:
    assert did_you_mean("batch_siz\u0435", ["batch_size"]) == ' (did you mean "batch_size"? "\u0435" is CYRILLIC SMALL LETTER IE)'
