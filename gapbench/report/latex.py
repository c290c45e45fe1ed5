r"""The arms table for a paper: LaTeX with booktabs, every interval, n and, in the caption, budgets and the legend of the verdicts."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence

from gapbench import catalog
from gapbench.analysis import ArmRow, ArmsTable, Difference, Estimate
from gapbench.analysis.formats import counted, gap_text
from gapbench.analysis.rows import ABOVE, BELOW, LOSS_ABOVE, LOSS_BELOW, REFERENCE
from gapbench.analysis.stats import NOT_SEPARATED
from gapbench.catalog import Metric
from gapbench.core.errors import ExportError
from gapbench.core.registry import unknown_name
from gapbench.report.scales import number_text, words

SPECIAL = str.maketrans(
    {
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
        "[": "{[}",  # after the end of a row it would begin an option of \\
        "]": "{]}",
        "*": "{*}",
        "`": r"\textasciigrave{}",
        "\n": " ",
    }
)

VERDICTS = {
    BELOW: (r"$\downarrow$", "below the reference"),
    ABOVE: (r"$\uparrow$", "above it"),
    LOSS_ABOVE: ("$+$", "test loss above the reference's"),
    LOSS_BELOW: ("$-$", "test loss below the reference's"),
    NOT_SEPARATED: (r"$\circ$", "not separated from it"),
    REFERENCE: ("ref.", ""),
}
"""Marks of verdicts, and what the legend says of them."""
NO_VERDICT = "--"
HEADINGS = {"accuracy": r"Test acc. (\%)", "loss": "Test loss"}
"""Of the columns of metrics, by their names."""
COLUMNS: dict[str, tuple[str, ...]] = {
    "arm": ("Arm",), "batch": ("Batch",), "ghost": ("Ghost",), "rate": ("Rate",), "n": ("$n$",), "accuracy": (HEADINGS["accuracy"],),
    "loss": (HEADINGS["loss"],), "train-loss": ("Train loss",), "gap": ("Batch gap (pp)", "Batch gap (nats)"),
    "matched-loss": ("Matched-loss gap (pp)",), "verdict": ("",), "paper": (r"Paper (\%)",),
}  # fmt: skip
"""What may be chosen, and the headings that it stands for."""
LEFT_OUT = ("train-loss", "matched-loss")
"""Of all columns, unless they are chosen: with them a table is shrunk until nobody reads it."""
NO_WIDER = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
"""Shrinks what is wider than the text and leaves alone what is not."""


LAST_OF_PDFLATEX = 0x17F
"""Code of the last letter that pdflatex sets without a package: of Latin Extended-A."""


def escape(text: str) -> str:
    """Returns a text that LaTeX sets as it stands."""
    return re.sub("(?<=-)-", "{}-", text.translate(SPECIAL))  # two hyphens would be a dash


def arms_latex(suite: str, table: ArmsTable, columns: Sequence[str] = ()) -> str:
    """Returns a `table` environment for a document that loads booktabs and graphicx: a row per cell, panels apart.

    Args:
        suite: its name.
        table: of its arms.
        columns: of COLUMNS, in the order wanted; default: all but the losses that arms are not compared by, and matched-loss gaps. Those
            that say nothing are left out.

    Raises:
        ExportError: there is no such column.
    """
    check_columns(columns)
    budgets = _budgets(table.rows)
    texts = {row: _texts(row, budgets) for row in table.rows}
    headings = _columns(table.rows, [*texts.values()], columns)
    alignment = "".join({"Arm": "l", "": "c"}.get(heading, "r") for heading in headings)
    lines = [
        "% Needs \\usepackage{booktabs,graphicx}; written by `gapbench export --latex`.",
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_caption(suite, table, budgets, headings)}}}",
        rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', suite.lower()).strip('-')}}}",
        r"\vspace{1ex}",  # LaTeX leaves room below a figure's caption, not below a table's
        rf"{NO_WIDER}{{\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _line(headings),
    ]
    for panel in table.panels:
        lines.append(r"\midrule")
        if len(table.panels) > 1:
            lines.append(rf"\multicolumn{{{len(headings)}}}{{l}}{{\emph{{{escape(panel.title)}}}}} \\")
        lines.extend(_line([texts[row][heading] for heading in headings]) for row in table.rows_of(panel))
    text = "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]) + "\n"
    return (
        text
        if max(map(ord, text)) <= LAST_OF_PDFLATEX
        else f"% Compile with lualatex or xelatex, and a font that has these letters.\n{text}"
    )


def check_columns(columns: Sequence[str]) -> None:
    """Raises ExportError where one of these is no column."""
    for name in columns:
        if name not in COLUMNS:
            raise ExportError(f"--columns: {unknown_name('column', name, COLUMNS)}")


def _texts(row: ArmRow, budgets: dict[str, str]) -> dict[str, str]:
    """Returns the texts of a row by heading; empty where there is nothing to say."""
    accuracy, loss = (catalog.metrics()[name] for name in HEADINGS)
    ghost, matched, published = row.cell.ghost_batch_size, row.matched_loss, row.published
    mark, _ = VERDICTS.get(row.verdict, (NO_VERDICT, ""))
    return {
        "Arm": escape(row.cell.name),
        "Batch": str(row.cell.batch_size),
        "Ghost": "" if ghost is None else str(ghost),
        "Rate": f"{row.cell.learning_rate:.3g}",
        "$n$": _count(row),
        HEADINGS["accuracy"]: _estimate(row.test_accuracy, accuracy),
        HEADINGS["loss"]: _estimate(row.test_loss, loss),
        "Train loss": _estimate(row.train_loss, loss),
        **{f"Batch gap ({metric.gap_unit})": _gap(row, metric, budgets) for metric in (accuracy, loss)},
        "Matched-loss gap (pp)": _difference(matched.gap_pp if matched else None),
        "": mark,
        r"Paper (\%)": number_text(accuracy, accuracy.shown(published.test_accuracy)) if published else "",
    }


def _columns(rows: Sequence[ArmRow], texts: Sequence[dict[str, str]], chosen: Sequence[str]) -> list[str]:
    """Returns the headings of the columns that are wanted and say something, or stand there always."""
    headlines = list(dict.fromkeys(HEADINGS[row.metric.name] for row in rows)) or [HEADINGS["accuracy"]]
    other = [name for name in ("accuracy", "loss") if HEADINGS[name] not in headlines]
    names = chosen or [name for name in COLUMNS if name not in (*LEFT_OUT, *other)]
    headings = [heading for name in names for heading in COLUMNS[name]]
    always = ["Arm", "Batch", "$n$", headlines[0]]
    return [heading for heading in headings if heading in always or any(own[heading] for own in texts)]


def _caption(suite: str, table: ArmsTable, budgets: dict[str, str], headings: Sequence[str]) -> str:
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
    if "Matched-loss gap (pp)" in headings and any(row.matched_loss and row.matched_loss.gap_pp for row in table.rows):
        parts.append("Matched-loss gap: the same where both first reach the same train loss.")
    parts += _legend(table)
    sources = dict.fromkeys(row.published.source for row in table.rows if row.published)
    if sources:
        parts.append(f"Paper: {escape('; '.join(sources))}, single runs.")
    return " ".join(parts)


def _legend(table: ArmsTable) -> list[str]:
    found = {row.verdict for row in table.rows}
    present = [f"{mark} {words}" for verdict, (mark, words) in VERDICTS.items() if verdict in found and words]
    legend = [*present, f"{NO_VERDICT} no verdict"] if found - set(VERDICTS) else present
    if not legend:
        return []
    family = rf" (5\,\% together, Holm over {counted(table.comparisons, 'comparison')})" if present else ""
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
