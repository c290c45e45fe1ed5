"""The papers' numbers as data, each with its source and how it was obtained.

published.value("hoffer2017/f1-mnist", "LB").percent        # 97.05
published.table("hoffer2017", "table1").rows[0].values["SB"]
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gapbench.core.errors import UnknownNameError
from gapbench.core.registry import unknown_name

PAPERS = ("hoffer2017",)


@dataclass(frozen=True)
class Paper:
    """A paper, as it is cited."""

    title: str
    authors: str
    short: str
    """Such as "Hoffer et al. 2017"."""
    source: str
    """Where it appeared, with its arXiv number."""


@dataclass(frozen=True)
class PublishedValue:
    """The test accuracy of one published run."""

    percent: float
    rounding_pp: float
    """Half a unit of the last printed digit, in percentage points."""
    batch_size: int
    source: str
    """Paper and table."""
    how: str
    """How the number was obtained."""
    note: str = ""
    train_examples: int | None = None
    """Size of the training set, where the data set is a user's own folder; None: that of the catalog."""

    @property
    def test_accuracy(self) -> float:
        """The accuracy as a fraction."""
        return self.percent / 100.0


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table: a network on a data set, with a value for each arm."""

    network: str
    dataset: str
    recipe: str
    """The recipe of the catalog that trains the same; empty where there is none."""
    batch_size: int
    """Of the arm SB."""
    large_batch_size: int
    """Of the other arms; a value knows where it ran at another."""
    values: dict[str, PublishedValue]
    """By label of the arm, in the order of the paper."""
    note: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper."""

    caption: str
    source: str
    how: str
    ghost_batch_size: int
    rows: tuple[PublishedRow, ...]


def papers() -> tuple[Paper, ...]:
    """Returns the papers whose numbers are kept here."""
    return tuple(Paper(**{name: _data(paper)[name] for name in ("title", "authors", "short", "source")}) for paper in PAPERS)


def table(paper: str, name: str) -> PublishedTable:
    """Returns a table of a paper: "table1" of "hoffer2017", for example.

    Raises:
        UnknownNameError: there is no such paper or table.
    """
    if paper not in PAPERS:
        raise UnknownNameError(unknown_name("paper", paper, PAPERS))
    tables = _tables(paper)
    if name not in tables:
        raise UnknownNameError(unknown_name("table", name, tables))
    return tables[name]


def tables(paper: str) -> tuple[str, ...]:
    """Returns the names of a paper's tables.

    Raises:
        UnknownNameError: there is no such paper.
    """
    if paper not in PAPERS:
        raise UnknownNameError(unknown_name("paper", paper, PAPERS))
    return tuple(_tables(paper))


def value(recipe: str, arm: str, batch_size: int | None = None) -> PublishedValue | None:
    """Returns what a paper reports for a recipe and the label of an arm, or None where it reports nothing.

    `batch_size` is that of the arm; None: the first that is reported.
    """
    for paper in PAPERS:
        for published in _tables(paper).values():
            for row in published.rows:
                if recipe and row.recipe == recipe and arm in row.values and batch_size in (None, row.values[arm].batch_size):
                    return row.values[arm]
    return None


@functools.cache
def _tables(paper: str) -> dict[str, PublishedTable]:
    data = _data(paper)
    return {name: _table(entry, data["short"], data["source"]) for name, entry in data.items() if isinstance(entry, dict)}


@functools.cache
def _data(paper: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("gapbench.published").joinpath(f"{paper}.toml").read_text(encoding="utf-8"))


def _table(entry: dict[str, Any], paper: str, address: str) -> PublishedTable:
    source = f"{paper}, {entry['source']}, {address}"
    rows = tuple(_row(row, source, entry["how"]) for row in entry["rows"])
    return PublishedTable(entry["caption"], source, entry["how"], entry["ghost_batch_size"], rows)


def _row(row: dict[str, Any], source: str, how: str) -> PublishedRow:
    note, train_examples = row.get("note", ""), row.get("train_examples")
    values = {}
    for arm, printed in row["values"].items():
        batch_size = row.get("batch_sizes", {}).get(arm, row["batch_size"] if arm == "SB" else row["large_batch_size"])
        rounding = 0.5 * 10.0 ** -len(printed.partition(".")[2])
        values[arm] = PublishedValue(float(printed), rounding, batch_size, source, how, note, train_examples)
    return PublishedRow(row["network"], row["dataset"], row["recipe"], row["batch_size"], row["large_batch_size"], values, note)
