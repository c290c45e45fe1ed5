"""Cells are matched by what they are; a label alone is the last resort, and never across data sets."""

from __future__ import annotations

from gapbench.analysis.comparison import match

SB = {"dataset": "digits", "batch_size": 16}
LB = {"dataset": "digits", "batch_size": 512}


def pairs(matching):
    return [(one.first, one.second, dict(one.values)) for one in matching.both]


def test_equal_labels_with_equal_values_are_one_cell():
    found = match({"SB": SB, "LB": LB}, {"LB": LB, "SB": SB})
    assert pairs(found) == [("SB", "SB", {}), ("LB", "LB", {})]
    assert (found.only_first, found.only_second) == ((), ())


def test_a_renamed_cell_is_found_by_its_values():
    found = match({"SB": SB, "LB": LB}, {"small": SB, "LB": LB})
    assert pairs(found) == [("SB", "small", {}), ("LB", "LB", {})]


def test_swapped_labels_are_seen_through():
    assert pairs(match({"SB": SB, "LB": LB}, {"SB": LB, "LB": SB})) == [("SB", "LB", {}), ("LB", "SB", {})]


def test_an_equal_label_with_other_values_is_compared_and_says_which():
    found = match({"LB": LB}, {"LB": {**LB, "batch_size": 256}})
    assert pairs(found) == [("LB", "LB", {"batch_size": ("512", "256")})]


def test_an_equal_label_on_another_data_set_is_another_cell():
    found = match({"SB": SB}, {"SB": {**SB, "dataset": "mnist"}})
    assert (found.both, found.only_first, found.only_second) == ((), ("SB",), ("SB",))


def test_two_labels_of_the_same_runs_are_matched_one_by_one():
    assert pairs(match({"off": LB, "512": LB}, {"512": LB, "off": LB})) == [("off", "off", {}), ("512", "512", {})]
    found = match({"off": LB, "512": LB}, {"off": LB})
    assert (pairs(found), found.only_first) == ([("off", "off", {})], ("512",))
