"""From timings to rows of the table: ratios with intervals, what can be claimed, and what was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapbench.analysis.stats import LEVEL, Ratio, bounds
from gapbench.bench.cases import CASES, KINDS, Case, Comparison

if TYPE_CHECKING:
    import pandas as pd


REACHED, SHORT, OPEN, WITHIN = "reached", "short", "open", "within A/A"
"""The interval lies beyond the goal, short of it, or holds it; open, too, where the ratio is no
farther from the goal than the A/A spread. Without a goal: the ratio is no farther from 1 than the spread."""
RESAMPLES = 10_000
SEED = 0
CLOCKS_AGREE = 0.02
"""CUDA's clock and the host's may differ by this much."""


@dataclass(frozen=True)
class Speed:
    """One side, medians over rounds."""

    side: str
    form: str
    examples_per_second: float
    cores_busy: float
    """Seconds of processor time a second."""
    first_update_seconds: float | None
    share_of_peak: float | None
    """FLOP/s reached, of the measured peak of matrix products in this precision."""
    share_of_roofline: float | None
    """Speed, of what the measured peak and, on CUDA, the measured bandwidth by the traffic model allow."""


@dataclass(frozen=True)
class Row:
    """One comparison on one machine."""

    case: str
    summary: str
    machine: str
    device_kind: str
    threads: int
    side: Speed
    against: Speed | None
    kind: str
    ratio: Ratio
    goal: float | None
    rounds: int
    spread: float | None
    """How far two timings of the case's first side differ (a fraction); no smaller difference can be claimed."""
    verdict: str
    remark: str
    loaded: bool
    """Whether the rounds come from a loaded machine."""
    torch_version: str
    source: str
    measured_at: str
    """Date and time of the last round."""

    @property
    def what(self) -> str:
        """What is held against what."""
        return f"{self.side.side} / {self.against.side}" if self.against else f"{self.side.side} / roofline"


@dataclass(frozen=True)
class Missing:
    """A case of which there are no rounds, and why."""

    case: str
    summary: str
    goals: str
    reason: str


@dataclass(frozen=True)
class BenchReport:
    """All that was measured, and what was not."""

    rows: tuple[Row, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]


def summarize(timings: pd.DataFrame, reasons: Mapping[str, str], cases: Mapping[str, Case] = CASES) -> BenchReport:
    """Returns the rows of all cases and machines that there are whole rounds of.

    Of each case on each machine the newest group counts (see `records.group_of`); within it the rounds of a quiet machine, and those of
    a loaded one only where there are no others.

    Args:
        timings: see `records.COLUMNS`.
        reasons: by case, why it cannot be measured here; what is in neither is simply not measured yet.
        cases: the comparisons.
    """
    rows: list[Row] = []
    notes: list[str] = []
    missing = []
    for case in cases.values():
        found = list(_newest(timings[timings["case"] == case.name], case))
        for group in found:
            rows.extend(_rows(case, group))
            notes.extend(_notes(case, group))
        if not found:
            reason = reasons.get(case.name, "not measured yet")
            missing.append(Missing(case.name, case.summary, "; ".join(goals_of(case)), reason))
    return BenchReport(tuple(rows), tuple(missing), tuple(dict.fromkeys(notes)))


def goals_of(case: Case) -> tuple[str, ...]:
    """Returns the goals of a case in words."""
    return tuple(
        f"{_what(item)} {KINDS[item.kind].goal_text(item.goal)}{' in seconds' if KINDS[item.kind].in_seconds else ''}"
        for item in case.comparisons
        if item.goal is not None
    )


def _what(comparison: Comparison) -> str:
    rivals = comparison.against
    return f"{comparison.side} / {'roofline' if not rivals else rivals[0] if len(rivals) == 1 else 'the best of ' + str(len(rivals))}"


def _newest(timings: pd.DataFrame, case: Case) -> Iterable[pd.DataFrame]:
    """Yields, machine by machine, the timings that count."""
    for _, on_machine in timings.groupby("machine", sort=True):
        group = on_machine[on_machine["group"] == _last(on_machine)["group"]]
        wanted = {side.name for side in case.sides}
        whole = [number for number, rows in group.groupby("round") if set(rows["side"]) >= wanted]
        group = group[group["round"].isin(whole)]
        quiet = group[~group["round"].isin(group.loc[group["loaded"], "round"])]
        if len(group):
            yield quiet if len(quiet) else group


def _last(timings: pd.DataFrame) -> Any:
    return timings.sort_values("started_at", kind="stable").iloc[-1]


def _rows(case: Case, group: pd.DataFrame) -> Iterable[Row]:
    first = case.sides[0].name
    ratio_of = median_ratio if case.together else ratio_of_medians
    noise = spread(_speeds(_timed(group, first)), _speeds(_timed(group, first, again=True)), ratio_of)
    last = _last(group)
    speeds = {side.name: _speed(_timed(group, side.name)) for side in case.sides}
    for comparison in case.comparisons:
        timed = _timed(group, comparison.side)
        ours = _speeds(timed)
        rival = max((speeds[name] for name in comparison.against), key=lambda speed: speed.examples_per_second, default=None)
        if rival is None:
            ratio = ratio_of_medians(ours, [float(value) for value in _ceiling(timed)])
        else:
            theirs = _speeds(_timed(group, rival.side))
            ratio = ratio_of(theirs, ours) if KINDS[comparison.kind].in_seconds else ratio_of(ours, theirs)
        yield Row(
            case=case.name,
            summary=case.summary,
            machine=str(last["machine"]),
            device_kind=str(last["device_kind"]),
            threads=int(last["threads"]),
            side=speeds[comparison.side],
            against=rival,
            kind=comparison.kind,
            ratio=ratio,
            goal=comparison.goal,
            rounds=len(ours),
            spread=noise,
            verdict=_verdict(ratio, comparison, noise),
            remark=comparison.remark,
            loaded=bool(group["loaded"].any()),
            torch_version=str(last["torch_version"]),
            source=str(last["source"]),
            measured_at=str(last["started_at"]),
        )


def _verdict(ratio: Ratio, comparison: Comparison, noise: float | None) -> str:
    """Says what can be claimed."""
    near, goal = noise or 0.0, comparison.goal
    if goal is None:
        return WITHIN if noise is not None and abs(ratio.estimate - 1.0) <= near else ""
    lowest, highest = KINDS[comparison.kind].bounds(goal)
    ends = [end for end in (lowest, highest) if end is not None]
    if comparison.kind != "share" and any(abs(ratio.estimate / end - 1.0) <= near for end in ends):
        return OPEN
    low, high = (ratio.estimate, ratio.estimate) if ratio.low is None or ratio.high is None else (ratio.low, ratio.high)
    if (lowest is None or low >= lowest) and (highest is None or high <= highest):
        return REACHED
    return SHORT if (lowest is not None and high < lowest) or (highest is not None and low > highest) else OPEN


def _timed(group: pd.DataFrame, side: str, *, again: bool = False) -> pd.DataFrame:
    """Returns the timings of a side, round by round."""
    return group[(group["side"] == side) & (group["again"] == again)].sort_values("round")


def _speeds(timed: pd.DataFrame) -> list[float]:
    return [float(value) for value in timed["examples_per_second"]]


def _speed(rows: pd.DataFrame) -> Speed:
    per_second = rows["examples_per_second"]
    peak = rows["flops_per_example"] * per_second / rows["peak_flops_per_second"]
    return Speed(
        side=str(rows["side"].iloc[0]),
        form=str(rows["form"].iloc[-1]),
        examples_per_second=float(per_second.median()),
        cores_busy=float((rows["cpu_seconds"] / rows["seconds"]).median()),
        first_update_seconds=_number(rows["first_update_seconds"].median()),
        share_of_peak=_number(peak.median()),
        share_of_roofline=_number((per_second / _ceiling(rows)).median()),
    )


def _ceiling(rows: pd.DataFrame) -> Any:
    """Returns the most images a second that the measured peaks allow."""
    import pandas as pd

    ceilings = pd.concat(
        [rows["peak_flops_per_second"] / rows["flops_per_example"], rows["peak_bytes_per_second"] / rows["bytes_per_example"]], axis=1
    )
    return ceilings.min(axis=1)


def _notes(case: Case, group: pd.DataFrame) -> Iterable[str]:
    if group["loaded"].any():
        load = group["load_cores"].max()
        yield f"{case.name}: timed on a loaded machine (up to {load:.1f} cores in use by others); not to be quoted"
    apart = ((group["event_seconds"] - group["seconds"]).abs() / group["seconds"]).max()
    if apart > CLOCKS_AGREE:
        yield f"{case.name}: CUDA's clock and the host's differ by up to {apart:.1%}"


def ratio_of_medians(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Returns median(numerators) / median(denominators) with a percentile bootstrap interval over rounds; none from a single round.

    Both sides of a round were timed within a minute of each other, so that a slow minute hits both: rounds are drawn, not timings.

    Args:
        numerators: one a round.
        denominators: one a round, of the same rounds.

    Raises:
        ValueError: there is no round, or the sides have different numbers of them.
    """
    if not numerators or len(numerators) != len(denominators):
        raise ValueError(f"needs as many numerators as denominators, not {len(numerators)} and {len(denominators)}")
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    value = float(np.median(above) / np.median(below))
    if len(above) == 1:
        return Ratio(value, None, None)
    drawn = np.random.default_rng(SEED).integers(0, len(above), (RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Ratio(value, float(low), float(high))


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Returns the median of each round's ratio, where the sides of a round took turns, with a bootstrap interval over rounds.

    Args:
        numerators: one a round.
        denominators: one a round, of the same rounds.

    Raises:
        ValueError: there is no round, or the sides have different numbers of them.
    """
    ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
    return ratio_of_medians(ratios, [1.0] * len(ratios))


def spread(
    first: Sequence[float], second: Sequence[float], ratio_of: Callable[[Sequence[float], Sequence[float]], Ratio] = ratio_of_medians
) -> float | None:
    """Returns how far equal things differ: the largest distance from 1 of the interval of second to first, two timings of one program.

    No difference that is smaller can be claimed. None from a single round.
    """
    if len(first) < 2:
        return None
    ratio = ratio_of(second, first)
    assert ratio.low is not None
    assert ratio.high is not None
    return max(abs(ratio.low - 1.0), abs(ratio.high - 1.0))


def _number(value: Any) -> float | None:
    return None if value != value else float(value)  # not a number: unknown


CSV_COLUMNS = (
    "case", "device_kind", "machine", "threads", "side", "against", "kind", "ratio", "ratio_low", "ratio_high", "goal", "verdict", "rounds",
    "spread", "side_examples_per_second", "against_examples_per_second", "side_form", "against_form", "side_share_of_peak",
    "side_share_of_roofline", "side_cores_busy", "against_cores_busy", "side_first_update_seconds", "against_first_update_seconds",
    "loaded", "torch_version", "source", "measured_at", "remark",
)  # fmt: skip


def bench_csv(report: BenchReport) -> str:
    """Returns every row with all its numbers."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(row) for row in report.rows)
    return buffer.getvalue()


def _record(row: Row) -> dict[str, Any]:
    """Returns the values of a row by column; those of its sides begin with `side_` and `against_`."""
    sides = {"side": row.side} | ({"against": row.against} if row.against else {})
    return {
        **vars(row),
        **bounds("ratio", row.ratio),
        **{f"{name}_{field}": value for name, speed in sides.items() for field, value in vars(speed).items()},
        "side": row.side.side,
        "against": row.against.side if row.against else "roofline",
    }


def bench_markdown(report: BenchReport) -> str:
    """Returns the table for people, one a machine, then what was not measured."""
    parts = ["# Speed\n"]
    for machine in dict.fromkeys(row.machine for row in report.rows):
        rows = [row for row in report.rows if row.machine == machine]
        parts.append(f"## {machine}\n")
        versions = ", ".join(dict.fromkeys(f"torch {row.torch_version}" for row in rows))
        days = sorted({row.measured_at[:10] for row in rows})
        parts.append(f"{versions}; {days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}'}\n")
        parts.append(_table([row_texts(row) for row in rows]))
    if report.rows:
        parts.append(EXPLANATION)
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes) + "\n")
    if report.missing:
        parts.append("## Not measured here\n")
        missing = [{"case": one.case, "what": one.summary, "goals": one.goals, "why": one.reason} for one in report.missing]
        parts.append(_table(missing))
    return "\n".join(parts)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    head, *lines = (f"| {' | '.join(texts)} |" for texts in (rows[0], *(row.values() for row in rows)))
    return "\n".join([head, "|---" * len(rows[0]) + "|", *lines]) + "\n"


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
        return f"{value:.3f}" if KINDS[kind].in_seconds else f"{value:.2f}" if value < 99.95 else f"{value:.0f}"

    text = number(ratio.estimate) + (" %" if kind == "share" else "")
    return text if ratio.low is None or ratio.high is None else f"{text} [{number(ratio.low)}, {number(ratio.high)}]"


def goal_column(row: Row) -> str:
    """Returns ">= 3", or nothing where there is no goal."""
    return "" if row.goal is None else KINDS[row.kind].goal_text(row.goal)


def row_texts(row: Row) -> dict[str, str]:
    """Returns the texts of a row for people, by heading."""
    theirs = [row.against] if row.against else []
    share = row.side.share_of_roofline if row.device_kind == "cuda" else row.side.share_of_peak
    firsts = [speed.first_update_seconds for speed in (row.side, *theirs)]
    return {
        "case": row.summary,
        "sides": row.what,
        "images/s": " / ".join(f"{speed.examples_per_second:,.0f}" for speed in (row.side, *theirs)),
        "ratio [95 %]": ratio_text(row.ratio, row.kind),
        "goal": goal_column(row),
        "verdict": row.verdict,
        "rounds": str(row.rounds),
        "A/A spread": "" if row.spread is None else f"{100 * row.spread:.1f} %",
        "share": "" if share is None else f"{100 * share:.1f} %",
        "first update, s": " / ".join(f"{first:.1f}" for first in firsts if first is not None),
        "remark": "; ".join(filter(None, ["**loaded machine**" if row.loaded else "", row.side.form, row.remark])),
    }
