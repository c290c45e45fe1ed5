"""Colours of the page in its two themes: contrast by WCAG 2.2, and a series' colour made to stand out from either background."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from gapbench.report.style import GRID, INK, MUTED, PAPER, SHADE

LIGHT_GROUND, DARK_GROUND = "#ffffff", "#15171a"
"""The page's backgrounds, as `report.css` has them (a test compares)."""

LIGHT_CONTRAST, DARK_CONTRAST = 3.0, 4.5
"""WCAG 2.2, success criterion 1.4.11, asks 3 of lines and marks that carry meaning; thin light lines on dark need more to be told apart."""

NEUTRAL: Mapping[str, str] = {
    "#ffffff": "var(--ground)",
    INK.lower(): "var(--ink)",
    "#000000": "var(--ink)",
    MUTED.lower(): "var(--muted)",
    GRID.lower(): "var(--grid)",
    SHADE.lower(): "var(--shade)",
    PAPER.lower(): "var(--paper)",
}
"""Colours of figures that are no series' own: they become variables of the page."""

Rgb = tuple[float, float, float]


def parse(color: str) -> Rgb:
    """Returns "#rrggbb" (or "#rgb") as red, green and blue from 0 to 1."""
    digits = color.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    red, green, blue = (int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4))
    return red, green, blue


def contrast(first: str, second: str) -> float:
    """Returns the contrast ratio of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(parse(first)), _luminance(parse(second))), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@cache
def pair(color: str) -> tuple[str, str]:
    """Returns a series' colour for the light and for the dark background: moved just so far that it stands out."""
    return _moved(color, "#000000", LIGHT_GROUND, LIGHT_CONTRAST), _moved(color, "#ffffff", DARK_GROUND, DARK_CONTRAST)


def variable(color: str) -> str:
    """Returns the CSS value that stands for a colour of a figure."""
    color = color.lower()
    return NEUTRAL.get(color) or f"var(--series-{color.removeprefix('#')})"


def series_colors(css: Iterable[str]) -> list[str]:
    """Returns the series colours that pieces of SVG or CSS name by their variables, each once, in order."""
    found = dict.fromkeys(digits for text in css for digits in re.findall(r"--series-([0-9a-f]{6})", text))
    return [f"#{digits}" for digits in sorted(found)]


def _moved(color: str, towards: str, ground: str, least: float) -> str:
    for percent in range(101):
        mixed = _mixed(color, towards, percent / 100)
        if contrast(mixed, ground) >= least:
            return mixed
    raise AssertionError(f"{towards} does not stand out from {ground}")


def _mixed(first: str, second: str, share: float) -> str:
    channels = ((1 - share) * one + share * other for one, other in zip(parse(first), parse(second), strict=True))
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _luminance(rgb: Rgb) -> float:
    red, green, blue = (channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
