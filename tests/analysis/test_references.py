"""Cells that a suite holds against another cell than the reference cell."""

from __future__ import annotations

from types import ModuleType

import pandas as pd
import pytest

from gapbench.analysis import ArmsTable, arms_table
from gapbench.analysis.formats import AT, VERDICT
from tests.analysis.synthetic import row_of

CELLS = {
    "SB": (16, 0.98, "", True),
    "LB": (512, 0.95, "", False),
    "SB no clip": (16, 0.97, "", True),
    "LB no clip": (512, 0.96, "SB no clip", False),
    "LB+LR no clip": (512, 0.965, "SB no clip", False),
    "LB+noise": (512, 0.955, "", False),
}


@pytest.fixture
def table(synthetic: ModuleType) -> ArmsTable:
    rows = []
    for order, (name, (batch, accuracy, reference, marked)) in enumerate(CELLS.items()):
        regime = {"LB+LR no clip": "sqrt-lr", "LB+noise": "noise"}.get(name, "baseline")
        for seed in range(6):
            value = accuracy + 0.001 * ((3 * seed + order * (seed + 1)) % 7 - 3)
            rows.append(synthetic.run_row(
                name, seed, cell_order=order, batch_size=batch, test_accuracy=value, reference=reference, reference_cell=marked,
                regime=regime, learning_rate_rule="sqrt" if regime == "sqrt-lr" else "untouched", updates=26992 // batch,
                planned_updates=26992 // batch,
            ))  # fmt: skip
    return arms_table(pd.DataFrame(rows), pd.DataFrame(columns=["run_id", "update", "examples", "metric", "layer", "value"]))


def test_a_gap_is_against_the_cell_that_the_suite_names(table: ArmsTable) -> None:
    gap = row_of(table, "LB no clip").batch_gap
    assert gap.estimate == pytest.approx(1.0, abs=0.2)
    assert {name: found.name for name in CELLS if (found := row_of(table, name).reference)} == {
        "SB": "SB", "LB": "SB", "SB no clip": "SB", "LB no clip": "SB no clip", "LB+LR no clip": "SB no clip", "LB+noise": "SB",
    }  # fmt: skip


def test_the_named_cell_is_itself_held_against_the_one_reference_cell(table: ArmsTable) -> None:
    assert [row.cell.name for row in table.rows if row.verdict == "reference"] == ["SB"]
    assert row_of(table, "SB no clip").verdict == "below reference"


def test_a_share_is_of_the_gap_to_the_same_reference(table: ArmsTable) -> None:
    assert row_of(table, "LB+LR no clip").share_baseline == "LB no clip"
    assert row_of(table, "LB no clip").share_closed is None
    assert row_of(table, "LB+noise").share_baseline == "LB"


def test_tables_name_the_other_reference(table: ArmsTable) -> None:
    texts = table.cells(row_of(table, "LB no clip"), (AT, VERDICT))
    assert texts == ("equal examples; untouched; against SB no clip", "below SB no clip")
    assert table.cells(row_of(table, "LB"), (VERDICT,)) == ("below reference",)
    assert "Not against the reference cell are held LB no clip and LB+LR no clip (against SB no clip)." in table.notes


def test_the_untouched_baseline_of_the_verdict_is_held_against_the_reference_cell(table: ArmsTable) -> None:
    answer = table.verdict[0]
    assert "batch 512 (LB) loses" in answer
    assert "against batch 16 (SB) (" in answer


def test_sentences_name_a_regime_that_its_parts_do_not_say(table: ArmsTable) -> None:
    said = " ".join(table.verdict)
    assert "With the regime noise, LB+noise " in said
    assert " and ," not in said
    assert "  " not in said
