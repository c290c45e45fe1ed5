"""The papers' numbers: as printed, as read off their figures, and the exponents that the curves give."""

from __future__ import annotations

import pytest

from gapbench import catalog
from gapbench.analysis.diffusion.laws import published_exponents, published_sentences
from gapbench.catalog import published
from gapbench.core.errors import UnknownNameError

ARMS = ["SB", "LB", "LB+LR", "LB+LR+GBN", "LB+LR+GBN+RA"]


def test_table_1_is_as_printed() -> None:
    rows = published.tables("hoffer2017")["table1"].rows
    assert {row.network: [row.values[arm].percent for arm in ARMS] for row in rows} == {
        "F1": [98.27, 97.05, 97.55, 97.60, 98.53],
        "C1": [87.80, 83.95, 86.15, 86.4, 88.20],
        "ResNet44": [92.83, 86.10, 89.30, 90.50, 93.07],
        "VGG": [92.30, 84.1, 88.6, 91.50, 93.03],
        "C3": [61.25, 51.50, 57.38, 57.5, 63.20],
        "WResNet16-4": [73.70, 68.15, 69.05, 71.20, 73.57],
    }


def test_table_2_tells_that_its_large_batch_was_another() -> None:
    rows = published.tables("hoffer2017")["table2"].rows
    assert [[row.values[arm].percent for arm in ARMS] for row in rows] == [
        [57.10, 41.23, 53.25, 54.92, 59.5],
        [57.10, 41.23, 53.25, 53.93, 59.5],
    ]
    assert all("2048" in row.note for row in rows)
    assert [[row.values[arm].batch_size for arm in ARMS] for row in rows] == [[128, 2048, 2048, 4096, 4096], [128, 2048, 2048, 8192, 8192]]


def test_a_value_is_found_by_its_batch_size_where_a_table_has_two() -> None:
    recipe = "hoffer2017/alexnet-imagenet"
    found = {size: published.value(recipe, "LB+LR+GBN", size) for size in (2048, 4096, 8192)}
    assert {size: value and value.percent for size, value in found.items()} == {2048: None, 4096: 54.92, 8192: 53.93}
    assert published.value(recipe, "LB", 4096) is None  # 41.23 was measured at 2048
    small = published.value(recipe, "SB", 128)
    assert small is not None
    assert small.train_examples == 1_281_167


def test_values_are_found_by_recipe_and_arm() -> None:
    found = published.value("hoffer2017/f1-mnist", "LB+LR+GBN+RA")
    assert found is not None
    assert (found.percent, found.test_accuracy, found.batch_size) == (98.53, pytest.approx(0.9853), 4096)
    assert found.source == "Hoffer et al. 2017, table 1, section 6, arXiv:1705.08741v2 (1 January 2018), NIPS 2017"
    assert "no seeds" in found.how


def test_rounding_is_that_of_the_printed_digits() -> None:
    coarse, fine = published.value("hoffer2017/c1-cifar10", "LB+LR+GBN"), published.value("hoffer2017/c1-cifar10", "SB")
    assert coarse is not None
    assert fine is not None
    assert (coarse.rounding_pp, fine.rounding_pp) == (pytest.approx(0.05), pytest.approx(0.005))


def test_nothing_is_claimed_for_other_recipes_and_arms() -> None:
    assert published.value("digits", "SB") is None
    assert published.value("", "SB") is None
    assert published.value("hoffer2017/f1-mnist", "SB+4x epochs") is None


def test_every_recipe_of_the_paper_has_its_row() -> None:
    recipes = [name for name in catalog.recipes() if name.startswith("hoffer2017/") and name != "hoffer2017/resnet50-imagenet"]
    assert published.value("hoffer2017/resnet50-imagenet", "SB") is None  # in the paper's code, and in none of its tables
    for name in recipes:
        small = published.value(name, "SB")
        assert small is not None
        assert small.batch_size == catalog.recipes()[name].fields["reference_batch_size"]
    rows = [*published.tables("hoffer2017")["table1"].rows, *published.tables("hoffer2017")["table2"].rows]
    assert {row.recipe for row in rows} == set(recipes)


def test_unknown_papers_and_tables_are_errors() -> None:
    with pytest.raises(UnknownNameError, match='unknown paper "hofer2017"'):
        published.tables("hofer2017")["table1"]
    with pytest.raises(UnknownNameError, match='unknown table "table3"'):
        published.tables("hoffer2017")["table3"]


def test_the_tables_of_a_paper_are_named():
    assert tuple(published.tables("hoffer2017")) == ("table1", "table2", "figure1b", "figure3b", "figure5")
    with pytest.raises(UnknownNameError, match='did you mean "hoffer2017"'):
        published.tables("hofer2017")


def test_numbers_read_off_figures_say_how_well_they_were_read() -> None:
    errors = {64: 6.7, 128: 7.1, 256: 7.8, 512: 9.2, 1024: 10.3, 2048: 12.6}
    for batch_size, error in errors.items():
        found = published.value_at("hoffer2017/resnet44-cifar10", "baseline", batch_size)
        assert found is not None
        assert (found.percent, found.rounding_pp) == (pytest.approx(100 - error), 0.1)
        assert "read off the figure" in found.how
    assert published.value_at("hoffer2017/resnet44-cifar10", "baseline", 4096) is None
    assert published.value_at("hoffer2017/resnet44-cifar10", "sqrt-lr", 2048) is None


def test_means_of_several_runs_keep_their_number_and_deviation() -> None:
    goyal = published.tables("goyal2017")["resnet50"].rows[0].values
    assert {arm: (value.percent, value.deviation_pp, value.runs) for arm, value in goyal.items()} == {
        "SB": (76.40, 0.12, 5),
        "LB": (58.33, 0.10, 5),
        "LB+LR": (73.78, 0.03, 5),
        "LB+linear+warmup": (76.26, 0.09, 5),
    }
    keskar = {row.network: [value.percent for value in row.values.values()] for row in published.tables("keskar2017")["accuracy"].rows}
    assert keskar == {"F1": [98.03, 97.81], "C1": [80.04, 77.26], "C2": [89.24, 87.26], "C3": [49.58, 46.45], "C4": [63.08, 57.81]}
    assert all(row.values["LB"].batch_size > 10 * row.batch_size for row in published.tables("keskar2017")["accuracy"].rows)


def test_figure_2_is_as_it_was_read() -> None:
    first, second = (published.figures("hoffer2017")[name] for name in ("figure2a", "figure2b"))
    assert [curve.batch_size for curve in first.curves] == [64, 128, 256, 512, 1024, 2048]
    assert [curve.y[-1] for curve in first.curves] == [10.93, 10.39, 8.70, 6.97, 5.09, 3.41]
    assert [curve.y[-1] for curve in second.curves] == [10.65, 10.07, 9.16, 7.64, 6.35, 5.27]
    for curve in (*first.curves, *second.curves):
        assert len(curve.x) == len(curve.y)
        assert list(curve.x) == sorted(curve.x)
        assert list(curve.y) == sorted(curve.y)
        assert curve.x[-1] == 80 * 50000 // curve.batch_size
    assert "digitised" in first.how
    assert first.reading_error == 0.05
    assert first.source.startswith("Hoffer et al. 2017, figure 2a, section 3, arXiv:1705.08741v2")


def test_unknown_figures_are_errors() -> None:
    assert tuple(published.figures("hoffer2017")) == ("figure2a", "figure2b")
    with pytest.raises(UnknownNameError, match='unknown figure "figure2" '):
        published.figures("hoffer2017")["figure2"]
    with pytest.raises(UnknownNameError, match='unknown paper "keskar"'):
        published.figures("keskar")


def test_the_papers_exponent_depends_on_the_batch_size_and_so_on_the_window() -> None:
    found = {one.batch_size: one for one in published_exponents("hoffer2017") if one.figure == "figure2a"}
    expected = {64: (-0.13, 0.04), 256: (0.09, 0.04), 1024: (0.28, 0.06)}
    for batch_size, (exponent, error) in expected.items():
        assert found[batch_size].exponent == pytest.approx(exponent, abs=0.005)
        assert found[batch_size].standard_error == pytest.approx(error, abs=0.005)
    assert found[2048].exponent is None


def test_they_are_said_with_their_caution() -> None:
    sentences = published_sentences(published_exponents("hoffer2017"))
    assert sentences[0] == "figure2a, batch size 64, updates 1,000 to 62,500: exponent −0.13, standard error 0.04 (9 points)."
    assert sentences[5] == "figure2a, batch size 2048, updates 500 to 1,953: no exponent, for 3 points were read; 4 are needed."
    assert "too small" in sentences[-1]
