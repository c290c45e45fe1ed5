"""Which cell of one suite is which cell of another: by label and values, else by values, else by label with other values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gapbench.suite.cell_values import CellValues, differing


@dataclass(frozen=True)
class Matched:
    """A cell that both results have."""

    first: str
    """Its label in A."""
    second: str
    """Its label in B."""
    values: Mapping[str, tuple[str, str]]
    """Effective values in which they differ, by key; empty where they are one cell."""


@dataclass(frozen=True)
class Matching:
    """The cells of two suites side by side."""

    both: tuple[Matched, ...]
    """In the order of A."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def match(first: Mapping[str, CellValues], second: Mapping[str, CellValues]) -> Matching:
    """Returns which cells are one, each matched at most once.

    Those of equal label and values come first, then those of equal values under another label, then those of equal label on the same
    data set, whose values differ in something else.
    """
    pairs: dict[str, str] = {}
    free = dict(second)

    def take(name: str, other: str) -> None:
        pairs[name] = other
        del free[other]

    for name, values in first.items():
        if name in free and free[name] == values:
            take(name, name)
    for name, values in first.items():
        equal = [other for other, its_values in free.items() if its_values == values]
        if name not in pairs and equal:
            take(name, equal[0])
    for name, values in first.items():
        if name not in pairs and name in free and free[name]["dataset"] == values["dataset"]:
            take(name, name)
    both = tuple(Matched(name, pairs[name], differing(first[name], second[pairs[name]])) for name in first if name in pairs)
    return Matching(both, tuple(name for name in first if name not in pairs), tuple(free))
