"""Presets held against each other arm by arm, and what the momentum reset costs."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from gapbench.analysis import side_tables
from gapbench.analysis.rows import SideTable


def tables_of(runs: object) -> dict[str, SideTable]:
    return {table.name: table for table in side_tables(runs)}  # type: ignore[arg-type]


def percentages(runs: object, cell: str) -> np.ndarray:
    return 100 * runs[runs["cell"] == cell]["test_accuracy"].to_numpy(dtype=float)  # type: ignore[index]


def test_a_suite_of_one_preset_and_no_reset_has_no_side_tables(synthetic: ModuleType) -> None:
    for runs, _ in (synthetic.digits_suite(2), synthetic.grid_suite(2)):
        assert side_tables(runs) == ()
        assert side_tables(runs.drop(columns="momentum_reset")) == ()  # tables of an older version


def test_presets_are_compared_arm_by_arm_by_welchs_interval(synthetic: ModuleType) -> None:
    runs, _ = synthetic.preset_suite()
    table = tables_of(runs)["presets"]
    assert [(record["arm"], record["verdict"]) for record in table.records] == [("SB", "not separated"), ("LB", "lower")]
    expected = stats.ttest_ind(percentages(runs, "LB, code"), percentages(runs, "LB, paper"), equal_var=False)
    low, high = expected.confidence_interval(0.95)
    record = table.records[1]
    found = (record["preset_change_pp"], record["preset_change_pp_low"], record["preset_change_pp_high"])
    assert found == pytest.approx((percentages(runs, "LB, code").mean() - percentages(runs, "LB, paper").mean(), low, high))
    assert record["preset_change_p_holm"] == pytest.approx(2 * expected.pvalue)  # the smaller of two
    assert (record["preset_change_method"], record["preset_change_n"]) == ("welch", 5)
    assert table.columns[2:4] == ("paper, %", "code, %")


def test_what_a_preset_does_to_the_batch_gap_is_a_difference_of_differences(synthetic: ModuleType) -> None:
    runs, _ = synthetic.preset_suite()
    small, large = tables_of(runs)["presets"].records
    means = {name: percentages(runs, name).mean() for name in ("SB, paper", "SB, code", "LB, paper", "LB, code")}
    expected = (means["SB, code"] - means["LB, code"]) - (means["SB, paper"] - means["LB, paper"])
    assert large["batch_gap_change_pp"] == pytest.approx(expected)
    assert large["batch_gap_change_pp_low"] < expected < large["batch_gap_change_pp_high"]
    assert small["batch_gap_change_pp"] is None


def test_the_words_name_both_presets_the_size_and_the_interval(synthetic: ModuleType) -> None:
    lines = tables_of(synthetic.preset_suite()[0])["presets"].sentences
    assert lines[0].startswith("SB: preset code is not separated from paper (")
    assert lines[1].startswith("LB: preset code reaches 2.")
    assert " pp less than paper (95 % interval 1." in lines[1]
    assert "; n = 5)" in lines[1]
    assert lines[2].startswith("The batch gap of LB is ")
    assert " pp in preset code: " in lines[2]
    assert " pp more (95 % interval " in lines[2]


def test_the_notes_say_what_the_recipes_presets_differ_in(synthetic: ModuleType) -> None:
    notes = tables_of(synthetic.preset_suite()[0])["presets"].notes
    assert notes[1] == "In the recipe digits, preset code differs from paper in budget, momentum_reset, scaling_batch_size, tail."


def test_the_reset_is_held_against_none_and_against_none_at_matched_gain(synthetic: ModuleType) -> None:
    runs, _ = synthetic.preset_suite()
    (record,) = tables_of(runs)["momentum_reset"].records
    assert (record["cell"], record["batch_size"], record["preset"]) == ("LB, code", 1024, "code")
    assert (record["reset_cost_verdict"], record["matched_gain_verdict"]) == ("costs", "not separated")
    cost = percentages(runs, "no reset, B 1024").mean() - percentages(runs, "LB, code").mean()
    gap = percentages(runs, "SB, code").mean() - percentages(runs, "LB, code").mean()
    assert (record["reset_cost_pp"], record["reset_share"]) == pytest.approx((cost, cost / gap))
    assert record["reset_share_low"] < record["reset_share"] < record["reset_share_high"]


def test_the_resets_words_say_cost_share_and_control(synthetic: ModuleType) -> None:
    (line,) = tables_of(synthetic.preset_suite()[0])["momentum_reset"].sentences
    assert line.startswith("At batch 1024 (LB, code) the momentum reset costs 2.")
    assert " % (" in line
    assert " of the batch gap; without reset at matched gain is not separated from it (" in line
    assert line.endswith("so these runs do not tell the reset from a lower rate.")


def test_a_cell_with_a_missing_seed_gets_no_verdict(synthetic: ModuleType) -> None:
    found = tables_of(synthetic.preset_suite(missing=[("LB, code", 2)])[0])
    assert found["presets"].records[1]["verdict"] == "no verdict (LB, code: 4 ok of 5, 1 not started)"
    assert found["momentum_reset"].records[0]["reset_cost_verdict"] == "no verdict (LB, code: 4 ok of 5, 1 not started)"
    assert found["momentum_reset"].sentences == (
        "At batch 1024 (LB, code) there is no verdict (LB, code: 4 ok of 5, 1 not started) on the momentum reset.",
    )


def test_one_seed_has_no_interval_and_no_verdict(synthetic: ModuleType) -> None:
    found = tables_of(synthetic.preset_suite(1)[0])
    assert {record["verdict"] for record in found["presets"].records} == {"no verdict (one seed)"}
    assert found["presets"].sentences == ("No arm has a verdict on the preset yet.",)
    assert {record["preset_change_pp_low"] for record in found["presets"].records} == {None}
