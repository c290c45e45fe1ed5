"""load_suite: from a suite file to the ordered runs that it asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import Problem, SuiteError
from gapbench.suite import image_folder
from gapbench.suite.identity import canonical_json
from gapbench.suite.locate import KeyPath
from gapbench.suite.messages import without_repeats
from gapbench.suite.only import keep_only
from gapbench.suite.plan import DroppedRun, Plan, make_plan
from gapbench.suite.resolve import Resolver
from gapbench.suite.runspec import PlannedRun
from gapbench.suite.sections import Sections, read_sections
from gapbench.suite.shipped import find_suite
from gapbench.suite.source import SECTIONS, Document, read_document
from gapbench.suite.toml_writer import dumps
from gapbench.suite.warnings import missing_references, warnings_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ReportSettings:
    """[report]: what tables and figures show."""

    reference: Mapping[str, Any] = field(default_factory=dict)
    """Conditions of the reference cell; empty: reference batch size, regime baseline, ghost off."""
    arms: tuple[str, ...] = ()
    """Order of the arms; those not named follow."""
    figures: tuple[str, ...] = ()
    """Those to draw; empty: all, also those that a later version adds."""
    targets: tuple[Mapping[str, Any], ...] = ()
    """Metric and value of what `gapbench analyze critical-batch` looks for."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, for the metadata of tables."""
        plain = {"reference": dict(self.reference), "arms": list(self.arms), "figures": list(self.figures)}
        return plain | ({"targets": [dict(target) for target in self.targets]} if self.targets else {})


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
    report: ReportSettings
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
            values = {**run.labels.model_dump(exclude={"suite"}), **run.spec.model_dump(mode="json")}
            for kind in ("dataset", "model", "optimizer"):
                values |= {kind: values[kind]["name"], f"{kind}_options": values[kind]["options"]}
            rows.append({"run_id": run.run_id, **values})
        return pd.DataFrame(rows).astype({"ghost_batch_size": "Int64"}) if rows else pd.DataFrame(rows)

    def __repr__(self) -> str:
        cells = len({run.labels.cell for run in self.runs})
        return f"Suite({self.name!r}: {len(self.runs)} runs in {cells} cells, {len(self.dropped)} dropped)"


def load_suite(
    path: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    plugins: Iterable[str | Path] = (),
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
    load_plugins(plugins)
    image_folder.look_again()
    path = find_suite(path)
    document = read_document(path, settings or {})
    _make_paths_absolute(document)
    problems = document.problems
    sections = read_sections(document, problems)
    if settings:
        sections.name = f"{sections.name}+{_settings_hash(document)}"
    resolver = Resolver(document, sections.regimes, problems, [])
    plan = make_plan(sections, document, resolver) if document.whole else Plan()
    if not plan.runs and not plan.dropped and not problems:
        problems.append(Problem(document.place(()), "the suite has no runs; give a [run], a [grid] or an [[arm]]"))
    if problems:
        raise SuiteError(without_repeats(_in_order(problems, document)))
    runs, dropped = plan.runs, plan.dropped
    general = missing_references(runs, named=bool(sections.reference)) + _unused(sections, document, plan, settings or {})
    if only:
        runs, dropped = keep_only(runs, dropped, only)
    return Suite(
        name=sections.name,
        path=path,
        summary=sections.summary,
        runs=tuple(runs),
        dropped=tuple(dropped),
        warnings=tuple(warnings_of(runs, resolver.no_effect) + general),
        report=ReportSettings(
            sections.report.reference,
            tuple(sections.report.arms),
            tuple(sections.report.figures),
            tuple({"metric": target.metric, "value": target.value} for target in sections.report.targets),
        ),
        document=document.data,
    )


def _in_order(problems: Iterable[Problem], document: Document) -> list[Problem]:
    """Returns the problems once each, file by file and line by line; what concerns a file as a whole comes before its lines."""
    files = [source.shown for source in document.sources]

    def position(problem: Problem) -> tuple[int, int]:
        for index, file in enumerate(files):
            found = re.match(rf"{re.escape(file)}(?::(\d+))?(?:: |$)", problem.place)
            if found:
                return index, int(found[1] or 0)
        return -1, 0

    return sorted(dict.fromkeys(problems), key=position)


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
