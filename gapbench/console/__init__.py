"""What people see in a terminal: live views of a running suite, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapbench.core.late import late_imports

if TYPE_CHECKING:
    from gapbench.console.comparing import print_comparison, print_comparison_failures
    from gapbench.console.live import LineView, LiveView, Region, View, view
    from gapbench.console.status import print_failures, print_status, status_lines
    from gapbench.console.tables import (
        print_analysis,
        print_arms,
        print_bench,
        print_bench_cases,
        print_data_files,
        print_files,
        print_findings,
        print_leftovers,
        print_listing,
        print_merged,
        print_plan,
        print_side_tables,
        print_took,
        print_unfinished,
        print_warnings,
    )
    from gapbench.console.tuning import print_tuned_suite, print_tuning, print_tuning_plan, print_untuned
    from gapbench.console.words import LastingConsole

__all__ = [
    "LastingConsole",
    "LineView",
    "LiveView",
    "Region",
    "View",
    "print_analysis",
    "print_arms",
    "print_bench",
    "print_bench_cases",
    "print_comparison",
    "print_comparison_failures",
    "print_data_files",
    "print_failures",
    "print_files",
    "print_findings",
    "print_leftovers",
    "print_listing",
    "print_merged",
    "print_plan",
    "print_side_tables",
    "print_status",
    "print_took",
    "print_tuned_suite",
    "print_tuning",
    "print_tuning_plan",
    "print_unfinished",
    "print_untuned",
    "print_warnings",
    "status_lines",
    "view",
]

__getattr__ = late_imports(__name__, __file__)
