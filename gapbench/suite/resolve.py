"""From the settings of one run to its RunSpec, with every mistake in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gapbench import catalog
from gapbench.catalog import RegimeEntry
from gapbench.core.errors import Problem
from gapbench.core.registry import unknown_name
from gapbench.suite.asked import Asked
from gapbench.suite.fields import ghost_size, inputs, norm, numbers, schedule, seeds
from gapbench.suite.layers import Settings
from gapbench.suite.locate import KeyPath
from gapbench.suite.regime import regime_of
from gapbench.suite.runspec import RunSpec
from gapbench.suite.source import COMPONENTS, Document
from gapbench.suite.workload import check_fit, component, facts_of, sizes

REQUIRED = ("dataset", "model", "optimizer", "batch_size", "reference_batch_size", "epochs", "learning_rate")


@dataclass(frozen=True)
class Resolver:
    """Resolves the runs of one suite; mistakes are added to `problems`."""

    document: Document
    regimes: Mapping[str, RegimeEntry]
    problems: list[Problem]
    no_effect: list[tuple[str, str]]
    """Warnings, as (what, cell), of settings that change nothing."""

    def resolve(self, settings: Settings, base: KeyPath, cell: str) -> RunSpec | None:
        """Returns the spec of a run, or None where it is mistaken.

        Args:
            settings: all its layers, recipe and preset included.
            base: the [[arm]] or section that it comes from, for mistakes that have no other place.
            cell: its name, for warnings.
        """
        before = len(self.problems)
        spec = self._resolve(Asked(settings, base, self.document, self.problems, cell, self.no_effect))
        return spec if len(self.problems) == before else None

    def _resolve(self, asked: Asked) -> RunSpec | None:
        if not _has_required(asked):
            return None
        dataset, model, optimizer = (component(asked, kind) for kind in COMPONENTS)
        regime = regime_of(asked.settings, self.regimes)
        facts = facts_of(asked, dataset)
        if dataset is None or model is None or optimizer is None or regime is None or facts is None:
            return None
        examples, tests = sizes(asked, dataset, facts)
        check_fit(asked, model, optimizer, facts)
        ghost = ghost_size(asked, model)
        counted = numbers(asked, regime, examples, tests)
        if counted is None:
            return None
        default_probes = [name for name, probe in catalog.probes().items() if probe.default]
        return RunSpec(
            dataset=dataset,
            model=model,
            optimizer=optimizer,
            batch_size=asked.get("batch_size"),
            ghost_batch_size=ghost,
            tail=asked.get("tail", "stream"),
            **counted,
            **schedule(asked, optimizer),
            **inputs(asked, facts),
            **norm(asked, model, ghost),
            **seeds(asked, dataset, drawn=catalog.datasets()[dataset.name].split == "drawn"),
            clip_norm=asked.number("clip_norm", "off"),
            precision=asked.get("precision", "fp32"),
            headline_evaluations=asked.get("headline_evaluations", 1),
            holdout=asked.get("holdout", 0.0),
            train_examples=examples,
            reference_batch_size=asked.get("reference_batch_size"),
            keep_weights=tuple(asked.get("keep_weights", ())),
            probes=tuple(asked.get("probes", default_probes)),
            time_limit_seconds=asked.get("time_limit_seconds"),
        )


def _has_required(asked: Asked) -> bool:
    """Returns whether a run has all that it needs; adds a mistake that lists what is missing."""
    recipe, preset = asked.get("recipe", ""), asked.get("preset", "")
    if recipe and recipe not in catalog.recipes():
        return False  # said where it is written
    if preset and not any(preset in known.presets for known in catalog.recipes().values()):
        return False
    if preset and not recipe:
        asked.problem("preset", "a preset is a version of a recipe, and there is none; name the recipe, or remove the preset")
        return False
    if preset and preset not in catalog.recipes()[recipe].presets:
        asked.problem("preset", unknown_name("preset", preset, catalog.recipes()[recipe].presets))
        return False
    missing = [name for name in REQUIRED if not asked.get(name)]
    if missing:
        who = "the arm" if asked.base[:1] == ("arm",) else "the run"
        remedy = "give it in [run], [grid] or the arm" if recipe else "give them in [run], or name a recipe there"
        asked.problems.append(Problem(asked.document.place(asked.base), f"{who} lacks {', '.join(missing)}; {remedy}"))
    unnamed = [kind for kind in COMPONENTS if kind not in missing and "name" not in asked.get(kind)]
    for kind in unnamed:
        asked.problem(kind, f'the {kind} has options but no name; write {kind} = {{ name = "...", ... }}')
    return not missing and not unnamed
