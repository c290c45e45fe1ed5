"""Side tables: what a suite shows besides its arms, where it has the cells for it. Reports, pages and consoles show them alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, cell_difference, in_unit, is_paired, read_panels, unadapted
from gapbench.analysis.critical_batch.targets import Target, target_table
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import gap_text, interval_words, percent, ratio_text, signed
from gapbench.analysis.rows import SideTable
from gapbench.analysis.stats import NOT_SEPARATED, Difference, Ratio, bounds, combination, holm, share_closed, verdict_on
from gapbench.catalog import Metric

if TYPE_CHECKING:
    import pandas as pd


def side_tables(runs: pd.DataFrame, curves: pd.DataFrame | None = None, targets: Sequence[Mapping[str, Any]] = ()) -> tuple[SideTable, ...]:
    """Returns the side tables that the runs of a suite have the cells for, and that of the targets that it names.

    Args:
        runs: runs.parquet.
        curves: curves.parquet; None: no targets are looked for.
        targets: metric and value of each, as the suite's [report] names them.
    """
    panels = read_panels(runs)
    reached = target_table(panels, Curves(curves), [Target(**item) for item in targets]) if curves is not None and targets else None
    found = (preset_table(panels), reset_table(panels), reached)
    return tuple(table for table in found if table is not None)


def accuracy() -> Metric:
    """Returns the metric that side tables compare by."""
    return catalog.metrics()["accuracy"]


def accuracy_difference(first: Cell, second: Cell) -> Difference | None:
    """Returns the test accuracy of a first cell minus that of a second, in percentage points."""
    return cell_difference(first, second, accuracy())


def no_verdict(*cells: Cell) -> str:
    """Returns why cells cannot be compared with an interval, or an empty text."""
    for cell in cells:
        if not cell.complete:
            return f"{cell.name}: {cell.ok_of()}"
    if not all(cell.column("test_accuracy") for cell in cells):
        return "no accuracy"
    if min(len(cell.column("test_accuracy")) for cell in cells) < 2:
        return "one seed"
    found = accuracy_difference(cells[0], cells[1])
    return "" if found is not None and found.p_value is not None else "no spread between seeds"


def judged(gaps: Sequence[tuple[Difference | None, str, str, str]]) -> list[tuple[float | None, str]]:
    """Returns the adjusted p-value and the verdict of every difference of a table, which are judged together by Holm's procedure.

    Args:
        gaps: each with the reason why it has no verdict (or an empty text), and what it is called above and below zero.
    """
    adjusted = holm([None if gap is None or reason else gap.p_value for gap, reason, _, _ in gaps])
    return [
        (p_holm, f"no verdict ({reason or 'no seed in common'})")
        if gap is None or reason
        else (p_holm, verdict_on(gap.estimate, p_holm, above=above, below=below))
        for (gap, reason, above, below), p_holm in zip(gaps, adjusted, strict=True)
    ]


# What the preset alone changes, arm by arm: the same arm of the same recipe in whose version of it.

MANY = 8
"""Of more rows than this only those that are separated are told."""
LESS, MORE = "lower", "higher"


@dataclass(frozen=True)
class PresetRow:
    """One arm in two presets."""

    panel: Panel
    arm: str
    """Name of its cells without the preset."""
    first: Cell
    """In the preset that the other is held against."""
    second: Cell
    change_pp: Difference | None
    """Test accuracy in the second preset minus that in the first."""
    gap_change_pp: Difference | None
    """Batch gap in the second preset minus that in the first, each against its own reference cell; None for reference cells."""
    p_holm: float | None = None
    verdict: str = ""


def preset_table(panels: Sequence[Panel]) -> SideTable | None:
    """Returns the table of a suite's arms by preset, or None where no arm is there in two presets."""
    rows = _judged([row for panel in panels for row in _rows(panel)])
    if not rows:
        return None
    several = len({id(row.panel) for row in rows}) > 1
    firsts, seconds = ({getattr(row, which).preset for row in rows} for which in ("first", "second"))
    headings = [
        name if len(names) == 1 else other for names, other in ((firsts, "first"), (seconds, "second")) for name in sorted(names)[:1]
    ]
    columns = (
        "arm", "batch", f"{headings[0]}, %", f"{headings[1]}, %", "difference, pp", "verdict", "difference of batch gaps, pp",
    )  # fmt: skip
    texts = tuple(
        (
            f"{row.panel.title}: {row.arm}" if several else row.arm,
            str(row.second.batch_size),
            percent(row.first.estimate("test_accuracy")),
            percent(row.second.estimate("test_accuracy")),
            gap_text(row.change_pp, accuracy()),
            row.verdict,
            gap_text(row.gap_change_pp, accuracy()),
        )
        for row in rows
    )
    return SideTable(
        "presets", "What the preset alone changes", columns, texts, tuple(_sentences(rows)), tuple(_notes(rows)), tuple(map(_record, rows))
    )


def arm_of(cell: Cell) -> str:
    """Returns the name of a cell without its preset: "SB" of "SB, code"."""
    return ", ".join(word for field, word in cell.words.items() if field != "preset") or "run"


def _rows(panel: Panel) -> Iterator[PresetRow]:
    arms: dict[tuple[str, str, str], dict[str, Cell]] = {}
    for cell in panel.cells:
        arms.setdefault((arm_of(cell), cell.optimizer, cell.precision), {}).setdefault(cell.preset, cell)
    for (arm, *_), own in arms.items():
        base = "paper" if "paper" in own else next(iter(own))
        for preset, cell in own.items():
            if preset != base:
                first = own[base]
                yield PresetRow(panel, arm, first, cell, accuracy_difference(cell, first), _gap_change(panel, first, cell))


def _gap_change(panel: Panel, first: Cell, second: Cell) -> Difference | None:
    references = panel.reference_of(first), panel.reference_of(second)
    if references[0] is None or references[1] is None or references[0] is first or references[1] is second:
        return None
    if (references[0].preset, references[1].preset) != (first.preset, second.preset):
        return None
    cells = (references[1], second, references[0], first)
    return combination([in_unit(cell, accuracy()) for cell in cells], (1.0, -1.0, -1.0, 1.0), paired=is_paired(*cells))


def _judged(rows: list[PresetRow]) -> list[PresetRow]:
    verdicts = judged([(row.change_pp, no_verdict(row.second, row.first), MORE, LESS) for row in rows])
    return [replace(row, p_holm=p_holm, verdict=verdict) for row, (p_holm, verdict) in zip(rows, verdicts, strict=True)]


def _sentences(rows: Sequence[PresetRow]) -> Iterator[str]:
    told = [row for row in rows if row.p_holm is not None]
    if not told:
        yield "No arm has a verdict on the preset yet."
    separated = [row for row in told if row.verdict != NOT_SEPARATED]
    if len(told) > MANY:
        yield f"Of {len(told)} arms, {len(separated)} are separated between presets."
    for row in told if len(told) <= MANY else separated:
        gap = row.change_pp
        assert gap is not None  # only rows with a verdict come here
        size, words = f"{abs(gap.estimate):.2f} pp {'less' if gap.estimate < 0 else 'more'}", interval_words(gap)
        if row.verdict == NOT_SEPARATED:
            yield f"{row.arm}: preset {row.second.preset} is not separated from {row.first.preset} ({size}; {words})."
        else:
            yield f"{row.arm}: preset {row.second.preset} reaches {size} than {row.first.preset} ({words})."
    yield from _gap_sentences(told)


def _gap_sentences(rows: Sequence[PresetRow]) -> Iterator[str]:
    """Says what the preset makes of the batch gap of the largest batch with nothing adapted."""
    plain = [row for row in rows if row.gap_change_pp is not None and unadapted(row.first) and unadapted(row.second)]
    for row in [row for row in plain if row.second.batch_size == max(other.second.batch_size for other in plain)]:
        gap, panel = row.gap_change_pp, row.panel
        assert gap is not None
        sizes = [accuracy_difference(reference, cell) for cell in (row.first, row.second) if (reference := panel.reference_of(cell))]
        if len(sizes) == 2 and sizes[0] and sizes[1]:
            shown = [signed(size.estimate, 2) for size in sizes if size]
            side = "less" if gap.estimate < 0 else "more"
            yield (
                f"The batch gap of {row.arm} is {shown[0]} pp in preset {row.first.preset} and {shown[1]} pp in preset "
                f"{row.second.preset}: {abs(gap.estimate):.2f} pp {side} ({interval_words(gap)})."
            )


def _notes(rows: Sequence[PresetRow]) -> Iterator[str]:
    methods = {row.change_pp.method for row in rows if row.change_pp}
    how = "paired by split" if methods == {"paired"} else "Welch's, for this split"
    count = sum(row.p_holm is not None for row in rows)
    yield (
        "Differences: test accuracy in the later preset minus that in the earlier one, in percentage points; 95 % intervals by themselves, "
        f"{how}; verdicts hold at 5 % together, by Holm's procedure over these {count} differences. A positive difference of batch gaps: "
        "the gap, each preset against its own reference cell, is larger in the later one; it is in no family of verdicts."
    )
    for recipe, first, second in dict.fromkeys((row.panel.recipe, row.first.preset, row.second.preset) for row in rows):
        if differing := _differing(recipe, first, second):
            yield f"In the recipe {recipe}, preset {second} differs from {first} in {', '.join(differing)}."


def _differing(recipe: str, first: str, second: str) -> list[str]:
    presets = catalog.recipes()[recipe].presets if recipe in catalog.recipes() else {}
    if first not in presets or second not in presets:
        return []
    fields: list[dict[str, Any]] = [presets[name].fields for name in (first, second)]
    return sorted(name for name in {*fields[0], *fields[1]} if fields[0].get(name) != fields[1].get(name))


def _record(row: PresetRow) -> dict[str, Any]:
    gap = row.change_pp
    return {
        **row.panel.about,
        "arm": row.arm,
        "batch_size": row.second.batch_size,
        "first_preset": row.first.preset,
        "second_preset": row.second.preset,
        **{
            f"{which}_test_accuracy": estimate.mean if (estimate := cell.estimate("test_accuracy")) else None
            for which, cell in (("first", row.first), ("second", row.second))
        },
        **bounds("preset_change_pp", gap),
        "preset_change_p_holm": row.p_holm,
        "preset_change_method": gap.method if gap else None,
        "preset_change_n": gap.n if gap else None,
        "verdict": row.verdict,
        **bounds("batch_gap_change_pp", row.gap_change_pp),
    }


# What the momentum reset costs: the same cell with it, without it, and without it at the rate of matched gain.
#
# With a reset at every epoch momentum comes to a part of its gain only, the smaller the fewer updates an epoch has. A run without reset
# whose rate is multiplied by that part is the control: what it shares with the reset is the lower rate, and what it does not is the rest.

COSTS, GAINS = "costs", "gains"


@dataclass(frozen=True)
class ResetRow:
    """A batch size with and without the reset."""

    panel: Panel
    reset: Cell
    never: Cell
    matched: Cell | None
    """Without reset, at the rate of matched gain."""
    cost_pp: Difference | None
    """Test accuracy without the reset minus that with it."""
    left_pp: Difference | None
    """Test accuracy at matched gain minus that with the reset: what of the reset is no lower rate."""
    share: Ratio | None
    """Of the batch gap that the reset makes up, against the reference cell with the reset; None where there is none."""
    cost_verdict: str = ""
    left_verdict: str = ""


def reset_table(panels: Sequence[Panel]) -> SideTable | None:
    """Returns the table of momentum resets, or None where no cell is there with and without one."""
    rows = _resets_judged([row for panel in panels for row in _resets_rows(panel)])
    if not rows:
        return None
    columns = (
        "cell", "batch", "with reset, %", "without, %", "without, matched gain, %", "cost of the reset, pp", "verdict",
        "share of the batch gap", "matched gain minus reset, pp", "verdict at matched gain",
    )  # fmt: skip
    texts = tuple(
        (
            row.reset.name,
            str(row.reset.batch_size),
            *(percent(cell.estimate("test_accuracy")) if cell else "" for cell in (row.reset, row.never, row.matched)),
            gap_text(row.cost_pp, accuracy()),
            row.cost_verdict,
            ratio_text(row.share) if row.share else "",
            gap_text(row.left_pp, accuracy()),
            row.left_verdict,
        )
        for row in rows
    )
    notes = (
        "Cost of the reset: test accuracy without it minus that with it, in percentage points. Matched gain: without reset, at the rate "
        "times the share of its gain that momentum comes to with one. Intervals are 95 % by themselves; verdicts hold at 5 % together, by "
        "Holm's procedure over all differences of this table. Share: of the batch gap with the reset, interval by Fieller.",
    )
    return SideTable(
        "momentum_reset",
        "What the momentum reset costs",
        columns,
        texts,
        tuple(_resets_sentences(rows)),
        notes,
        tuple(map(_resets_record, rows)),
    )


def _resets_rows(panel: Panel) -> Iterator[ResetRow]:
    groups: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for cell in panel.cells:
        groups.setdefault(_key(cell), {}).setdefault(_kind(cell), cell)
    for own in groups.values():
        if "reset" not in own or "never" not in own:
            continue
        reset, never, matched = own["reset"], own["never"], own.get("matched")
        left = accuracy_difference(matched, reset) if matched else None
        yield ResetRow(panel, reset, never, matched, accuracy_difference(never, reset), left, _share(panel, reset, never))


def _kind(cell: Cell) -> str:
    if cell.momentum_reset == "epoch":
        return "both" if cell.change.matched_gain else "reset"
    return "matched" if cell.change.matched_gain else "never"


def _key(cell: Cell) -> tuple[Any, ...]:
    """Returns what cells that differ in the reset and its control only have in common."""
    return (*cell.method, cell.batch_size, cell.ghost_batch_size, cell.change.without_reset, cell.planned_updates)


def _share(panel: Panel, reset: Cell, never: Cell) -> Ratio | None:
    reference = panel.reference_of(reset)
    if reference is None or reference is reset or reference.batch_size == reset.batch_size or reference.momentum_reset != "epoch":
        return None
    gap = accuracy_difference(reference, reset)
    if gap is None or gap.low is None or gap.low <= 0:
        return None  # no gap to have a share of
    samples = [cell.column("test_accuracy") for cell in (never, reset, reference)]
    return share_closed(*samples, paired=is_paired(never, reset, reference))


def _resets_judged(rows: list[ResetRow]) -> list[ResetRow]:
    """Gives every difference its verdict, Holm's procedure running over both columns."""
    costs = [(row.cost_pp, no_verdict(row.never, row.reset), COSTS, GAINS) for row in rows]
    left = [(row.left_pp, no_verdict(row.matched, row.reset), "above the reset", "below the reset") for row in rows if row.matched]
    verdicts = [verdict for _, verdict in judged([*costs, *left])]
    of_left = iter(verdicts[len(rows) :])
    return [
        replace(row, cost_verdict=verdict, left_verdict=next(of_left) if row.matched else "")
        for row, verdict in zip(rows, verdicts, strict=False)
    ]


def _resets_sentences(rows: Sequence[ResetRow]) -> Iterator[str]:
    for row in sorted(rows, key=lambda row: -row.reset.batch_size):
        gap, where = row.cost_pp, f"At batch {row.reset.batch_size} ({row.reset.name})"
        if gap is None or row.cost_verdict.startswith("no verdict"):
            yield f"{where} there is {row.cost_verdict} on the momentum reset."
            continue
        side = "costs" if gap.estimate >= 0 else "gains"
        words = interval_words(gap)
        share = f", {ratio_text(row.share)} of the batch gap" if row.share and row.cost_verdict == COSTS else ""
        if row.cost_verdict == NOT_SEPARATED:
            head = f"{where} the momentum reset is not separated from none (it {side} {abs(gap.estimate):.2f} pp; {words})"
        else:
            head = f"{where} the momentum reset {side} {abs(gap.estimate):.2f} pp ({words}){share}"
        yield f"{head}{_control(row)}."


def _control(row: ResetRow) -> str:
    gap = row.left_pp
    if gap is None or row.left_verdict.startswith("no verdict"):
        return ""
    side = "above" if gap.estimate >= 0 else "below"
    words = f"{abs(gap.estimate):.2f} pp {side} it; {interval_words(gap)}"
    if row.left_verdict == NOT_SEPARATED:
        return f"; without reset at matched gain is not separated from it ({words}), so these runs do not tell the reset from a lower rate"
    return f"; without reset at matched gain is separated from it ({words}), so the reset is not only a lower rate"


def _resets_record(row: ResetRow) -> dict[str, Any]:
    means = {
        name: estimate.mean if cell and (estimate := cell.estimate("test_accuracy")) else None
        for name, cell in (("reset", row.reset), ("no_reset", row.never), ("matched_gain", row.matched))
    }
    return {
        **row.panel.about,
        "preset": row.reset.preset,
        "cell": row.reset.name,
        "batch_size": row.reset.batch_size,
        **{f"{name}_test_accuracy": mean for name, mean in means.items()},
        **bounds("reset_cost_pp", row.cost_pp),
        "reset_cost_verdict": row.cost_verdict,
        **bounds("reset_share", row.share),
        **bounds("matched_gain_minus_reset_pp", row.left_pp),
        "matched_gain_verdict": row.left_verdict or None,
    }
