"""Curves of the papers' figures as data, each with how it was read.

published.figure("hoffer2017", "figure2a").curves[0].y
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gapbench.core.errors import UnknownNameError
from gapbench.core.registry import unknown_name

DIGITISED = ("hoffer2017",)
"""Papers with a file of figures."""


@dataclass(frozen=True)
class PublishedCurve:
    """One curve, as points that were read off."""

    batch_size: int
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class PublishedFigure:
    """One figure of a paper."""

    name: str
    caption: str
    source: str
    """Paper, figure and section."""
    how: str
    """How the numbers were obtained."""
    note: str
    x: str
    """What the horizontal axis shows."""
    y: str
    reading_error: float
    """How far a value may be off, in units of y."""
    curves: tuple[PublishedCurve, ...]


def figures(paper: str) -> tuple[str, ...]:
    """Returns the names of a paper's figures that are kept here.

    Raises:
        UnknownNameError: no figures of such a paper are kept.
    """
    return tuple(_figures(paper))


def figure(paper: str, name: str) -> PublishedFigure:
    """Returns a figure of a paper: "figure2a" of "hoffer2017", for example.

    Raises:
        UnknownNameError: there is no such paper or figure.
    """
    known = _figures(paper)
    if name not in known:
        raise UnknownNameError(unknown_name("figure", name, known))
    return known[name]


@functools.cache
def _figures(paper: str) -> dict[str, PublishedFigure]:
    if paper not in DIGITISED:
        raise UnknownNameError(unknown_name("paper", paper, DIGITISED))
    data = tomllib.loads(resources.files("gapbench.published").joinpath(f"{paper}_figures.toml").read_text(encoding="utf-8"))
    return {name: _figure(name, entry, data) for name, entry in data.items() if isinstance(entry, dict)}


def _figure(name: str, entry: dict[str, Any], data: dict[str, Any]) -> PublishedFigure:
    curves = tuple(PublishedCurve(curve["batch_size"], tuple(curve["x"]), tuple(curve["y"])) for curve in entry["curves"])
    source = f"{data['short']}, {entry['where']}, {data['source']}"
    return PublishedFigure(
        name, entry["caption"], source, entry["how"], entry.get("note", ""), entry["x"], entry["y"], entry["reading_error"], curves
    )
