"""Accuracy at equal final train loss, read between lengths: oracles, and a simulation of what its verdicts claim."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.interpolate import BarycentricInterpolator, KroghInterpolator

from gapbench.analysis.cells import Cell, Panel, Run
from gapbench.analysis.equal_loss import EqualLoss, equal_loss_table, equal_losses, families, lagrange, lagrange_slopes, reading
from gapbench.core.events import Outcome
from gapbench.suite.change import Change

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SB = np.log([0.0148, 0.0048, 0.00102, 0.00024, 0.00007, 0.00004])
LB = np.log([0.28, 0.098, 0.0198, 0.0038, 0.0017, 0.00095])
"""Final losses of the digits suite."""


def true_accuracy(log_loss: np.ndarray) -> np.ndarray:
    """A smooth curve near that of the digits suite, in percent."""
    return 98.6 - 1.1 * np.exp(0.55 * (log_loss + 6))


def arm(name: str, log_losses: np.ndarray, accuracies: np.ndarray, *, split_drawn: bool, reference: bool = False) -> list[Cell]:
    """The cells of one arm; log losses and accuracies [length, seed]."""
    cells = []
    for length, losses, percents in zip(LENGTHS, log_losses, accuracies, strict=False):
        ends = [{"train_loss": float(np.exp(loss)), "test_accuracy": percent / 100} for loss, percent in zip(losses, percents, strict=True)]
        runs = tuple(Run(f"{name} {length} {seed}", seed, seed, Outcome.OK, end) for seed, end in enumerate(ends))
        words = {"arm": name, "budget": f"budget {length:g}x epochs"}
        own = {"name": ", ".join(words.values()), "arm": name, "reference": reference and length == 1, "words": words, "runs": runs}
        budget = {"planned_updates": int(1000 * length), "planned_examples": int(16000 * length)}
        cells.append(Cell(**SAME, **own, **budget, split_drawn=split_drawn))
    return cells


SAME = {
    "order": 0, "batch_size": 16, "ghost_batch_size": None, "learning_rate": 0.1, "change": Change(), "reference_batch_size": 16,
    "reference_updates": 1000, "reference_examples": 16000, "train_examples": 900,
}  # fmt: skip


def drawn(generator: np.random.Generator, gap: float = 0.0, *, seeds: int = 8, split_drawn: bool = True) -> Panel:
    """An arm LB that is `gap` percentage points below SB at every loss, and ends at higher losses."""
    shared = generator.normal(0.0, 0.35, seeds) if split_drawn else 0.0
    cells: list[Cell] = []
    for name, means, lost in (("SB", SB, 0.0), ("LB", LB, gap)):
        losses = means[:, None] + generator.normal(0.0, 0.3, (len(means), seeds))
        accuracies = true_accuracy(losses) - lost + shared + generator.normal(0.0, 0.35, (len(means), seeds))
        cells += arm(name, losses, accuracies, split_drawn=split_drawn, reference=name == "SB")
    return Panel("digits", "digits", "{}", "mlp", "{}", "digits", tuple(cells))


def judged(panel: Panel) -> EqualLoss:
    (row,) = [row for row in equal_losses([panel]) if row.judged]
    return row


@pytest.mark.parametrize("split_drawn", [True, False], ids=["paired", "welch"])
def test_accuracy_that_depends_on_final_loss_alone_has_no_gap_in_95_of_100_draws(split_drawn):
    generator = np.random.default_rng(1)
    verdicts = [judged(drawn(generator, split_drawn=split_drawn)).verdict for _ in range(2000)]
    assert verdicts.count("not separated") >= 0.94 * 2000  # 95 % less two standard errors of 2,000 draws


@pytest.mark.parametrize("split_drawn", [True, False], ids=["paired", "welch"])
def test_a_gap_that_was_put_in_is_found_and_its_interval_covers_it(split_drawn):
    generator = np.random.default_rng(2)
    rows = [judged(drawn(generator, 0.6, split_drawn=split_drawn)) for _ in range(500)]
    assert [row.verdict for row in rows].count("below reference") >= 400
    covered = sum(row.gap_pp.low <= 0.6 <= row.gap_pp.high for row in rows)
    assert 0.92 * 500 <= covered <= 0.98 * 500


def test_an_arm_that_fits_less_far_is_read_where_it_ends_and_not_at_the_end_of_the_other():
    row = judged(drawn(np.random.default_rng(3), seeds=200))
    assert row.train_loss == pytest.approx(0.00102, rel=0.1)  # the reference cell's, which LB passes between 4 and 8 times the epochs
    assert abs(row.gap_pp.estimate) < 0.1
    at_one_length = true_accuracy(SB[2]) - true_accuracy(LB[2])
    assert at_one_length > 1.0  # what a comparison at equal examples would call a gap


def test_polynomials_are_scipys():
    rng = np.random.default_rng(4)
    nodes, values = np.sort(rng.normal(size=4)) * 2, rng.normal(size=4)
    at = float(nodes.mean())
    assert lagrange(nodes, at) @ values == pytest.approx(float(BarycentricInterpolator(nodes, values)(at)))
    slopes = KroghInterpolator(nodes, values).derivative(nodes)
    assert lagrange_slopes(nodes) @ values == pytest.approx(slopes)


def test_the_error_of_a_reading_is_that_of_repeated_draws():
    generator = np.random.default_rng(5)
    found = []
    for _ in range(400):
        panel = drawn(generator, seeds=6, split_drawn=False)
        found.append(judged(panel).gap_pp)
    spread = np.std([gap.estimate for gap in found], ddof=1)
    assert np.mean([gap.error for gap in found]) == pytest.approx(spread, rel=0.12)


def test_a_reading_at_the_loss_of_a_length_is_its_mean():
    (own, _) = families(drawn(np.random.default_rng(6)))
    level = float(np.mean([np.log(value) for value in own.cells[2].column("train_loss").values()]))
    read = sum(weight * np.mean([*sample.values()]) for sample, weight in reading(own.cells, level))
    assert read == pytest.approx(100 * np.mean([*own.cells[2].column("test_accuracy").values()]))


def constant(values: Sequence[float]) -> np.ndarray:
    return np.array(values)[:, None] + np.zeros((len(values), 3))


def test_arms_whose_losses_do_not_overlap_are_said_and_get_no_verdict():
    cells = arm("SB", constant([-5.0, -6.0, -7.0]), constant([97.0, 97.5, 98.0]), split_drawn=True, reference=True)
    cells += arm("LB", constant([-1.0, -2.0, -3.0]), constant([90.0, 92.0, 93.0]), split_drawn=True)
    table = equal_loss_table([Panel("digits", "digits", "{}", "mlp", "{}", "digits", tuple(cells))])
    assert table.sentences == ("LB cannot be read at a final train loss of SB: their final losses do not overlap.",)
    assert table.rows[0][-1] == "no verdict (their final losses do not overlap)"


def test_one_length_or_two_are_no_family_and_make_no_table():
    panel = drawn(np.random.default_rng(7))
    short = Panel("digits", "digits", "{}", "mlp", "{}", "digits", tuple(cell for cell in panel.cells if cell.planned_updates <= 500))
    assert families(short) == ()
    assert equal_loss_table([short]) is None
