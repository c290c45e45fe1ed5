"""Asked: the settings of one run, with a way to say where in the suite something is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gapbench.core.errors import Problem
from gapbench.suite.layers import Settings, Unknown
from gapbench.suite.locate import KeyPath
from gapbench.suite.source import Document

REQUIRED = ("dataset", "model", "optimizer", "batch_size", "reference_batch_size", "epochs", "learning_rate")
"""Fields that every run needs, from wherever."""


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
    misfits: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """By place and ghost batch size: the batch sizes that it does not divide."""

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a field's value.

        Raises:
            Unknown: the value is mistaken where it is written, or is needed and lacks.
        """
        value = self.settings.get(name, default)
        if name in REQUIRED and not value:
            raise Unknown(name)
        return value

    def lacks(self, name: str) -> bool:
        """Returns whether a field is set nowhere."""
        try:
            return not self.settings.get(name)
        except Unknown:
            return False

    def number(self, name: str, word: str) -> float | None:
        """Returns a number, or None where the word stands for none (also where the field is not set)."""
        value = self.get(name, word)
        return None if value == word else value

    def problem(self, name: str, message: str, option: str = "") -> None:
        """Adds a mistake in a field, or in an option of a component."""
        self.problems.append(Problem(self.place(name, option), message))

    def place(self, name: str, option: str = "") -> str:
        """Returns where a field, or an option of a component, was written."""
        path = self.settings.option_place(name, option) if option else self.settings.place(name)
        return self.document.place(path or self.base)
