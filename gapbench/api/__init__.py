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
    from gapbench.api.analyzing import Analysis as Analysis, analyze as analyze
    from gapbench.api.benching import bench as bench, bench_cases as bench_cases
    from gapbench.api.checkup import Finding as Finding, doctor as doctor
    from gapbench.api.comparing import compare as compare, comparison_failures as comparison_failures, write_comparison as write_comparison
    from gapbench.api.components import (
        ConformityReport as ConformityReport,
        Listed as Listed,
        check_components as check_components,
        fetch_dataset as fetch_dataset,
        kinds as kinds,
        listing as listing,
        names as names,
        verify_dataset as verify_dataset,
    )
    from gapbench.api.keeping import (
        clean as clean,
        find as find,
        find_leftovers as find_leftovers,
        load_results as load_results,
        merge as merge,
        to_frame as to_frame,
    )
    from gapbench.api.place import Place as Place
    from gapbench.api.planning import Plan as Plan, PlannedCell as PlannedCell, plan as plan
    from gapbench.api.reporting import Exported as Exported, export as export, figures as figures, report as report
    from gapbench.api.running import RunReport as RunReport, Took as Took, calibrate as calibrate, run as run
    from gapbench.api.starter import starter_suite as starter_suite, suite_schema as suite_schema, write_suite_schema as write_suite_schema
    from gapbench.api.state import (
        CellStatus as CellStatus,
        FailedRun as FailedRun,
        RunStatus as RunStatus,
        Status as Status,
        status as status,
    )
    from gapbench.api.tuning import (
        PlannedSpace as PlannedSpace,
        TuneReport as TuneReport,
        TuningPlan as TuningPlan,
        plan_tuning as plan_tuning,
        tune as tune,
    )
    from gapbench.suite import load_suite as load_suite

__getattr__, __all__ = late_imports(__name__, __file__)
