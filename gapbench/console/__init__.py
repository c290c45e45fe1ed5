"""What people see in a terminal: live views of a running suite, and tables."""

from __future__ import annotations

from gapbench.console.bench import print_bench, print_bench_cases
from gapbench.console.live import LineView, LiveView, View, view
from gapbench.console.tables import (
    print_arms,
    print_data_files,
    print_files,
    print_findings,
    print_leftovers,
    print_listing,
    print_plan,
    print_status,
    print_unfinished,
    print_warnings,
)

__all__ = [
    "LineView",
    "LiveView",
    "View",
    "print_arms",
    "print_bench",
    "print_bench_cases",
    "print_data_files",
    "print_files",
    "print_findings",
    "print_leftovers",
    "print_listing",
    "print_plan",
    "print_status",
    "print_unfinished",
    "print_warnings",
    "view",
]
