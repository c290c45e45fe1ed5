"""load_suite: from a suite file to the ordered runs that it asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import did_you_mean, unknown_name
from gapbench.suite import facts
from gapbench.suite.mistakes import in_order, without_repeats
from gapbench.suite.plan import DroppedRun, Plan, make_plan, missing_references, warnings_of
from gapbench.suite.resolve import Resolver
from gapbench.suite.runspec import PlannedRun, canonical_json
from gapbench.suite.schema import ReportSection
from gapbench.suite.sections import Sections, read_sections
from gapbench.suite.source import COMPONENTS, SECTIONS, Document, find_suite, parse_value, read_document
from gapbench.suite.toml import dumps

if TYPE_CHECKING:
    import pandas as pd


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


def load_name(path: Path) -> str:
    """Returns the name of a suite file, which is that of its results directory.

    Raises:
        SuiteError: the file cannot be read or has no name.
    """
    name = read_document(path, {}).data.get("name")
    if not isinstance(name, str):
        raise SuiteError([Problem(str(path), "needs the key name")])
    return name


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


# `--only arm=LB,seed=0`: keeping some runs of a plan.

_LABELS = ("arm", "cell", "recipe", "preset", "regime", "learning_rate_rule", "budget")
_OF_DROPPED = (*_LABELS, "seed")
_FIELDS = ("batch_size", "ghost_batch_size", "learning_rate", "updates", "precision", "seed", "init_seed", "order_seed", "split_seed")
KEYS = (*_LABELS, *COMPONENTS, *_FIELDS)
"""What runs can be chosen by."""


def keep_only(runs: Sequence[PlannedRun], dropped: Sequence[DroppedRun], only: str) -> tuple[list[PlannedRun], list[DroppedRun]]:
    """Returns the runs (and the dropped ones) that have all the values of `only`; a key given twice means either value.

    Raises:
        SuiteError: a key that does not exist, or no run that matches.
    """
    wanted: dict[str, list[str]] = {}
    for part in only.split(","):
        key, sign, text = part.partition("=")
        key, text = key.strip(), text.strip()
        if not sign or not text:
            raise SuiteError([Problem("--only", f'"{part.strip()}" is not of the form key=value, such as arm=LB or seed=0')])
        if key not in KEYS:
            raise SuiteError([Problem("--only", unknown_name("key", key, KEYS))])
        wanted.setdefault(key, []).append(text)
    kept = [run for run in runs if all(_has(run, key, texts) for key, texts in wanted.items())]
    if not kept:
        raise SuiteError([Problem("--only", _nothing_matches(runs, wanted))])
    return kept, [run for run in dropped if all(key in _OF_DROPPED and _has(run, key, texts) for key, texts in wanted.items())]


def _has(run: PlannedRun | DroppedRun, key: str, texts: Sequence[str]) -> bool:
    value = _value_of(run, key)
    return any(value == text or (not isinstance(value, str) and value == parse_value(text)) for text in texts)


def _value_of(run: PlannedRun | DroppedRun, key: str) -> Any:
    if key in _LABELS:
        return getattr(run.labels, key)
    value = getattr(run.spec if isinstance(run, PlannedRun) else run, key)
    if key in COMPONENTS:
        return value.name
    return "off" if key == "ghost_batch_size" and value is None else value


def _nothing_matches(runs: Sequence[PlannedRun], wanted: Mapping[str, Sequence[str]]) -> str:
    """Returns what to say: for the first key that alone matches nothing, which values there are."""
    for key, texts in wanted.items():
        values = list(dict.fromkeys(str(_value_of(run, key)) for run in runs))
        if not any(_has(run, key, texts) for run in runs):
            listed = ", ".join(value or "none" for value in values)
            return f'no run has {key} = "{texts[0]}"{did_you_mean(texts[0], values)}; there are: {listed}'
    return "no run has all of these values; see `gapbench plan`"
