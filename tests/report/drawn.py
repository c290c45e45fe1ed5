"""What is seen in a figure, for tests of figures."""

from __future__ import annotations

from typing import Any

from matplotlib.legend import Legend


def texts(figure: Any) -> list[str]:
    """All texts, each on one line."""
    return [one.get_text().replace("\n", " ") for one in figure.findobj(lambda one: hasattr(one, "get_text"))]


def legends(figure: Any) -> list[Legend]:
    """All legends."""
    return list(figure.findobj(Legend))


def entries(figure: Any) -> list[list[str]]:
    """The labels of each legend."""
    return [[text.get_text() for text in legend.get_texts()] for legend in legends(figure)]


def plots(figure: Any) -> list[Any]:
    """The axes that are shown."""
    return [axes for axes in figure.axes if axes.get_visible() and axes.axison]


def lines(axes: Any) -> dict[str, Any]:
    """Lines by label."""
    return {str(line.get_label()): line for line in axes.get_lines()}
