"""load_suite: from a suite file to the ordered runs that it asks for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.catalog import show
from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import did_you_mean, unknown_name
from gapbench.suite import facts
from gapbench.suite.batches import phase_starts
from gapbench.suite.change import Change
from gapbench.suite.expand import MAXIMUM_RUNS, Draft, complete, count_runs, expand
from gapbench.suite.layers import Settings, ghost_of, matches
from gapbench.suite.mistakes import Unknown, in_order, without_repeats
from gapbench.suite.regime import change_of, regime_of
from gapbench.suite.resolve import Resolver
from gapbench.suite.runspec import Labels, PlannedRun, canonical_json, run_id
from gapbench.suite.schema import ReportSection
from gapbench.suite.sections import Sections, read_sections
from gapbench.suite.source import COMPONENTS, SECTIONS, Document, find_suite, parse_value, read_document
from gapbench.suite.toml import KeyPath, dumps

if TYPE_CHECKING:
    import pandas as pd


# The plan of a suite: its drafts with recipe, overrides and excludes applied, resolved, labelled and given their ids.


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


def make_plan(sections: Sections, document: Document, resolver: Resolver) -> Plan:
    """Returns the plan; mistakes are added to the document."""
    plan = Plan()
    orders: dict[str, int] = {}
    if count_runs(sections) > MAXIMUM_RUNS:
        message = f"the suite has {count_runs(sections):,} runs; at most {MAXIMUM_RUNS:,} make one suite"
        document.mistake(("grid",), message)
        return plan
    for draft in expand(sections):
        if orders.setdefault(draft.cell, draft.order) != draft.order:
            arms = [arm.layer.path for arm in sections.arms if arm.label == draft.cell]
            if len(arms) < 2:  # equal labels are a mistake of their own
                message = f"{show(draft.cell)} names two different cells, of an arm and of the grid; choose another label"
                document.mistake((*arms[0], "label") if arms else ("grid",), message)
            continue
        try:
            _plan_run(draft, sections, resolver, plan)
        except Unknown:  # whether it is dropped cannot be told
            continue
    resolver.add_misfits()
    plan.runs = _one_reference_each(plan.runs)
    return plan


def _plan_run(draft: Draft, sections: Sections, resolver: Resolver, plan: Plan) -> None:
    settings = overridden(draft, sections, plan.used_rules)
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


def overridden(draft: Draft, sections: Sections, used: set[KeyPath]) -> Settings:
    """Returns a draft's settings with its recipe below and its overrides on top; the overrides that match are added to `used`."""
    settings = draft.settings
    completed = complete(settings)
    for override in sections.overrides:
        try:
            if override.where.matches(completed, draft.arm):
                used.add(override.path)
                settings = settings.with_layer(override.layer)
        except Unknown:
            settings = settings.with_layer(override.layer.hidden())
    return complete(settings)  # an override may have named another recipe


def _labels(draft: Draft, settings: Settings, sections: Sections) -> Labels:
    regime = regime_of(settings, sections.regimes)
    change = change_of(settings, regime)
    return Labels(
        suite=sections.name,
        cell=draft.cell,
        arm=draft.arm,
        recipe=settings.get("recipe", ""),
        preset=change.preset,
        regime=change.regime_label,
        learning_rate_rule=change.rate_label,
        budget=change.budget,
        reference_cell=_is_reference(draft, settings, sections, change),
        reference=draft.reference,
        axes=dict(draft.axes),
        cell_order=draft.order,
        change=change,
        words=_words(draft, change.preset),
    )


def _words(draft: Draft, preset: str) -> dict[str, str]:
    """Returns what a cell's name is put together from; a preset at the end of an arm's label is a word of its own."""
    arm = draft.arm.removesuffix(f", {preset}")
    rest = {field: word for field, word in draft.words.items() if field != "arm"}
    return dict(draft.words) if arm == draft.arm else {"arm": arm, "preset": preset, **rest}


def _is_reference(draft: Draft, settings: Settings, sections: Sections, change: Change) -> bool:
    if sections.reference:
        return matches(settings, draft.arm, sections.reference)
    batch_size = settings.get("batch_size")
    return batch_size == settings.get("reference_batch_size") and change.as_recipe(batch_size, ghost_of(settings))


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


# `--only arm=LB,seed=0`: keeping some runs of a plan.

_LABELS = ("arm", "cell", "recipe", "preset", "regime", "learning_rate_rule", "budget")
_FIELDS = ("batch_size", "ghost_batch_size", "learning_rate", "updates", "precision", "seed", "init_seed", "order_seed", "split_seed")
KEYS = (*_LABELS, *COMPONENTS, *_FIELDS)
"""What runs can be chosen by."""


def keep_only(runs: Sequence[PlannedRun], dropped: Sequence[DroppedRun], only: str) -> tuple[list[PlannedRun], list[DroppedRun]]:
    """Returns the runs (and the dropped ones) that have all the values of `only`; a key given twice means either value.

    Raises:
        SuiteError: a key that does not exist, or no run that matches.
    """
    wanted: dict[str, list[Any]] = {}
    for part in only.split(","):
        key, sign, text = part.partition("=")
        key, text = key.strip(), text.strip()
        if not sign or not text:
            raise SuiteError([Problem("--only", f'"{part.strip()}" is not of the form key=value, such as arm=LB or seed=0')])
        if key not in KEYS:
            raise SuiteError([Problem("--only", unknown_name("key", key, KEYS))])
        wanted.setdefault(key, []).append(text)
    kept = [run for run in runs if all(_has(_value_of(run, key), texts) for key, texts in wanted.items())]
    if not kept:
        raise SuiteError([Problem("--only", _nothing_matches(runs, wanted))])
    kept_dropped = [
        run
        for run in dropped
        if all(key in (*_LABELS, "seed") and _has(_value_of_dropped(run, key), texts) for key, texts in wanted.items())
    ]
    return kept, kept_dropped


def _value_of(run: PlannedRun, key: str) -> Any:
    if key in _LABELS:
        return getattr(run.labels, key)
    value = getattr(run.spec, key)
    if key in COMPONENTS:
        return value.name
    return "off" if key == "ghost_batch_size" and value is None else value


def _value_of_dropped(run: DroppedRun, key: str) -> Any:
    return run.seed if key == "seed" else getattr(run.labels, key)


def _has(value: Any, texts: Sequence[str]) -> bool:
    return any(value == text or (not isinstance(value, str) and value == parse_value(text)) for text in texts)


def _nothing_matches(runs: Sequence[PlannedRun], wanted: dict[str, list[str]]) -> str:
    """Returns what to say: for the first key that alone matches nothing, which values there are."""
    for key, texts in wanted.items():
        values = list(dict.fromkeys(str(_value_of(run, key)) for run in runs))
        if not any(_has(_value_of(run, key), texts) for run in runs):
            listed = ", ".join(value or "none" for value in values)
            return f'no run has {key} = "{texts[0]}"{did_you_mean(texts[0], values)}; there are: {listed}'
    return "no run has all of these values; see `gapbench plan`"


# What a plan warns of: suites that can be run, but whose comparison is not what it looks like.

MOST_CELLS, SHOWN_CELLS = 8, 4
"""A warning about more cells than the first number names as many as the second."""


def warnings_of(runs: Sequence[PlannedRun], no_effect: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the warnings about a plan's runs, each with the cells that it is about."""
    first_of_cell = {run.labels.cell: run for run in reversed(runs)}
    cells = {run.labels.cell: first_of_cell[run.labels.cell] for run in runs}
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
    without = {_workload(run): run for run in reversed(runs) if _workload(run) not in with_reference}
    texts = []
    for run in reversed(without.values()):
        spec = run.spec
        cells = dict.fromkeys(other.labels.cell for other in runs if _workload(other) == _workload(run))
        wanted = "as in [report]" if named else f"batch size {spec.reference_batch_size}, regime baseline, ghost off"
        texts.append(
            f"no reference cell ({wanted}) for {spec.dataset.name} with {spec.model.name}, "
            f"so tables have no batch gap for: {_listed(cells, len(dict.fromkeys(other.labels.cell for other in runs)))}"
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


@dataclass(frozen=True)
class Suite:
    """A validated suite."""

    name: str
    """Of the results directory: with `--set` options, the file's name and a hash of them."""
    path: Path
    summary: str
    runs: tuple[PlannedRun, ...]
    """Cell by cell; equal runs stand under each of their labels, with one run id."""
    dropped: tuple[DroppedRun, ...]
    warnings: tuple[str, ...]
    report: ReportSection
    """What tables and figures show."""
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)
    """The merged file: `extends` and `--set` options applied."""

    def resolved_toml(self) -> str:
        """Returns the suite as one TOML file without `extends` that gives the same runs wherever it lies."""
        ordered = {key: self.document[key] for key in SECTIONS if key in self.document}
        return dumps({**ordered, "name": self.name})

    def frame(self) -> pd.DataFrame:
        """Returns one row a run: its labels and its effective values; equal runs share their run_id."""
        import pandas as pd

        rows = []
        for run in self.runs:
            values = {**run.labels.model_dump(exclude={"suite", "change", "words"}), **run.spec.model_dump(mode="json")}
            for kind in ("dataset", "model", "optimizer"):
                values |= {kind: values[kind]["name"], f"{kind}_options": values[kind]["options"]}
            rows.append({"run_id": run.run_id, **values})
        return pd.DataFrame(rows).astype({"ghost_batch_size": "Int64"}) if rows else pd.DataFrame(rows)

    def __repr__(self) -> str:
        cells = len({run.labels.cell for run in self.runs})
        return f"Suite({self.name!r}: {len(self.runs)} runs in {cells} cells, {len(self.dropped)} dropped)"


def load_suite(
    path: str | Path, *, settings: Mapping[str, str] | None = None, only: str | None = None, plugins: Iterable[str | Path] = ()
) -> Suite:
    """Reads, checks and expands a suite. Nothing is loaded but the suite file, what it extends, and its plugins.

    Args:
        path: of the file, or the bare name of a shipped suite.
        settings: `--set` options: TOML values by key; `epochs` means `run.epochs`.
        only: keeps the runs that match, such as "arm=LB,seed=0"; a key given twice means either value.
        plugins: Python files whose components the suite may name.

    Raises:
        SuiteError: with every mistake in the suite: place, what is allowed, nearest spelling.
        GapbenchError: a plugin that cannot be loaded.
    """
    return load_parts(path, settings=settings, only=only, plugins=plugins)[0]


def load_parts(
    path: str | Path, *, settings: Mapping[str, str] | None = None, only: str | None = None, plugins: Iterable[str | Path] = ()
) -> tuple[Suite, Sections, Document]:
    """Returns a suite as `load_suite` does, with the sections and the document that it was made from."""
    load_plugins(plugins)
    facts.look_again()
    path = find_suite(path)
    document = read_document(path, settings or {})
    _make_paths_absolute(document)
    problems = document.problems
    sections = read_sections(document)
    if settings:
        sections.name = f"{sections.name}+{_settings_hash(document)}"
    resolver = Resolver(document, sections.regimes)
    plan = make_plan(sections, document, resolver) if document.whole else Plan()
    if not plan.runs and not plan.dropped and not problems:
        document.mistake((), "the suite has no runs; give a [run], a [grid] or an [[arm]]")
    if problems:
        raise SuiteError(without_repeats(in_order(problems, document)))
    runs, dropped = plan.runs, plan.dropped
    general = missing_references(runs, named=bool(sections.reference)) + _unused(sections, document, plan, settings or {})
    if only:
        runs, dropped = keep_only(runs, dropped, only)
    suite = Suite(
        name=sections.name,
        path=path,
        summary=sections.summary,
        runs=tuple(runs),
        dropped=tuple(dropped),
        warnings=tuple(warnings_of(runs, resolver.no_effect) + general),
        report=sections.report,
        document=document.data,
    )
    return suite, sections, document


def _make_paths_absolute(document: Document) -> None:
    """Makes the paths of users' own files absolute; in a file they are relative to it, also where it is extended."""
    places: list[KeyPath] = [("run", "dataset"), ("override",), ("arm",), ("grid", "dataset")]
    while places:
        place = places.pop()
        value: Any = document.data
        for key in place:
            value = value[key] if isinstance(value, list) and isinstance(key, int) else value.get(key) if isinstance(value, dict) else None
        if isinstance(value, list):
            places.extend((*place, index) for index in range(len(value)))
        elif isinstance(value, dict) and place[-1] != "dataset" and not (place[0] == "grid" and len(place) == 3):
            places.extend((*place, key) for key in ("set", "dataset") if key in value)
        elif isinstance(value, dict) and isinstance(value.get("path"), str):
            directory = document.directory_of((*place, "path"))
            value["path"] = (directory / Path(value["path"]).expanduser()).as_posix() if value["path"] else ""


def _settings_hash(document: Document) -> str:
    return hashlib.blake2b(canonical_json(document.sources[-1].data).encode(), digest_size=4).hexdigest()


def _unused(sections: Sections, document: Document, plan: Plan, settings: Mapping[str, str]) -> list[str]:
    """Returns warnings about what matches no run and about settings that every arm replaces."""
    rules = [*(rule.path for rule in sections.excludes), *(rule.path for rule in sections.overrides)]
    texts = [f"{document.place(path)} matches no run" for path in rules if path not in plan.used_rules]
    if settings:
        fields = document.sources[-1].data.get("run", {})
        idle = [name for name in fields if name in sections.run.fields and name not in plan.used_run_fields]
        texts += [f"--set {name} has no effect: every arm or override sets {name} itself" for name in idle]
    return texts
