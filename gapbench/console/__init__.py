"""What people see in a terminal: live views of a running suite, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapbench.core.late import late_imports

if TYPE_CHECKING:
    from gapbench.console.comparing import print_comparison, print_comparison_failures
    from gapbench.console.lists import (
        print_analysis,
        print_bench,
        print_bench_cases,
        print_conformity,
        print_data_files,
        print_findings,
        print_leftovers,
        print_listing,
        print_merged,
    )
    from gapbench.console.live import LineView, LiveView, Region, view, watch_status
    from gapbench.console.plans import print_plan, print_tuning_plan
    from gapbench.console.results import (
        print_arms,
        print_report,
        print_side_tables,
        print_took,
        print_tuned_suite,
        print_unfinished,
        print_untuned,
    )
    from gapbench.console.status import print_status
    from gapbench.console.words import LastingConsole, count, err, out, say, size, tell

__all__ = [
    "LastingConsole",
    "LineView",
    "LiveView",
    "Region",
    "count",
    "err",
    "out",
    "print_analysis",
    "print_arms",
    "print_bench",
    "print_bench_cases",
    "print_comparison",
    "print_comparison_failures",
    "print_conformity",
    "print_data_files",
    "print_findings",
    "print_leftovers",
    "print_listing",
    "print_merged",
    "print_plan",
    "print_report",
    "print_side_tables",
    "print_status",
    "print_took",
    "print_tuned_suite",
    "print_tuning_plan",
    "print_unfinished",
    "print_untuned",
    "say",
    "size",
    "tell",
    "view",
    "watch_status",
]

__getattr__ = late_imports(__name__, __file__)
