"""Texts of users are never markup: in figures, Markdown, LaTeX and names of folders they stand as they were written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markdown_it import MarkdownIt
from matplotlib.text import Text

from gapbench.analysis import arms_table
from gapbench.report import tensorboard
from gapbench.report.drawing import sentence_figure
from gapbench.report.figures import drawings
from gapbench.report.latex import arms_latex, escape
from gapbench.report.style import house_style, render
from gapbench.report.tables import arms_markdown, markdown
from gapbench.store import read_tables
from tests.analysis import synthetic

NAMES = {
    "SB": "_hidden_",
    "LB": r"bad $\foo{$ math",
    "LB+LR": "*bold* [x](http://y) <b>|</b> &amp; `code` ~~no~~",
}
"""By the name of the cell in the tables of tests: what a user might call it."""


@pytest.fixture
def tables(tmp_path):
    runs, curves = synthetic.digits_suite(2, only=[*NAMES])
    assert set(NAMES) == set(runs["cell"])
    renamed = {column: runs[column].replace(NAMES) for column in ("cell", "arm")}
    return read_tables(synthetic.write(tmp_path / "results", runs.assign(**renamed), curves))


def shown(figure: Any) -> str:
    """What a reader sees of all texts, none of which may be a formula but those of our own."""
    texts = []
    for one in figure.findobj(Text):
        text, formula = one._preprocess_math(one.get_text())
        assert not formula or re.search(r"w_t|w_0|mathdefault", text), text
        texts.append(text.replace("\u200b", ""))
    return "\n".join(texts)


def test_figures_draw_names_as_they_are_and_hide_none(tables):
    with house_style():
        assert drawings(tables)
        for name, draw in drawings(tables).items():
            figure = draw()
            assert render(figure, "svg"), name
            for called in NAMES.values():
                assert called in shown(figure), name
        assert "[5C0F] α, [1F642] [red]" in shown(sentence_figure("小 α, 🙂 [red]", 3.0))
        assert "cost $5, $6" in shown(sentence_figure("cost $5, $6", 3.0))


def test_markdown_shows_names_as_they_are(tables):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    text = arms_markdown("math", arms_table(tables.runs, tables.curves))
    rendered = [token for token in parser.parse(text) if token.type == "inline"]
    for called in NAMES.values():
        assert any(token.children and called in "".join(child.content for child in token.children) for token in rendered), called
    kinds = {child.type for token in rendered for child in token.children or ()}
    assert kinds <= {"text", "text_special", "softbreak"}
    assert "$" not in text.replace(r"\$", "")  # begins a formula on some pages


@pytest.mark.parametrize("name", [*NAMES.values(), "# a", "- b", "![i](j)", "snake_case", r"1. \* $x^2$", "a\\", "a & b < c"])
def test_one_sentence_of_markdown_reads_as_it_was_written(name):
    (token,) = [token for token in MarkdownIt("commonmark").parse(f"- {markdown(name)}") if token.type == "inline"]
    assert "".join(child.content for child in token.children or ()) == name
    assert "`gapbench tune` goes on" in markdown(f"{name}: `gapbench tune` goes on")


def test_plain_names_have_no_backslashes():
    for name in ("LB+LR+GBN", "B 128, ghost off", "p < 0.001", "widths [32]", "fix init_seed", "−0.5 ± 0.1"):
        assert markdown(name) == name


def test_latex_takes_brackets_stars_and_dashes_for_text(tables):
    assert escape("[4pt] *x* -- `y'") == r"{[}4pt{]} {*}x{*} -{}- \textasciigrave{}y'"
    assert "lualatex" not in arms_latex("math", arms_table(tables.runs, tables.curves))
    greek = tables.runs.assign(cell=tables.runs["cell"] + "α")
    assert arms_latex("math", arms_table(greek, tables.curves)).startswith("% Compile with lualatex")


def test_every_cell_has_a_folder_of_its_own_for_tensorboard(tables):
    tables.runs["cell"], tables.runs["seed"] = ["α", "α", "β", "x" * 400, "a/b", "A:B"], range(6)
    folders = [name.partition("/")[0] for _, name in tensorboard._folders(tables)]
    assert folders == ["α", "α", "β", "x" * 120, "a_b", "A_B-2"]
