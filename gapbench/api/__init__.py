"""The notebook's view of gapbench, and all that the command line calls.

    from gapbench import api

    api.run("quickstart")
    runs = api.load_results("results/quickstart").runs

Nothing here imports torch; pandas only where tables are returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapbench.core.late import late_imports

if TYPE_CHECKING:
    from gapbench.api.analyzing import Analysis, analyze
    from gapbench.api.benching import bench, bench_cases
    from gapbench.api.checkup import Finding, doctor
    from gapbench.api.comparing import compare, comparison_failures, write_comparison
    from gapbench.api.conformity import ConformityReport, check_components
    from gapbench.api.exporting import Exported, export
    from gapbench.api.inventory import Listed, fetch_dataset, kinds, listing, names, verify_dataset
    from gapbench.api.keeping import clean, find, find_leftovers, load_results, merge, to_frame
    from gapbench.api.place import Place
    from gapbench.api.planning import Plan, PlannedCell, plan
    from gapbench.api.reporting import figures, report
    from gapbench.api.running import RunReport, Took, calibrate, run
    from gapbench.api.starter import starter_suite, suite_schema, write_suite_schema
    from gapbench.api.state import CellStatus, FailedRun, RunStatus, Status, status
    from gapbench.api.tuning import PlannedSpace, TuneReport, TuningPlan, plan_tuning, tune
    from gapbench.suite import load_suite

__all__ = [
    "Analysis",
    "CellStatus",
    "ConformityReport",
    "Exported",
    "FailedRun",
    "Finding",
    "Listed",
    "Place",
    "Plan",
    "PlannedCell",
    "PlannedSpace",
    "RunReport",
    "RunStatus",
    "Status",
    "Took",
    "TuneReport",
    "TuningPlan",
    "analyze",
    "bench",
    "bench_cases",
    "calibrate",
    "check_components",
    "clean",
    "compare",
    "comparison_failures",
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
    "merge",
    "names",
    "plan",
    "plan_tuning",
    "report",
    "run",
    "starter_suite",
    "status",
    "suite_schema",
    "to_frame",
    "tune",
    "verify_dataset",
    "write_comparison",
    "write_suite_schema",
]

__getattr__ = late_imports(__name__, __file__)
