"""The notebook's view of gapbench, and all that the command line calls.

    from gapbench import api

    api.run("quickstart")
    runs = api.load_results("results/quickstart").runs

Nothing here imports torch; pandas only where tables are returned.
"""

from __future__ import annotations

from gapbench.api.checkup import Finding, doctor
from gapbench.api.keeping import CellStatus, Status, clean, export, find, find_leftovers, load_results, report, status
from gapbench.api.listing import Listed, kinds, listing, names
from gapbench.api.planning import Plan, PlannedCell, plan
from gapbench.api.running import RunReport, run
from gapbench.api.starter import starter_suite
from gapbench.api.suite_schema import suite_schema, write_suite_schema
from gapbench.api.workloads import fetch_dataset, verify_dataset
from gapbench.suite import load_suite

__all__ = [
    "CellStatus",
    "Finding",
    "Listed",
    "Plan",
    "PlannedCell",
    "RunReport",
    "Status",
    "clean",
    "doctor",
    "export",
    "fetch_dataset",
    "find",
    "find_leftovers",
    "kinds",
    "listing",
    "load_results",
    "load_suite",
    "names",
    "plan",
    "report",
    "run",
    "starter_suite",
    "status",
    "suite_schema",
    "verify_dataset",
    "write_suite_schema",
]
