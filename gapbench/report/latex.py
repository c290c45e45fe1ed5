r"""The arms table for a paper: LaTeX with booktabs, every interval, n and, in the caption, budgets and the legend of the verdicts."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from gapbench import catalog
from gapbench.analysis import ArmRow, ArmsTable, Difference, Estimate
from gapbench.analysis.formats import gap_text
from gapbench.analysis.rows import ABOVE, BELOW, LOSS_ABOVE, LOSS_BELOW, REFERENCE
from gapbench.analysis.stats import NOT_SEPARATED
from gapbench.catalog import Metric
from gapbench.report.scales import number_text, words

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "\n": " ",
}

MARKS = {
    BELOW: r"$\downarrow$", ABOVE: r"$\uparrow$", LOSS_ABOVE: "$+$", LOSS_BELOW: "$-$", NOT_SEPARATED: r"$\circ$", REFERENCE: "ref."
}  # fmt: skip
NO_VERDICT = "--"
HEADINGS = {"accuracy": r"Test acc. (\%)", "loss": "Test loss"}
"""Of the columns of metrics, by their names."""
NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
"""Shrinks what is wider than the text and leaves alone what is not."""


@dataclass(frozen=True)
class _Column:
    heading: str
    alignment: str
    texts: tuple[str, ...]


def escape(text: str) -> str:
    """Returns a text that LaTeX sets as it stands."""
    return "".join(SPECIAL.get(character, character) for character in text)


def arms_latex(suite: str, table: ArmsTable) -> str:
    """Returns a `table` environment for a document that loads booktabs and graphicx: a row per cell, panels apart.

    Columns that say nothing are left out.
    """
    budgets = _budgets(table.rows)
    columns = _columns(table.rows, budgets)
    lines = [
        "% Needs \\usepackage{booktabs,graphicx}; written by `gapbench export --latex`.",
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_caption(suite, table, budgets)}}}",
        rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', suite.lower()).strip('-')}}}",
        r"\vspace{1ex}",  # LaTeX leaves room below a figure's caption, not below a table's
        rf"{NO_WIDER}{{\begin{{tabular}}{{{''.join(column.alignment for column in columns)}}}",
        r"\toprule",
        _line([column.heading for column in columns]),
    ]
    rows = dict(zip(table.rows, zip(*(column.texts for column in columns), strict=True), strict=True)) if table.rows else {}
    for panel in table.panels:
        lines.append(r"\midrule")
        if len(table.panels) > 1:
            lines.append(rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escape(panel.title)}}}}} \\")
        lines.extend(_line(rows[row]) for row in table.rows_of(panel))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]) + "\n"


def _columns(rows: Sequence[ArmRow], budgets: dict[str, str]) -> list[_Column]:
    accuracy, loss = (catalog.metrics()[name] for name in HEADINGS)
    papers = [number_text(accuracy, accuracy.shown(row.published.test_accuracy)) if row.published else "" for row in rows]
    columns = [
        _Column("Arm", "l", tuple(escape(row.cell.name) for row in rows)),
        _Column("Batch", "r", tuple(str(row.cell.batch_size) for row in rows)),
        _Column("Ghost", "r", tuple("" if row.cell.ghost_batch_size is None else str(row.cell.ghost_batch_size) for row in rows)),
        _Column("Rate", "r", tuple(f"{row.cell.learning_rate:.3g}" for row in rows)),
        _Column("$n$", "r", tuple(_count(row) for row in rows)),
        _Column(HEADINGS["accuracy"], "r", tuple(_estimate(row.test_accuracy, accuracy) for row in rows)),
        _Column(HEADINGS["loss"], "r", tuple(_estimate(row.test_loss, loss) for row in rows)),
        _Column("Train loss", "r", tuple(_estimate(row.train_loss, loss) for row in rows)),
        *(_Column(f"Batch gap ({metric.gap_unit})", "r", tuple(_gap(row, metric, budgets) for row in rows)) for metric in (accuracy, loss)),
        _Column("Matched-loss gap (pp)", "r", tuple(_difference(row.matched_loss.gap_pp if row.matched_loss else None) for row in rows)),
        _Column("", "c", tuple(MARKS.get(row.verdict, NO_VERDICT) for row in rows)),
        _Column(r"Paper (\%)", "r", tuple(papers)),
    ]
    headlines = [HEADINGS[row.metric.name] for row in rows]
    always = {"Arm", "Batch", "$n$", HEADINGS["accuracy"] if HEADINGS["accuracy"] in headlines or not rows else headlines[0]}
    return [column for column in columns if column.heading in always or any(column.texts)]


def _caption(suite: str, table: ArmsTable, budgets: dict[str, str]) -> str:
    titles = "; ".join(escape(panel.title) for panel in table.panels) or "no run is planned"
    parts = [rf"{escape(suite)}: {titles}."]
    methods = {row.batch_gap.method for row in table.rows if row.batch_gap and row.batch_gap.low is not None}
    if any(row.headline and row.headline.n > 1 for row in table.rows):
        over = "splits" if all(row.cell.split_drawn for row in table.rows) else "seeds of one split"
        parts.append(
            rf"Mean $\pm$ half width of the 95\,\% $t$ interval over {over}; $n$: runs that are ok (of those planned, where fewer)."
        )
    else:
        parts.append("One seed, so no intervals.")
    if budgets:
        pairing = {"paired": "paired by split", "welch": "Welch's"}
        how = f" (interval, {' or '.join(pairing[method] for method in sorted(methods))})" if methods else ""
        listed = "; ".join(f"$^{{{letter}}}$ {escape(text)}" for text, letter in budgets.items())
        compared = [row.metric for row in table.rows if row.batch_gap]
        kinds = "; ".join(_gap_words(metric) for metric in catalog.metrics().values() if metric in compared)
        parts.append(f"Batch gap: {kinds}{how}, at {listed}.")
    if any(row.matched_loss and row.matched_loss.gap_pp for row in table.rows):
        parts.append("Matched-loss gap: the same where both first reach the same train loss.")
    parts += _legend(table)
    sources = dict.fromkeys(row.published.source for row in table.rows if row.published)
    if sources:
        parts.append(f"Paper: {escape('; '.join(sources))}, single runs.")
    return " ".join(parts)


def _legend(table: ArmsTable) -> list[str]:
    words = {
        BELOW: "below the reference",
        ABOVE: "above it",
        LOSS_ABOVE: "test loss above the reference's",
        LOSS_BELOW: "test loss below the reference's",
        NOT_SEPARATED: "not separated from it",
    }
    present = [verdict for verdict in words if any(row.verdict == verdict for row in table.rows)]
    legend = [f"{MARKS[verdict]} {words[verdict]}" for verdict in present]
    if any(row.verdict not in MARKS for row in table.rows):
        legend.append(f"{NO_VERDICT} no verdict")
    if not legend:
        return []
    family = rf" (5\,\% together, Holm over {table.comparisons} comparison{'' if table.comparisons == 1 else 's'})" if present else ""
    return [f"Verdict{family}: {', '.join(legend)}."]


def _budgets(rows: Sequence[ArmRow]) -> dict[str, str]:
    """Returns what gaps are taken at (budget and learning rate) with a letter for each, in order."""
    texts = dict.fromkeys(_at(row) for row in rows if row.batch_gap)
    return {text: string.ascii_lowercase[position] if position < 26 else str(position + 1) for position, text in enumerate(texts)}


def _at(row: ArmRow) -> str:
    return f"{row.batch_gap_budget}, rate {row.batch_gap_learning_rate}"


def _count(row: ArmRow) -> str:
    ok, planned = len(row.cell.ok_runs), len(row.cell.runs)
    return str(ok) if ok == planned else f"{ok} of {planned}"


def _gap_words(metric: Metric) -> str:
    minuend, subtrahend = metric.gap_terms("reference", "arm")
    unit = "" if metric.gap_unit == "pp" else f"in {metric.gap_unit}, "
    return f"{unit}{words(metric)} of the {minuend} minus that of the {subtrahend}"


def _gap(row: ArmRow, metric: Metric, budgets: dict[str, str]) -> str:
    """Returns a batch gap with the letter of what it is taken at; empty where the row is compared by another metric."""
    if row.batch_gap is None or row.metric != metric:
        return ""
    text = escape(gap_text(row.batch_gap, metric)) if metric.decimals is None else _difference(row.batch_gap)
    return f"{text}$^{{{budgets[_at(row)]}}}$"


def _difference(found: Difference | None) -> str:
    if found is None:
        return ""
    text = f"${found.estimate:.2f}$"
    return text if found.low is None or found.high is None else f"{text} [${found.low:.2f}$, ${found.high:.2f}$]"


def _estimate(estimate: Estimate | None, metric: Metric) -> str:
    """Returns a mean with its half width; without digits of the metric's own three significant ones, small numbers as a power of ten."""
    if estimate is None:
        return ""
    exponent = math.floor(math.log10(abs(estimate.mean))) if estimate.mean else 0
    if metric.decimals is not None or -4 < exponent < 6:
        digits = max(0, 2 - exponent) if metric.decimals is None else metric.decimals
        mean = f"{metric.shown(estimate.mean):.{digits}f}"
        return f"${mean}$" if estimate.half_width is None else rf"${mean} \pm {metric.shown(estimate.half_width):.{digits}f}$"
    mean = f"{estimate.mean / 10.0**exponent:.2f}"
    both = mean if estimate.half_width is None else rf"({mean} \pm {estimate.half_width / 10.0**exponent:.2f})"
    return rf"${both} \cdot 10^{{{exponent}}}$"


def _line(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"
