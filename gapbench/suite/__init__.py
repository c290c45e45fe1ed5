"""From a suite file to a validated Suite and its ordered RunSpecs with stable ids.

suite = load_suite("quickstart")
for run in suite.runs:
    print(run.run_id, run.labels.cell, run.spec.updates)
"""

from __future__ import annotations

from gapbench.suite.load import Suite, load_suite
from gapbench.suite.plan import DroppedRun
from gapbench.suite.runspec import Component, Labels, Normalization, Phase, PlannedRun, RunSpec, run_id
from gapbench.suite.source import find_suite, shipped_suites

__all__ = [
    "Component",
    "DroppedRun",
    "Labels",
    "Normalization",
    "Phase",
    "PlannedRun",
    "RunSpec",
    "Suite",
    "find_suite",
    "load_suite",
    "run_id",
    "shipped_suites",
]
