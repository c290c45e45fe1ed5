"""`report.html`: one self-contained page of a results directory, made from its tables, its plan and its figures.

What it says, section by section, is plain data for the template.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

import gapbench
from gapbench.analysis import ArmRow, ArmsTable, SideTable
from gapbench.analysis.cells import Panel, is_missing, read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import COUNT, GAP, GAP_NATS, MATCHED, SHARE, VERDICT, range_text, rate_text
from gapbench.analysis.paper import off_by_pp
from gapbench.analysis.rows import REFERENCE, verdicts_of
from gapbench.analysis.stats import NOT_SEPARATED
from gapbench.analysis.walk import DOUBLINGS, walk_of
from gapbench.catalog import published
from gapbench.core.errors import StoreError
from gapbench.report.html import runs
from gapbench.report.html.figure import inline_figure, pair, series_colors, toggles_of
from gapbench.report.html.strips import Strips, strips_of
from gapbench.report.scales import heading, number_text, words
from gapbench.store import StoredPlan, Tables, read_plan, shared_plan, shared_suite
from gapbench.store.files import write_text
from gapbench.store.tables import LONG_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


NAME = "report.html"
_PACKAGE = Path(__file__).resolve().parents[2]
LEAD = "accuracy_vs_batch_size"
"""The figure that stands right below the verdict: it shows what the answer says."""
WALK = "weight_distance"


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
    folder = resources.files("gapbench.report.html")
    template, style, script = (folder.joinpath(f"report.{kind}").read_text(encoding="utf-8") for kind in ("html.jinja", "css", "js"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["tied"] = tied
    page = environment.from_string(template).render(
        **context(results, read, arms, figures), side_tables=side, style=style, script=script, version=gapbench.__version__
    )
    write_text(path, f"{page}\n")
    return path


def tied(text: str) -> str:
    """Returns a sentence whose numbers stay on one line with their units."""
    return re.sub(r"(?<=\d) (?=%|pp\b|×)|(?<=\bn) (?=[=])|(?<=\bn =) (?=\d)|(?<=\bbatch) (?=\d)", "\u00a0", text)


@dataclass(frozen=True)
class ArmLine:
    """One row of the arms table."""

    row: ArmRow
    about: tuple[str, ...]
    """What its runs have in common, in short."""
    texts: Mapping[str, str]
    """By column of the table."""
    count: str
    """How many of its runs are ok."""
    kind: str
    """Class of the verdict: reference, below (worse, also of a loss that is above), above, open, none."""


@dataclass(frozen=True)
class PaperLine:
    """One row of the table that holds a paper's single runs against ours."""

    name: str
    theirs: str
    ours: str
    """Mean with its interval."""
    one_new: str
    """Where one new run of ours falls with 95 % probability."""
    found: str
    source: str
    """Where the number stands, and how it was obtained."""


def context(results: Path, read: Tables, arms: ArmsTable, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Returns what the template needs, by name; everything is a function of the files in the results directory."""
    panels = read_panels(read.runs)
    records = _records(read.runs)
    plan, plan_problem = _plan(results)
    toggles = toggles_of(panels)
    drawn = {name: inline_figure(name, figure, toggles) for name, figure in figures.items()}
    curves, specs = Curves(read.curves), {run.run_id: run.spec for run in plan.runs} if plan else {}
    walks = [walk_of(cell, curves, specs) for panel in panels for cell in panel.cells]
    strips = {panel.title: strips_of(arms.rows_of(panel)) for panel in arms.panels}
    pieces = [*(figure.svg for figure in drawn.values()), *(json.dumps(one.color) for one in strips.values())]
    suite_text = shared_suite(_suite_text(results), plan)
    cff = citation_file()
    return {
        "suite": read.suite,
        "summary": _summary(suite_text),
        "question": _question(panels),
        "facts_line": _facts_line(panels, records),
        "verdict": arms.verdicts,
        "cautions": runs.cautions(records, arms, walks),
        "arms": arms,
        "parts": [_part(arms, panel, strips[panel.title]) for panel in arms.panels],
        "judged_columns": [column for column in _judged_columns(arms) if column in arms.columns],
        "paper_lines": [_paper_line(row) for row in arms.rows if row.published],
        "toggles": toggles,
        "lead_figure": drawn.get(LEAD),
        "figures": [figure for name, figure in drawn.items() if name not in (LEAD, WALK)],
        "walk_figure": drawn.get(WALK),
        "walks": walks,
        "doublings": DOUBLINGS,
        "range_text": range_text,
        **runs.sections(panels, records, plan.predictions if plan else {}),
        "plan_problem": plan_problem,
        "citation": cff,
        "bibtex": bibtex(cff),
        "references": references(),
        "command": "\n".join(shared_plan(plan).commands if plan else ()) or f"gapbench run {read.suite}.toml",
        "suite_text": suite_text,
        "series": {color: pair(color) for color in series_colors(pieces)},
    }


def _part(arms: ArmsTable, panel: Panel, strips: Strips) -> dict[str, Any]:
    """Returns the part of the arms table that is of one panel."""
    lines = [_arm_line(arms, row) for row in arms.rows_of(panel)]
    return {"panel": panel, "heading": heading(panel.metric), "strips": strips, "lines": lines}


def _paper_line(row: ArmRow) -> PaperLine:
    metric, published, ours = row.metric, row.published, row.test_accuracy
    assert published is not None

    def between(low: float, high: float) -> str:
        return range_text(metric.shown(low), metric.shown(high), 2)

    mean = "none yet" if ours is None else number_text(metric, metric.shown(ours.mean))
    interval = "" if ours is None or ours.low is None or ours.high is None else f" ({between(ours.low, ours.high)})"
    if row.prediction is None or row.published_inside is None:
        found = "not to be judged"
    elif row.published_inside:
        found = "consistent"
    else:
        off = off_by_pp(published, *row.prediction)
        found = f"{abs(off):.2f} pp {'above' if off > 0 else 'below'} ours"
    return PaperLine(
        name=row.cell.name,
        theirs=number_text(metric, metric.shown(published.test_accuracy)),
        ours=mean + interval,
        one_new="needs two seeds" if row.prediction is None else between(*row.prediction),
        found=found,
        source=f"{published.source}; {published.how}.",
    )


def _judged_columns(arms: ArmsTable) -> tuple[str, ...]:
    """Returns the columns beside the accuracies; matched-loss gaps only where there is one."""
    matched = any(row.matched_loss and row.matched_loss.gap_pp for row in arms.rows)
    return (GAP, GAP_NATS, VERDICT, *([MATCHED] if matched else []), SHARE)


def _question(panels: Sequence[Panel]) -> str:
    """Asks what the suite asks; sizes only where all panels have the same ones."""
    metrics = [panel.metric for panel in panels]
    if metrics and all(metric.direction == "lower" for metric in metrics):
        return f"How much higher is the {words(metrics[0])} of large batches, and what closes the gap?"
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
    when = runs.span(str(row["started_at"])[:10] for row in records if row.get("started_at"))
    return [f"{done} of {len(records)} runs ok", f"{cells} cells", *data, *models, *filter(None, [when])]


def _arm_line(arms: ArmsTable, row: ArmRow) -> ArmLine:
    cell, texts = row.cell, dict(zip(arms.columns, arms.cells(row), strict=True))
    ghost = f", ghost {cell.ghost_batch_size}" if cell.ghost_batch_size is not None else ""
    sizes = f"batch {cell.batch_size}{ghost}" if cell.arm else ""
    lines = (sizes, f"rate {cell.learning_rate:.3g}, {rate_text(*row.panel.choices_of(cell))}", row.batch_gap_budget)
    worse, better = verdicts_of(row.metric)
    kinds = {REFERENCE: "reference", worse: "below", better: "above", NOT_SEPARATED: "open"}
    return ArmLine(row, tuple(filter(None, lines)), texts, texts[COUNT], kinds.get(row.verdict, "none"))


def _records(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the runs as plain values in table order, missing ones None."""
    kept = runs.drop(columns=[*LONG_COLUMNS], errors="ignore").to_dict("records")
    rows = [{str(name): None if is_missing(value) else value for name, value in row.items()} for row in kept]
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
        if not any(row.recipe for table in published.tables(name).values() for row in table.rows):
            continue
        number = re.search(r"arXiv:(\d+\.\d+)", paper.source)
        address = f"https://arxiv.org/abs/{number[1]}" if number else ""
        out.append(Reference(f"{paper.authors}: {paper.title}. {paper.source}.", address))
    return out
