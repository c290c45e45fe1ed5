"""Every number in README.md, docs/findings.md and docs/speed.md, held against the tables of results/reference.

A sentence or table row with numbers is followed by an HTML comment that names where they stand, in the order in which they are read:

    LB loses 1.27 pp (0.63 to 1.91; n = 8) at a test loss of 0.104.
    <!-- quickstart/tables/arms.csv arm=LB: batch_gap_pp, n_ok, test_loss -->

A comment has parts, separated by `;`, and a part is `FILE ROW: COLUMN, COLUMN`:

- FILE is a table below results/reference. Left out, it is the file of the part before, up to the next heading.
- ROW picks one row: `column=value`, several joined by ` & `. Two rows of runs.csv, `ROW minus ROW`, are the difference of their means.
- COLUMN is one number with the interval or the `±` that the text gives it. `-column` turns the sign, `column %` shows a fraction in
  percent, and `median(column)`, `min(column)` or `max(column)` takes several rows together.
- Of a page of sentences (FILE ends in .md), ROW is how the sentence or table row begins and COLUMN the words before the number.

A number is as good as its last digit: the table's value must round to it. Numbers without a comment fail, but for the kinds in `NO_SOURCE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
PAGES = ("README.md", "docs/findings.md", "docs/speed.md")

COUNT = r"\d+(?:,\d{3})*"
NO_SOURCE = {
    "code": r"`[^`]*`",
    "addresses": r"\]\([^)]*\)",
    "dates and years": r"\b(?:19|20)\d\d(?:-\d\d-\d\d)?\b",
    "versions": r"\b(?:Python|torch) \d+(?:\.\d+)*",
    "names": r"\b[A-Za-z][A-Za-z0-9]*(?:-?\d+)+\b|\b\d+x\b",
    "places in a paper": r"\b(?:Table|Figure|section) \d+",
    "the level of an interval or verdict": r"\b95 %(?= (?:intervals?|probability))|\bat 5 %",
    "batch sizes": rf"\b[Bb]atch(?:es)?(?: sizes?)?(?: of)? {COUNT}(?:(?:,| to| and| or| against| of) {COUNT})*(?!\.?\d)",
    "how long and on what a suite trains": rf"\b{COUNT} (?:(?:MNIST )?images|epochs|training examples|times the examples)\b",
    "when a suite looks": rf"\bafter {COUNT} updates\b",
    "rates, decays and targets that a suite sets": (
        r"\b(?:[Rr]ate|weight decay|momentum|[Aa]t train loss|[Aa]t test error) \d[\d.]*(?:e-\d+)?(?: %)?"
    ),
}

NUMBER = r"[−-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[−-]?\d+)?"
UNIT = r"(?: ?(?:%|pp|times|nats|s)(?![a-z]))?"
BOUNDS = rf"[^\d().;:]*\((?:95 % interval )?(?P<low>{NUMBER})(?: %)? to (?P<high>{NUMBER})(?: %)?(?=[);,])"
FIGURE = re.compile(rf"(?P<value>{NUMBER}){UNIT}(?: ± (?P<half>{NUMBER})|{BOUNDS})?")
"""A number; then the half width beside it, or the bounds in the next parentheses, with no other number between."""


class Figure(NamedTuple):
    """A number as the page shows it, with the half width or the bounds beside it."""

    value: str
    half: str | None
    low: str | None
    high: str | None

    def __str__(self) -> str:
        return self.value + (f" ± {self.half}" if self.half else "") + (f" ({self.low} to {self.high})" if self.low else "")


class Measured(NamedTuple):
    """What a table has for it."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Measured:
        """Scaled; a negative factor also swaps the bounds."""
        bounds = sorted(factor * bound for bound in (self.low, self.high) if bound is not None)
        return Measured(factor * self.value, *bounds)


def figures(text: str) -> list[Figure]:
    for pattern in NO_SOURCE.values():
        text = re.sub(pattern, lambda found: " " * len(found[0]), text)
    return [Figure(found["value"], found["half"], found["low"], found["high"]) for found in FIGURE.finditer(text)]


def rounds_to(true: float | None, shown: str | None) -> bool:
    if shown is None:
        return True
    if true is None or true != true:
        return False
    digits = shown.replace("−", "-").replace(",", "")
    mantissa, exponential, _ = digits.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(f"{true:.{decimals}{'e' if exponential else 'f'}}") == float(digits)


def agrees(shown: Figure, true: Measured) -> bool:
    half = None if true.low is None or true.high is None else (true.high - true.low) / 2
    pairs = ((true.value, shown.value), (half, shown.half), (true.low, shown.low), (true.high, shown.high))
    return all(rounds_to(*pair) for pair in pairs)


@cache
def table(file: str) -> pd.DataFrame:
    path = REFERENCE / file
    return pd.read_csv(path, low_memory=False) if path.suffix == ".csv" else pd.read_parquet(path)


def rows(file: str, where: str) -> pd.DataFrame:
    found = table(file)
    for condition in where.split(" & ") if where else []:
        column, _, value = condition.partition("=")
        found = found[
            (found[column] == float(value)) if pd.api.types.is_float_dtype(found[column]) else (found[column].astype(str) == value)
        ]
    assert len(found), f"{file} has no row with {where}"
    return found


def of_rows(found: pd.DataFrame, column: str) -> Measured:
    if taken := re.fullmatch(r"(median|min|max)\((.+)\)", column):
        return Measured(float(found[taken[2]].agg(taken[1])))
    assert len(found) == 1, f"{len(found)} rows for {column}"
    bounds = ("low", "high") if column in ("estimate", "value") else (f"{column}_low", f"{column}_high")
    return Measured(*(float(found[name].iloc[0]) for name in (column, *bounds) if name in found))


def of_difference(first: pd.DataFrame, second: pd.DataFrame, column: str) -> Measured:
    """Paired where each seed draws its own split, else Welch's."""
    if first.split_drawn.iloc[0]:
        pairs = first.merge(second, on="split_seed", validate="one_to_one")
        test = stats.ttest_rel(pairs[f"{column}_x"], pairs[f"{column}_y"])
    else:
        test = stats.ttest_ind(first[column], second[column], equal_var=False)
    interval = test.confidence_interval(0.95)
    return Measured(first[column].mean() - second[column].mean(), interval.low, interval.high)


def of_sentence(file: str, start: str, words: str) -> Measured:
    lines = [line for line in (REFERENCE / file).read_text().splitlines() if line.startswith((f"- {start}", f"| {start}"))]
    assert len(lines) == 1, f"{len(lines)} lines of {file} begin with: {start}"
    found = re.search(rf"(?<!\S){re.escape(words)} {FIGURE.pattern}", lines[0])
    assert found, f"no number after {words!r} in: {lines[0]}"
    value, half, low, high = (
        None if text is None else float(text.replace("−", "-").replace(",", "")) for text in found.group("value", "half", "low", "high")
    )
    assert value is not None
    return Measured(value, value - half, value + half) if half is not None else Measured(value, low, high)


def measured(file: str, where: str, item: str) -> Measured:
    words, percent, _ = item.partition(" %")
    column = words.removeprefix("-")
    if file.endswith(".md"):
        true = of_sentence(file, where, column)
    elif " minus " in where:
        true = of_difference(*(rows(file, one) for one in where.split(" minus ")), column)
    else:
        true = of_rows(rows(file, where), column)
    return true.times((-1 if words.startswith("-") else 1) * (100 if percent else 1))


def sources(comment: str, file: str) -> Iterator[tuple[str, str, Measured]]:
    """The file, the source in words and the value of each number that a comment stands for."""
    for part in comment.split(";"):
        place, _, items = part.strip().rpartition(": ")
        named = re.match(r"(\S+\.(?:csv|md|parquet))\s*(.*)", place)
        file, where = (named[1], named[2]) if named else (file, place)
        for item in items.split(", "):
            yield file, f"{file} {where}: {item}", measured(file, where, item)


def blocks(text: str) -> list[str]:
    """Paragraphs, list items, table rows and headings, without blocks of code and the comments that mark these."""
    text = re.sub(r"(?:<!-- [^>]* -->\n)?```.*?```", "", text, flags=re.DOTALL)
    return [block for block in re.split(r"\n\s*\n|\n(?=\||- |#|!\[)", text) if block.strip()]


def disagreements(text: str) -> list[str]:
    found, file = [], ""
    for block in blocks(text):
        if block.lstrip().startswith("#"):
            file = ""
        parts = re.split(r"<!--\s*(.*?)\s*-->", block, flags=re.DOTALL)
        for prose, comment in zip_longest(parts[::2], parts[1::2]):
            shown, wanted = figures(prose), []
            if comment:
                wanted = list(sources(comment, file))
                file = wanted[-1][0]
            for figure, source in zip_longest(shown, wanted):
                if source is None:
                    found.append(f"no source: {figure} in {prose.strip()!r}")
                elif figure is None:
                    found.append(f"no number in the text for {source[1]}")
                elif not agrees(figure, source[2]):
                    found.append(f"{figure} is {source[2]} in {source[1]}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_number_is_that_of_its_table(page):
    assert disagreements((ROOT / page).read_text()) == []


EXAMPLE = "LB loses 1.27 pp (0.63 to 1.91; n = 8) at batch 512.\n<!-- quickstart/tables/arms.csv arm=LB: batch_gap_pp, n_ok -->\n"


def test_a_number_with_its_source_passes():
    assert disagreements(EXAMPLE) == []


@pytest.mark.parametrize(
    ("right", "wrong"), [("1.27", "1.26"), ("0.63", "0.57"), ("1.91", "1.93"), ("n = 8", "n = 9"), ("1.27", "−1.27"), ("=LB:", "=LB+LR:")]
)
def test_a_wrong_digit_sign_or_row_fails(right, wrong):
    assert disagreements(EXAMPLE.replace(right, wrong))


@pytest.mark.parametrize(
    "text", ["LB loses 1.27 pp.", EXAMPLE + "\nAnd 33 % of it comes back.", EXAMPLE.replace(", n_ok", ""), "| LB | 96.95 ± 0.65 |"]
)
def test_a_number_without_a_source_fails(text):
    assert disagreements(text)


@pytest.mark.parametrize(
    "text",
    [
        "In 2017 Hoffer et al. trained batch 128 against 4,096 for 50 epochs.",
        "95 % intervals, torch 2.15.0, ResNet-44, Table 1, rate 0.1",
        "`n = 3`",
    ],
)
def test_settings_and_names_need_no_source(text):
    assert disagreements(text) == []


def test_differences_percentages_sentences_and_several_rows_can_be_sources():
    text = """
    LB+LR ends 0.42 pp (0.00 to 0.84) above LB, 33 % (−1 to 53) of the gap. A suite takes 57 s. Spread is 65 % (54 to 76).
    <!-- quickstart/tables/runs.csv arm=LB+LR minus arm=LB: test_accuracy %; quickstart/tables/arms.csv arm=LB+LR: share_closed %;
    bench/timings.parquet case=plan & side=trained: median(seconds); diffusion-digits/analysis/diffusion.md SB at update 112: which is -->
    """
    assert disagreements(text) == []


def sentences(page: str) -> list[str]:
    prose = [block for block in blocks(re.sub(r"<!--.*?-->", "", (ROOT / page).read_text(), flags=re.DOTALL)) if block[0] not in "|#!"]
    return [one.strip() for block in prose for one in re.split(r"(?<=[.!?:])\s", re.sub(r"\s+", " ", block)) if one.strip()]


@pytest.mark.parametrize("page", PAGES)
def test_a_sentence_has_one_interval_and_at_most_forty_words(page):
    for sentence in sentences(page):
        assert sum(figure.low is not None for figure in figures(sentence)) <= 1, sentence
        assert len(sentence.split()) <= 40, sentence


def test_strong_words_in_findings_stand_beside_a_number():
    for sentence in sentences("docs/findings.md"):
        if re.search(r"\b(?:most|mostly|excludes?|always|never|whole gap|all of the gap)\b", sentence):
            assert figures(sentence), sentence


def test_a_finding_asks_a_question_and_shows_a_figure_and_the_results():
    findings = re.split(r"^## ", (ROOT / "docs/findings.md").read_text(), flags=re.MULTILINE)[1:]
    for finding in findings:
        if finding.splitlines()[0].endswith("?"):
            assert re.search(r"!\[[^\]]+\]\(\.\./results/reference/[^)]+\.png\)", finding), finding
            assert re.search(r"[^!]\[[^\]]+\]\(\.\./results/reference/[^)]+\.md\)", finding), finding
    assert sum(finding.splitlines()[0].endswith("?") for finding in findings) >= 9
