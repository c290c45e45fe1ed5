"""The curves read off the paper's figures, and the exponents that they give."""

from __future__ import annotations

import pytest

from gapbench.analysis.diffusion.laws import published_exponents, published_sentences
from gapbench.catalog import published
from gapbench.core.errors import UnknownNameError


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
