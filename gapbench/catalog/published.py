"""The papers' numbers as data, each with its source and how it was obtained: accuracies, curves read off figures, steps by batch size.

published.value("hoffer2017/f1-mnist", "LB").percent        # 97.05
published.tables("hoffer2017")["table1"].rows[0].values["SB"]
published.figures("hoffer2017")["figure2a"].curves[0].y
published.steps("zhang2024")["85M"].steps
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from gapbench.core.errors import UnknownNameError
from gapbench.core.registry import Registry, unknown_name

PAPERS = ("hoffer2017", "keskar2017", "goyal2017")
"""Papers with tables."""
DIGITISED = ("hoffer2017",)
"""Papers with a file of figures."""
SERIES = ("zhang2024",)
"""Papers with steps by batch size."""


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
    """A published test accuracy: of one run, or the mean of several."""

    percent: float
    rounding_pp: float
    """Half a unit of the last printed digit, or the error of reading it off a figure, in percentage points."""
    batch_size: int
    source: str
    """Paper and table."""
    how: str
    """How the number was obtained."""
    note: str = ""
    deviation_pp: float | None = None
    """Standard deviation over the runs, in percentage points; None: one run, or not printed."""
    runs: int = 1
    """That `percent` is the mean of."""
    train_examples: int | None = None
    """Size of the training set, where the data set is a user's own folder; None: that of the catalog."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What the arm sets in its recipe besides the batch size, as in [run] of a suite."""

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
    """Of the other arms, where a value does not say its own; where arms are batch sizes, the largest."""
    values: dict[str, PublishedValue]
    """By label of the arm, in the order of the paper."""
    note: str = ""
    regime: str = ""
    """Where arms are batch sizes (as in a figure): the regime of all of them, without ghost batch norm."""


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper, or the numbers of one of its figures."""

    caption: str
    source: str
    how: str
    ghost_batch_size: int | None
    """None: no ghost batch norm."""
    rows: tuple[PublishedRow, ...]


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


@dataclass(frozen=True)
class PublishedSteps:
    """Steps to one target by batch size."""

    target: str
    batch_sizes: tuple[float, ...]
    steps: tuple[float, ...]
    unit: str
    """Of batch sizes."""
    source: str
    how: str


@dataclass(frozen=True)
class PublishedTask:
    """A row of McCandlish et al. 2018, table 1: at the start of training, and the average."""

    task: str
    critical_batch: tuple[float, float]
    noise_scale: tuple[float, float]
    source: str
    how: str


def papers() -> tuple[Paper, ...]:
    """Returns the papers whose tables are kept here."""
    return tuple(Paper(**{name: _data(paper)[name] for name in ("title", "authors", "short", "source")}) for paper in PAPERS)


@functools.cache
def tables(paper: str) -> Registry[PublishedTable]:
    """Returns the tables of a paper by name: "table1" of "hoffer2017", for example.

    Raises:
        UnknownNameError: no tables of such a paper are kept.
    """
    data = _data(_known(paper, PAPERS))
    found: Registry[PublishedTable] = Registry("table")
    for name, entry in _entries(data):
        source = f"{data['short']}, {entry['source']}, {data['source']}"
        rows = tuple(_row(row, source, entry) for row in entry["rows"])
        found.add(name, PublishedTable(entry["caption"], source, entry["how"], entry.get("ghost_batch_size"), rows))
    return found


def value(recipe: str, arm: str, batch_size: int | None = None) -> PublishedValue | None:
    """Returns what a paper reports for a recipe and the label of an arm, or None where it reports nothing.

    `batch_size` is that of the arm; None: the first that is reported.
    """
    found = (row.values[arm] for row in _rows(recipe) if arm in row.values)
    return next((published for published in found if batch_size in (None, published.batch_size)), None)


def value_at(recipe: str, regime: str, batch_size: int) -> PublishedValue | None:
    """Returns what a paper reports for a recipe at a batch size in a regime without ghost batch norm, or None where it reports nothing."""
    found = (published for row in _rows(recipe) if regime and row.regime == regime for published in row.values.values())
    return next((published for published in found if published.batch_size == batch_size), None)


@functools.cache
def figures(paper: str) -> Registry[PublishedFigure]:
    """Returns the figures of a paper by name: "figure2a" of "hoffer2017", for example.

    Raises:
        UnknownNameError: no figures of such a paper are kept.
    """
    data = _data(f"{_known(paper, DIGITISED)}_figures")
    found: Registry[PublishedFigure] = Registry("figure")
    for name, entry in _entries(data):
        own = {key: entry[key] for key in ("caption", "how", "x", "y", "reading_error")}
        curves = tuple(PublishedCurve(curve["batch_size"], tuple(curve["x"]), tuple(curve["y"])) for curve in entry["curves"])
        source = f"{data['short']}, {entry['where']}, {data['source']}"
        found.add(name, PublishedFigure(name=name, source=source, note=entry.get("note", ""), curves=curves, **own))
    return found


def steps(paper: str) -> Mapping[str, PublishedSteps]:
    """Returns the series of a paper by name.

    Raises:
        UnknownNameError: no series of such a paper are kept.
    """
    data = _data(_known(paper, SERIES))
    source = f"{data['short']}, {data['source']}"
    sizes = tuple(float(size) for size in data["batch_sizes"])
    return {
        name: PublishedSteps(entry["target"], sizes, tuple(float(value) for value in entry["steps"]), data["unit"], source, data["how"])
        for name, entry in data["series"].items()
    }


def tasks() -> tuple[PublishedTask, ...]:
    """Returns what McCandlish et al. 2018 report of every task."""
    data = _data("mccandlish2018")
    source = f"{data['short']}, {data['source']}"
    return tuple(
        PublishedTask(row["task"], _pair(row["critical_batch"]), _pair(row["noise_scale"]), source, data["how"]) for row in data["rows"]
    )


def _pair(values: list[float]) -> tuple[float, float]:
    start, average = values
    return float(start), float(average)


def _known(paper: str, papers: Sequence[str]) -> str:
    if paper not in papers:
        raise UnknownNameError(unknown_name("paper", paper, papers))
    return paper


@functools.cache
def _data(file: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("gapbench.catalog").joinpath(f"papers/{file}.toml").read_text(encoding="utf-8"))


def _entries(data: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, entry) for name, entry in data.items() if isinstance(entry, dict))


def _rows(recipe: str) -> Iterator[PublishedRow]:
    """Yields the rows of all tables that a recipe trains the same as."""
    return (row for paper in PAPERS for table in tables(paper).values() for row in table.rows if recipe and row.recipe == recipe)


def _row(row: dict[str, Any], source: str, entry: dict[str, Any]) -> PublishedRow:
    note = row.get("note", "")
    sizes = {arm: row["batch_size"] if arm == "SB" else row["large_batch_size"] for arm in row["values"]} | row.get("batch_sizes", {})
    values = {}
    for arm, printed in row["values"].items():
        mean, _, deviation = printed.partition(" +- ")
        values[arm] = PublishedValue(
            percent=float(mean),
            rounding_pp=entry.get("read_within_pp", 0.5 * 10.0 ** -len(mean.partition(".")[2])),
            batch_size=sizes[arm],
            source=source,
            how=entry["how"],
            note=note,
            deviation_pp=float(deviation) if deviation else None,
            runs=entry.get("runs", 1),
            train_examples=row.get("train_examples"),
            fields={"regime": row["regime"]} if "regime" in row else entry.get("arms", {}).get(arm, {}),
        )
    sizes_of_row = row["batch_size"], row["large_batch_size"]
    return PublishedRow(row["network"], row["dataset"], row["recipe"], *sizes_of_row, values, note, row.get("regime", ""))
