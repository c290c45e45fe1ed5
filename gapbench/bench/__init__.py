"""How fast the engine is, against loops that people would run instead, side by side on one machine.

`compare` times; `CASES` says what. A timing is a fresh process (`measure`), which first has to pass a gate (`gate`): all sides of a case
make the same first losses. Sides take turns, round after round; every timing is kept (`records`), and a later start goes on from there.
"""

from __future__ import annotations

from gapbench.bench.cases import CASES, Case, Comparison, Side
from gapbench.bench.compare import ROUNDS, compare, unmeasurable
from gapbench.bench.summary import BenchReport, Missing, Row, goals_of

__all__ = ["CASES", "ROUNDS", "BenchReport", "Case", "Comparison", "Missing", "Row", "Side", "compare", "goals_of", "unmeasurable"]
