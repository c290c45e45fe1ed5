"""`report.html`: one self-contained page of a results directory, made from its tables, its plan and its figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench.analysis import ArmsTable, SideTable
from gapbench.report.html.page import context
from gapbench.store import Tables
from gapbench.store.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["render_page", "tied", "write_page"]

NAME = "report.html"


def write_page(results: Path, read: Tables, arms: ArmsTable, figures: Mapping[str, Figure], side: Sequence[SideTable] = ()) -> Path:
    """Writes `report.html` of a results directory, atomically, and returns its path. The same files give the same bytes.

    Args:
        results: the directory; its plan.parquet and suite.toml are read where they are there.
        read: its two tables.
        arms: their arms table.
        figures: by name, drawn in the house style.
        side: tables besides that of the arms.

    Raises:
        StoreError: the file cannot be written.
    """
    path = results / NAME
    write_text(path, render_page(results, read, arms, figures, side))
    return path


def render_page(results: Path, read: Tables, arms: ArmsTable, figures: Mapping[str, Figure], side: Sequence[SideTable] = ()) -> str:
    """Returns the page as text."""
    import jinja2

    folder = resources.files("gapbench.report.html")
    template, style, script = (folder.joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("html.jinja", "css", "js"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["tied"] = tied
    return (
        environment.from_string(template).render(**context(results, read, arms, figures), side_tables=side, style=style, script=script)
        + "\n"
    )


def tied(text: str) -> str:
    """Returns a sentence whose numbers stay on one line with their units."""
    return re.sub(r"(?<=\d) (?=%|pp\b|×)|(?<=\bn) (?=[=])|(?<=\bn =) (?=\d)|(?<=\bbatch) (?=\d)", "\u00a0", text)
