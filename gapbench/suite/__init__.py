"""From a suite file to a validated Suite and its ordered RunSpecs with stable ids.

suite = load_suite("quickstart")
for run in suite.runs:
    print(run.run_id, run.labels.cell, run.spec.updates)
"""

from __future__ import annotations

from gapbench.suite.load import Suite as Suite, load_suite as load_suite
from gapbench.suite.plan import DroppedRun as DroppedRun
from gapbench.suite.runspec import (
    Component as Component,
    Labels as Labels,
    Normalization as Normalization,
    Phase as Phase,
    PlannedRun as PlannedRun,
    RunSpec as RunSpec,
    run_id as run_id,
)
from gapbench.suite.source import find_suite as find_suite, shipped_suites as shipped_suites
