"""What the preset alone changes, arm by arm: the same arm of the same recipe in whose version of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gapbench.analysis.cells import Cell, Panel, unadapted
from gapbench.analysis.differences import Difference, holm
from gapbench.analysis.formats import gap_text, percent, signed
from gapbench.analysis.intervals import t_interval
from gapbench.analysis.side_tables import (
    NOT_SEPARATED,
    SideTable,
    accuracy_difference,
    accuracy_pp,
    combination,
    difference_record,
    interval_words,
    judged,
    no_verdict,
)

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
            percent(t_interval([*row.first.column("test_accuracy").values()])),
            percent(t_interval([*row.second.column("test_accuracy").values()])),
            gap_text(row.change_pp),
            row.verdict,
            gap_text(row.gap_change_pp),
        )
        for row in rows
    )
    return SideTable(
        "presets", "What the preset alone changes", columns, texts, tuple(_sentences(rows)), tuple(_notes(rows)), tuple(map(_record, rows))
    )


def arm_of(cell: Cell) -> str:
    """Returns the name of a cell without its preset: "SB" of "SB, code"."""
    return ", ".join(part for part in cell.name.split(", ") if part != cell.preset) or "run"


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
    paired = all(cell.split_drawn for cell in cells)
    return combination([accuracy_pp(cell) for cell in cells], (1.0, -1.0, -1.0, 1.0), paired=paired)


def _judged(rows: list[PresetRow]) -> list[PresetRow]:
    reasons = [no_verdict(row.second, row.first) for row in rows]
    gaps = [row.change_pp for row, reason in zip(rows, reasons, strict=True) if not reason]
    p_values = [gap.p_value for gap in gaps if gap is not None and gap.p_value is not None]
    adjusted = iter(holm(p_values))
    out = []
    for row, reason in zip(rows, reasons, strict=True):
        if reason or row.change_pp is None:
            out.append(replace(row, verdict=f"no verdict ({reason or 'no seed in common'})"))
        else:
            p_holm = next(adjusted)
            out.append(replace(row, p_holm=p_holm, verdict=judged(row.change_pp, p_holm, above=MORE, below=LESS)))
    return out


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
        side, flip = ("less", True) if gap.estimate < 0 else ("more", False)
        size, words = f"{abs(gap.estimate):.2f} pp {side}", interval_words(gap, flip=flip)
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
            side, flip = ("less", True) if gap.estimate < 0 else ("more", False)
            yield (
                f"The batch gap of {row.arm} is {shown[0]} pp in preset {row.first.preset} and {shown[1]} pp in preset "
                f"{row.second.preset}: {abs(gap.estimate):.2f} pp {side} ({interval_words(gap, flip=flip)})."
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
    from gapbench import catalog

    presets = catalog.recipes()[recipe].presets if recipe in catalog.recipes() else {}
    if first not in presets or second not in presets:
        return []
    fields: list[dict[str, Any]] = [presets[name].fields for name in (first, second)]
    return sorted(name for name in {*fields[0], *fields[1]} if fields[0].get(name) != fields[1].get(name))


def _record(row: PresetRow) -> dict[str, Any]:
    gap = row.change_pp
    return {
        "dataset": row.panel.dataset,
        "model": row.panel.model,
        "recipe": row.panel.recipe,
        "arm": row.arm,
        "batch_size": row.second.batch_size,
        "first_preset": row.first.preset,
        "second_preset": row.second.preset,
        **{
            f"{which}_test_accuracy": estimate.mean if (estimate := t_interval([*cell.column("test_accuracy").values()])) else None
            for which, cell in (("first", row.first), ("second", row.second))
        },
        **difference_record("preset_change_pp", gap),
        "preset_change_p_holm": row.p_holm,
        "preset_change_method": gap.method if gap else None,
        "preset_change_n": gap.n if gap else None,
        "verdict": row.verdict,
        **difference_record("batch_gap_change_pp", row.gap_change_pp),
    }
