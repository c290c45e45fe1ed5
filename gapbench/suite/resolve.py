"""From the settings of one run to its RunSpec, with every mistake in them.

Each step returns fields of the spec, or raises Unknown where one of its values is invalid. What has no effect is made neutral, so that
equal runs are recognized.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import Any

from gapbench import catalog
from gapbench.catalog import RegimeEntry
from gapbench.core.errors import DataError, Problem
from gapbench.core.registry import unknown_name
from gapbench.suite.batches import effective_ghost, evaluations_of, exactly, late_evaluations, ramp, updates_of_budget, updates_of_epochs
from gapbench.suite.facts import DatasetFacts, channels_first, dataset_facts, held_out
from gapbench.suite.layers import REQUIRED, Layer, RunSettings, Settings
from gapbench.suite.mistakes import attempt
from gapbench.suite.regime import Regime, adaptive_rule, batch_sizes, check_ragged, phases_of, rates, regime_of, scaling_batch_size
from gapbench.suite.runspec import (
    Component,
    Extrapolation,
    GradientNoise,
    Normalization,
    Phase,
    RunSpec,
    gradients_per_update,
    has_batch_norm,
)
from gapbench.suite.schema import LARGEST, LOOKS_TWICE, PAST, SEEDS, NormalizationTable, PhaseTable, RunFields
from gapbench.suite.source import COMPONENTS, Document
from gapbench.suite.toml import KeyPath

_SEEDS = frozenset(SEEDS)


@dataclass(frozen=True)
class Resolver:
    """Resolves the runs of one suite; mistakes are added to its document."""

    document: Document
    regimes: Mapping[str, RegimeEntry | None]
    no_effect: list[tuple[str, str]] = field(default_factory=list)
    """Warnings of settings that change nothing, as (what, cell)."""
    misfits: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """By place and ghost batch size: the batch sizes that it does not divide. Many runs, one mistake: `add_misfits` adds it."""
    _sound: dict[str, tuple[tuple[Layer, ...], RunSpec]] = field(default_factory=dict, init=False)
    """By cell: the last run without mistakes, and its layers but those of seeds."""

    def resolve(self, settings: Settings, base: KeyPath, cell: str) -> RunSpec | None:
        """Returns the spec of a run, or None where something in it is invalid or unknown.

        Each step is taken as far as its values are known, so that one mistake hides no other.

        Args:
            settings: all its layers, recipe and preset included.
            base: the [[arm]] or section that it comes from, for mistakes that have no other place.
            cell: its name, for warnings.
        """
        before = len(self.document.problems)
        run = RunSettings(settings, base, self.document, cell, self.no_effect, self.misfits)
        layers = tuple(layer for layer in settings.layers if not layer.fields.keys() <= _SEEDS)
        if settings.sound and cell in self._sound and self._sound[cell][0] == layers:  # only its seed is another
            return self._sound[cell][1].model_copy(update=seeds_of(run, self._sound[cell][1].dataset))
        parts = self._parts(run)
        if parts is None or len(self.document.problems) > before or not settings.sound:
            return None
        spec = RunSpec(**parts)
        self._sound[cell] = (layers, spec)
        return spec

    def add_misfits(self) -> None:
        """Adds the mistakes of ghost batch sizes, one for each place."""
        found = sorted(self.misfits.items())
        self.document.problems.extend(Problem(place, misfit(size, batches)) for (place, size), batches in found)

    def _parts(self, run: RunSettings) -> dict[str, Any] | None:
        """Returns the fields of the spec, or None where some are not known."""
        attempt(_check_preset, run)
        _check_required(run)
        dataset, model, optimizer = (attempt(component, run, kind) for kind in COMPONENTS)
        regime = attempt(regime_of, run.settings, self.regimes)
        facts = attempt(facts_of, run, dataset)
        examples, tests = attempt(sizes, run, dataset, facts) or (None, None)
        attempt(check_model, run, facts)
        attempt(check_optimizer, run, optimizer)
        for name in ("crop_padding", "crop_size", "crop_scale", "flip"):
            attempt(check_augmentation, run, name, facts)
        for name in ("batch_size", "reference_batch_size"):
            attempt(check_batch, run, name, examples)
        phases = attempt(phases_of, run, regime, examples or 0)
        ghost = attempt(ghost_of, run, regime, model, phases, examples or 0)
        numbers = attempt(partial(lengths_of, model=model, optimizer=optimizer), run, regime, phases, examples, tests)
        parts = [
            attempt(plain_of, run, model),
            ghost,
            attempt(adaptive_rule, run, regime, model, ghost, examples),
            numbers,
            attempt(schedule_of, run, regime, optimizer, phases, numbers),
            attempt(extrapolation_of, run, regime, model, optimizer, phases, ghost, numbers),
            attempt(controls_of, run, regime, model, numbers, examples),
            attempt(crops_of, run, facts),
            attempt(normalization_of, run, facts),
            attempt(norm_of, run, model, ghost),
            attempt(seeds_of, run, dataset),
        ]
        found: dict[str, Any] = {"dataset": dataset, "model": model, "optimizer": optimizer, "train_examples": examples}
        if None in (*found.values(), *parts):
            return None
        for part in parts:
            found.update(part or {})
        return found


def _check_preset(run: RunSettings) -> None:
    """Adds a mistake where the preset is none of the recipe's. One that no recipe has was said where it is written."""
    recipe, preset = run.get("recipe"), run.get("preset")
    if preset and not recipe:
        run.problem("preset", "a preset is a version of a recipe, and there is none; name the recipe, or remove the preset")
    elif preset and recipe in catalog.recipes():
        presets = catalog.recipes()[recipe].presets
        if preset not in presets and any(preset in known.presets for known in catalog.recipes().values()):
            run.problem("preset", unknown_name("preset", preset, presets))


def _check_required(run: RunSettings) -> None:
    """Adds a mistake that lists what a run needs and does not have."""
    missing = [name for name in REQUIRED if run.lacks(name)]
    if missing and run.lacks("recipe") and not run.lacks("preset"):
        pass  # the recipe that the preset is of has them
    elif missing:
        who = "the arm" if run.base[:1] == ("arm",) else "the run"
        remedy = "give them in [run], or name a recipe there" if run.lacks("recipe") else "give it in [run], [grid] or the arm"
        run.document.mistake(run.base, f"{who} lacks {', '.join(missing)}; {remedy}")
    for kind in COMPONENTS:
        if kind not in missing:
            attempt(_check_named, run, kind)


def _check_named(run: RunSettings, kind: str) -> None:
    if "name" not in run.get(kind):
        run.problem(kind, f'the {kind} has options but no name; write {kind} = {{ name = "...", ... }}')


# What a run trains: its data set, model and optimizer with all their options, and whether these fit together.


def component(run: RunSettings, kind: str) -> Component | None:
    """Returns a component with defaults filled in, or None where it or an option does not exist.

    A data set with an invalid size is checked further as if the size were not given: what does not fit the whole does not fit a part.
    """
    given = dict(run.get(kind))
    entry = catalog.REGISTRIES[kind]().find(given.pop("name", ""))
    if entry is None:
        return None  # said where it is written
    options, mistakes = catalog.check_options(entry.parameters, given, owner=f'{kind} "{entry.name}"')
    for option, message in mistakes:
        run.problem(kind, message, option)
    wrong = {option: entry.parameters[option] for option, _ in mistakes if option in entry.parameters}
    if (mistakes and kind != "dataset") or any(parameter.required for parameter in wrong.values()):
        return None
    options.update({option: parameter.default for option, parameter in wrong.items()})
    return Component(name=entry.name, version=entry.version, options=options)


def facts_of(run: RunSettings, dataset: Component) -> DatasetFacts | None:
    """Returns the facts of the data set, or None after adding a mistake; a user's own file is known by its content from here on."""
    own_file = catalog.datasets()[dataset.name].train_examples is None
    if own_file and not dataset.option("path"):
        run.problem("dataset", f'dataset "{dataset.name}" needs the option path')
        return None
    try:
        # Without the content that may be insisted on: what lies at the path is looked at, not what is remembered of a content.
        options = {name: value for name, value in dataset.options.items() if name != "content"}
        facts = dataset_facts(dataset.model_copy(update={"options": options}))
    except DataError as error:
        run.problem("dataset", str(error), "path")
        return None
    if own_file:
        wanted = dataset.option("content")
        if wanted and wanted != facts.content:
            run.problem("dataset", f"{dataset.option('path')} holds other data: content {facts.content}, not {wanted}", "content")
        dataset.options["content"] = facts.content
    if channels_first(facts.shape):
        height, width, channels = facts.shape
        run.warn(
            f"images of {dataset.name} are read as height {height}, width {width}, {channels} channels, and look as if channels came "
            "first; if they do, store them channels last: x.transpose(0, 2, 3, 1)"
        )
    return facts


def sizes(run: RunSettings, dataset: Component, facts: DatasetFacts) -> tuple[int, int]:
    """Returns how many examples the run trains on and is tested on; all there are where a size is invalid."""
    sizes = {"train_size": facts.train_examples, "test_size": facts.test_examples}
    for option, all_of_them in sizes.items():
        size = dataset.option(option, 0)
        if size > all_of_them:
            run.problem("dataset", f"{option} = {size} exceeds the {all_of_them} examples that there are; 0 takes all", option)
        elif size:
            sizes[option] = size
    if "stratified" in dataset.options and not any(dataset.option(option, 0) for option in sizes):
        dataset.options["stratified"] = False  # all of them have the classes that they have
    examples = sizes["train_size"]
    holdout = run.get("holdout")
    kept = held_out(examples, holdout)
    if holdout and not 0 < kept < examples:
        run.problem("holdout", f"holdout = {holdout:g} takes {kept} of {examples} training examples; it must take some and leave some")
        kept = 0
    return examples - kept, sizes["test_size"]


def check_model(run: RunSettings, facts: DatasetFacts) -> None:
    """Adds a mistake where the model cannot take the data set's inputs, as they are after crops."""
    size = run.get("crop_size")
    inputs = replace(facts, shape=(size, size, facts.shape[2])) if size and facts.is_image else facts
    entry = catalog.models().find(run.get("model").get("name", ""))
    if entry is None:
        return
    if entry.input_shape and entry.input_shape != inputs.shape:
        wanted = " x ".join(str(side) for side in entry.input_shape)
        text = f"takes inputs of {wanted}, and the data set has {inputs.sides}; choose another model"
    elif entry.needs_images and not inputs.is_image:
        text = f"takes images, and the data set has {inputs.sides} features; choose another model, such as mlp"
    elif inputs.is_image and min(inputs.shape[:2]) < entry.minimum_side:
        wanted = f"images of at least {entry.minimum_side} x {entry.minimum_side}"
        text = f"takes {wanted}, and the data set has {inputs.sides}; choose another model"
    else:
        return
    run.problem("model", f'model "{entry.name}" {text}')


def check_optimizer(run: RunSettings, optimizer: Component) -> None:
    """Adds a mistake where options of the optimizer do not go together, or phases set one that it does not have."""
    if optimizer.option("nesterov") and not optimizer.option("momentum"):
        run.problem("optimizer", "nesterov = true needs momentum > 0", "nesterov")
    settings = run.settings
    if run.schedule != "phases" and settings.layer_of("schedule") is settings.layer_of("phases"):
        run.problem("schedule", f'schedule = "{run.schedule}" and phases both say how the rate falls; choose one of them')
    if optimizer.option("momentum") is None and any(phase.momentum is not None for phase in run.get("phases")):
        run.problem("phases", f'a phase sets momentum, which the optimizer "{optimizer.name}" does not have')


# How it trains: batches, updates, learning rate and schedule.


def check_batch(run: RunSettings, name: str, examples: int) -> None:
    """Adds a mistake where the batch size, or the reference batch size, is more than there are examples."""
    size = run.get(name)
    if size > examples:
        words = name.replace("_", " ")
        run.problem(name, f"the {words} {size} is larger than the training set ({examples} examples); choose a smaller one")


def ghost_of(run: RunSettings, regime: Regime, model: Component, phases: list[PhaseTable], examples: int) -> dict[str, Any] | None:
    """Returns the effective ghost batch size: None where it is off, the whole of every batch, or without effect."""
    batches = batch_sizes(run, phases)
    size = run.get("ghost_batch_size")
    has_norm = has_batch_norm(model)
    if size != "off" and not has_norm:
        run.warn(f"a ghost batch size has no effect on a model without batch norm ({model.name})")
        return {"ghost_batch_size": None}
    odd = [one for one in batches if size != "off" and one % size]
    if odd:
        known = run.misfits.setdefault((run.place("ghost_batch_size"), size), [])
        known.extend(one for one in odd if one not in known)
        return None
    if has_norm and (min(batches) if size == "off" else size) == 1:
        run.problem("batch_size" if size == "off" else "ghost_batch_size", "batch norm needs groups of two examples or more, not one")
        return None
    effective = effective_ghost(size, batches[0], changes=len(batches) > 1 or regime.adaptive_batch is not None)
    if has_norm and examples:
        check_ragged(run, effective, examples)
    return {"ghost_batch_size": effective}


def misfit(ghost_batch_size: int, batch_sizes: Sequence[int]) -> str:
    """Returns what is wrong with a ghost batch size that does not divide some batch sizes."""
    smaller = ", ".join(str(size) for size in batch_sizes if size < ghost_batch_size)
    larger = ", ".join(str(size) for size in batch_sizes if size > ghost_batch_size)
    parts = [f"is larger than the batch size {smaller}" if smaller else "", f"does not divide the batch size {larger}" if larger else ""]
    what = " and ".join(part for part in parts if part)
    return f'the ghost batch size {ghost_batch_size} {what}; choose a divisor, "off", or drop the run by [[exclude]]'


def lengths_of(
    run: RunSettings,
    regime: Regime,
    phases: list[PhaseTable],
    examples: int,
    tests: int,
    *,
    model: Component | None,
    optimizer: Component | None,
) -> dict[str, Any] | None:
    """Returns updates, learning rate, warmup, evaluations and what refers to the reference cell."""
    batch, reference, epochs = run.get("batch_size"), run.get("reference_batch_size"), run.get("epochs")
    tail = run.get("tail")
    if max(batch, reference) > examples:
        return None  # said by check_batch
    scaling = scaling_batch_size(run, model)
    of_budget = updates_of_budget(
        regime.budget,
        epochs=epochs,
        examples=examples,
        batch_size=batch,
        reference_batch_size=reference,
        tail=tail,
        scaling_batch_size=scaling,
        gradients=_gradients(run, optimizer),
    )
    updates = run.get("updates", of_budget)
    reference_updates = updates_of_epochs(exactly(epochs), examples, reference, tail)
    if updates < 1 or reference_updates < 1:
        size = batch if updates < 1 else reference
        run.problem("epochs", f"{epochs:g} epochs of {examples} examples make no update at batch size {size}; train for longer")
        return None
    if max(updates * batch, reference_updates * reference) > LARGEST:
        run.problem("epochs", f"{epochs:g} epochs and this budget are more examples than can be counted ({LARGEST}); train shorter")
        return None
    grows = len(batch_sizes(run, phases)) > 1
    made = ramp(batch, updates, [(phase.start, phase.batch_size_factor) for phase in phases]).updates if grows else updates
    rate = rates(run, regime, updates, examples, scaling, optimizer)
    evaluations = _evaluations(run, examples, tests)
    headline = _headline_evaluations(run, made, evaluations)
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


def _gradients(run: RunSettings, optimizer: Component | None) -> Fraction:
    """Returns how many gradients of its batch an update computes, on average."""
    table = run.get("extrapolation")
    looks_twice = table.direction in LOOKS_TWICE and table.step > 0
    own = 1.0 if optimizer is None else gradients_per_update(optimizer, None)
    return exactly(own) + (exactly(table.until) if looks_twice else 0)


def _evaluations(run: RunSettings, examples: int, tests: int) -> int:
    """Returns the number of evaluations: from what all arms have in common, so that they have the same fractions."""
    common = run.settings.only("recipe", "preset", "run")
    if common.get("evaluations"):
        return int(common.get("evaluations"))
    reference = common.get("reference_batch_size") or run.get("reference_batch_size")
    epochs = common.get("epochs") or run.get("epochs")
    updates = updates_of_epochs(exactly(epochs), examples, reference, run.get("tail"))
    return evaluations_of(
        reference_updates=updates, reference_batch_size=reference, test_examples=tests, train_evaluation_examples=min(tests, examples)
    )


def _headline_evaluations(run: RunSettings, updates: int, evaluations: int) -> int:
    """Returns how many last evaluations the headline is the mean of."""
    wanted = run.get("headline_evaluations")
    last = late_evaluations(updates, evaluations) if wanted == "late" else int(wanted)
    if last > evaluations:
        text = f"headline_evaluations is the mean of so many last evaluations, and there are only {evaluations}"
        run.problem("headline_evaluations", f"{text}; set evaluations in [run]")
    return last


def schedule_of(
    run: RunSettings, regime: Regime, optimizer: Component, tables: list[PhaseTable], numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns phases, weight decay and momentum reset.

    What a phase repeats from the run is left out of it. The regime may scale weight decay; what an [[override]] sets is final.
    """
    decay, momentum = run.get("weight_decay"), optimizer.option("momentum")
    scaled = regime.weight_decay_scaling != "none"
    factor = numbers["reference_learning_rate"] / numbers["learning_rate"] if scaled else 1.0
    of_run, of_phases = (1.0 if run.settings.is_final(name) else factor for name in ("weight_decay", "phases"))
    phases = []
    for table in tables:
        own = {
            "weight_decay": None if table.weight_decay in (None, decay) else table.weight_decay * of_phases,
            "momentum": None if table.momentum == momentum else table.momentum,
        }
        phases.append(Phase(**{**table.model_dump(), **own}))
    # Without momentum SGD has no state to forget; other optimizers are taken to have some.
    stateless = momentum == 0 and not any(phase.momentum for phase in phases)
    decays = decay > 0 or any(phase.weight_decay for phase in phases)
    return {
        "phases": tuple(phases) or (Phase(),),
        "schedule": "phases" if run.schedule == "constant" else run.schedule,
        "weight_decay": decay * of_run,
        "weight_decay_on": run.get("weight_decay_on") if decays else "all",
        "momentum_reset": "never" if stateless else run.get("momentum_reset"),
    }


def extrapolation_of(
    run: RunSettings,
    regime: Regime,
    model: Component,
    optimizer: Component,
    phases: list[PhaseTable],
    ghost: Mapping[str, Any],
    numbers: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns where gradients are taken, None where that is at the present weights. Adds a mistake where the run cannot do so."""
    table, batch = run.get("extrapolation"), run.get("batch_size")
    if table.direction == "none" or table.step == 0:
        return {"extrapolation": None}
    if gradients_per_update(optimizer, None) != 1:
        run.problem("extrapolation", f'the optimizer "{optimizer.name}" takes further gradients itself, so extrapolation is not for it')
    if table.direction == "momentum" and not (optimizer.option("momentum") or optimizer.option("beta1")):
        run.problem("extrapolation", f'there is no momentum to extrapolate along: the optimizer "{optimizer.name}" has none')
    if table.direction == "momentum" and optimizer.option("nesterov"):
        run.problem("extrapolation", "Nesterov's form looks ahead along the momentum already; set nesterov = false")
    if regime.adaptive_batch is not None:
        run.problem("extrapolation", "extrapolation is for batches whose sizes are planned; choose a regime without adaptive_batch")
    workers = 1 if table.direction in ("past-global", "momentum") else table.workers  # where all would look at one place
    if table.worker_examples is not None and workers == table.workers:
        if batch % table.worker_examples:
            run.problem("extrapolation", f"worker_examples = {table.worker_examples} does not divide the batch size {batch}")
        workers = max(1, batch // table.worker_examples)
    if workers > 1:
        _check_workers(run, workers, model, ghost["ghost_batch_size"], len(batch_sizes(run, phases)) > 1)
    schedule = table.schedule or ("unscaled-rate" if table.direction in (*PAST, "fresh-local", "same-batch") else "constant")
    factor = numbers["reference_learning_rate"] / numbers["learning_rate"] if schedule == "unscaled-rate" else 1.0
    rule = Extrapolation(
        direction=table.direction,
        step=table.step * factor,
        schedule="constant" if schedule == "constant" else "rate",
        workers=workers,
        until=table.until,
        scale=table.scale,
    )
    return {"extrapolation": rule}


def _check_workers(run: RunSettings, workers: int, model: Component, ghost: int | None, changes: bool) -> None:
    """Adds a mistake where a batch cannot be dealt out to workers."""
    batch = run.get("batch_size")
    if changes or run.get("tail") == "ragged":
        run.problem("extrapolation", "workers have equal shares of batches of one size; leave out ragged tails and growing batches")
    elif batch % workers:
        run.problem("extrapolation", f"the batch size {batch} cannot be dealt out to {workers} workers; choose a divisor")
    elif has_batch_norm(model) and (ghost is None or batch // workers % ghost):
        size = "the whole batch" if ghost is None else f"{ghost} examples"
        text = f"batch norm is over {size}, and each of {workers} workers has {batch // workers} examples"
        run.problem("extrapolation", f"{text}; choose a ghost_batch_size that divides these, or fewer workers")


def norm_of(run: RunSettings, model: Component, ghost: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how running statistics are kept. Without ghosts both rules are the same; without batch norm there are none."""
    rule = run.get("running_statistics") if ghost["ghost_batch_size"] is not None else "mean"
    momentum = run.number("norm_momentum", "cumulative") if has_batch_norm(model) else 0.1
    return {"running_statistics": rule, "norm_momentum": momentum}


def seeds_of(run: RunSettings, dataset: Component) -> dict[str, Any]:
    """Returns the seeds. The split has one of its own only where something is drawn by it."""
    drawn = catalog.datasets()[dataset.name].split == "drawn"
    subset = bool(dataset.option("train_size", 0) or dataset.option("test_size", 0))
    seed = run.get("seed")
    values = {name: run.get(name) for name in ("init_seed", "order_seed")}
    values["split_seed"] = run.get("split_seed", "seed" if drawn else 0) if drawn or subset else 0
    layer = run.settings.layer_of("split_seed")
    varies = values["split_seed"] == "seed" or (layer is not None and layer.kind == "grid")
    own = {name: seed if value == "seed" else value for name, value in values.items()}
    return {"seed": seed, **own, "split_drawn": varies and (drawn or subset)}


# What the model sees of the data.


def check_augmentation(run: RunSettings, name: str, facts: DatasetFacts) -> None:
    """Adds a mistake where images are to be augmented and the data set has none."""
    if not facts.is_image and run.get(name):
        run.problem(name, f"{name} is for images, and the data set has {facts.sides} features; remove it")


def crops_of(run: RunSettings, facts: DatasetFacts) -> dict[str, Any]:
    """Returns how images are augmented. Crops of the whole image are none."""
    padding, size, scale = run.get("crop_padding"), run.get("crop_size"), run.get("crop_scale")
    if scale and not size:
        run.problem("crop_scale", f"crop_scale = {scale:g} scales crops to crop_size, which is not set; set it, such as crop_size = 224")
    sides = facts.shape[:2] if facts.is_image else ()
    if size and sides and size > min(sides):
        text = f"crop_size = {size} is more than the images have, {sides[0]} x {sides[1]}; choose a smaller one, or larger images"
        run.problem("crop_size", text)
    if not sides or size > min(sides) or (size == max(sides) and not scale):
        size = 0
    if padding and size:
        run.problem("crop_size", f"crop_size = {size} cuts images and crop_padding = {padding} pads them; set one of them to 0")
    fill = run.get("crop_fill") if padding else 0
    return {"crop_padding": padding, "crop_fill": fill, "crop_size": size, "crop_scale": scale if size else 0.0}


def normalization_of(run: RunSettings, facts: DatasetFacts) -> dict[str, Any]:
    """Returns how pixels become inputs."""
    table: NormalizationTable = run.get("normalization")
    channels = facts.shape[-1]
    if table.kind == "global" and not facts.is_image and channels > 1:
        run.warn('normalization "global" scales all features alike; "feature" scales each by its own mean and standard deviation')
    if (table.kind, facts.is_image) in (("channel", False), ("feature", True)):
        here, other = ("images", "channel") if facts.is_image else ("features", "feature")
        text = f'"{table.kind}" is not for {here}, which the data set has; choose "{other}" or "global"'
        run.problem("normalization", f"normalization {text}")
    if table.kind == "fixed" and len(table.mean) not in (1, channels):
        wanted = f"1 or {channels}, one for each channel" if channels > 1 else "1, for the data set has one channel"
        run.problem("normalization", f"mean and standard_deviation have {len(table.mean)} values; give {wanted}")
    return {"normalization": Normalization(**table.model_dump())}


# What is set as it is used, and controls: noise, repeated augmentation, recalibrated headlines.


def plain_of(run: RunSettings, model: Component) -> dict[str, Any]:
    """Returns every field that the spec and the suite have under one name, as it is set; later steps replace what they make effective."""
    default_probes = tuple(name for name, probe in catalog.probes().items() if probe.default)
    probes = run.get("probes", default_probes)
    check_norm_group(run, model, probes)
    if run.get("label_smoothing") and catalog.task_of(model.name).name != "classification":
        run.problem("label_smoothing", f"label_smoothing is for labels, and the model {model.name} classifies nothing; remove it")
    return {
        **{name: run.get(name) for name in RunSpec.model_fields if name in RunFields.model_fields and name not in COMPONENTS},
        "clip_norm": run.number("clip_norm", "off"),
        "keep_weights": tuple(run.get("keep_weights", ())),
        "probes": probes,
        "time_limit_seconds": run.get("time_limit_seconds"),
    }


def check_norm_group(run: RunSettings, model: Component, probes: Sequence[str | Component]) -> None:
    """Adds a mistake where a probe needs norm groups of one size and batch norm is over the whole batch, whatever that is."""
    names = [probe if isinstance(probe, str) else probe.name for probe in probes]
    grouped = [name for name in names if catalog.probes()[name].needs_norm_group]
    if grouped and has_batch_norm(model) and run.get("ghost_batch_size") == "off":
        run.problem(
            "probes",
            f'the probe "{grouped[0]}" needs norm groups of a fixed size: over the whole batch, batch norm couples all examples, and '
            "what it measures changes with the batch size; set ghost_batch_size = 32, at batch size 32, too, or train without batch norm",
        )


def controls_of(run: RunSettings, regime: Regime, model: Component, numbers: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Returns the fields of the spec that only controls set.

    Args:
        run: its settings.
        regime: effective.
        model: of the run.
        numbers: with its `updates`.
        examples: size of the training set.
    """
    has_norm = has_batch_norm(model)
    return {
        "gradient_noise": _noise(run, regime, has_norm),
        "augmentation_epochs": _augmentation_epochs(run, regime, numbers["updates"], examples),
        "headline_statistics": run.get("headline_statistics") if has_norm else "running",
    }


def _noise(run: RunSettings, regime: Regime, has_norm: bool) -> GradientNoise | None:
    rule = regime.gradient_noise
    if rule.kind == "none":
        return None
    if rule.kind == "isotropic":
        return GradientNoise(kind="isotropic")
    batch, reference = run.get("batch_size"), run.get("reference_batch_size")
    grows = any(phase.batch_size_factor != 1.0 for phase in run.get("phases"))
    if run.get("tail") == "ragged" or grows or regime.drops == "batch":
        message = "multiplicative noise is for batches of one size, and this run's differ; leave out ragged tails and growing batches"
        run.problem(run.first_set("gradient_noise", "regime"), message)
        return None
    variance = batch / reference - 1 if isinstance(rule.variance, str) else float(rule.variance)
    if variance < 0:
        run.warn("noise gives a batch the covariance of a smaller one, so none is added below the reference batch size")
    if variance > 0 and rule.centred and has_norm and run.get("ghost_batch_size") != reference:
        run.warn("gradients of a model with batch norm get the small batch's covariance only with ghost_batch_size = reference_batch_size")
    return GradientNoise(kind="multiplicative", variance=variance, centred=rule.centred) if variance > 0 else None


def _augmentation_epochs(run: RunSettings, regime: Regime, updates: int, examples: int) -> int | None:
    """Returns after how many epochs augmentation begins anew; None where the run is no longer than that or has no augmentation."""
    period = regime.augmentation_epochs
    if period == "off":
        return None
    if not (run.get("crop_padding") or run.get("flip")):
        run.warn("augmentation_epochs has no effect without crops or flips")
        return None
    epochs = math.ceil(exactly(run.get("epochs"))) if isinstance(period, str) else period
    batch = run.get("batch_size")
    epoch = examples // batch * batch if run.get("tail") == "drop" else examples
    return epochs if updates * batch > epochs * epoch else None
