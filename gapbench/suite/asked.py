"""Asked: the settings of one run, with a way to say where in the suite something is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gapbench.core.errors import Problem
from gapbench.suite.layers import Settings
from gapbench.suite.locate import KeyPath
from gapbench.suite.source import Document


@dataclass(frozen=True)
class Asked:
    """What a suite asks of one run, and where to complain about it."""

    settings: Settings
    """All layers, recipe and preset included."""
    base: KeyPath
    """The [[arm]] or section that the run comes from, for mistakes that have no other place."""
    document: Document
    problems: list[Problem]
    cell: str
    """Name of its cell, for warnings."""
    no_effect: list[tuple[str, str]]
    """Warnings, as (what, cell), of settings that change nothing."""

    def get(self, field: str, default: Any = None) -> Any:
        """Returns a field's value."""
        return self.settings.get(field, default)

    def number(self, field: str, word: str) -> float | None:
        """Returns a number, or None where the word stands for none (also where the field is not set)."""
        value = self.get(field, word)
        return None if value == word else value

    def problem(self, field: str, message: str, option: str = "") -> None:
        """Adds a mistake in a field, or in an option of a component."""
        path = self.settings.option_place(field, option) if option else self.settings.place(field)
        self.problems.append(Problem(self.document.place(path or self.base), message))
