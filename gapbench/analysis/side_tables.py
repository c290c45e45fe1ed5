"""Side tables: what a suite shows besides its arms, where it has the cells for it. Reports, pages and consoles show them alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.analysis.cells import Cell, Panel, cell_difference, in_unit, is_paired, read_panels, unadapted
from gapbench.analysis.critical_batch.targets import Target, target_table
from gapbench.analysis.curves import Curves
from gapbench.analysis.equal_loss import equal_loss_table
from gapbench.analysis.formats import gap_text, interval_words, percent, ratio_text, signed
from gapbench.analysis.frames import attributes
from gapbench.analysis.rows import SideTable, side_table
from gapbench.analysis.stats import NOT_SEPARATED, Difference, Ratio, bounds, combination, judge, share_closed, unjudged
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
    found = (preset_table(panels), reset_table(panels), equal_loss_table(panels), reached)
    return tuple(table for table in found if table is not None)


def accuracy() -> Metric:
    """Returns the metric that side tables compare by."""
    return catalog.metrics()["accuracy"]


def accuracy_difference(first: Cell, second: Cell) -> Difference | None:
    """Returns the test accuracy of a first cell minus that of a second, in percentage points."""
    return cell_difference(first, second, accuracy())


def no_verdict(first: Cell, second: Cell) -> str:
    """Returns why two cells cannot be compared with an interval, or an empty text."""
    for cell in (first, second):
        if not cell.complete:
            return f"{cell.name}: {cell.ok_of()}"
    if not all(cell.column("test_accuracy") for cell in (first, second)):
        return "no accuracy"
    return unjudged(accuracy_difference(first, second))


def accuracies(cells: Mapping[str, Cell | None]) -> dict[str, float | None]:
    """Returns the mean test accuracies of cells as columns; None where there is no cell or no value."""
    found = {name: cell.estimate("test_accuracy") if cell else None for name, cell in cells.items()}
    return {f"{name}_test_accuracy": estimate.mean if estimate else None for name, estimate in found.items()}


def accuracy_text(cell: Cell | None) -> str:
    """Returns the mean test accuracy of a cell with its interval, in percent; empty where there is no cell or no value."""
    return percent(cell.estimate("test_accuracy")) if cell else ""


def size_text(gap: Difference) -> str:
    """Returns the size of a difference, without its sign."""
    return f"{abs(gap.estimate):.2f} pp"


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
    several = len({row.panel for row in rows}) > 1
    firsts, seconds = {row.first.preset for row in rows}, {row.second.preset for row in rows}
    first, second = (min(firsts) if len(firsts) == 1 else "first"), (min(seconds) if len(seconds) == 1 else "second")
    texts = [
        {
            "arm": f"{row.panel.title}: {row.arm}" if several else row.arm,
            "batch": str(row.second.batch_size),
            f"{first}, %": accuracy_text(row.first),
            f"{second}, %": accuracy_text(row.second),
            "difference, pp": gap_text(row.change_pp, accuracy()),
            "verdict": row.verdict,
            "difference of batch gaps, pp": gap_text(row.gap_change_pp, accuracy()),
        }
        for row in rows
    ]
    return side_table("presets", "What the preset alone changes", texts, _sentences(rows), _notes(rows), map(_record, rows))


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
    verdicts = judge([(row.change_pp, no_verdict(row.second, row.first), MORE, LESS) for row in rows])
    return [replace(row, p_holm=p_holm, verdict=verdict) for row, (p_holm, verdict) in zip(rows, verdicts, strict=True)]


def _sentences(rows: Sequence[PresetRow]) -> Iterator[str]:
    told = [(row, row.change_pp) for row in rows if row.change_pp and row.p_holm is not None]
    separated = [(row, gap) for row, gap in told if row.verdict != NOT_SEPARATED]
    if not told:
        yield "No arm has a verdict on the preset yet."
    if len(told) > MANY:
        yield f"Of {len(told)} arms, {len(separated)} are separated between presets."
    for row, gap in told if len(told) <= MANY else separated:
        size, words = f"{size_text(gap)} {'less' if gap.estimate < 0 else 'more'}", interval_words(gap)
        if row.verdict == NOT_SEPARATED:
            yield f"{row.arm}: preset {row.second.preset} is not separated from {row.first.preset} ({size}; {words})."
        else:
            yield f"{row.arm}: preset {row.second.preset} reaches {size} than {row.first.preset} ({words})."
    yield from _gap_sentences([row for row, _ in told])


def _gap_sentences(rows: Sequence[PresetRow]) -> Iterator[str]:
    """Says what the preset makes of the batch gap of the largest batch with nothing adapted."""
    plain = [row for row in rows if row.gap_change_pp is not None and unadapted(row.first) and unadapted(row.second)]
    largest = max((row.second.batch_size for row in plain), default=0)
    for row in plain:
        gap, cells = row.gap_change_pp, (row.first, row.second)
        sizes = [accuracy_difference(reference, cell) for cell in cells if (reference := row.panel.reference_of(cell))]
        shown = [f"{signed(size.estimate, 2)} pp in preset {cell.preset}" for size, cell in zip(sizes, cells, strict=False) if size]
        if gap and row.second.batch_size == largest and len(shown) == 2:
            side = "less" if gap.estimate < 0 else "more"
            yield f"The batch gap of {row.arm} is {' and '.join(shown)}: {size_text(gap)} {side} ({interval_words(gap)})."


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
    fields, others = presets[first].fields, presets[second].fields
    return sorted(name for name in {*fields, *others} if fields.get(name) != others.get(name))


def _record(row: PresetRow) -> dict[str, Any]:
    return {
        **row.panel.about,
        "arm": row.arm,
        "batch_size": row.second.batch_size,
        "first_preset": row.first.preset,
        "second_preset": row.second.preset,
        **accuracies({"first": row.first, "second": row.second}),
        **bounds("preset_change_pp", row.change_pp),
        "preset_change_p_holm": row.p_holm,
        **attributes(row.change_pp, "method", "n", prefix="preset_change_"),
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
    rows = _reset_judged([row for panel in panels for row in _reset_rows(panel)])
    if not rows:
        return None
    texts = [
        {
            "cell": row.reset.name,
            "batch": str(row.reset.batch_size),
            "with reset, %": accuracy_text(row.reset),
            "without, %": accuracy_text(row.never),
            "without, matched gain, %": accuracy_text(row.matched),
            "cost of the reset, pp": gap_text(row.cost_pp, accuracy()),
            "verdict": row.cost_verdict,
            "share of the batch gap": ratio_text(row.share) if row.share else "",
            "matched gain minus reset, pp": gap_text(row.left_pp, accuracy()),
            "verdict at matched gain": row.left_verdict,
        }
        for row in rows
    ]
    note = (
        "Cost of the reset: test accuracy without it minus that with it, in percentage points. Matched gain: without reset, at the rate "
        "times the share of its gain that momentum comes to with one. Intervals are 95 % by themselves; verdicts hold at 5 % together, by "
        "Holm's procedure over all differences of this table. Share: of the batch gap with the reset, interval by Fieller."
    )
    sentences = map(_reset_sentence, sorted(rows, key=lambda row: -row.reset.batch_size))
    return side_table("momentum_reset", "What the momentum reset costs", texts, sentences, (note,), map(_reset_record, rows))


def _reset_rows(panel: Panel) -> Iterator[ResetRow]:
    groups: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for cell in panel.cells:
        groups.setdefault(_key(cell), {}).setdefault(_kind(cell), cell)
    for own in groups.values():
        if "reset" in own and "never" in own:
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


def _reset_judged(rows: list[ResetRow]) -> list[ResetRow]:
    """Gives every difference its verdict, Holm's procedure running over both columns."""
    costs = [(row.cost_pp, no_verdict(row.never, row.reset), COSTS, GAINS) for row in rows]
    left = [(row.left_pp, no_verdict(row.matched, row.reset), "above the reset", "below the reset") for row in rows if row.matched]
    verdicts = [verdict for _, verdict in judge([*costs, *left])]
    of_left = iter(verdicts[len(rows) :])
    return [
        replace(row, cost_verdict=verdict, left_verdict=next(of_left) if row.matched else "")
        for row, verdict in zip(rows, verdicts, strict=False)
    ]


def _reset_sentence(row: ResetRow) -> str:
    gap, where = row.cost_pp, f"At batch {row.reset.batch_size} ({row.reset.name})"
    if gap is None or row.cost_verdict.startswith("no verdict"):
        return f"{where} there is {row.cost_verdict} on the momentum reset."
    side, words = COSTS if gap.estimate >= 0 else GAINS, interval_words(gap)
    if row.cost_verdict == NOT_SEPARATED:
        return f"{where} the momentum reset is not separated from none (it {side} {size_text(gap)}; {words}){_control(row)}."
    share = f", {ratio_text(row.share)} of the batch gap" if row.share and row.cost_verdict == COSTS else ""
    return f"{where} the momentum reset {side} {size_text(gap)} ({words}){share}{_control(row)}."


def _control(row: ResetRow) -> str:
    gap = row.left_pp
    if gap is None or row.left_verdict.startswith("no verdict"):
        return ""
    words = f"{size_text(gap)} {'above' if gap.estimate >= 0 else 'below'} it; {interval_words(gap)}"
    if row.left_verdict == NOT_SEPARATED:
        return f"; without reset at matched gain is not separated from it ({words}), so these runs do not tell the reset from a lower rate"
    return f"; without reset at matched gain is separated from it ({words}), so the reset is not only a lower rate"


def _reset_record(row: ResetRow) -> dict[str, Any]:
    return {
        **row.panel.about,
        "preset": row.reset.preset,
        "cell": row.reset.name,
        "batch_size": row.reset.batch_size,
        **accuracies({"reset": row.reset, "no_reset": row.never, "matched_gain": row.matched}),
        **bounds("reset_cost_pp", row.cost_pp),
        "reset_cost_verdict": row.cost_verdict,
        **bounds("reset_share", row.share),
        **bounds("matched_gain_minus_reset_pp", row.left_pp),
        "matched_gain_verdict": row.left_verdict or None,
    }
