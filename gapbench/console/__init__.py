"""What people see in a terminal: live views of a running suite, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapbench.core.late import late_imports

if TYPE_CHECKING:
    from gapbench.console.comparing import print_comparison as print_comparison, print_comparison_failures as print_comparison_failures
    from gapbench.console.lists import (
        print_analysis as print_analysis,
        print_bench as print_bench,
        print_bench_cases as print_bench_cases,
        print_conformity as print_conformity,
        print_data_files as print_data_files,
        print_findings as print_findings,
        print_leftovers as print_leftovers,
        print_listing as print_listing,
        print_merged as print_merged,
    )
    from gapbench.console.live import view as view, watch_status as watch_status
    from gapbench.console.plans import print_plan as print_plan, print_tuning_plan as print_tuning_plan
    from gapbench.console.results import (
        print_report as print_report,
        print_took as print_took,
        print_tuned_suite as print_tuned_suite,
        print_unfinished as print_unfinished,
        print_untuned as print_untuned,
    )
    from gapbench.console.status import print_status as print_status
    from gapbench.console.words import count as count, err as err, out as out, say as say, size as size, tell as tell

__getattr__, __all__ = late_imports(__name__, __file__)
