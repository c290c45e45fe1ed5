"""The plan of a suite: every run that its sections ask for, with its recipe and overrides, without what is excluded, labelled and named."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapbench import catalog
from gapbench.catalog import Budget, show
from gapbench.core.machine import short_names
from gapbench.core.registry import unknown_name
from gapbench.suite.batches import phase_starts
from gapbench.suite.change import Change, rate_rule, reference_among
from gapbench.suite.layers import Layer, Settings, ghost_of, matches
from gapbench.suite.mistakes import Unknown
from gapbench.suite.regime import change_of, regime_of
from gapbench.suite.resolve import Resolver
from gapbench.suite.runspec import Labels, PlannedRun, RunSpec, run_id
from gapbench.suite.schema import SEEDS, RunFields
from gapbench.suite.sections import Arm, Sections
from gapbench.suite.source import COMPONENTS, Document, Source
from gapbench.suite.toml import KeyPath

MAXIMUM_RUNS = 100_000
"""More runs than this are taken for a mistake, such as a seed too long."""


@dataclass(frozen=True)
class DroppedRun:
    """A run that an [[exclude]] drops."""

    labels: Labels
    seed: int
    reason: str


@dataclass
class Plan:
    """The runs of a suite."""

    runs: list[PlannedRun] = field(default_factory=list)
    dropped: list[DroppedRun] = field(default_factory=list)
    used_rules: set[KeyPath] = field(default_factory=set)
    """The [[exclude]] and [[override]] that matched some run."""
    used_run_fields: set[str] = field(default_factory=set)
    """The fields of [run] that no grid, arm or override replaced in every run."""
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By cell: its learning rate before rule and factor, and that of [run] and its recipe."""


@dataclass(frozen=True)
class Draft:
    """One run, not yet resolved."""

    settings: Settings
    """[run], then the grid's axes, then the arm; recipe and overrides are added by `overridden`."""
    labels: Labels
    """Those that name its cell; the others follow from its settings."""
    base: KeyPath
    """The section that it comes from."""


def make_plan(sections: Sections, document: Document, resolver: Resolver) -> Plan:
    """Returns the plan; mistakes are added to the document."""
    plan = Plan()
    orders: dict[str, int] = {}
    if count_runs(sections) > MAXIMUM_RUNS:
        message = f"the suite has {count_runs(sections):,} runs; at most {MAXIMUM_RUNS:,} make one suite"
        document.mistake(("grid",), message)
        return plan
    for draft in expand(sections):
        cell = draft.labels.cell
        if orders.setdefault(cell, draft.labels.cell_order) != draft.labels.cell_order:
            arms = [arm.layer.path for arm in sections.arms if arm.label == cell]
            if len(arms) < 2:  # equal labels are a mistake of their own
                message = f"{show(cell)} names two different cells, of an arm and of the grid; choose another label"
                document.mistake((*arms[0], "label") if arms else ("grid",), message)
            continue
        try:
            _plan_run(draft, sections, resolver, plan)
        except Unknown:  # whether it is dropped cannot be told
            continue
    resolver.add_misfits()
    _check_alternatives(plan, sections, document)
    plan.runs = _with_rate_rules(_one_reference_each(plan.runs), plan.rates)
    return plan


def _check_alternatives(plan: Plan, sections: Sections, document: Document) -> None:
    """Adds a mistake for every arm that is to be an alternative to no cell, or to another alternative."""
    labels = [*(run.labels for run in plan.runs), *(run.labels for run in plan.dropped)]
    main = [own.cell for own in labels if not own.alternative_to]
    for arm in sections.arms:
        if arm.alternative_to and arm.alternative_to not in main and not document.problems:
            document.mistake((*arm.layer.path, "alternative_to"), unknown_name("cell", arm.alternative_to, dict.fromkeys(main)))


def _plan_run(draft: Draft, sections: Sections, resolver: Resolver, plan: Plan) -> None:
    settings = overridden(draft, sections, plan.used_rules)
    if settings.sound:
        plan.used_run_fields.update(name for name in sections.run.fields if settings.layer_of(name) is sections.run)
    for exclude in sections.excludes:
        if exclude.where.matches(settings, draft.labels.arm):
            plan.used_rules.add(exclude.path)
            if settings.sound:
                plan.dropped.append(DroppedRun(_labels(draft, settings, sections), settings.get("seed", 0), exclude.reason))
            return
    spec = resolver.resolve(settings, draft.base, draft.labels.cell)
    if spec is not None:
        rate = settings.get("learning_rate")
        plan.rates.setdefault(draft.labels.cell, (rate, settings.only("recipe", "preset", "run").get("learning_rate", rate)))
        plan.runs.append(PlannedRun(run_id=run_id(spec), spec=spec, labels=_labels(draft, settings, sections)))


def _labels(draft: Draft, settings: Settings, sections: Sections) -> Labels:
    change = change_of(settings, regime_of(settings, sections.regimes))
    found = {
        "recipe": settings.get("recipe", ""),
        "preset": change.preset,
        "regime": change.regime_label,
        "learning_rate_rule": change.rate_label,
        "budget": change.budget,
        "reference_cell": _is_reference(draft, settings, sections, change),
        "change": change,
        "words": _with_preset(draft.labels.words, change.preset),
    }
    return draft.labels.model_copy(update=found)


def _with_preset(words: Mapping[str, str], preset: str) -> dict[str, str]:
    """Returns what a cell's name is put together from; a preset at the end of an arm's label is a word of its own."""
    arm = words.get("arm", "").removesuffix(f", {preset}")
    if arm == words.get("arm", ""):
        return dict(words)
    return {"arm": arm, "preset": preset, **{field: word for field, word in words.items() if field != "arm"}}


def _is_reference(draft: Draft, settings: Settings, sections: Sections, change: Change) -> bool:
    if draft.labels.alternative_to:
        return False
    if sections.reference:
        return matches(settings, draft.labels.arm, sections.reference)
    batch_size = settings.get("batch_size")
    return batch_size == settings.get("reference_batch_size") and change.as_recipe(batch_size, ghost_of(settings))


def _one_reference_each(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Returns the runs with one reference cell among cells of the same runs: "ghost off" and "ghost = batch" are one."""
    ids: dict[str, list[str]] = {}
    for run in runs:
        if run.labels.reference_cell:
            ids.setdefault(run.labels.cell, []).append(run.run_id)
    first = {tuple(members): cell for cell, members in reversed(ids.items())}
    kept = {*first.values()}
    plain = {"reference_cell": False}
    return [
        run.model_copy(update={"labels": run.labels.model_copy(update=plain)})
        if run.labels.reference_cell and run.labels.cell not in kept
        else run
        for run in runs
    ]


@dataclass(frozen=True)
class _Cell:
    """What tells which cell another is held against."""

    name: str
    arm: str
    reference: bool
    held_against: str
    method: tuple[str, str, str]
    change: Change


def _with_rate_rules(runs: Sequence[PlannedRun], rates: Mapping[str, tuple[float, float]]) -> list[PlannedRun]:
    """Returns the runs with the name of their learning rate that the cell tells which they are held against; without one, [run]."""
    panels: dict[tuple[str, ...], dict[str, _Cell]] = {}
    for run in runs:
        labels, spec = run.labels, run.spec
        method = labels.preset, spec.optimizer.name, spec.precision
        cell = _Cell(labels.cell, labels.arm, labels.reference_cell, labels.reference, method, labels.change)
        panels.setdefault((*_workload(run), labels.recipe), {}).setdefault(labels.cell, cell)
    changes = {}
    for cells in panels.values():
        # Of several reference cells, such as those of a grid of rates, the first is the one at the recipe's rate.
        in_order = sorted(cells.values(), key=lambda cell: rates[cell.name][0] != rates[cell.name][1])
        for name, cell in cells.items():
            reference = reference_among(cell, in_order)
            own, of_run = rates[name]
            scaled = cell.change.learning_rate_rule in ("sqrt", "linear") and own == of_run  # by rule, also where the reference is tuned
            rule = rate_rule(cell.change.learning_rate_rule, own, of_run if scaled or reference is None else rates[reference.name][0])
            changes[name] = cell.change.model_copy(update={"learning_rate_rule": rule})
    renamed = {name: {"change": change, "learning_rate_rule": change.rate_label} for name, change in changes.items()}
    return [run.model_copy(update={"labels": run.labels.model_copy(update=renamed[run.labels.cell])}) for run in runs]


# Expanding: the product of the grid's axes, and every arm times the axes that it leaves open.


def count_runs(sections: Sections) -> int:
    """Returns how many runs `expand` makes, at most."""
    sizes = {axis: len(values) for axis, values in sections.grid.items()}
    arms = [math.prod(size for axis, size in sizes.items() if not arm.layer.gives(axis)) for arm in sections.arms]
    return sum(arms) + math.prod(sizes.values())


def expand(sections: Sections) -> list[Draft]:
    """Returns every run of a suite, cell by cell, before overrides and excludes.

    The grid's own product is left out where there are arms and the grid has no axis but seeds: then it only lists the
    seeds of the arms.
    """
    ranks = {label: rank for rank, label in enumerate(sections.report.arms)}
    groups: list[Arm | None] = [*sorted(sections.arms, key=lambda arm: ranks.get(arm.label, len(ranks)))]
    if _has_own_product(sections):
        groups.append(None)
    drafts: list[Draft] = []
    order = 0
    for arm in groups:
        base: KeyPath = arm.layer.path if arm else ("run",) if sections.run.gives_any else ("grid",)
        left_open = {axis: values for axis, values in sections.grid.items() if arm is None or not arm.layer.gives(axis)}
        axes, seeds = ({axis: values for axis, values in left_open.items() if (axis in SEEDS) == wanted} for wanted in (False, True))
        for values in _product(axes):
            labels = _cell_labels(sections, arm, values, axes, order)
            of_cell = tuple(_axis_layers(values, sections))
            for of_seeds in itertools.product(*([*_axis_layers_of(axis, sections)] for axis in seeds)):
                layers = (sections.run, *of_cell, *of_seeds, *_unknown_axes(sections))
                drafts.append(Draft(Settings((*layers, arm.layer) if arm else layers), labels, base))
            order += 1
    return drafts


def _has_own_product(sections: Sections) -> bool:
    """Returns whether the grid makes runs besides those of the arms."""
    unknown = sections.unknown_axes - set(SEEDS)
    only_seeds = sections.arms and not unknown and all(axis in SEEDS for axis in sections.grid)
    nothing = not (sections.grid or unknown or sections.run.gives_any)
    return not (sections.grid_unknown or only_seeds or nothing)


def _product(axes: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _axis_layers(values: Mapping[str, Any], sections: Sections) -> Iterator[Layer]:
    for axis, value in values.items():
        yield Layer("grid", ("grid", axis, sections.grid[axis].index(value)), {axis: value})


def _axis_layers_of(axis: str, sections: Sections) -> Iterator[Layer]:
    """Yields the layers of all values of an axis."""
    for index, value in enumerate(sections.grid[axis]):
        yield Layer("grid", ("grid", axis, index), {axis: value})


def _unknown_axes(sections: Sections) -> tuple[Layer, ...]:
    """Returns a layer that hides the axes of which no value is known."""
    return (Layer("grid", ("grid",), {}, broken=sections.unknown_axes),) if sections.unknown_axes else ()


def spec_of(fields: Mapping[str, Any]) -> RunSpec | None:
    """Returns the spec of a run that sets these fields of [run] and nothing else; None where it cannot be told, as without its data."""
    document = Document({}, [Source("", Path(), {}, {})])
    settings = _with_recipe(Settings((Layer("run", ("run",), RunFields.model_validate(dict(fields), strict=True).given()),)))
    return Resolver(document, catalog.regimes()).resolve(settings, ("run",), "")


# The recipe below all other layers, and the overrides above them.


def overridden(draft: Draft, sections: Sections, used: set[KeyPath]) -> Settings:
    """Returns a draft's settings with its recipe below and its overrides on top; the overrides that match are added to `used`."""
    settings = draft.settings
    completed = _with_recipe(settings)
    for override in sections.overrides:
        try:
            if override.where.matches(completed, draft.labels.arm):
                used.add(override.path)
                settings = settings.with_layer(override.layer)
        except Unknown:
            settings = settings.with_layer(override.layer.hidden())
    return _with_recipe(settings)  # an override may have named another recipe


def _with_recipe(settings: Settings) -> Settings:
    """Returns settings with the layers of their recipe and preset below all others; what an unknown recipe sets is unknown."""
    try:
        name = settings.get("recipe", "")
        if not name:
            return settings
        recipe = catalog.recipes().find(name)
        preset = settings.get("preset", recipe.default_preset if recipe else "")
    except Unknown:
        recipe, preset = None, ""
    if recipe is None or preset not in recipe.presets:
        return Settings((Layer("recipe", (), {}, opaque=True), *settings.layers))
    return Settings((*_recipe_layers(recipe.name, preset), *settings.layers))


@functools.lru_cache(maxsize=64)
def _recipe_layers(name: str, preset: str) -> tuple[Layer, ...]:
    recipe = catalog.recipes()[name]
    fields = {"recipe": recipe.fields, "preset": recipe.presets[preset].fields}
    return tuple(Layer(kind, (), RunFields.model_validate(dict(own), strict=True).given()) for kind, own in fields.items())


# What cells are called.


def _cell_labels(sections: Sections, arm: Arm | None, values: Mapping[str, Any], axes: Mapping[str, list[Any]], order: int) -> Labels:
    levels = {axis: _level(axis, value, axes[axis]) for axis, value in values.items()}
    varying = {axis: _prefix(axis, values[axis]) + level for axis, level in levels.items() if len(axes[axis]) > 1}
    words = {"arm": arm.label, **varying} if arm else varying or _plain_cell(sections.run)
    return Labels(
        suite=sections.name,
        cell=", ".join(words.values()),
        arm=arm.label if arm else "",
        reference=", ".join([arm.reference, *varying.values()]) if arm and arm.reference else "",
        alternative_to=arm.alternative_to if arm else "",
        axes=levels,
        cell_order=order,
        words=words,
    )


def _prefix(axis: str, value: Any) -> str:
    if axis in ("regime", "recipe", "preset", "precision") or (axis in COMPONENTS and ("name" in value or not value)):
        return ""
    short = {"batch_size": "B", "ghost_batch_size": "ghost", "learning_rate": "rate", "learning_rate_scaling": "rule"}
    return f"{short.get(axis) or axis.replace('_', ' ')} "


def _level(axis: str, value: Any, values: list[Any]) -> str:
    """Returns a value of an axis in words that do not repeat the axis."""
    if axis == "learning_rate":
        return f"{value:g}"
    if axis in COMPONENTS:
        return _component_level(value, values) or axis
    if isinstance(value, Budget):
        return value.kind if value.factor == 1 else f"{value.factor:g}x {value.kind}"
    if hasattr(value, "model_dump"):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, list):
        value = [item.model_dump(exclude_unset=True) if hasattr(item, "model_dump") else item for item in value]
    return show(value).strip('"')


def _component_level(value: Mapping[str, Any], values: list[Any]) -> str:
    """Returns a component's name, with the options that distinguish it from the others of the axis."""
    options = {key for other in values for key in other if key != "name"}
    varying = sorted(key for key in options if any(other.get(key) != value.get(key) for other in values))
    names = short_names(other["path"] for other in values if isinstance(other.get("path"), str))
    texts = {key: show(value[key]).strip('"') for key in varying if key in value}
    words = [(key == "path" and names.get(str(value[key]))) or f"{key} {text}" for key, text in texts.items()]
    return " ".join([*([value["name"]] if "name" in value else []), *words])


def _plain_cell(run: Layer) -> dict[str, str]:
    batch_size = run.fields.get("batch_size")
    return {"batch_size": f"B {batch_size}"} if batch_size else {"": "run"}


# What a plan warns of: suites that can be run, but whose comparison is not what it looks like.

MOST_CELLS, SHOWN_CELLS = 8, 4
"""A warning about more cells than the first number names as many as the second."""


def warnings_of(runs: Sequence[PlannedRun], no_effect: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the warnings about a plan's runs, each with the cells that it is about."""
    cells: dict[str, PlannedRun] = {}
    for run in runs:
        cells.setdefault(run.labels.cell, run)
    found: dict[str, list[str]] = {}
    for what, cell in no_effect:
        if cell in cells:
            found.setdefault(what, []).append(cell)
    for cell, run in cells.items():
        for what in (_short_phase(run), _large_batch(run), _long_warmup(run), _untuned(run)):
            if what:
                found.setdefault(what, []).append(cell)
    return [f"{what}: {_listed(dict.fromkeys(names), len(cells))}" for what, names in found.items()]


def _listed(names: Collection[str], of: int) -> str:
    """Returns the names of the cells that a warning is about; of many the first ones and how many more there are, out of how many."""
    if len(names) <= MOST_CELLS:
        return ", ".join(names)
    if len(names) == of:
        return f"all {of} cells"
    shown = list(names)[:SHOWN_CELLS]
    return f"{', '.join(shown)} and {len(names) - SHOWN_CELLS} more of {of} cells"


def missing_references(runs: Sequence[PlannedRun], *, named: bool) -> list[str]:
    """Returns a warning for every (data set, model) that has no reference cell, so that no batch gap can be given.

    `named` tells whether [report] names the reference cell.
    """
    with_reference = {_workload(run) for run in runs if run.labels.reference_cell}
    without: dict[tuple[str, str], dict[str, PlannedRun]] = {}
    for run in runs:
        if _workload(run) not in with_reference:
            without.setdefault(_workload(run), {}).setdefault(run.labels.cell, run)
    count = len({run.labels.cell for run in runs})
    texts = []
    for cells in without.values():
        spec = next(iter(cells.values())).spec
        wanted = "as in [report]" if named else f"batch size {spec.reference_batch_size}, regime baseline, ghost off"
        texts.append(
            f"no reference cell ({wanted}) for {spec.dataset.name} with {spec.model.name}, "
            f"so tables have no batch gap for: {_listed(cells, count)}"
        )
    return texts


def _workload(run: PlannedRun) -> tuple[str, str]:
    return run.spec.dataset.model_dump_json(), run.spec.model.model_dump_json()


def _short_phase(run: PlannedRun) -> str:
    """Momentum reaches its full gain, 1 / (1 - momentum), only after several times that many updates."""
    spec = run.spec
    momentum = float(spec.optimizer.option("momentum", 0.0))
    needed = 10.0 / (1.0 - momentum)
    batches = spec.batches
    starts = [*(phase.start for phase in spec.phases), 1.0]
    lengths = [round((end - start) * spec.updates) for start, end in itertools.pairwise(starts)]
    if batches.grows:
        ends = [batches.updates_at(step) for step in phase_starts(starts, round(batches.all_steps))]
        lengths = [end - start for start, end in itertools.pairwise(ends)]
    if min(lengths) >= needed:
        return ""
    shown = ", ".join(str(length) for length in lengths)
    return f"short phases of {shown} updates: momentum {momentum:g} needs {needed:.0f} updates in each to come to its full effect"


def _large_batch(run: PlannedRun) -> str:
    """Scaling rules assume that the batch is much smaller than the training set."""
    spec = run.spec
    largest = spec.batches.largest
    if 4 * largest <= spec.train_examples:
        return ""
    return (
        f"batch size {largest} is more than a quarter of the {spec.train_examples} training examples, and the scaling rules assume far less"
    )


def _long_warmup(run: PlannedRun) -> str:
    """A warmup that reaches into the second phase never comes to the peak rate."""
    spec = run.spec
    if len(spec.phases) < 2 or spec.warmup <= spec.phases[1].start:
        return ""
    steps = spec.batches.all_steps
    until = round(spec.phases[1].start * steps)
    return f"a warmup of {round(spec.warmup * steps)} updates reaches beyond the first phase of {until}: the run is short for it"


def _untuned(run: PlannedRun) -> str:
    """A preset may say that its learning rates are only where tuning starts."""
    if not run.labels.change.untuned:
        return ""
    return (
        f"preset {run.labels.preset} is untuned: its learning rates are those of the recipe, and a fair comparison tunes them for each cell"
    )
