"""The notebook's view of gapbench, and all that the command line calls.

    from gapbench import api

    api.run("quickstart")
    runs = api.load_results("results/quickstart").runs

Nothing here imports torch; pandas only where tables are returned.
"""

from __future__ import annotations

from gapbench.api.checkup import Finding, doctor
from gapbench.api.conformity import ConformityReport, check_components
from gapbench.api.frames import to_frame
from gapbench.api.keeping import CellStatus, Status, clean, export, figures, find, find_leftovers, load_results, report, status
from gapbench.api.listing import Listed, kinds, listing, names
from gapbench.api.planning import Plan, PlannedCell, plan
from gapbench.api.running import RunReport, run
from gapbench.api.starter import starter_suite
from gapbench.api.workloads import fetch_dataset, verify_dataset
from gapbench.suite import load_suite

__all__ = [
    "CellStatus",
    "ConformityReport",
    "Finding",
    "Listed",
    "Plan",
    "PlannedCell",
    "RunReport",
    "Status",
    "check_components",
    "clean",
    "doctor",
    "export",
    "fetch_dataset",
    "figures",
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
    "to_frame",
    "verify_dataset",
]
