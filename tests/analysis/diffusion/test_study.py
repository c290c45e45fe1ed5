"""The whole analysis on walks that are known: what it finds, says, and refuses to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gapbench.analysis.curves import SKETCH, Curves, Window
from gapbench.analysis.diffusion.study import COLUMNS, study
from gapbench.analysis.frames import Study
from gapbench.suite.runspec import Phase
from tests.analysis.diffusion import made
from tests.analysis.diffusion.made import Suite

TITLE = "digits, mlp, recipe digits"


def analysed(suite: Suite, **options: Any) -> Study:
    return study("made", *suite.tables(), suite.specs, **options)


def said_of(suite: Suite, **options: Any) -> list[str]:
    return analysed(suite, **options).sentences[TITLE]


@pytest.fixture(scope="module")
def found() -> Study:
    return analysed(made.three_cells())


def test_drift_and_spread_come_back_from_the_tables(found: Study) -> None:
    walks = found.frames["walks"]
    last = walks[walks["update"] == 2000].set_index(["cell", "quantity"])["value"]
    for cell, drift, spread in (("SB", 1.0, 0.3), ("LB", 1.0, 0.3 / 32**0.5), ("LB+LR", 1.6, 0.15)):
        assert last[cell, "drift"] == pytest.approx(drift * 7.6, rel=0.1)
        assert last[cell, "spread"] == pytest.approx(spread * 2000**0.5, rel=0.1)
        assert last[cell, "total"] ** 2 == pytest.approx(last[cell, "drift"] ** 2 + last[cell, "spread"] ** 2)


def test_a_walk_that_is_free_in_the_noise_put_in_collapses_against_it_alone(found: Study) -> None:
    scores = found.frames["collapse"].query("cell == 'LB' and quantity == 'spread'").set_index("clock").deviation
    assert scores["updates"] == pytest.approx(1 - 32**-0.5, abs=0.03)
    noise = "sum of rates squared / batch size"
    if noise in scores:  # the large batch puts in 32 times less, so that the clocks may not meet
        assert scores[noise] < 0.2


def test_the_spread_of_a_free_walk_has_exponent_one_half_and_the_drift_of_a_logarithm_zero(found: Study) -> None:
    table = found.frames["exponents"].query("window == 'common'").set_index(["cell", "quantity"])
    for cell in ("SB", "LB", "LB+LR"):
        assert table.exponent_low[cell, "spread"] <= 0.5 <= table.exponent_high[cell, "spread"]
    assert table.exponent_low["LB+LR", "drift"] <= 0 <= table.exponent_high["LB+LR", "drift"]


def test_every_frame_has_its_columns_and_every_conclusion_its_interval(found: Study) -> None:
    assert {name: [*frame.columns] for name, frame in found.frames.items()} == {name: [*columns] for name, columns in COLUMNS.items()}
    for sentence in found.sentences[TITLE]:
        concludes = any(word in sentence for word in ("smaller", "leaves out", "holds", " times", " % of the squared"))
        assert not concludes or " to " in sentence
        # Nothing here is judged together, so nothing is a verdict.
        assert not any(word in sentence for word in ("separated", "longer", "shorter", "preferred", "excludes"))


def test_it_begins_with_five_lines_that_say_what_matters(found: Study) -> None:
    lines = found.sentences[TITLE][:6]
    assert [line.split(":")[0] for line in lines[:4]] == [
        "In short, LB beside SB",
        "In short, LB+LR beside SB",
        "In short, SB",
        "In short, SB",
    ]
    assert lines[4].startswith("Cells are compared on updates")
    assert not lines[5].startswith("In short")


def test_the_sentences_are_as_they_were(found: Study) -> None:
    golden = Path(__file__).with_name("golden_sentences.txt").read_text(encoding="utf-8")
    assert found.sentences[TITLE] == golden.splitlines()


def test_fewer_orders_and_other_initializations_are_said_and_not_computed() -> None:
    found = analysed(Suite().cell("SB", orders=5).cell("LB", 512, inits=8).cell("LB+LR", 512, 0.2, sketched=False))
    (panel,) = found.parts
    assert [walks.decomposition for walks in panel.walks] == [None, None, None]
    said = "\n".join(found.sentences[TITLE])
    assert "SB: drift and spread are not computed: 5 ok runs of one initialization; 8 data orders are needed." in said
    assert "LB: drift and spread are not computed: its runs have 8 initializations or splits; fix init_seed" in said
    assert "LB+LR: drift and spread are not computed: not every run has a displacement sketch" in said
    assert "(n = 8 seeds of this split)" in said
    assert set(found.frames["walks"].quantity) == {"distance"}
    assert found.frames["collapse"].empty


def test_what_weight_decay_bends_is_left_out_of_the_common_window_and_flagged() -> None:
    found = analysed(Suite().cell("SB").cell("SB, decayed", weight_decay=1e-4 * 4))
    assert found.parts[0].common == Window(25, 250)
    assert (
        "SB, decayed: its full window, to update 2,000, reaches to 0.8 of the weight-decay memory; beyond 0.1 (update 250) decay bends "
        "the walk." in found.sentences[TITLE]
    )


def test_windows_end_at_the_first_drop_and_can_be_given() -> None:
    suite = Suite().cell("SB", phases=(Phase(), Phase(start=0.4, learning_rate_factor=0.1)))
    assert analysed(suite).parts[0].common == Window(80, 800)
    assert analysed(suite, first=5, last=300).parts[0].common == Window(5, 300)


@pytest.mark.parametrize(("warmup", "first", "begin"), [(0.4, None, 800), (0.0, 700, 700)])
def test_where_no_update_is_left_to_compare_on_that_is_said_and_nothing_is_concluded(warmup: float, first: int | None, begin: int) -> None:
    phases = (Phase(), Phase(start=0.3, learning_rate_factor=0.1))
    suite = Suite().cell("SB", warmup=warmup, phases=phases).cell("LB", rate=0.2, warmup=warmup, phases=phases)
    lead, *rest = said_of(suite, first=first)
    assert lead == (
        f"No window is common to all cells: it would begin at update {begin} and end at update 600, where the first rate falls, or "
        "training ends, or weight decay begins to bend a walk; so nothing is compared, fitted or predicted."
    )
    assert not any(word in text for text in rest for word in ("over SB", "exponent", " law", f"{begin} to 600"))


def test_twins_that_part_as_far_as_orders_do_have_all_of_the_spread() -> None:
    found = analysed(Suite().cell("SB", random=1).cell("SB, twin", random=1, aside=0.3, initial_perturbation=1e-6))
    (twin,) = found.parts[0].twins
    assert (twin.original.cell.name, twin.perturbed.cell.name, twin.perturbation) == ("SB", "SB, twin", 1e-6)
    assert twin.last.mean == pytest.approx(0.5, abs=0.12)  # half of |aside|^2 = 0.3^2 t, over a spread squared of 0.3^2 t
    (said,) = [text for text in found.sentences[TITLE] if "started 1e-06 apart" in text]
    assert "(n = 8 pairs)" in said


def test_without_a_plan_or_measurements_there_are_reasons() -> None:
    runs, curves = made.three_cells().tables()
    bare, empty = study("made", runs, curves, {}), study("made", runs, curves.iloc[:0], {})
    assert bare.sentences[TITLE][0] == "SB: the schedule of its runs is not known (the results have no plan)."
    assert empty.sentences[TITLE][0] == "SB: no ok run has measured its weight distance."
    assert all(frame.empty for frame in empty.frames.values())


def test_a_walk_without_drift_says_so_and_no_number_is_made_of_it() -> None:
    said = said_of(Suite().cell("SB").cell("SB, noise", drift=0.0, spread=0.6))
    assert not any("nan" in sentence for sentence in said)
    assert any(sentence.startswith("SB, noise at update 2,000") and "drift whose interval holds 0" in sentence for sentence in said)
    assert any("drift not determined, for the interval of one of the two holds 0" in sentence for sentence in said)


def test_the_same_distance_without_the_same_spread_is_seen_in_the_first_line() -> None:
    suite = Suite().cell("SB", drift=0.9).cell("LB+LR", 512, 0.566, drift=1.85, spread=0.15)
    said = said_of(suite)[0]
    assert said.startswith("In short, LB+LR beside SB: distance from the start ")
    assert "; spread between data orders 0." in said


def test_an_update_whose_sketch_is_not_whole_is_left_out() -> None:
    _, curves = Suite().cell("SB", orders=1).tables()
    lost = (curves["metric"] == SKETCH) & (curves["update"] == 2) & (curves["layer"] == "7")
    sketch = Curves(curves[~lost]).vectors(SKETCH)["SB-0"]
    assert sketch.updates.tolist() == [update for update in made.UPDATES if update != 2]
    assert sketch.values.shape == (len(sketch.updates), made.WIDTH)
    assert sketch.values[0].tolist() == curves[(curves["metric"] == SKETCH) & (curves["update"] == 1)]["value"].tolist()
    assert Curves(curves[:0]).vectors(SKETCH) == {}
