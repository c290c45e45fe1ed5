"""What the page says and holds, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gapbench.analysis import arms_table
from gapbench.analysis.cells import read_panels
from gapbench.report.html import page
from gapbench.report.html.figure import classes_of, inline_figure, toggles_of
from gapbench.report.html.page import tied
from gapbench.report.html.runs import run_table
from gapbench.report.html.strips import strips_of
from gapbench.report.marks import mark
from gapbench.report.style import house_style, new_figure
from tests.analysis import synthetic

MIB = 1 << 20


@pytest.mark.parametrize("name", ["quickstart", "mnist-f1"])
def test_reference_pages_are_small_and_name_no_address_but_those_of_papers(pages: dict[str, Path], name: str) -> None:
    text = pages[name].read_text(encoding="utf-8")
    assert pages[name].stat().st_size < 3 * MIB
    addresses = set(re.findall(r'(?:href|src|action|data|poster)="([^"#][^"]*)"', text))
    assert addresses == {"data:,", "https://arxiv.org/abs/1705.08741"}
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_the_answer_comes_first(pages: dict[str, Path]) -> None:
    text = pages["quickstart"].read_text(encoding="utf-8").replace("\u00a0", " ")
    parts = ["How much test accuracy does batch 512 lose against batch 16, and what closes the gap?", "batch 512 (LB) loses"]
    ids = (
        "figure-accuracy_vs_batch_size",
        "arms",
        "figures",
        "walk",
        "paper",
        "outcomes",
        "cost",
        "provenance",
        "cite",
        "reproduce",
        "runs",
    )
    places = [text.index(part) for part in (*parts, *(f'id="{name}"' for name in ids))]
    assert places == sorted(places)


def test_the_papers_runs_stand_beside_our_prediction_interval(pages: dict[str, Path]) -> None:
    text = re.sub(r"<[^>]+>", " ", pages["mnist-f1"].read_text(encoding="utf-8"))
    section = re.sub(r"\s+", " ", text[text.index("one new run of ours, 95") :])
    assert "SB 98.27 99.14 (99.00 to 99.28) 98.86 to 99.42 0.59 pp below ours" in section
    assert "LB+LR+GBN 97.60 98.38 (97.85 to 98.90) 97.32 to 99.43 consistent" in section


def test_the_command_the_suite_the_citation_and_what_is_not_known_stand_on_the_page(pages: dict[str, Path]) -> None:
    text, older = (pages[suite].read_text(encoding="utf-8") for suite in ("quickstart", "mnist-f1"))
    for part in ("gapbench run quickstart", "label = &#34;LB+LR+GBN+RA&#34;", "@software{gapbench,"):
        assert part in text
    unknown = "No prediction was kept with these results"
    assert unknown not in text
    assert "gapbench run mnist-f1.toml" in older  # of results that kept no command
    assert unknown in older


def test_the_largest_sentence_of_a_panel_answers_and_the_rest_unfolds(pages: dict[str, Path]) -> None:
    text = pages["quickstart"].read_text(encoding="utf-8")
    lead = re.search(r'<p class="lead">(.*?)</p>', text)
    assert lead is not None
    assert lead[1].startswith("At equal examples and the same rate, batch\u00a0512 (LB) loses ")
    assert text.index('<p class="lead">') < text.index("<summary>Every comparison (n\u00a0=")


def test_points_say_name_and_value_with_interval_and_the_caption_leaves_the_drawing() -> None:
    runs, _ = synthetic.digits_suite(1, only=["SB", "LB"])
    (panel,) = read_panels(runs)
    with house_style():
        figure = new_figure(4, 3)
        axes = figure.subplots()
        axes.set_xlabel("updates (log scale)")
        axes.set_ylabel("test accuracy (%)")
        (line,) = axes.plot([1, 2, 3], [91.0, 92.5, 94.25], color="#0072B2")
        figure.text(0, 0, "What is\nshown.", gid="caption", va="top")
    mark(line, panel.cells[1], low=np.array([90.0, 91, 92]), high=np.array([92.0, 94, 96]))
    inline = inline_figure("own", figure, toggles_of([panel]))
    assert inline.caption == "What is shown."
    assert "shown." not in inline.svg.partition("</desc>")[2]
    assert re.findall(r"<title>([^<]*)</title>", inline.svg) == [
        "LB: updates 1, test accuracy 91 (90 to 92)", "LB: updates 2, test accuracy 92.5 (91 to 94)",
        "LB: updates 3, test accuracy 94.25 (92 to 96)",
    ]  # fmt: skip
    assert "var(--series-0072b2)" in inline.svg
    assert not re.search(r"#[0-9a-f]{6}", inline.svg)


def test_toggles_are_arms_batch_sizes_and_settings_and_never_one_alone() -> None:
    arms = toggles_of(read_panels(synthetic.digits_suite(1, only=["SB", "LB", "LB+LR"])[0]))
    assert [(one.group, one.label) for one in arms] == [
        ("Batch size", "16"), ("Batch size", "512"), ("Arm", "SB"), ("Arm", "LB"), ("Arm", "LB+LR"),
    ]  # fmt: skip
    assert toggles_of(read_panels(synthetic.digits_suite(1, only=["SB"])[0])) == []
    large = next(one for one in arms if one.label == "512")
    assert large.cells == {"LB", "LB+LR"}
    assert large.key in classes_of(["LB"], arms, every=True).split()
    assert large.key not in classes_of(["SB", "LB"], arms, every=True).split()  # an entry goes only with all its cells
    assert large.key in classes_of(["SB", "LB"], arms, every=False).split()  # a line that joins two goes with either


def dots(*strips: str) -> list[float]:
    """Where the dots of strips stand, from left to right along their axis."""
    return [float(x) for strip in strips for x in re.findall(r'<circle cx="(-?[\d.]+)"', strip)]


def test_strips_of_losses_below_zero_spread_over_the_axis() -> None:
    runs, curves = synthetic.digits_suite(5, only=["SB", "LB"])
    runs = runs.assign(test_accuracy=None, train_accuracy=None, test_correct=None, test_loss=lambda own: 1000 * own.test_loss - 900)
    strips = strips_of(arms_table(runs, curves).rows)
    places = dots(*strips.by_cell.values())
    assert min(places) > 0
    assert max(places) < 300
    assert max(places) - min(places) > 100
    assert "\u2212800" in strips.axis


def test_strips_hold_every_seed_on_an_axis_that_rows_share() -> None:
    table = arms_table(*synthetic.digits_suite(5, only=["SB", "LB"]))
    strips = strips_of(table.rows)
    for row in table.rows:
        places = dots(strips.by_cell[row.cell.name])
        values = [*row.cell.column("test_accuracy").values()]
        assert sorted(range(5), key=places.__getitem__) == sorted(range(5), key=values.__getitem__)
    references = {re.search(r'class="reference" d="M([\d.]+)', strip)[1] for strip in strips.by_cell.values()}  # type: ignore[index]
    assert len(references) == 1


def test_an_interval_far_wider_than_the_dots_ends_in_arrows_and_leaves_the_dots_their_room() -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB", "LB"])
    runs.loc[runs["cell"] == "LB", "test_accuracy"] = [0.90, 0.96]
    strips = strips_of(arms_table(runs, curves).rows)
    assert strips.by_cell["LB"].count('class="interval"') > 1
    places = dots(*strips.by_cell.values())
    assert max(places) - min(places) > 100


def test_missing_numbers_sort_below_all_others_and_say_nothing() -> None:
    base = {"cell": "LB", "seed": 0, "outcome": "ok", "batch_size": 16, "learning_rate": 0.1}
    table = run_table([{**base, "test_accuracy": 0.5}, {**base, "outcome": "crashed", "reason": "power", "test_accuracy": None}])
    columns = {column.label: column for column in table}
    accuracy = columns["test accuracy, %"]
    assert accuracy.texts == ("50.00", "")
    assert accuracy.values is not None
    assert accuracy.values[1] < accuracy.values[0]
    assert columns["ghost"].texts == ("off", "off")
    assert "reason" in columns
    assert "device" not in columns  # one device need not stand in every row


def test_numbers_stay_with_their_units() -> None:
    assert tied("95 % interval, n = 8, batch 512 loses 1.2 pp") == "95\u00a0% interval, n\u00a0=\u00a08, batch\u00a0512 loses 1.2\u00a0pp"


def test_the_entry_for_bibtex_says_what_the_citation_file_says() -> None:
    text = page.citation_file()
    entry = page.bibtex(text)
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        if name in ("title", "version"):
            assert value.strip('"') in entry
    assert page.bibtex("title: x") == ""
    (paper,) = page.references()
    assert paper.address == "https://arxiv.org/abs/1705.08741"
    assert "Hoffer" in paper.text
