"""Side tables in files, on the page and in the terminal."""

from __future__ import annotations

import html
import io
from pathlib import Path
from types import ModuleType

import pandas as pd
from rich.console import Console

from gapbench.console import print_side_tables
from gapbench.report import write_report


def test_side_tables_are_files_and_sections_of_the_page(synthetic: ModuleType, tmp_path: Path) -> None:
    files = write_report(synthetic.write(tmp_path, *synthetic.preset_suite()))
    assert [table.name for table in files.side] == ["presets", "momentum_reset"]
    page = files.page.read_text(encoding="utf-8")
    for table in files.side:
        numbers = pd.read_csv(tmp_path / "tables" / f"{table.name}.csv")
        assert len(numbers) == len(table.rows)
        text = (tmp_path / "tables" / f"{table.name}.md").read_text(encoding="utf-8")
        assert all(f"- {sentence}\n" in text for sentence in table.sentences)
        assert f'<section id="{table.name}"' in page
        assert f'href="#{table.name}"' in page
        plain = html.unescape(page).replace("\u00a0", " ")
        assert all(sentence in plain for sentence in (*table.sentences, *table.notes))


def test_every_column_is_on_the_page_of_numbers(synthetic: ModuleType, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text(encoding="utf-8")
    for table in write_report(synthetic.write(tmp_path, *synthetic.preset_suite())).side:
        assert [column for column in table.frame().columns if f"`{column}`" not in page] == []


def test_a_suite_without_them_has_neither_files_nor_sections(synthetic: ModuleType, tmp_path: Path) -> None:
    files = write_report(synthetic.write(tmp_path, *synthetic.digits_suite(2, only=["SB", "LB"])))
    assert files.side == ()
    assert not (tmp_path / "tables" / "presets.md").exists()
    assert 'id="presets"' not in files.page.read_text(encoding="utf-8")


def test_the_terminal_shows_their_words_and_where_the_table_is(synthetic: ModuleType, tmp_path: Path) -> None:
    files = write_report(synthetic.write(tmp_path, *synthetic.preset_suite()))
    out = io.StringIO()
    print_side_tables(Console(file=out, width=200), files.side)
    text = " ".join(out.getvalue().split())
    assert "What the preset alone changes (tables/presets.md)" in text
    assert "LB: preset code reaches 2." in text
    assert "What the momentum reset costs (tables/momentum_reset.md)" in text
