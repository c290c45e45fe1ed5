"""Planning counts the moments at which the engine looks at a run, without the engine."""

from __future__ import annotations

import pytest

from gapbench.cost.moments import evaluated, probed
from gapbench.engine import moments
from gapbench.suite.batches import uniform

UPDATES = [*range(1, 300), 732, 937, 1687, 6750, 23437, 39100, 164_000]


@pytest.mark.parametrize("evaluations", [1, 2, 4, 5, 6, 12, 20, 24, 41])
def test_evaluations_are_counted_as_the_engine_makes_them(evaluations: int) -> None:
    for updates in UPDATES:
        assert evaluated(updates, evaluations) == moments.evaluation_updates(uniform(16, updates), evaluations)


def test_probes_are_counted_as_the_engine_makes_them() -> None:
    for updates in UPDATES:
        assert probed(updates) == moments.probe_updates(updates)
