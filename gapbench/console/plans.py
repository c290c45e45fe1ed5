"""What a suite, or its tuning, would train and take."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from gapbench.api.planning import hours
from gapbench.console.words import count, duration, mebibytes, plain_table
from gapbench.suite.batches import bounds_of_updates

if TYPE_CHECKING:
    from gapbench.api import Plan, TuningPlan
    from gapbench.suite import RunSpec


def print_plan(console: Console, plan: Plan) -> None:
    """Prints what a suite would train, what it drops, what it would take, and what to be careful about."""
    table = plain_table(title=f"{plan.suite.name}: {count(plan.runs, 'run')} in {count(len(plan.cells), 'cell')}")
    table.add_column("cell", overflow="fold")
    for heading in ("runs", "batch", "N/B", "ghost", "rate", "updates", "examples", "memory", "time"):
        table.add_column(heading, justify="right", no_wrap=heading in ("updates", "examples"))  # counts are shown to the last digit
    table.add_column("known", style="dim")
    for cell in plan.cells:
        spec = cell.spec
        table.add_row(
            escape(cell.cell),
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
    console.print(table)
    console.print()
    slots = f"{count(plan.slots, 'slot')} with {count(plan.threads, 'thread')}" if plan.devices == ("cpu",) else count(plan.slots, "slot")
    left = plan.runs - plan.done
    console.print(f"{count(left, 'run')} to train in {count(plan.jobs, 'job')} on {', '.join(plan.devices)}, {slots}", highlight=False)
    if left:
        unknown = f", without {count(plan.unknown, 'job')} that cannot be predicted" if plan.unknown else ""
        text = (
            f"predicted: {duration(plan.device_seconds)} of device time ({hours(plan.device_seconds)} device hours), "
            f"{duration(plan.wall_seconds)} by the clock{unknown}"
        )
        console.print(text, highlight=False)
    for cell in plan.cells:
        if cell.spec.adaptive_batch is not None:
            console.print(f"{escape(cell.cell)}: {_about(cell.spec)}", style="dim", highlight=False)
    for sentence in _explained({cell.basis for cell in plan.cells}):
        console.print(sentence, style="dim", highlight=False)
    for reason, cells in _dropped(plan).items():
        console.print(f"dropped: {', '.join(cells)}: {escape(reason)}", highlight=False)
    for warning in plan.warnings:
        console.print(f"warning: {escape(warning)}", style="yellow", highlight=False)


def print_tuning_plan(console: Console, plan: TuningPlan) -> None:
    """Prints what tuning would try at first, and what all of it would take at most."""
    table = plain_table(title=f"tuning {plan.suite}: {count(len(plan.cells), 'cell')}, the same number of trials for each")
    table.add_column("cell", overflow="fold")
    for heading in ("batch", "learning rates", "points", "runs", "updates", "trained on", "held out"):
        table.add_column(heading, justify="right")
    for cell in plan.cells:
        table.add_row(
            escape(cell.title),
            f"{cell.batch_size:,}",
            f"{cell.lowest:g} to {cell.highest:g}" if cell.highest > cell.lowest else f"{cell.lowest:g}",
            str(cell.points),
            f"{cell.runs:,}",
            f"{cell.updates:,}",
            f"{cell.train_examples:,}",
            f"{cell.held_out:,}" + (f" x {plan.folds} folds" if plan.folds > 1 else ""),
        )
    console.print(table)
    console.print()
    if not plan.round:
        console.print("the search is complete: nothing is left to train", highlight=False)
        return
    unknown = f", without {count(plan.unknown, 'job')} that cannot be predicted" if plan.unknown else ""
    console.print(
        f"next: {plan.round}, {count(plan.runs, 'run')} on {', '.join(plan.devices)}, {duration(plan.device_seconds)} of device time "
        f"predicted; at most {count(plan.runs_at_most, 'run')} with every extension and the check, {duration(plan.device_seconds_at_most)} "
        f"({hours(plan.device_seconds_at_most)} device hours), {duration(plan.wall_seconds_at_most)} by the clock{unknown}",
        highlight=False,
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
    reasons: dict[str, dict[str, int]] = {}
    for run in plan.dropped:
        cells = reasons.setdefault(run.reason, {})
        cells[run.labels.cell] = cells.get(run.labels.cell, 0) + 1
    return {reason: [f"{escape(cell)} ({count(number, 'run')})" for cell, number in cells.items()] for reason, cells in reasons.items()}
