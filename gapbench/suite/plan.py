"""The plan of a suite: its drafts with recipe, overrides and excludes applied, resolved, labelled and given their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gapbench import catalog
from gapbench.core.errors import Problem
from gapbench.suite.expand import MAXIMUM_RUNS, Draft, complete, count_runs, expand
from gapbench.suite.identity import run_id
from gapbench.suite.layers import Settings, Unknown, ghost_of, matches
from gapbench.suite.locate import KeyPath
from gapbench.suite.rate import rule_of
from gapbench.suite.regime import regime_of
from gapbench.suite.resolve import Resolver
from gapbench.suite.runspec import Labels, PlannedRun
from gapbench.suite.schema import show
from gapbench.suite.sections import Sections
from gapbench.suite.source import Document


@dataclass(frozen=True)
class DroppedRun:
    """A run that an [[exclude]] drops."""

    labels: Labels
    seed: int
    reason: str


@dataclass
class Plan:
    """What a suite asks for."""

    runs: list[PlannedRun] = field(default_factory=list)
    dropped: list[DroppedRun] = field(default_factory=list)
    used_rules: set[KeyPath] = field(default_factory=set)
    """The [[exclude]] and [[override]] that matched some run."""
    used_run_fields: set[str] = field(default_factory=set)
    """The fields of [run] that no grid, arm or override replaced in every run."""


def make_plan(sections: Sections, document: Document, resolver: Resolver) -> Plan:
    """Returns the plan; mistakes are added to the resolver's problems."""
    plan = Plan()
    orders: dict[str, int] = {}
    if count_runs(sections) > MAXIMUM_RUNS:
        message = f"the suite has {count_runs(sections):,} runs; at most {MAXIMUM_RUNS:,} make one suite"
        resolver.problems.append(Problem(document.place(("grid",)), message))
        return plan
    for draft in expand(sections):
        if orders.setdefault(draft.cell, draft.order) != draft.order:
            arms = [arm.layer.path for arm in sections.arms if arm.label == draft.cell]
            place = document.place((*arms[0], "label") if arms else ("grid",))
            if len(arms) < 2:  # equal labels are a mistake of their own
                message = f"{show(draft.cell)} names two different cells, of an arm and of the grid; choose another label"
                resolver.problems.append(Problem(place, message))
            continue
        try:
            _plan_run(draft, sections, resolver, plan)
        except Unknown:  # whether it is dropped cannot be told
            continue
    resolver.add_misfits()
    plan.runs = _one_reference_each(plan.runs)
    return plan


def _plan_run(draft: Draft, sections: Sections, resolver: Resolver, plan: Plan) -> None:
    settings = draft.settings
    completed = complete(settings)
    for override in sections.overrides:
        try:
            if override.where.matches(completed, draft.arm):
                plan.used_rules.add(override.path)
                settings = settings.with_layer(override.layer)
        except Unknown:
            settings = settings.with_layer(override.layer.hidden())
    settings = complete(settings)  # an override may have named another recipe
    if settings.sound:
        plan.used_run_fields.update(name for name in sections.run.fields if settings.layer_of(name) is sections.run)
    for exclude in sections.excludes:
        if exclude.where.matches(settings, draft.arm):
            plan.used_rules.add(exclude.path)
            if settings.sound:
                plan.dropped.append(DroppedRun(_labels(draft, settings, sections), settings.get("seed", 0), exclude.reason))
            return
    spec = resolver.resolve(settings, draft.base, draft.cell)
    if spec is not None:
        plan.runs.append(PlannedRun(run_id=run_id(spec), spec=spec, labels=_labels(draft, settings, sections)))


def _labels(draft: Draft, settings: Settings, sections: Sections) -> Labels:
    regime = regime_of(settings, sections.regimes)
    recipe = settings.get("recipe", "")
    default_preset = catalog.recipes()[recipe].default_preset if recipe in catalog.recipes() else ""
    return Labels(
        suite=sections.name,
        cell=draft.cell,
        arm=draft.arm,
        recipe=recipe,
        preset=settings.get("preset", default_preset),
        regime=regime.label,
        learning_rate_rule=rule_of(settings, regime),
        budget=regime.budget.kind,
        reference_cell=_is_reference(draft, settings, sections, regime.label),
        reference=draft.reference,
        axes=dict(draft.axes),
        cell_order=draft.order,
    )


def _is_reference(draft: Draft, settings: Settings, sections: Sections, regime: str) -> bool:
    if sections.reference:
        return matches(settings, draft.arm, sections.reference)
    at_reference = settings.get("batch_size") == settings.get("reference_batch_size")
    own = settings.only("recipe", "preset").get("ghost_batch_size", "off")  # such as the one ghost batch size of a preset `fair`
    batch_size = settings.get("batch_size")
    as_recipe = (ghost_of(settings) or batch_size) == (batch_size if own == "off" else own)
    return at_reference and regime == "baseline" and as_recipe


def _one_reference_each(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Returns the runs with one reference cell among cells of the same runs: "ghost off" and "ghost = batch" are one."""
    ids: dict[str, list[str]] = {}
    for run in runs:
        if run.labels.reference_cell:
            ids.setdefault(run.labels.cell, []).append(run.run_id)
    seen: list[list[str]] = []
    repeated = set()
    for cell, members in ids.items():
        if members in seen:
            repeated.add(cell)
        seen.append(members)
    plain = {"reference_cell": False}
    return [run.model_copy(update={"labels": run.labels.model_copy(update=plain)}) if run.labels.cell in repeated else run for run in runs]
