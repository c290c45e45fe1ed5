"""With what and on what runs were trained, from the provenance columns of `runs.parquet`: what differs between results or within one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "gapbench_version": "gapbench",
    "torch_version": "torch",
    "python_version": "Python",
    "git_commit": "git commit",
    "device": "device",
    "device_name": "device name",
    "precision": "precision",
    "threads": "threads",
    "slots": "jobs at a time",
    "replicas": "runs a stack",
    "program": "program",
}
"""Columns that say with what a run was trained, and what people call them."""

MACHINE = ("gapbench_version", "torch_version", "device", "device_name", "threads")
"""Columns whose mixture within one results directory is a warning. A commit may change while a suite trains and mean nothing."""

SHORT_COMMIT = 10


@dataclass(frozen=True)
class EnvironmentLine:
    """One property of the environment in two results."""

    name: str
    first: str
    """Its value; where runs differ, every value with the number of runs."""
    second: str

    @property
    def differs(self) -> bool:
        """Whether the two results have other values."""
        return self.first != self.second


def environment_lines(first: pd.DataFrame, second: pd.DataFrame) -> tuple[EnvironmentLine, ...]:
    """Returns every property of NAMES in two runs tables, of the runs that were trained.

    A property differs where its set of values does; how many runs have each is only said.
    """
    lines = []
    for column, name in NAMES.items():
        counts = [_counts(_trained(runs), column) for runs in (first, second)]
        texts = [_listed(count) for count in counts]
        same = set(counts[0]) == set(counts[1])
        lines.append(EnvironmentLine(name, texts[0], texts[0] if same else texts[1]))
    return tuple(lines)


def environment_notes(runs: pd.DataFrame) -> list[str]:
    """Returns a warning where the runs of one results directory were trained in several environments, as after merging; else nothing."""
    trained = _trained(runs)
    places = Counter(tuple(_word(column, row.get(column)) for column in MACHINE) for row in trained)
    if len(places) < 2:
        return []
    telling = [position for position in range(len(MACHINE)) if len({place[position] for place in places}) > 1]
    listed = [
        f"{', '.join(f'{NAMES[MACHINE[position]]} {place[position]}' for position in telling)} ({_runs(number)})"
        for place, number in places.most_common()
    ]
    return [
        f"The runs come from {len(places)} environments: {'; '.join(listed)}. Their seconds cannot be compared, and the "
        "numbers of a run may differ from one environment to another."
    ]


def _trained(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns a row for every run id that was ever begun; where a run has several labels, the first."""
    rows: dict[str, dict[str, Any]] = {}
    for row in runs.to_dict("records"):
        if not _missing(row.get("gapbench_version")) or not _missing(row.get("device")):
            rows.setdefault(str(row["run_id"]), {str(name): value for name, value in row.items()})
    return list(rows.values())


def _counts(rows: list[dict[str, Any]], column: str) -> Counter[str]:
    return Counter(_word(column, row.get(column)) for row in rows)


def _listed(counts: Counter[str]) -> str:
    if not counts:
        return "no run"
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({_runs(number)})" for value, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _word(column: str, value: Any) -> str:
    if _missing(value) or value == "":
        return "not recorded"
    if column == "device":
        return str(value).partition(":")[0]  # which of several equal devices it was changes nothing
    if column == "git_commit":
        return str(value)[:SHORT_COMMIT]
    return str(int(value)) if column in ("threads", "slots", "replicas") else str(value)


def _runs(number: int) -> str:
    return f"{number} run" + ("" if number == 1 else "s")


def _missing(value: Any) -> bool:
    import pandas as pd

    return value is None or bool(pd.isna(value))
