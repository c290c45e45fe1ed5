"""Results are read in a minute: no sentence that is printed of a shipped result is longer than 40 words."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from gapbench.analysis import arms_table

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference"
LONGEST = 40
"""Words of a sentence; names of cells are one word each, for they are the suite's."""
SUITES = sorted(path.parents[1].name for path in REFERENCE.glob("*/tables/arms.csv"))


def long_sentences(texts: list[str], names: list[str]) -> list[str]:
    for name in sorted(names, key=len, reverse=True):
        texts = [text.replace(name, "NAME") for text in texts]
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.;:]) +", text)]
    return [sentence for sentence in sentences if len(sentence.split()) > LONGEST]


@pytest.mark.parametrize("suite", SUITES)
def test_no_sentence_of_a_shipped_table_is_longer_than_forty_words(suite: str) -> None:
    runs = pd.read_parquet(REFERENCE / suite / "runs.parquet")
    curves = pd.DataFrame({"run_id": [], "update": [], "metric": [], "value": []})
    table = arms_table(runs, curves)
    assert long_sentences([*table.verdict, *table.notes], [*runs["cell"].unique()]) == []


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*/*/**/*.md")), ids=lambda page: str(page.relative_to(REFERENCE)))
def test_no_sentence_of_a_page_of_sentences_is_longer_than_forty_words(page: Path) -> None:
    names = pd.read_parquet(REFERENCE / page.relative_to(REFERENCE).parts[0] / "runs.parquet")["cell"].unique()
    texts = [line.removeprefix("- ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    assert long_sentences(texts, [*names]) == []
