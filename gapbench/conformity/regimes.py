"""Checks of a regime: it resolves for small and large batches, and its schedule is one that can train."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from gapbench.conformity.sheet import Answer, Check, Step, failed, listed, make_checks, passed, warned
from gapbench.core.errors import SuiteError
from gapbench.optimizers import schedule
from gapbench.suite import load_suite
from gapbench.suite.runspec import RunSpec

BATCH_SIZES = (8, 16, 32, 128, 512)
REFERENCE = 16
"""The reference batch size of the recipe `digits`, which regimes are tried on."""


def check_regime(name: str) -> list[Check]:
    """Returns the checks of a regime."""
    found: dict[int, RunSpec] = {}
    baseline = _resolve("baseline")

    def resolves() -> Answer:
        try:
            found.update(_resolve(name))
        except SuiteError as error:
            return failed(error.problems[0].message, "widen the budget, or correct the fields that it returns")
        return passed(f"on the recipe digits at batch sizes {listed([str(size) for size in BATCH_SIZES])}")

    steps = (
        Step("resolves", resolves, needed="it does not resolve"),
        Step("schedule", lambda: _schedule(found)),
        Step("reference batch size", lambda: _reference(found[REFERENCE], baseline[REFERENCE])),
        Step("adapts", lambda: _adapts(found, baseline, name)),
    )
    return make_checks("regime", name, steps)


def _resolve(name: str) -> dict[int, RunSpec]:
    text = (
        f'schema = 1\nname = "conformity"\n[run]\nrecipe = "digits"\nregime = {json.dumps(name)}\n'
        'model = { norm = "none" }\n'  # so that no regime asks for a ghost batch size
        f"[grid]\nbatch_size = {list(BATCH_SIZES)}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conformity.toml"
        path.write_text(text, encoding="utf-8")
        return {planned.spec.batch_size: planned.spec for planned in load_suite(path).runs}


def _schedule(specs: dict[int, RunSpec]) -> Answer:
    rates = {size: schedule(spec).learning_rate for size, spec in specs.items()}
    for size, table in rates.items():
        if not np.isfinite(table).all() or (table < 0).any() or not (table > 0).any():
            return failed(f"at batch size {size} the learning rate is not always finite and positive", "correct scaling or warmup")
    shown = [f"{table.max():.3g}" for table in rates.values()]
    return passed(f"peak rates {', '.join(shown)}; updates {', '.join(str(spec.updates) for spec in specs.values())}")


def _reference(spec: RunSpec, baseline: RunSpec) -> Answer:
    if (spec.learning_rate, spec.updates) == (baseline.learning_rate, baseline.updates):
        return passed("there it trains as the recipe says")
    own, recipe = (f"{one.updates:,} updates at rate {one.learning_rate:.3g}" for one in (spec, baseline))
    return warned(
        f"there it trains {own}, the recipe {recipe}",
        "say so in its summary: the reference cell of a report stays the baseline's",
    )


def _adapts(specs: dict[int, RunSpec], baseline: dict[int, RunSpec], name: str) -> Answer:
    changed = [size for size in BATCH_SIZES if specs[size] != baseline[size]]
    if name == "baseline":
        return passed("the baseline adapts nothing, on purpose")
    if not changed:
        return warned("it trains every batch size as the baseline does", "give it a learning_rate_scaling, a warmup or a budget")
    return passed(f"differs from the baseline at batch sizes {listed([str(size) for size in changed])}")
