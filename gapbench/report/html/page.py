"""What `report.html` says, section by section: plain data for the template."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gapbench
from gapbench.analysis import ArmRow, ArmsTable
from gapbench.analysis.cells import Panel, read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import ACCURACY, COUNT, GAP, GAP_NATS, MATCHED, SHARE, TEST_LOSS, range_text, rate_text
from gapbench.analysis.rows import ABOVE, BELOW, LOSS_ABOVE, LOSS_BELOW, REFERENCE
from gapbench.analysis.stats import NOT_SEPARATED
from gapbench.analysis.verdict import NONE_TUNED
from gapbench.analysis.walk import DOUBLINGS, walk_of
from gapbench.catalog import published
from gapbench.core.errors import StoreError
from gapbench.report.html import provenance, runs
from gapbench.report.html.figure import InlineFigure, inline_figure, pair, series_colors, toggles_of
from gapbench.report.html.runs import run_table
from gapbench.report.html.strips import strips_of
from gapbench.store import StoredPlan, Tables, read_plan

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


LEAD = "accuracy_vs_train_loss"
"""The figure that stands right below the verdict: it keeps optimization and generalization apart."""
WALK = "weight_distance"


@dataclass(frozen=True)
class VerdictGroup:
    """The verdict on one panel."""

    title: str
    scope: str
    """Number of seeds, and what the intervals are over."""
    lead: str
    more: tuple[str, ...]


@dataclass(frozen=True)
class ArmLine:
    """One row of the arms table."""

    row: ArmRow
    color: str
    about: tuple[str, ...]
    """What its runs have in common, in short."""
    strip: str
    texts: Mapping[str, str]
    verdict: str
    kind: str
    """Class of the verdict: reference, below (worse, also of a loss that is above), above, open, none."""


def context(results: Path, read: Tables, arms: ArmsTable, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Returns what the template needs, by name; everything is a function of the files in the results directory."""
    panels = read_panels(read.runs)
    records = _records(read.runs)
    plan, plan_problem = _plan(results)
    toggles = toggles_of(panels)
    drawn = {name: inline_figure(name, figure, toggles) for name, figure in figures.items()}
    predictions = plan.predictions if plan else {}
    curves, specs = Curves(read.curves), {run.run_id: run.spec for run in plan.runs} if plan else {}
    walks = [walk_of(cell, curves, specs) for panel in panels for cell in panel.cells]
    suite_text = _suite_text(results)
    panel_rows = [(panel, [*arms.rows_of(panel)]) for panel in arms.panels]
    strips = [strips_of(rows) for _, rows in panel_rows]
    cff = citation_file()
    outcome_names, outcome_rows = runs.outcome_counts(panels)
    return {
        "suite": read.suite,
        "summary": _summary(suite_text),
        "question": _question(panels),
        "facts_line": _facts_line(panels, records),
        "verdict": verdict_groups(arms),
        "cautions": provenance.cautions(records, arms, walks),
        "arms": [
            {"panel": panel, "axis": own.axis, "lines": [_arm_line(arms, row, own.by_cell, own.color) for row in rows]}
            for (panel, rows), own in zip(panel_rows, strips, strict=True)
        ],
        "arms_columns": arms.columns,
        "arms_cells": {row.cell.name: arms.cells(row) for row in arms.rows},
        "columns": {"test_accuracy": ACCURACY, "test_loss": TEST_LOSS, "count": COUNT}
        | {"gap": GAP, "nats": GAP_NATS, "matched": MATCHED, "share": SHARE},
        "shown": {column for column in (GAP, GAP_NATS, MATCHED, SHARE) if column in arms.columns},
        "notes": arms.notes,
        "toggles": toggles,
        "lead_figure": drawn.get(LEAD),
        "figures": [figure for name, figure in drawn.items() if name not in (LEAD, WALK)],
        "walk_figure": drawn.get(WALK),
        "walks": walks,
        "doublings": DOUBLINGS,
        "paper_rows": [row for row in arms.rows if row.published],
        "range_text": range_text,
        "outcome_names": outcome_names,
        "outcome_rows": outcome_rows,
        "failures": runs.failures(records),
        "run_count": len({row["run_id"] for row in records}),
        "costs": runs.costs(records, predictions),
        "total": runs.total_cost(records, predictions),
        "plan_problem": plan_problem,
        "duration": runs.duration,
        "facts": provenance.facts(records),
        "citation": cff,
        "bibtex": bibtex(cff),
        "references": references(),
        "command": command(read.suite),
        "suite_text": suite_text,
        "runs": run_table(records),
        "series": {color: pair(color) for color in series_colors(_pieces(drawn.values(), strips))},
        "version": gapbench.__version__,
    }


def verdict_groups(arms: ArmsTable) -> list[VerdictGroup]:
    """Returns the sentences of the verdict, panel by panel: the first of each names the panel, the next one that finds something leads."""
    titles = [f"{panel.title}: " for panel in arms.panels]
    groups: list[list[str]] = []
    for sentence in arms.verdict:
        if not groups or any(sentence.startswith(title) for title in titles):
            groups.append([])
        groups[-1].append(sentence)
    out = []
    for head, *rest in groups:
        title = next((title for title in titles if head.startswith(title)), "")
        scope = head.removeprefix(title)
        lead, *more = sorted(rest, key=lambda sentence: sentence == NONE_TUNED and sentence is rest[0]) or [scope]
        out.append(VerdictGroup(title.removesuffix(": "), scope if rest else "", lead[:1].upper() + lead[1:], tuple(more)))
    return out


def _question(panels: Sequence[Panel]) -> str:
    """Asks what the suite asks; sizes only where all panels have the same ones."""
    if panels and all(panel.headline == "test_loss" for panel in panels):
        return "How much higher is the test loss of large batches, and what closes the gap?"
    sizes = {(panel.cells[0].reference_batch_size, max(cell.batch_size for cell in panel.cells)) for panel in panels if panel.cells}
    if len(sizes) == 1:
        reference, largest = next(iter(sizes))
        if largest > reference:
            # Unbroken spaces: a size belongs to its word.
            return f"How much test accuracy does batch\u00a0{largest} lose against batch\u00a0{reference}, and what closes the gap?"
    return "How much test accuracy do large batches lose, and what closes the gap?"


def _facts_line(panels: Sequence[Panel], records: Sequence[Mapping[str, Any]]) -> list[str]:
    done = sum(row["outcome"] == "ok" for row in records)
    cells = sum(len(panel.cells) for panel in panels)
    data = sorted({panel.dataset for panel in panels})
    models = sorted({panel.model for panel in panels})
    dates = sorted(str(row["started_at"])[:10] for row in records if row.get("started_at"))
    when = [] if not dates else [dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"]
    return [f"{done} of {len(records)} runs ok", f"{cells} cells", *data, *models, *when]


def _arm_line(arms: ArmsTable, row: ArmRow, strips: Mapping[str, str], colors: Mapping[str, str]) -> ArmLine:
    cell = row.cell
    ghost = f"ghost {cell.ghost_batch_size}" if cell.ghost_batch_size is not None else ""
    sizes = f"batch {cell.batch_size}" + (f", {ghost}" if ghost else "") if cell.arm else ""
    lines = (sizes, f"rate {cell.learning_rate:.3g}, {rate_text(cell)}", row.batch_gap_budget)
    kinds = {
        REFERENCE: "reference", BELOW: "below", LOSS_ABOVE: "below", ABOVE: "above", LOSS_BELOW: "above", NOT_SEPARATED: "open"
    }  # fmt: skip
    return ArmLine(
        row=row,
        color=colors[cell.name],
        about=tuple(line for line in lines if line),
        strip=strips[cell.name],
        texts=dict(zip(arms.columns, arms.cells(row), strict=True)),
        verdict=row.verdict.removesuffix(" reference"),
        kind=kinds.get(row.verdict, "none"),
    )


def _records(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the runs as plain values in table order, missing ones None."""
    import pandas as pd

    rows = [
        {str(name): None if not isinstance(value, bytes) and pd.isna(value) else value for name, value in row.items()}
        for row in runs.drop(columns="test_correct", errors="ignore").to_dict("records")
    ]
    return sorted(rows, key=lambda row: (row.get("cell_order") or 0, row["cell"], row["seed"], row["run_id"]))


def _plan(results: Path) -> tuple[StoredPlan | None, str]:
    """Returns the plan, or why there is none: tables alone are reported too."""
    try:
        return read_plan(results / "plan.parquet"), ""
    except StoreError as error:
        missing = not (results / "plan.parquet").exists()
        return None, "plan.parquet is not among these results" if missing else str(error).removeprefix(f"{results}/")


def _suite_text(results: Path) -> str:
    try:
        return (results / "suite.toml").read_text(encoding="utf-8")
    except OSError:
        return ""


def _summary(suite_text: str) -> str:
    try:
        return str(tomllib.loads(suite_text).get("summary", ""))
    except tomllib.TOMLDecodeError:
        return ""


def _pieces(figures: Sequence[InlineFigure] | Any, strips: Sequence[Any]) -> list[str]:
    return [*(figure.svg for figure in figures), *(json.dumps(one.color) for one in strips)]


# How to cite gapbench and the papers, and how to run a suite again.

_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reference:
    """A paper with the address of its preprint."""

    text: str
    address: str
    """Empty where there is no preprint."""


def citation_file() -> str:
    """Returns CITATION.cff of the installed package or of the checkout that it runs from; empty where it is in neither."""
    found = next((path for path in (_PACKAGE / "CITATION.cff", _PACKAGE.parent / "CITATION.cff") if path.is_file()), None)
    return found.read_text(encoding="utf-8") if found else ""


def bibtex(citation: str) -> str:
    """Returns the software's entry for BibTeX from the text of CITATION.cff; empty where it does not say enough."""
    fields = dict(re.findall(r'^([a-z-]+): "?(.*?)"?$', citation, flags=re.MULTILINE))
    author = re.search(r'^authors:\n\s+- name: "?(.*?)"?$', citation, flags=re.MULTILINE)
    if author is None or not {"title", "version", "date-released"} <= set(fields):
        return ""
    return (
        "@software{gapbench,\n"
        f"  author  = {{{{{author[1]}}}}},\n"
        f"  title   = {{{{{fields['title']}}}}},\n"
        f"  version = {{{fields['version']}}},\n"
        f"  year    = {{{fields['date-released'][:4]}}}\n"
        "}"
    )


def references() -> list[Reference]:
    """Returns the papers whose recipes gapbench holds, with their numbers."""
    out = []
    for name, paper in zip(published.PAPERS, published.papers(), strict=True):
        if not any(row.recipe for table in published.tables(name) for row in published.table(name, table).rows):
            continue
        number = re.search(r"arXiv:(\d+\.\d+)", paper.source)
        address = f"https://arxiv.org/abs/{number[1]}" if number else ""
        out.append(Reference(f"{paper.authors}: {paper.title}. {paper.source}.", address))
    return out


def command(suite: str) -> str:
    """Returns what to type to train a saved suite again."""
    return f"gapbench run {suite}.toml"
