"""--smoke: every distinct program of a suite trains three updates, small enough to see in seconds that all of it works."""

from __future__ import annotations

import dataclasses

from gapbench import catalog, cost
from gapbench.suite import Suite
from gapbench.suite.batches import shortened
from gapbench.suite.identity import run_id
from gapbench.suite.runspec import AdaptiveBatch, Component, PlannedRun, RunSpec

UPDATES = 3
MAXIMUM_MEMORY_MIB = 4096.0
MAXIMUM_SECONDS = 2.0
"""For one update."""
TEST_EXAMPLES = 256
"""Evaluations see no more, else they would take longer than the updates."""


def smoke_suite(suite: Suite, device_kind: str) -> tuple[Suite, tuple[str, ...]]:
    """Returns the small suite, named `<suite>.smoke`, and in words what was made smaller.

    Batch and ghost sizes are divided by the same power of two until an update fits 4 GiB and two seconds, as predicted.
    """
    name = f"{suite.name}.smoke"
    chosen: dict[object, PlannedRun] = {}
    notes: list[str] = []
    for planned in suite.runs:
        short = _shortened(planned.spec)
        key = cost.program_key(short)
        if key in chosen:
            continue
        small, divisor = _fitting(short, device_kind)
        labels = planned.labels.model_copy(update={"suite": name})
        chosen[key] = PlannedRun(run_id=run_id(small), spec=small, labels=labels)
        if divisor > 1:
            ghost = f", ghost {planned.spec.ghost_batch_size} -> {small.ghost_batch_size}" if small.ghost_batch_size else ""
            notes.append(f"{labels.cell}: batch {planned.spec.batch_size} -> {small.batch_size}{ghost}, so that an update fits")
    # Two programs may have become one, such as batches 512 and 4096 that were both divided down to 512.
    runs = tuple({planned.run_id: planned for planned in reversed(chosen.values())}.values())[::-1]
    longer = ", more where the batch grows" if any(planned.spec.updates > UPDATES for planned in runs) else ""
    if any(planned.spec.adaptive_batch for planned in runs):
        longer += ", about as many where the batch follows the noise scale"
    each = f"{UPDATES} updates each{longer}"
    said = f"--smoke: {len(runs)} of {len(suite.runs)} runs, every distinct program once, {each}; accuracies mean nothing"
    return dataclasses.replace(suite, name=name, runs=runs, dropped=(), warnings=()), (said, *notes)


def _shortened(spec: RunSpec) -> RunSpec:
    update = {"evaluations": 1, "headline_evaluations": 1, "keep_weights": (), "dataset": _few_tests(spec.dataset)}
    return spec.model_copy(update=update | shortened(spec, UPDATES))


def _few_tests(dataset: Component) -> Component:
    """Returns the data set with a small test set; one whose size is not known before it is loaded stays as it is."""
    known = catalog.datasets()[dataset.name].test_examples
    size = dataset.option("test_size", 0) or known
    if known is None or size is None or size <= TEST_EXAMPLES:
        return dataset
    return dataset.model_copy(update={"options": {**dataset.options, "test_size": TEST_EXAMPLES}})


def _fitting(spec: RunSpec, device_kind: str) -> tuple[RunSpec, int]:
    """Returns the spec with a batch that fits, and what it was divided by. What cannot be divided further stays as it is."""
    divisor = 1
    while not _fits(small := _divided(spec, divisor), device_kind) and _can_halve(small):
        divisor *= 2
    return small, divisor


def _fits(spec: RunSpec, device_kind: str) -> bool:
    estimate = cost.estimate(spec, device_kind=device_kind)
    memory = estimate.memory_mib or 0.0
    seconds = (estimate.buckets.train if estimate.buckets else 0.0) / spec.updates  # evaluations cost the same at any batch size
    return memory <= MAXIMUM_MEMORY_MIB and seconds <= MAXIMUM_SECONDS


def _can_halve(spec: RunSpec) -> bool:
    """Batch norm needs two examples in every group."""
    batches = spec.batches.sizes if spec.batches.grows else (spec.batch_size,)
    sizes = batches if spec.ghost_batch_size is None else (*batches, spec.ghost_batch_size)
    if spec.adaptive_batch is not None:
        sizes = (*sizes, spec.adaptive_batch.smallest, spec.adaptive_batch.largest)
        if spec.adaptive_batch.unit % 2:
            return False
    return all(size % 2 == 0 and size >= 4 for size in sizes)


def _divided(spec: RunSpec, divisor: int) -> RunSpec:
    ghost = spec.ghost_batch_size
    return spec.model_copy(
        update={
            "batch_size": spec.batch_size // divisor,
            "ghost_batch_size": None if ghost is None else ghost // divisor,
            "adaptive_batch": None if spec.adaptive_batch is None else _divided_rule(spec.adaptive_batch, divisor),
        }
    )


def _divided_rule(rule: AdaptiveBatch, divisor: int) -> AdaptiveBatch:
    sizes = {name: getattr(rule, name) // divisor for name in ("smallest", "largest", "unit")}
    return rule.model_copy(update={**sizes, "exchange_rate": rule.exchange_rate / divisor})
