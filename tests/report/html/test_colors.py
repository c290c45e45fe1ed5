"""Contrast, computed from the variables of the style sheet in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gapbench.report.html as html
from gapbench.report.html.figure import DARK_GROUND, LIGHT_GROUND, NEUTRAL, contrast, pair, series_colors, variable
from gapbench.report.style import OKABE_ITO, batch_style

CSS = Path(html.__file__).with_name("report.css").read_text(encoding="utf-8")
VARIABLES = {name: (light, dark) for name, light, dark in re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\);", CSS)}
TEXT = [
    ("ink", "ground"), ("muted", "ground"), ("accent", "ground"), ("ink", "shade"), ("muted", "shade"), ("ink", "care-ground"),
    ("care", "care-ground"), ("below", "below-ground"), ("above", "above-ground"), ("ground", "ink"),
]  # fmt: skip
GRAPHICS = [
    ("paper", "ground"),
    ("series-train", "ground"),
    ("series-evaluation", "ground"),
    ("series-other", "ground"),
    ("accent", "shade"),
]


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known gray that just fails
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_have_at_least_4_5_and_graphics_3(theme: int) -> None:
    for front, back in TEXT:
        assert contrast(VARIABLES[front][theme], VARIABLES[back][theme]) >= 4.5, (front, back)
    for front, back in GRAPHICS:
        assert contrast(VARIABLES[front][theme], VARIABLES[back][theme]) >= 3, (front, back)


def test_every_color_of_the_style_sheet_is_a_variable_with_both_themes() -> None:
    body = CSS[CSS.index("--sans") :]
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^{]*\{)", body) == []
    assert VARIABLES["ground"] == (LIGHT_GROUND, DARK_GROUND)
    used = set(re.findall(r"var\(--([a-z-]+)[,)]", CSS)) | {value.removeprefix("var(--").removesuffix(")") for value in NEUTRAL.values()}
    assert used - {"sans", "mono", "own"} <= set(VARIABLES)


def test_series_stand_out_in_both_themes_whatever_their_color() -> None:
    import matplotlib as mpl

    viridis = [mpl.colors.to_hex(batch_style(position, 9).color) for position in range(9)]
    for color in (*OKABE_ITO, *viridis, "#ffff00", "#0000ff", "#fefefe", "#010101"):
        light, dark = pair(color)
        assert contrast(light, LIGHT_GROUND) >= 3
        assert contrast(dark, DARK_GROUND) >= 4.5


def test_a_color_that_stands_out_already_stays_what_it_is() -> None:
    assert pair("#0072b2")[0] == "#0072b2"
    assert pair("#e69f00")[1] == "#e69f00"


def test_neutral_colors_follow_the_page_and_others_get_a_variable_of_their_own() -> None:
    assert variable("#FFFFFF") == "var(--ground)"
    assert variable("#0072B2") == "var(--series-0072b2)"
    assert series_colors(["fill: var(--series-0072b2)", "var(--series-d55e00); var(--series-0072b2); var(--ink)"]) == ["#0072b2", "#d55e00"]
