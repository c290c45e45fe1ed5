"""What to know when reading the arms table: how its intervals are made, why a number is missing, what to be careful about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import stdev

from gapbench import catalog
from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import Curves
from gapbench.analysis.formats import chances_text, counted, estimate_text, gap_digits, some
from gapbench.analysis.frames import grouped
from gapbench.analysis.rows import ArmRow, comparisons
from gapbench.analysis.stats import CHANCE, t_interval
from gapbench.catalog import Metric

FEW = 6
"""Below so many seeds Welch's approximation is noticeably inexact (measured by simulation in the tests)."""
MANY = 8
"""More cells than this are told as a range."""
CLIPPED = 0.01
"""A cell clipped in more than this share of its updates after the first 5 % is flagged: clipping then acts as a learning rate
that depends on the batch size."""


def notes(rows: Sequence[ArmRow]) -> list[str]:
    """Returns the notes under the table, the general ones first."""
    kinds = (_intervals, _alternatives, _examples, _power, _quantities, _references, _matched, _shares, clipped, _published)
    return [note for kind in kinds for note in kind(rows)]


def _quantities(rows: Sequence[ArmRow]) -> Iterator[str]:
    """Says what batch gaps and losses are, of networks that classify and of those that do not."""
    unlabelled = [row for row in rows if row.metric.name != "accuracy"]
    if len(unlabelled) < len(rows) or not rows:
        yield (
            "Batch gap: test accuracy of the reference cell minus that of the cell, in percentage points, so positive is worse; budgets "
            "are against the reference cell. Losses are mean cross-entropy in nats; train loss is in evaluation mode, without augmentation."
        )
    if unlabelled:
        yield (
            "Batch gap, nats: test loss of the cell minus that of the reference cell, so positive is worse; budgets are against the "
            "reference cell. These networks explain images and not labels, so there is no accuracy. "
            "Their loss is in nats for a whole image, under a density of normalized pixels: only equal normalizations can be compared."
        )


def _intervals(rows: Sequence[ArmRow]) -> Iterator[str]:
    headlines = [row.headline for row in rows if row.headline]
    if not headlines:
        return
    if all(headline.n < 2 for headline in headlines):
        yield "There is no interval from one seed, and so no verdict."
        return
    text = "Each interval is pointwise: 95 % by itself, Student t over seeds"
    methods = {row.batch_gap.method for row in rows if row.batch_gap and row.batch_gap.low is not None}
    if "paired" in methods:
        text += ", each of which draws its own split, so that differences are paired by split"
    elif methods:
        text += " on one fixed split, so that it says nothing about another split; differences are Welch's"
    text += ". n is the number of runs that are ok."
    if family := comparisons(rows):
        text += (
            f" Verdicts, unlike intervals, hold at 5 % together, by Holm's procedure over the {counted(family, 'comparison')} of this "
            "table. So an interval may leave out zero and its cell not be separated."
        )
        if any(row.gap_in("pp") for row in rows):
            text += " Matched-loss gaps and intervals over test examples stand outside that procedure."
    yield text
    yield from _inexact(rows)


def _alternatives(rows: Sequence[ArmRow]) -> Iterator[str]:
    """Says whose interval reaches over several rates, because tuning could not tell them apart."""
    wide = [row for row in rows if row.batch_gap and row.alternatives]
    if wide:
        yield (
            f"Tuning could not tell some rates from the best one, so cells train at the ends of that range, too (of {len(wide)} of "
            f"{counted(len(rows), 'row')}). Batch gap: at the best rates. Its interval holds those of every pair of rates, and a cell is "
            "separated only where every pair is."
        )


def _inexact(rows: Sequence[ArmRow]) -> Iterator[str]:
    """Says how far Welch's test is off where it is, and what decides it."""
    judged = [row for row in rows if row.p_holm is not None and row.batch_gap and row.batch_gap.method == "welch"]
    n = min((row.batch_gap.n for row in judged if row.batch_gap), default=FEW)
    if n >= FEW:
        return
    spreads = [[stdev(cell.column(row.metric.column("test")).values()) for cell in (row.cell, row.reference) if cell] for row in judged]
    ratios = [own / reference for own, reference in spreads if reference > 0]
    here = f" Here they have {min(ratios):.2g} to {max(ratios):.2g} times." if ratios else ""
    yield (
        f"At n = {n} Welch's test is inexact: where spreads are alike, a table without any gap gets a verdict with a probability of 2 to "
        f"4 % and not 5 %. Where every cell has 4 to 12 times the reference cell's spread, of 5 to 12 %, the more cells the higher.{here}"
    )


def _examples(rows: Sequence[ArmRow]) -> Iterator[str]:
    found = [(row.cell, row.batch_gap_examples) for row in rows if row.batch_gap_examples is not None and row.cell.ok_runs]
    if counts := [one.examples for _, one in found if one.low is not None and one.examples]:
        drawn = all(cell.split_drawn for cell, one in found if one.low is not None)
        seeds = "other splits of this data set and other seeds would give" if drawn else "other seeds would give on this test set"
        number = " to ".join(dict.fromkeys(f"{count:,}" for count in (min(counts), max(counts))))
        yield (
            f"Two intervals of the batch gap answer two questions; neither contains the other. Batch gap: what {seeds}. Other test set: "
            f"what these same networks would give on other test examples, compared example by example ({number} of them)."
        )
    reasons = _named((one.reason, cell.name) for cell, one in found if one.reason != "one seed")
    yield from (f"No interval over test examples for {names}: {reason}." for reason, names in reasons.items())


def _power(rows: Sequence[ArmRow]) -> Iterator[str]:
    """What the comparisons of the table could have seen, one by one where they are few."""
    judged = [(row, row.power) for row in rows if row.power is not None]
    if not judged:
        return
    if len(judged) <= MANY:
        each = ", ".join(f"{row.cell.name} {_smallest(row.metric, [one.smallest_gap])}{_if_not_separated(row)}" for row, one in judged)
    else:
        gaps = {metric: [one.smallest_gap for row, one in judged if row.metric is metric] for metric in catalog.metrics().values()}
        each = f"{' and '.join(_smallest(metric, own) for metric, own in gaps.items() if own)} by cell"
    n = min(row.batch_gap.n for row, _ in judged if row.batch_gap)
    low, high = spread_factors(n)
    together = "judged together as the verdicts are"
    chances = _chances([row for row, _ in judged])
    told = f"{chances}, {together}. The smallest gap" if chances else f"{together}, the smallest gap"
    yield (
        f"Power: with this n and the measured spreads taken as the true ones, {told} seen with {100 * CHANCE:.0f} % is {each}. Smaller "
        f"gaps may well be there and not be separated. A true spread may be {low:.1f} to {high:.1f} times the one measured at n = {n}."
    )


def _chances(rows: Sequence[ArmRow]) -> str:
    """Returns with what chance these rows would have shown a notable gap; empty where no size of a gap is notable."""
    notable = [row for row in rows if row.metric.notable_gap is not None]
    return chances_text([row.power for row in notable if row.power], notable[0].metric) if notable else ""


def _smallest(metric: Metric, gaps: Sequence[float]) -> str:
    """Returns the smallest gap that is seen, or the range of several."""
    texts = [f"{end:.{gap_digits(metric, end)}f}" for end in (min(gaps), max(gaps))]
    return f"{' to '.join(dict.fromkeys(texts))} {metric.gap_unit}"


def _if_not_separated(row: ArmRow) -> str:
    if row.separated:
        return ""
    chance = _chances([row])
    return f" (not separated; {chance})" if chance else " (not separated)"


def spread_factors(n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a true standard deviation over the one measured from `n` >= 2 normal values."""
    from scipy.special import chdtri

    low, high = (float(((n - 1) / chdtri(n - 1, tail)) ** 0.5) for tail in (0.025, 0.975))
    return low, high


def _references(rows: Sequence[ArmRow]) -> Iterator[str]:
    """Names the cells that are held against another one than the reference cell."""
    others = _named((row.reference.name, row.cell.name) for row in rows if row.reference is not None and not row.reference.reference)
    if others:
        yield f"Not against the reference cell are held {some([f'{own} (against {name})' for name, own in others.items()])}."


def _matched(rows: Sequence[ArmRow]) -> Iterator[str]:
    matched = [(row.cell, row.matched_loss) for row in rows if row.matched_loss is not None]
    if found := [one for _, one in matched if one.gap_pp]:
        text = "Matched-loss gap: the same difference where both cells' smoothed train loss first reaches the lowest level that every seed"
        running = any(one.statistics == "running" for one in found)
        yield f"{text} of both reaches{', with running batch norm statistics, which flatter small batches early' if running else ''}."
    reasons = _named((one.reason, cell.name) for cell, one in matched if cell.ok_runs)
    yield from (f"No matched-loss gap for {names}: {reason}." for reason, names in reasons.items())


def _shares(rows: Sequence[ArmRow]) -> Iterator[str]:
    if any(row.share_closed for row in rows):
        yield (
            "Share of gap closed: of the batch gap of the cell of the same batch size with nothing adapted, where that gap is itself "
            "separated; interval by Fieller. Training longer than the reference can go beyond it: compare with a reference trained as long."
        )


def clipped(rows: Sequence[ArmRow]) -> Iterator[str]:
    """Yields a note on every cell whose gradient was clipped often after the first 5 % of its updates."""
    for row in rows:
        share = row.cell.mean("clipped_share_late")
        if share is not None and share > CLIPPED:
            late = f"{row.cell.name}: the gradient was clipped in {100 * share:.2g} % of the updates after the first 5 %"
            yield f"{late}, which lowers the learning rate."


def _published(rows: Sequence[ArmRow]) -> Iterator[str]:
    if published := [(row, row.published) for row in rows if row.published]:
        text = f"Paper: {'; '.join(dict.fromkeys(f'{value.source}; {value.how}' for _, value in published))}."
        if any(row.prediction for row, _ in published):
            text += " Beside it: where one new run of ours falls with probability 95 %, which a single published run is to be held against."
        yield text
    other = _named((row.not_comparable, row.cell.name) for row in rows)
    yield from (f"Not comparable with the paper's number: {names} ({reason})." for reason, names in other.items())


def _named(cells: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the names of cells by what is said of them; cells of which nothing is said are left out."""
    return {said: some(names) for said, names in grouped(cells).items() if said}


# What multiplicative noise came to: the measured covariance of noisy gradients over that of the reference batch size.

METRIC = "gradient_covariance_ratio"


def noise_notes(cells: Sequence[Cell], curves: Curves) -> list[str]:
    """Returns a note on the cells with multiplicative noise; none where there are none. A run counts with its mean over training."""
    measured = curves.of(METRIC)
    said = []
    for cell in cells:
        values = {run.run_id: float(measured[run.run_id].values.mean()) for run in cell.ok_runs if run.run_id in measured}
        if estimate := t_interval([*cell.sample(values).values()]):
            said.append(f"{cell.name} {estimate_text(estimate, 1, 2)}")
    if not said:
        return []
    return [
        "Covariance of noisy gradients (trace) over that of gradients of the reference batch size at the same weights, which is 1 where "
        f"noise does what it is for: {', '.join(said)}."
    ]
