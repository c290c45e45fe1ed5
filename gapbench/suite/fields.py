"""The fields of one run: regime applied, and what has no effect made neutral, so that equal runs are recognized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gapbench import catalog
from gapbench.suite.arithmetic import evaluations_of, exactly, late_evaluations, updates_of_budget, updates_of_epochs
from gapbench.suite.asked import Asked
from gapbench.suite.batches import ramp
from gapbench.suite.facts import DatasetFacts
from gapbench.suite.growth import batch_sizes, check_ragged
from gapbench.suite.probing import check_norm_group, resolved_probes
from gapbench.suite.rate import Length, rates, scaling_batch_size
from gapbench.suite.regime import Regime
from gapbench.suite.runspec import Component, Normalization, Phase
from gapbench.suite.schema import NormalizationTable, PhaseTable


def ghost(asked: Asked, regime: Regime, model: Component, phases: list[PhaseTable], examples: int) -> dict[str, Any] | None:
    """Returns the effective ghost batch size: None where it is off, the whole of every batch, or without effect."""
    batches = batch_sizes(asked, phases)
    size = asked.get("ghost_batch_size", "off")
    has_norm = catalog.models()[model.name].has_batch_norm(model.options)
    if size != "off" and not has_norm:
        asked.no_effect.append((f"a ghost batch size has no effect on a model without batch norm ({model.name})", asked.cell))
        return {"ghost_batch_size": None}
    odd = [one for one in batches if size != "off" and one % size]
    if odd:
        known = asked.misfits.setdefault((asked.place("ghost_batch_size"), size), [])
        known.extend(one for one in odd if one not in known)
        return None
    if has_norm and (min(batches) if size == "off" else size) == 1:
        asked.problem("batch_size" if size == "off" else "ghost_batch_size", "batch norm needs groups of two examples or more, not one")
        return None
    stays = batches == [size] and regime.adaptive_batch is None
    effective = None if size == "off" or stays else int(size)
    if has_norm and examples:
        check_ragged(asked, effective, examples)
    return {"ghost_batch_size": effective}


def misfit(ghost_batch_size: int, batch_sizes: Sequence[int]) -> str:
    """Returns what is wrong with a ghost batch size that does not divide some batch sizes."""
    smaller = [str(size) for size in batch_sizes if size < ghost_batch_size]
    larger = [str(size) for size in batch_sizes if size > ghost_batch_size]
    parts = [
        f"is larger than the batch size {', '.join(smaller)}" if smaller else "",
        f"does not divide the batch size {', '.join(larger)}" if larger else "",
    ]
    what = " and ".join(part for part in parts if part)
    return f'the ghost batch size {ghost_batch_size} {what}; choose a divisor, "off", or drop the run by [[exclude]]'


def check_batch(asked: Asked, name: str, examples: int) -> None:
    """Adds a problem where the batch size, or the reference batch size, is more than there are examples."""
    size = asked.get(name)
    if size > examples:
        words = name.replace("_", " ")
        asked.problem(name, f"the {words} {size} is larger than the training set ({examples} examples); choose a smaller one")


def numbers(
    asked: Asked,
    regime: Regime,
    phases: list[PhaseTable],
    examples: int,
    tests: int,
    *,
    model: Component | None,
    optimizer: Component | None,
) -> dict[str, Any] | None:
    """Returns updates, learning rate, warmup, evaluations and what refers to the reference cell."""
    batch, reference, epochs = asked.get("batch_size"), asked.get("reference_batch_size"), asked.get("epochs")
    tail = asked.get("tail", "stream")
    if max(batch, reference) > examples:
        return None  # said by check_batch
    scaling = scaling_batch_size(asked, model)
    updates = updates_of_budget(
        regime.budget,
        epochs=epochs,
        examples=examples,
        batch_size=batch,
        reference_batch_size=reference,
        tail=tail,
        scaling_batch_size=scaling,
    )
    updates = asked.get("updates", updates)
    reference_updates = updates_of_epochs(exactly(epochs), examples, reference, tail)
    if updates < 1 or reference_updates < 1:
        size = batch if updates < 1 else reference
        asked.problem("epochs", f"{epochs:g} epochs of {examples} examples make no update at batch size {size}; train for longer")
        return None
    rate = rates(asked, regime, Length(updates, examples, batch, tail), scaling, optimizer)
    evaluations = _evaluations(asked, examples, tests)
    headline = asked.get("headline_evaluations", 1)
    grows = len(batch_sizes(asked, phases)) > 1
    made = ramp(batch, updates, [(phase.start, phase.batch_size_factor) for phase in phases]).updates if grows else updates
    headline = late_evaluations(made, evaluations) if headline == "late" else headline
    if headline > evaluations:
        message = (
            f"headline_evaluations is the mean of so many last evaluations, and there are only {evaluations}; set evaluations in [run]"
        )
        asked.problem("headline_evaluations", message)
    if rate is None:
        return None
    return {
        "updates": made,
        "unramped_updates": updates if grows or regime.adaptive_batch else None,
        "reference_updates": reference_updates,
        "evaluations": evaluations,
        "headline_evaluations": headline,
        **rate,
    }


def _evaluations(asked: Asked, examples: int, tests: int) -> int:
    """Returns the number of evaluations: from what all arms have in common, so that they have the same fractions."""
    common = asked.settings.only("recipe", "preset", "run")
    if common.get("evaluations"):
        return int(common.get("evaluations"))
    reference = common.get("reference_batch_size") or asked.get("reference_batch_size")
    epochs = common.get("epochs") or asked.get("epochs")
    updates = updates_of_epochs(exactly(epochs), examples, reference, asked.get("tail", "stream"))
    return evaluations_of(
        reference_updates=updates, reference_batch_size=reference, test_examples=tests, train_evaluation_examples=min(tests, examples)
    )


def schedule(asked: Asked, optimizer: Component, tables: list[PhaseTable]) -> dict[str, Any]:
    """Returns phases, weight decay and momentum reset; what a phase repeats from the run is left out of it."""
    decay = asked.get("weight_decay", 0.0)
    momentum = optimizer.option("momentum")
    phases = []
    for table in tables:
        if table.momentum is not None and momentum is None:
            asked.problem("phases", f'a phase sets momentum, which the optimizer "{optimizer.name}" does not have')
        phases.append(
            Phase(
                start=table.start,
                learning_rate_factor=table.learning_rate_factor,
                batch_size_factor=table.batch_size_factor,
                weight_decay=None if table.weight_decay == decay else table.weight_decay,
                momentum=None if table.momentum == momentum else table.momentum,
            )
        )
    # Without momentum SGD has no state to forget; other optimizers are taken to have some.
    stateless = momentum == 0 and not any(phase.momentum for phase in phases)
    decays = decay > 0 or any(phase.weight_decay for phase in phases)
    return {
        "phases": tuple(phases) or (Phase(),),
        "weight_decay": decay,
        "weight_decay_on": asked.get("weight_decay_on", "all") if decays else "all",
        "momentum_reset": "never" if stateless else asked.get("momentum_reset", "never"),
    }


def inputs(asked: Asked, facts: DatasetFacts) -> dict[str, Any]:
    """Returns augmentation and normalization."""
    table: NormalizationTable = asked.get("normalization", NormalizationTable(kind="global"))
    channels = facts.shape[-1]
    if table.kind == "global" and not facts.is_image and channels > 1:
        what = 'normalization "global" scales all features alike; "feature" scales each by its own mean and standard deviation'
        asked.no_effect.append((what, asked.cell))
    if (table.kind, facts.is_image) in (("channel", False), ("feature", True)):
        here, other = ("images", "channel") if facts.is_image else ("features", "feature")
        text = f'"{table.kind}" is not for {here}, which the data set has; choose "{other}" or "global"'
        asked.problem("normalization", f"normalization {text}")
    if table.kind == "fixed" and len(table.mean) not in (1, channels):
        wanted = f"1 or {channels}, one for each channel" if channels > 1 else "1, for the data set has one channel"
        asked.problem("normalization", f"mean and standard_deviation have {len(table.mean)} values; give {wanted}")
    padding, crop = asked.get("crop_padding", 0), crop_size(asked, facts)
    if not crop:
        crop_scale(asked)
    if padding and crop:
        asked.problem("crop_size", f"crop_size = {crop} cuts images and crop_padding = {padding} pads them; set one of them to 0")
    normalization = Normalization(kind=table.kind, mean=tuple(table.mean), standard_deviation=tuple(table.standard_deviation))
    fill = asked.get("crop_fill", 0) if padding else 0
    crops = {"crop_padding": padding, "crop_fill": fill, "crop_size": crop, "crop_scale": crop_scale(asked) if crop else 0.0}
    return {**crops, "flip": asked.get("flip", False), "normalization": normalization}


def crop_size(asked: Asked, facts: DatasetFacts) -> int:
    """Returns the side of the crops, 0 where they are the whole image. Adds a problem where images are smaller."""
    size = int(asked.get("crop_size", 0))
    if not size or not facts.is_image:
        return 0  # for features it is said by check_augmentation
    height, width, _ = facts.shape
    if size > min(height, width):
        asked.problem(
            "crop_size", f"crop_size = {size} is more than the images have, {height} x {width}; choose a smaller one, or larger images"
        )
        return 0
    return 0 if size == height == width and not crop_scale(asked) else size


def crop_scale(asked: Asked) -> float:
    """Returns the smallest share of the area of crops that are scaled. Adds a problem where there is no size to scale them to."""
    scale = float(asked.get("crop_scale", 0.0))
    if scale and not asked.get("crop_size", 0):
        asked.problem("crop_scale", f"crop_scale = {scale:g} scales crops to crop_size, which is not set; set it, such as crop_size = 224")
    return scale


def cropped(asked: Asked, facts: DatasetFacts) -> DatasetFacts:
    """Returns the facts of the images as the model sees them: after crops."""
    size = int(asked.get("crop_size", 0))
    return replace(facts, shape=(size, size, facts.shape[2])) if size and facts.is_image else facts


def norm(asked: Asked, model: Component, ghost: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how running statistics are kept. Without ghosts both rules are the same; without batch norm there are none."""
    has_norm = catalog.models()[model.name].has_batch_norm(model.options)
    rule = asked.get("running_statistics", "mean") if ghost["ghost_batch_size"] is not None else "mean"
    momentum = asked.number("norm_momentum", "cumulative") if has_norm and asked.settings.layer_of("norm_momentum") else 0.1
    return {"running_statistics": rule, "norm_momentum": momentum}


def seeds(asked: Asked, dataset: Component) -> dict[str, Any]:
    """Returns the seeds. The split has one of its own only where something is drawn by it."""
    drawn = catalog.datasets()[dataset.name].split == "drawn"
    seed = asked.get("seed", 0)
    values = {name: asked.get(name, "seed") for name in ("init_seed", "order_seed")}
    subset = bool(dataset.option("train_size", 0) or dataset.option("test_size", 0))
    split: Any = asked.get("split_seed", "seed" if drawn else 0)
    layer = asked.settings.layer_of("split_seed")
    varies = split == "seed" or (layer is not None and layer.kind == "grid")
    if not (drawn or subset):
        split = 0
    return {
        "seed": seed,
        **{name: seed if value == "seed" else value for name, value in values.items()},
        "split_seed": seed if split == "seed" else split,
        "split_drawn": varies and (drawn or subset),
    }


def plain(asked: Asked, model: Component) -> dict[str, Any]:
    """Returns the fields that stand by themselves."""
    check_norm_group(asked, model)
    default_probes = [name for name, probe in catalog.probes().items() if probe.default]
    return {
        "batch_size": asked.get("batch_size"),
        "reference_batch_size": asked.get("reference_batch_size"),
        "tail": asked.get("tail", "stream"),
        "clip_norm": asked.number("clip_norm", "off"),
        "precision": asked.get("precision", "fp32"),
        "holdout": asked.get("holdout", 0.0),
        "keep_weights": tuple(asked.get("keep_weights", ())),
        "probes": resolved_probes(asked.get("probes", [{"name": name} for name in default_probes])),
        "time_limit_seconds": asked.get("time_limit_seconds"),
    }
