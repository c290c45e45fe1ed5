"""What a suite, or its tuning, would train and take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column

from gapbench.api.planning import hours
from gapbench.console.words import count, duration, fold, mebibytes, print_table, slots_text
from gapbench.suite.batches import bounds_of_updates

if TYPE_CHECKING:
    from gapbench.api import Plan, PlannedCell, TuningPlan
    from gapbench.suite import RunSpec


MOST_CELLS = 60
"""That a plan lists, unless all are asked for. Ours."""


def print_plan(console: Console, plan: Plan, *, every: bool = False) -> None:
    """Prints what a suite would train, what it drops, what it would take, and what to be careful about.

    Args:
        console: to print on.
        plan: of a suite.
        every: lists all cells, however many.
    """
    listed = plan.cells if every else plan.cells[:MOST_CELLS]
    numbers = ("runs", "batch", "N/B", "ghost", "rate", "updates", "examples", "memory", "time")
    columns = [
        Column("cell", overflow="fold"),
        *(Column(heading, justify="right", no_wrap=heading in ("updates", "examples")) for heading in numbers),  # to the last digit
        Column("known", style="dim"),
    ]
    title = f"{plan.suite.name}: {count(plan.runs, 'run')} in {count(len(plan.cells), 'cell')}"
    print_table(console, columns, map(_row, listed), title=title)
    if more := plan.cells[len(listed) :]:
        fold(console, f"and {count(len(more), 'cell')} more with {count(sum(cell.runs for cell in more), 'run')}; --all lists them")
    console.print()
    slots, left = slots_text(plan.devices, plan.slots, plan.threads), plan.runs - plan.done
    fold(console, f"{count(left, 'run')} to train in {count(plan.jobs, 'job')} on {', '.join(plan.devices)}, {slots}")
    if left:
        device, clock = duration(plan.device_seconds), duration(plan.wall_seconds)
        fold(
            console, f"predicted: {device} of device time ({hours(plan.device_seconds)} device hours), {clock} by the clock{_without(plan)}"
        )
    for cell in listed:
        if cell.spec.adaptive_batch is not None:
            fold(console, f"{cell.cell}: {_about(cell.spec)}", style="dim")
    if again := [cell.cell for cell in listed if cell.recomputed]:
        why = "a batch with plain batch norm is not cut, and their blocks pass forward again instead of keeping their activations"
        fold(console, f"recomputed, in less memory and about a quarter slower: {', '.join(again)} ({why})", style="dim")
    for sentence in _explained({cell.basis for cell in plan.cells}):
        fold(console, sentence, style="dim")
    for reason, cells in _dropped(plan).items():
        fold(console, f"dropped: {', '.join(cells)}: {reason}")
    for warning in plan.warnings:
        fold(console, f"warning: {warning}", style="yellow")


def _row(cell: PlannedCell) -> tuple[str, ...]:
    spec = cell.spec
    return (
        cell.cell,
        str(cell.runs) if not cell.done else f"{cell.runs} ({cell.done} done)",
        _batch_sizes(spec),
        f"{spec.train_examples / spec.batch_size:.3g}",
        "off" if spec.ghost_batch_size is None else str(spec.ghost_batch_size),
        f"{spec.learning_rate:.3g}",
        f"{spec.updates:,}" if spec.adaptive_batch is None else f"about {spec.updates:,}",
        f"{spec.examples:,}",
        mebibytes(cell.memory_mib),
        "?" if cell.seconds is None else duration(cell.seconds),
        cell.basis,
    )


def _without(plan: Plan | TuningPlan) -> str:
    return f", without {count(plan.unknown, 'job')} that cannot be predicted" if plan.unknown else ""


def print_tuning_plan(console: Console, plan: TuningPlan) -> None:
    """Prints what tuning would try at first, and what all of it would take at most."""
    numbers = ("batch", "learning rates", "points", "runs", "updates", "trained on", "held out")
    columns = [Column("cell", overflow="fold"), *(Column(heading, justify="right") for heading in numbers)]
    folds = f" x {plan.folds} folds" if plan.folds > 1 else ""
    rows = [
        (
            cell.title,
            f"{cell.batch_size:,}",
            f"{cell.lowest:g} to {cell.highest:g}" if cell.highest > cell.lowest else f"{cell.lowest:g}",
            str(cell.points),
            f"{cell.runs:,}",
            f"{cell.updates:,}",
            f"{cell.train_examples:,}",
            f"{cell.held_out:,}{folds}",
        )
        for cell in plan.cells
    ]
    title = f"tuning {plan.suite}: {count(len(plan.cells), 'cell')}, the same number of trials for each"
    print_table(console, columns, rows, title=title)
    console.print()
    if not plan.round:
        fold(console, "the search is complete: nothing is left to train")
        return
    fold(
        console,
        f"next: {plan.round}, {count(plan.runs, 'run')} on {', '.join(plan.devices)}, {duration(plan.device_seconds)} of device time "
        f"predicted; at most {count(plan.runs_at_most, 'run')} with every extension and the check, {duration(plan.device_seconds_at_most)} "
        f"({hours(plan.device_seconds_at_most)} device hours), {duration(plan.wall_seconds_at_most)} by the clock{_without(plan)}",
    )


def _batch_sizes(spec: RunSpec) -> str:
    """Returns a run's batch size, or between which sizes it lies."""
    if spec.adaptive_batch is not None:
        return f"{spec.adaptive_batch.smallest:,} to {spec.adaptive_batch.largest:,}"
    return f"{spec.batch_size:,} to {spec.batches.largest:,}" if spec.batches.grows else f"{spec.batch_size:,}"


def _about(spec: RunSpec) -> str:
    """Says what is exact of a run whose batch follows the noise scale, and what is not."""
    fewest, most = bounds_of_updates(spec)
    how = f"its batch begins with {spec.batch_size:,} and follows the noise scale"
    return f"exactly {spec.examples:,} examples in {fewest:,} to {most:,} updates: {how}"


def _explained(bases: Collection[str]) -> list[str]:
    """Returns what the bases of a plan's times mean, in one sentence and, where something can be done about them, another."""
    meanings = {
        "measured": "measured: jobs like it have trained on this machine",
        "calibrated": "calibrated: a short measurement on this machine",
        "rough": "rough: a guess, which may be wrong by a factor of two or more",
        "unknown": "unknown: a model or data set that nothing can be guessed of",
    }
    sentences = ["; ".join(text for basis, text in meanings.items() if basis in bases)]
    if {"rough", "unknown"} & set(bases):
        sentences.append("--calibrate measures for some minutes; so does every run that ends")
    return sentences


def _dropped(plan: Plan) -> dict[str, list[str]]:
    """Returns, by reason, the cells that runs were dropped of."""
    reasons: dict[str, list[str]] = {}
    for (reason, cell), number in Counter((run.reason, run.labels.cell) for run in plan.dropped).items():
        reasons.setdefault(reason, []).append(f"{cell} ({count(number, 'run')})")
    return reasons
