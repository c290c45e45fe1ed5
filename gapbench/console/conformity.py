"""What testing components came to, for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gapbench.console.words import count

if TYPE_CHECKING:
    from gapbench.conformity import Check

_STYLES = {"pass": "green", "fail": "red", "warning": "yellow", "does not apply": "dim"}


def print_conformity(console: Console, checks: Sequence[Check]) -> None:
    """Prints the checks of every component, with the remedies, and how many failed."""
    for (kind, component), own in groupby(checks, lambda check: (check.kind, check.component)):
        console.print(f"{kind} [bold]{escape(component)}[/bold]", highlight=False)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for check in own:
            remedy = f"\n-> {check.remedy}" if check.remedy else ""
            table.add_row(Text(check.state, style=_STYLES[check.state]), escape(check.check), Text(check.text + remedy))
        console.print(table)
        console.print()
    numbers = {state: sum(check.state == state for check in checks) for state in _STYLES}
    parts = [f"{count(numbers['fail'], 'check')} failed" if numbers["fail"] else "no check failed", f"{numbers['pass']} passed"]
    parts += [count(numbers["warning"], "warning")] if numbers["warning"] else []
    parts += [f"{numbers['does not apply']} did not apply"] if numbers["does not apply"] else []
    console.print(", ".join(parts), style="red" if numbers["fail"] else "", highlight=False)
