"""From the settings of one run to its RunSpec, with every mistake in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from gapbench import catalog
from gapbench.catalog import RegimeEntry
from gapbench.core.errors import Problem
from gapbench.core.registry import unknown_name
from gapbench.suite import adaptive, controls, fields, growth
from gapbench.suite.asked import REQUIRED, Asked
from gapbench.suite.layers import Layer, Settings, Unknown
from gapbench.suite.locate import KeyPath
from gapbench.suite.regime import regime_of
from gapbench.suite.runspec import RunSpec
from gapbench.suite.schema import SEEDS
from gapbench.suite.source import COMPONENTS, Document
from gapbench.suite.workload import check_augmentation, check_model, check_optimizer, component, facts_of, sizes

T = TypeVar("T")
_SEEDS = frozenset(SEEDS)


@dataclass(frozen=True)
class Resolver:
    """Resolves the runs of one suite; mistakes are added to `problems`."""

    document: Document
    regimes: Mapping[str, RegimeEntry | None]
    problems: list[Problem]
    no_effect: list[tuple[str, str]]
    """Warnings, as (what, cell), of settings that change nothing."""
    misfits: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """By place and ghost batch size: the batch sizes that it does not divide. Many runs, one mistake: `add_misfits` adds it."""
    _sound: dict[str, tuple[tuple[Layer, ...], RunSpec]] = field(default_factory=dict, init=False)
    """By cell: the last run without mistakes, and its layers but those of seeds."""

    def resolve(self, settings: Settings, base: KeyPath, cell: str) -> RunSpec | None:
        """Returns the spec of a run, or None where it is mistaken or holds unknown values.

        Each step is taken as far as its values are known, so that one mistake hides no other.

        Args:
            settings: all its layers, recipe and preset included.
            base: the [[arm]] or section that it comes from, for mistakes that have no other place.
            cell: its name, for warnings.
        """
        before = len(self.problems)
        asked = Asked(settings, base, self.document, self.problems, cell, self.no_effect, self.misfits)
        layers = tuple(layer for layer in settings.layers if not layer.fields.keys() <= _SEEDS)
        if settings.sound and cell in self._sound and self._sound[cell][0] == layers:  # only its seed is another
            return self._sound[cell][1].model_copy(update=fields.seeds(asked, self._sound[cell][1].dataset))
        parts = self._parts(asked)
        if parts is None or len(self.problems) > before or not settings.sound:
            return None
        spec = RunSpec(**parts)
        self._sound[cell] = (layers, spec)
        return spec

    def add_misfits(self) -> None:
        """Adds the mistakes of ghost batch sizes, one for each place."""
        self.problems.extend(Problem(place, fields.misfit(size, batches)) for (place, size), batches in sorted(self.misfits.items()))

    def _parts(self, asked: Asked) -> dict[str, Any] | None:
        """Returns the fields of the spec, or None where some are not known."""
        _attempt(_check_preset, asked)
        _check_required(asked)
        dataset, model, optimizer = (_attempt(component, asked, kind) for kind in COMPONENTS)
        regime = _attempt(regime_of, asked.settings, self.regimes)
        facts = _attempt(facts_of, asked, dataset)
        examples, tests = _attempt(sizes, asked, dataset, facts) or (None, None)
        _attempt(check_model, asked, _attempt(fields.cropped, asked, facts))
        _attempt(check_optimizer, asked, optimizer)
        for name in ("crop_padding", "crop_size", "crop_scale", "flip"):
            _attempt(check_augmentation, asked, name, facts)
        for name in ("batch_size", "reference_batch_size"):
            _attempt(fields.check_batch, asked, name, examples)
        phases = _attempt(growth.phases_of, asked, regime, examples or 0)
        ghost = _attempt(fields.ghost, asked, regime, model, phases, examples or 0)
        numbers = _attempt(partial(fields.numbers, model=model, optimizer=optimizer), asked, regime, phases, examples, tests)
        schedule = _attempt(fields.schedule, asked, optimizer, phases)
        parts = [
            _attempt(fields.plain, asked, model),
            ghost,
            _attempt(adaptive.rule_of, asked, regime, model, ghost, examples),
            numbers,
            schedule,
            _attempt(controls.decay, asked, regime, numbers, schedule),
            _attempt(controls.controls, asked, regime, model, numbers, examples),
            _attempt(fields.inputs, asked, facts),
            _attempt(fields.norm, asked, model, ghost),
            _attempt(fields.seeds, asked, dataset),
        ]
        found = {"dataset": dataset, "model": model, "optimizer": optimizer, "train_examples": examples}
        for part in parts:
            if part is None:
                return None
            found.update(part)
        return None if None in (dataset, model, optimizer, examples) else found


def _attempt(step: Callable[..., T], *values: Any) -> T | None:
    """Returns what a step comes to, or None where it needs what an earlier step did not find or a value that is unknown."""
    if any(value is None for value in values):
        return None
    try:
        return step(*values)
    except Unknown:
        return None


def _check_preset(asked: Asked) -> None:
    """Adds a mistake where the preset is none of the recipe's. One that no recipe has was said where it is written."""
    recipe, preset = asked.get("recipe", ""), asked.get("preset", "")
    if preset and not recipe:
        asked.problem("preset", "a preset is a version of a recipe, and there is none; name the recipe, or remove the preset")
    elif preset and recipe in catalog.recipes():
        presets = catalog.recipes()[recipe].presets
        if preset not in presets and any(preset in known.presets for known in catalog.recipes().values()):
            asked.problem("preset", unknown_name("preset", preset, presets))


def _check_required(asked: Asked) -> None:
    """Adds a mistake that lists what a run needs and does not have."""
    missing = [name for name in REQUIRED if asked.lacks(name)]
    if missing and asked.lacks("recipe") and not asked.lacks("preset"):
        pass  # the recipe that the preset is of has them
    elif missing:
        who = "the arm" if asked.base[:1] == ("arm",) else "the run"
        remedy = "give them in [run], or name a recipe there" if asked.lacks("recipe") else "give it in [run], [grid] or the arm"
        asked.problems.append(Problem(asked.document.place(asked.base), f"{who} lacks {', '.join(missing)}; {remedy}"))
    for kind in COMPONENTS:
        if kind not in missing:
            _attempt(_check_named, asked, kind)


def _check_named(asked: Asked, kind: str) -> None:
    if "name" not in asked.get(kind):
        asked.problem(kind, f'the {kind} has options but no name; write {kind} = {{ name = "...", ... }}')
