r"""The LaTeX table is one that LaTeX sets: balanced, escaped, as many cells in each row as columns, a caption that explains."""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gapbench.analysis import arms_table
from gapbench.core.errors import ExportError
from gapbench.report.latex import COLUMNS, arms_latex, escape
from tests.analysis import synthetic

GOLDEN = Path(__file__).with_name("golden_arms.tex")
NASTY = r"50 % & $x_1$ #{~^} \o/ <a|b> × − ±"


@functools.cache
def tables():
    """Suites whose tables differ in columns: two panels with a diverged run; one seed; a fixed split; names that LaTeX would choke on."""
    nasty, curves = synthetic.digits_suite(3, only=["SB", "LB"])
    return {
        "digits": arms_latex("quickstart", arms_table(*synthetic.digits_suite(diverged=[("LB+LR", 2)]))),
        "one seed": arms_latex("quickstart", arms_table(*synthetic.digits_suite(1))),
        "grid": arms_latex("cifar10", arms_table(*synthetic.grid_suite(3, [128, 512]))),
        "nasty": arms_latex(NASTY, arms_table(nasty.assign(cell=nasty["cell"] + NASTY, recipe=NASTY), curves)),
        "nothing": arms_latex("empty", arms_table(*synthetic.digits_suite(0))),
    }


def test_the_table_is_the_golden_file():
    assert tables()["digits"] == GOLDEN.read_text(encoding="utf-8")


def test_columns_are_chosen_and_stand_in_that_order():
    arms = arms_table(*synthetic.digits_suite(3))
    head = next(line for line in arms_latex("q", arms, ["arm", "train-loss", "gap"]).splitlines() if line.startswith("Arm"))
    assert head == r"Arm & Train loss & Batch gap (pp) \\"
    assert r"\multicolumn{3}{l}" in arms_latex("q", arms, ["arm", "train-loss", "gap"])
    whole = arms_latex("q", arms, [*COLUMNS])
    assert "Matched-loss gap (pp)" in whole
    assert "Matched-loss gap: the same" in whole
    assert "atched-loss" not in tables()["digits"] + tables()["grid"]  # by default there is no room for it
    with pytest.raises(ExportError, match=r'--columns: unknown column "acuracy" \(did you mean "accuracy"\?\)'):
        arms_latex("q", arms, ["acuracy"])


@pytest.mark.parametrize("name", ["digits", "one seed", "grid", "nasty", "nothing"])
def test_every_table_is_well_formed(name):
    text = tables()[name]
    body = re.sub(r"(?m)^%.*\n", "", text)
    assert [rule for rule in re.findall(r"\\(\w+rule)", body) if rule != "midrule"] == ["toprule", "bottomrule"]
    assert re.findall(r"\\(begin|end)\{(\w+)\}", body) == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    plain = re.sub(r"\\[\\{}$&%#_]", "", body)  # what is escaped is text
    depths = [*itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in plain)]
    assert min(depths) == depths[-1] == 0
    assert plain.count("$") % 2 == 0
    assert "%" not in plain
    columns = re.search(r"\\begin\{tabular\}\{([lrc]+)\}", body).group(1)
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and not line.startswith(r"\multicolumn")]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns)}
    assert body.isascii()


@pytest.mark.parametrize("name", ["digits", "one seed", "grid", "nasty", "nothing"])
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed; the structure is tested above")
def test_pdflatex_sets_every_table(tmp_path, name):
    (tmp_path / "table.tex").write_text(tables()[name], encoding="utf-8")
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}"
    (tmp_path / "paper.tex").write_text(f"{head}\\begin{{document}}\\input{{table.tex}}\\end{{document}}", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").exists()
    assert "Overfull" not in done.stdout  # no wider than the text


def test_names_are_set_as_they_stand():
    assert escape("a_b & 5 %") == r"a\_b \& 5 \%"
    assert escape("\\") == r"\textbackslash{}"


def test_the_caption_names_what_gaps_are_taken_at_and_the_verdicts():
    caption = re.search(r"\\caption\{.*\}", tables()["digits"]).group(0)
    taken_at = ("equal examples, rate untouched", "equal updates", "paired")
    for words in (*taken_at, "Holm over", r"$\downarrow$ below the reference", "-- no verdict"):
        assert words in caption


def test_one_seed_has_no_interval():
    text = tables()["one seed"]
    assert "One seed, so no intervals." in text
    assert r"\pm" not in text.replace(r"$\pm$ half", "")
    assert "[" not in text
