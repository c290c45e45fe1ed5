"""The bench's table as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from gapbench.bench.ratios import Ratio
from gapbench.bench.summary import BenchReport, Row, Speed, goal_text

CSV_COLUMNS = (
    "case",
    "device_kind",
    "machine",
    "threads",
    "side",
    "against",
    "kind",
    "ratio",
    "ratio_low",
    "ratio_high",
    "goal",
    "verdict",
    "rounds",
    "spread",
    "side_examples_per_second",
    "against_examples_per_second",
    "side_form",
    "against_form",
    "side_share_of_peak",
    "side_share_of_roofline",
    "side_cores_busy",
    "against_cores_busy",
    "side_first_update_seconds",
    "against_first_update_seconds",
    "loaded",
    "torch_version",
    "source",
    "measured_at",
    "remark",
)


def bench_csv(report: BenchReport) -> str:
    """Returns every row with all its numbers."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in report.rows:
        writer.writerow(["" if value is None else value for value in _values(row)])
    return buffer.getvalue()


def bench_markdown(report: BenchReport) -> str:
    """Returns the table for people, one a machine, then what was not measured."""
    parts = ["# Speed\n"]
    for machine in dict.fromkeys(row.machine for row in report.rows):
        rows = [row for row in report.rows if row.machine == machine]
        parts.append(f"## {machine}\n")
        versions = ", ".join(dict.fromkeys(f"torch {row.torch_version}" for row in rows))
        days = sorted({row.measured_at[:10] for row in rows})
        parts.append(f"{versions}; {days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}'}\n")
        parts.append(_table(rows))
    if report.rows:
        parts.append(EXPLANATION)
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes) + "\n")
    if report.missing:
        parts.append("## Not measured here\n")
        head = "| case | what | goals | why |\n|---|---|---|---|\n"
        parts.append(head + "".join(f"| {item.case} | {item.summary} | {item.goals} | {item.reason} |\n" for item in report.missing))
    return "\n".join(parts)


EXPLANATION = """\
Ratios are of medians over rounds: images a second, ours to theirs (of a cost: seconds, with to without; of prices: seconds, predicted
to actual), with a 95 % bootstrap interval over rounds. `reached`: the whole interval is beyond the goal; `short`: none of it is;
`open`: it holds the goal, or the ratio is no farther from it than the A/A spread. That is how far two timings of one program differ in
the same rounds; no smaller difference is claimed (`within A/A`). Share: FLOP/s reached, of the measured peak of matrix products in this
precision (on CUDA of the roofline, bandwidth included). First update: seconds from data in memory to the end of the first update.
Costs of measuring are medians of each round's ratio, of runs with their recipe's share of probes that take turns of 50 ms in one process.
"""


def ratio_text(ratio: Ratio, kind: str) -> str:
    """Returns "3.12 [2.98, 3.20]"; a cost or an agreement has three decimals, a share is "47.1 % [46.0, 48.2]"."""

    def number(value: float) -> str:
        if kind == "share":
            return f"{100 * value:.1f}"
        return f"{value:.3f}" if kind in ("cost", "agreement") else f"{value:.2f}" if value < 99.95 else f"{value:.0f}"

    text = number(ratio.value) + (" %" if kind == "share" else "")
    return text if ratio.low is None or ratio.high is None else f"{text} [{number(ratio.low)}, {number(ratio.high)}]"


def goal_column(row: Row) -> str:
    """Returns ">= 3", or nothing where there is no goal."""
    return "" if row.goal is None else f"{row.goal_side} {goal_text(row.goal, row.kind)}"


def share_text(speed: Speed, device_kind: str) -> str:
    """Returns the side's share of what the machine could do at best."""
    share = speed.share_of_roofline if device_kind == "cuda" else speed.share_of_peak
    return "" if share is None else f"{100 * share:.1f} %"


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "| case | sides | images/s | ratio [95 %] | goal | verdict | rounds | A/A spread | share | first update, s | remark |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        theirs = row.against
        speeds = [row.side, theirs] if theirs else [row.side]
        remark = "; ".join(filter(None, ["**loaded machine**" if row.loaded else "", row.side.form, row.remark]))
        cells = (
            row.summary,
            row.what,
            f"{row.side.examples_per_second:,.0f}" + (f" / {theirs.examples_per_second:,.0f}" if theirs else ""),
            ratio_text(row.ratio, row.kind),
            goal_column(row),
            row.verdict,
            str(row.rounds),
            "" if row.spread is None else f"{100 * row.spread:.1f} %",
            share_text(row.side, row.device_kind),
            " / ".join(f"{speed.first_update_seconds:.1f}" for speed in speeds if speed.first_update_seconds is not None),
            remark,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _values(row: Row) -> tuple[object, ...]:
    theirs = row.against
    return (
        row.case,
        row.device_kind,
        row.machine,
        row.threads,
        row.side.side,
        theirs.side if theirs else "roofline",
        row.kind,
        row.ratio.value,
        row.ratio.low,
        row.ratio.high,
        row.goal,
        row.verdict,
        row.rounds,
        row.spread,
        row.side.examples_per_second,
        theirs.examples_per_second if theirs else None,
        row.side.form,
        theirs.form if theirs else None,
        row.side.share_of_peak,
        row.side.share_of_roofline,
        row.side.cpu_seconds_per_second,
        theirs.cpu_seconds_per_second if theirs else None,
        row.side.first_update_seconds,
        theirs.first_update_seconds if theirs else None,
        row.loaded,
        row.torch_version,
        row.source,
        row.measured_at,
        row.remark,
    )
