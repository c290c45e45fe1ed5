from __future__ import annotations

from typing import Any

import pytest

from gapbench.catalog import Parameter, check_options


@pytest.mark.parametrize(
    ("parameter", "value", "checked"),
    [
        (Parameter(type="float"), 1, 1.0),
        (Parameter(type="int", minimum=1, maximum=3), 3, 3),
        (Parameter(type="bool"), True, True),
        (Parameter(type="str", choices=("a", "b")), "b", "b"),
        (Parameter(type="list[int]", minimum=1), (1, 2), [1, 2]),
        (Parameter(type="list[float]"), [1, 0.5], [1.0, 0.5]),
        (Parameter(type="int", multiple_of=6, remainder=2), 44, 44),
    ],
)
def test_values_are_taken_in_their_canonical_form(parameter: Parameter, value: Any, checked: Any) -> None:
    found = parameter.check(value)
    assert found == checked
    assert type(found) is type(checked)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        (Parameter(type="int"), 1.5, "must be a whole number, not 1.5"),
        (Parameter(type="int"), True, "must be a whole number, not true"),
        (Parameter(type="float", minimum=0.0), "1", 'must be a number, at least 0, not "1"'),
        (Parameter(type="float", minimum=0.0), -0.5, "must be a number, at least 0, not -0.5"),
        (Parameter(type="float", maximum=1.0), float("nan"), "must be a number, at most 1, not nan"),
        (Parameter(type="bool"), 1, "must be true or false, not 1"),
        (Parameter(type="str", choices=("batch", "none")), "bacht", 'must be one of "batch", "none", not "bacht" (did you mean "batch"?)'),
        (Parameter(type="list[int]", minimum=1), [1, 0], "must be a list of whole numbers, at least 1, not [1, 0]"),
        (Parameter(type="list[int]"), 3, "must be a list of whole numbers, not 3"),
        (
            Parameter(type="int", minimum=8, multiple_of=6, remainder=2),
            45,
            "must be a whole number, at least 8, of the form 6n + 2, not 45",
        ),
        (Parameter(type="int", multiple_of=2), 3, "must be a whole number, a multiple of 2, not 3"),
    ],
)
def test_messages_say_what_is_allowed(parameter: Parameter, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parameter.check(value)
    assert str(caught.value) == message


def test_options_are_filled_in_and_every_mistake_is_told() -> None:
    schema = {
        "depth": Parameter(type="int", default=44),
        "path": Parameter(type="str", required=True),
        "bias": Parameter(type="bool", default=False),
    }
    options, problems = check_options(schema, {"path": "x"}, owner='model "m"')
    assert options == {"depth": 44, "path": "x", "bias": False}
    assert problems == []
    _, problems = check_options(schema, {"dept": 1, "bias": "no"}, owner='model "m"')
    assert problems == [
        ("path", 'model "m" needs the option path: text in quotes'),
        ("bias", 'must be true or false, not "no"'),
        ("dept", 'model "m" has no option dept (did you mean "depth"?); its options: bias, depth, path'),
    ]
