"""A matplotlib figure as inline SVG: text stays text, colours follow the page, series can be hidden, points say their values.

A reader can hide arms, batch sizes, and settings of a grid. The colour of a series is moved just so far that it stands out from the
background in either theme, by the contrast of WCAG 2.2.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from gapbench.analysis.cells import Panel
from gapbench.report.drawing import arms_and_grid, setting_of, setting_text, settings
from gapbench.report.marks import CAPTION, ENTRY, Mark, cells_of_id, mark_of, number_marks
from gapbench.report.style import GRID, INK, MUTED, PAPER, SHADE, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
TITLES = {
    "accuracy_vs_batch_size": "Test accuracy against batch size",
    "accuracy_vs_train_loss": "Test accuracy against train loss",
    "accuracy_vs_final_loss": "Test accuracy at equal final train loss",
    "factorial": "Effects of the grid's axes and their interactions",
    "seeds": "Test accuracy of every seed",
    "training_curves": "Train loss and test accuracy against updates",
    "weight_distance": "Weight distance against updates",
}
MAXIMUM_POINTS = 160
"""Points of one curve that say their values; longer ones are thinned evenly."""

_RADIUS = 5.0
_FAMILY = re.compile(r"'DejaVu[^';]*'(?:, '[^';]*'|, [a-z-]+)*")
_DECIMALS = re.compile(r"\d+\.\d{3,}")
_PLACES = ("d", "x", "y", "transform", "points")
_COLOR = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")

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


@dataclass(frozen=True)
class Toggle:
    """One checkbox."""

    key: str
    """Class of what it hides, and the end of its own id."""
    group: str
    label: str
    cells: frozenset[str]
    """Names."""


@dataclass(frozen=True)
class InlineFigure:
    """A figure for the page."""

    name: str
    title: str
    caption: str
    """Text below the figure; empty where it has none of its own."""
    svg: str
    width: int
    """Its natural width in CSS pixels."""


def inline_figure(name: str, figure: Figure, toggles: Sequence[Toggle]) -> InlineFigure:
    """Returns a figure as SVG that can stand in an HTML page beside others; the figure itself is laid out anew.

    Args:
        name: of the figure; unique on the page.
        figure: drawn in the house style, its artists marked.
        toggles: what can be hidden.
    """
    number_marks(figure)
    caption: Any = next((artist for artist in figure.findobj() if artist.get_gid() == CAPTION), None)
    below = "" if caption is None else " ".join(caption.get_text().split())
    buffer = io.BytesIO()
    with house_style(**{"svg.fonttype": "none"}):
        figure.set_dpi(72)  # points of the SVG: where things are drawn is then where they stand in the file
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314  (our own drawing)
    width, height = (float(value) for value in str(root.get("viewBox")).split()[2:])
    title = TITLES.get(name, name.replace("_", " ").capitalize())
    _clean(root, name, toggles)
    root.append(_points(figure, height, toggles))
    if caption is not None:  # the page sets it as text of its own
        _remove(root, lambda element: element.get("id", "").endswith(CAPTION))
        height -= float(caption.get_window_extent().y1) + 2
    root.attrib.clear()
    root.attrib.update({"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-labelledby": f"{name}-title {name}-description"})
    for position, (tag, role, text) in enumerate((("title", "title", title), ("desc", "description", below or title))):
        child = ET.Element(tag, {"id": f"{name}-{role}"})
        child.text = text
        root.insert(position, child)
    return InlineFigure(name, title, below, ET.tostring(root, encoding="unicode"), round(width * 4 / 3))


def _remove(root: ET.Element, unwanted: Callable[[ET.Element], bool]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if unwanted(child)]:
            parent.remove(child)


def _clean(root: ET.Element, name: str, toggles: Sequence[Toggle]) -> None:
    """Makes ids unique on the page, colours variables, marked groups classes; drops what only a file of its own needs."""
    _remove(root, lambda element: element.tag in (f"{SVG}metadata", f"{SVG}style"))
    for element in root.iter():
        element.tag = str(element.tag).removeprefix(SVG)
        _link(element, name)
        element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
        for attribute in ("style", "fill", "stroke"):
            if attribute in element.attrib:
                element.set(attribute, _themed(element.attrib[attribute]))
        for attribute in _PLACES:  # a hundredth of a point is finer than any screen
            if attribute in element.attrib:
                element.set(attribute, _DECIMALS.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[attribute]).strip())
        identity = element.attrib.pop("id", None)
        if identity is None:
            continue
        if cells := cells_of_id(identity):
            _classify(element, cells, toggles, every=identity.startswith(ENTRY))
        elif element.tag != "g" or identity == CAPTION:
            element.set("id", f"{name}-{identity}")


def _classify(element: ET.Element, cells: Iterable[str], toggles: Iterable[Toggle], *, every: bool) -> None:
    if classes := classes_of(cells, toggles, every=every):
        element.set("class", classes)


def _link(element: ET.Element, name: str) -> None:
    target = element.attrib.pop(f"{XLINK}href", None)
    if target is not None:
        element.set("href", f"#{name}-{target.removeprefix('#')}")
    for attribute, value in element.attrib.items():
        if "url(#" in value:
            element.set(attribute, value.replace("url(#", f"url(#{name}-"))


def _themed(style: str) -> str:
    style = _COLOR.sub(lambda found: variable(found[0]), style)
    return _FAMILY.sub("var(--sans)", style)


def _points(figure: Figure, height: float, toggles: Sequence[Toggle]) -> ET.Element:
    """Returns invisible circles over all points, each with what it says: shown by the browser, and sooner by the script."""
    group = ET.Element("g", {"class": "points"})
    for axes in figure.axes:  # those of subfigures are among them
        for artist in axes.get_children() if axes.get_visible() else ():
            for x, y, text, cells in _points_of(axes, artist):
                circle = ET.SubElement(group, "circle", {"cx": f"{x:.1f}", "cy": f"{height - y:.1f}", "r": f"{_RADIUS:g}"})
                _classify(circle, cells, toggles, every=False)
                ET.SubElement(circle, "title").text = text
    return group


def _points_of(axes: Axes, artist: Any) -> Iterable[tuple[float, float, str, tuple[str, ...]]]:
    """Yields x, y, text and cells of every point of an artist that says something and lies on its axes."""
    found = mark_of(artist)
    if found is None or found.texts == ():
        return
    if hasattr(artist, "get_xydata"):
        data, transform = np.asarray(artist.get_xydata(), dtype=np.float64), artist.get_transform()
    elif hasattr(artist, "get_offsets"):
        data, transform = np.asarray(artist.get_offsets(), dtype=np.float64), artist.get_offset_transform()
    else:
        return
    if len(data) == 0:
        return
    places = transform.transform(data)
    for number in np.unique(np.linspace(0, len(data) - 1, min(len(data), MAXIMUM_POINTS)).round().astype(int)).tolist():
        x, y = places[number]
        if np.isfinite([x, y]).all() and axes.bbox.padded(1).contains(float(x), float(y)):
            yield float(x), float(y), _text(axes, found, number, *data[number]), found.cells


def _text(axes: Axes, found: Mark, number: int, x: float, y: float) -> str:
    """Returns what a point says: the text that it was given, else its cells, x and y, with the interval where there is one."""
    if found.texts is not None:
        return found.texts[number]
    value = _said(axes, "y", y)
    if found.low is not None and found.high is not None:
        value += f" ({_bare(axes, found.low[number])} to {_bare(axes, found.high[number])})"
    return f"{' and '.join(found.cells)}: {_said(axes, 'x', x)}, {value}"


def _said(axes: Axes, which: str, value: float) -> str:
    """Returns a value with its name: by the axes' own formatter, else by the label of its axis."""
    formatter = getattr(axes, f"fmt_{which}data")
    if formatter is not None:
        return str(formatter(value))
    label = (axes.get_xlabel() if which == "x" else axes.get_ylabel()).partition(" (")[0]
    return f"{label} {value:.4g}".strip()


def _bare(axes: Axes, value: float) -> str:
    """Returns a value without its name: from the number on."""
    return re.sub(r"^.*?(?=(?<!\S)[−-]?\d)", "", _said(axes, "y", value))


def toggles_of(panels: Sequence[Panel]) -> list[Toggle]:
    """Returns the checkboxes, by group; a group of one would hide everything and is left out."""
    cells = [cell for panel in panels for cell in panel.cells]
    entries = [("Batch size", str(cell.batch_size), cell) for cell in sorted(cells, key=lambda cell: cell.batch_size)]
    entries += [("Arm", cell.name, cell) for cell in cells if cell.arm]
    for panel in panels:
        _, grid = arms_and_grid(panel)
        entries += [
            ("Setting", setting_text(setting, grid), cell) for setting in settings(grid) for cell in grid if setting_of(cell) == setting
        ]
    found: dict[str, dict[str, set[str]]] = {}
    for group, label, cell in entries:
        found.setdefault(group, {}).setdefault(label, set()).add(cell.name)
    chosen = [(group, label, names) for group, labels in found.items() if len(labels) > 1 for label, names in labels.items()]
    return [Toggle(f"t{number}", group, label, frozenset(names)) for number, (group, label, names) in enumerate(chosen)]


def classes_of(cells: Iterable[str], toggles: Iterable[Toggle], *, every: bool) -> str:
    """Returns the classes by which toggles hide something drawn.

    Args:
        cells: names of what it stands for.
        toggles: all of them.
        every: hidden only with all its cells, as an entry of a legend is; else with any.
    """
    names = frozenset(cells)
    return " ".join(toggle.key for toggle in toggles if (names <= toggle.cells if every else names & toggle.cells))


def contrast(first: str, second: str) -> float:
    """Returns the contrast ratio of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
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
    from matplotlib.colors import to_hex, to_rgb

    channels = [*zip(to_rgb(color), to_rgb(towards), strict=True)]
    for percent in range(101):
        share = percent / 100
        red, green, blue = ((1 - share) * own + share * other for own, other in channels)
        mixed = to_hex((red, green, blue))
        if contrast(mixed, ground) >= least:
            return mixed
    raise AssertionError(f"{towards} does not stand out from {ground}")


def _luminance(color: str) -> float:
    from matplotlib.colors import to_rgb

    red, green, blue = (channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in to_rgb(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
