"""The arms table in words. Tuned gaps come first, then the matched-loss gap, then the untouched gap "as in the paper".

That order is deliberate: an untouched gap mixes optimization with generalization, because the large batch has often just not
fitted the training set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.factorial import effect_sentences
from gapbench.analysis.formats import chances_text, gap_digits, interval_words, lengths_of, listed, ratio_text
from gapbench.analysis.paper import PRESETS
from gapbench.analysis.rows import ArmRow, verdicts_of
from gapbench.analysis.stats import NOT_SEPARATED, Difference, Power, power
from gapbench.suite.change import word_of

MANY = 6
"""More cells than this are counted instead of listed."""
NONE_TUNED = "No learning rate was tuned for a batch size here, so batch gaps mix optimization with generalization."
SAID_BY_PARTS = ("baseline", "sqrt-lr", "linear-lr", "adapted")
"""Regimes that are nothing but their learning-rate rule and their budget, which are said anyway."""
ALIKE = 1.5
"""Mean train losses within this factor count as about the same."""


def sentences(rows: Sequence[ArmRow]) -> list[str]:
    """Returns the verdict on every panel, as a few sentences each; the first names panel, n and what the intervals are over."""
    panels: dict[Panel, list[ArmRow]] = {}
    for row in rows:
        panels.setdefault(row.panel, []).append(row)
    found = [sentence for panel, own in panels.items() for sentence in (*_panel(own), *effect_sentences(panel))]
    return list(dict.fromkeys(found)) or ["No run is planned."]  # what holds for every panel is said once


def _panel(rows: Sequence[ArmRow]) -> list[str]:
    title = rows[0].panel.title
    if not any(row.headline for row in rows):
        return [f"{title}: no run is ok yet, so there is nothing to compare."]
    head = f"{title}: {_counts(rows)}; {_scope(rows)}."
    if all(row.reference is None for row in rows):
        return [head, "There is no reference cell among these runs, so there is no batch gap and no verdict."]
    others = [row for row in rows if row.reference is not row.cell]
    if not others:
        return [head, "There is only the reference cell, so there is nothing to compare."]
    told = [row for row in others if not _told_elsewhere(row)]
    if rows[0].metric.name != "accuracy":
        by_loss = "Nothing is classified here, so cells are compared by test loss."
        return [head, by_loss, *_tally(others), *_by_loss(told), *_same_runs(others)]
    judged = [row for row in told if row.p_holm is not None]
    baseline = _untouched_baseline(told)
    return [
        head,
        *_tally(others),
        *_tuned(judged),
        *_matched([row for row in told if row is baseline or row.cell.scaling_rule == "tuned"]),
        *([] if any(row.cell.scaling_rule == "tuned" for row in others) else [NONE_TUNED]),
        *(_as_in_the_paper(row) for row in judged if row is baseline),
        *_adapted([row for row in judged if row is not baseline and row.cell.scaling_rule != "tuned"]),
        *_without_verdict([row for row in told if row.p_holm is None]),
        *_same_runs(others),
    ]


def _by_loss(rows: Sequence[ArmRow]) -> list[str]:
    """Says the test loss of every cell against its reference, the largest batches first where they are many."""
    told = [row for row in rows if row.p_holm is not None or row.verdict == "no verdict (one seed)"]
    out = [
        f"At {row.batch_gap_budget} and the rate {row.batch_gap_learning_rate}, {_against(row, sized=True)}."
        for row in sorted(told, key=lambda row: -row.cell.batch_size)[:MANY]
    ]
    return out + _without_verdict([row for row in rows if row not in told])


def _counts(rows: Sequence[ArmRow]) -> str:
    n = sorted({len(row.cell.ok_runs) for row in rows})
    return f"n = {n[0]} in every cell" if len(n) == 1 else f"n = {n[0]} to {n[-1]} by cell"


def _scope(rows: Sequence[ArmRow]) -> str:
    if max(len(row.cell.ok_runs) for row in rows) < 2:
        return "no interval from one seed"
    return "95 % intervals over splits" if all(row.cell.split_drawn for row in rows) else "95 % intervals over seeds, for this split"


def _untouched_baseline(rows: Iterable[ArmRow]) -> ArmRow | None:
    """The cell the paper calls LB: the largest batch with nothing adapted, at the recipe's own number of examples if there is one."""

    def rank(row: ArmRow) -> tuple[bool, bool, int]:
        return not row.cell.held_against, _equal_examples(row), row.cell.batch_size

    found = [row for row in rows if row.panel.baseline_of(row.cell) is row.cell and not _reference_batch(row)]
    return max(found, key=rank, default=None)


def _reference_batch(row: ArmRow) -> bool:
    return row.reference is not None and row.cell.batch_size == row.reference.batch_size


def _tally(rows: Sequence[ArmRow]) -> list[str]:
    if len(rows) <= MANY:
        return []
    reference = rows[0].reference
    name = reference.name if reference and all(row.reference is reference for row in rows) else "the reference"
    metric = rows[0].metric
    verdicts = Counter(row.verdict for row in rows)
    with_test = "with test " if metric.subject else ""
    kinds = {f"{with_test}{verdict.removesuffix('reference')}{name}": verdicts[verdict] for verdict in verdicts_of(metric)}
    kinds |= {"not separated from it": verdicts[NOT_SEPARATED], "without verdict": sum(row.p_holm is None for row in rows)}
    chances = chances_text([row.power for row in rows if row.verdict == NOT_SEPARATED and row.power], metric)
    seen = f"; in those not separated, {chances}" if chances else ""
    return [f"Of {len(rows)} cells, {listed([f'{count} {kind}' for kind, count in kinds.items() if count])}{seen}."]


def _tuned(judged: Sequence[ArmRow]) -> list[str]:
    tuned = sorted((row for row in judged if row.cell.scaling_rule == "tuned"), key=lambda row: -row.cell.batch_size)
    return [f"At {row.batch_gap_budget} and a tuned rate, {_against(row, sized=True)}." for row in tuned[:MANY]]


def _matched(rows: Sequence[ArmRow]) -> list[str]:
    out = []
    for row in rows[:MANY]:
        matched, reference = row.matched_loss, row.reference
        if matched is None or reference is None or not row.cell.complete or not reference.complete:
            continue
        if matched.gap_pp is None or matched.train_loss is None:
            out.append(f"{row.cell.name} has no matched-loss gap ({matched.reason}).")
        else:
            gap = matched.gap_pp
            alone = gap.low is None or gap.high is None or gap.low * gap.high > 0  # by itself: it is in no family of Holm's
            tuned = row.cell.scaling_rule == "tuned" and row.cell.change.learning_rate_factor == 1.0
            rate = "a tuned rate" if tuned else f"the rate {row.batch_gap_learning_rate}"
            statement = _statement(row, _named(row.cell), gap, alone, power(gap, asked=row.metric.notable_gap))
            out.append(f"At equal train loss ({matched.train_loss:.2g}) and {rate}, {statement}.")
    return out


def _as_in_the_paper(row: ArmRow) -> str:
    head = "As in the paper, at" if row.cell.preset in PRESETS else "At"
    text = f"{head} {row.batch_gap_budget} and the rate untouched, {_against(row, sized=True)}"
    reference = row.reference
    train, test = (reference.mean("train_loss"), reference.mean("test_loss")) if reference else (None, None)
    if reference is None or train is None or test is None or row.train_loss is None or row.test_loss is None:
        return text + "."
    own = row.train_loss.mean
    if train > 0 and own > ALIKE * train:
        beside = f"{own / train:.2g} times {reference.name}'s, so part of this is optimization"
    else:
        beside = f"{'lower than' if own * ALIKE < train else 'about'} {reference.name}'s"
    return f"{text}; its train loss is {beside} (test loss {row.test_loss.mean:.3g} against {test:.3g})."


def _adapted(rows: Sequence[ArmRow]) -> list[str]:
    """Shares of the gap closed, then every cell above the reference, beside the reference trained as long, then the rest."""
    if len(rows) > MANY:
        largest = max(row.cell.batch_size for row in rows)
        rows = [row for row in rows if row.cell.batch_size == largest or _reference_batch(row)][: 2 * MANY]
    closing = [row for row in rows if row.share_closed is not None and row.share_closed.estimate <= 1]
    out = []
    for baseline in dict.fromkeys(row.share_baseline for row in closing):
        own = [(row, row.share_closed) for row in closing if row.share_closed and row.share_baseline == baseline]
        shares = [f"{ratio_text(share)} by {_means(row)} ({row.cell.name})" for row, share in own]
        wider = " (negative: it grew)" if any(share.estimate < 0 for _, share in own) else ""
        out.append(f"Of the batch gap of {baseline}, the share closed is {'; '.join(shares)}{wider}.")
    rest = sorted((row for row in rows if row not in closing), key=_reference_batch)
    return out + [f"With {_means(row)}{_left_open(row)}, {_against(row)}." for row in rest]


def _means(row: ArmRow) -> str:
    """Names what a cell changes against the untouched large batch: "square-root scaling, ghost batch norm 16 and equal updates"."""
    cell, change = row.cell, row.cell.change
    rule = {"sqrt": "square-root scaling", "linear": "linear scaling", "set": "a rate set by hand"}.get(cell.scaling_rule)
    factor = f"the {word_of('learning_rate_factor', change.learning_rate_factor)}" if change.learning_rate_factor != 1.0 else None
    reset = word_of("momentum_reset", change.beside["momentum_reset"]) if "momentum_reset" in change.beside else None
    ghost = f"ghost batch norm {cell.ghost_batch_size}" if cell.ghost_batch_size else None
    budget = "" if _equal_examples(row) else row.batch_gap_budget
    if budget and row.reference and (lengths := lengths_of(cell, row.reference)).equal_updates:
        budget = f"the same number of updates ({lengths.ratio})"
    regime = "" if change.regime in SAID_BY_PARTS else f"the regime {change.regime}"
    found = [part for part in (regime, rule, factor, reset, ghost, budget) if part]
    return listed(found) if found else f"{row.batch_gap_budget} and the rate {row.batch_gap_learning_rate}"


def _equal_examples(row: ArmRow) -> bool:
    return bool(row.batch_gap_budget) and row.reference is not None and lengths_of(row.cell, row.reference).equal_examples


def _left_open(row: ArmRow) -> str:
    """Names budget and rate where what the cell changes does not: a batch gap always says both."""
    budget = f"at {row.batch_gap_budget}" if _equal_examples(row) else ""
    rate = "the rate untouched" if row.cell.change.rate_untouched else ""
    found = [part for part in (budget, rate) if part]
    return f", {' and '.join(found)}" if found and _means(row) != f"{row.batch_gap_budget} and the rate untouched" else ""


def _without_verdict(rows: Sequence[ArmRow]) -> list[str]:
    named = [f"{row.cell.name} {row.verdict.removeprefix('no verdict ')}" for row in rows]
    return [f"No verdict on {_some(named)}."] if rows else []


def _told_elsewhere(row: ArmRow) -> bool:
    """Whether a cell is told under another name: its very runs, which came about alike. That a tuned rate is that of a rule is news."""
    original = row.panel.original_of(row.cell)
    return original is not None and original.learning_rate_rule == row.cell.learning_rate_rule


def _same_runs(rows: Sequence[ArmRow]) -> list[str]:
    same = [f"{row.cell.name} (those of {row.same_runs_as})" for row in rows if row.same_runs_as]
    return [f"The very same runs under another name: {_some(same)}."] if same else []


def _some(names: Sequence[str]) -> str:
    """Lists names; of many the first few and how many more."""
    return listed([*names[:MANY], *([f"{len(names) - MANY} more"] if len(names) > MANY else [])])


def _against(row: ArmRow, *, sized: bool = False) -> str:
    assert row.batch_gap is not None  # only rows that have one come here
    return _statement(row, _named(row.cell) if sized else row.cell.name, row.batch_gap, row.separated, row.power)


def _named(cell: Cell) -> str:
    """Names a cell by its batch size: "batch 512 (LB)"."""
    return f"batch {cell.batch_size} ({cell.name})" if cell.arm else cell.name


def _statement(row: ArmRow, name: str, gap: Difference, separated: bool, seen: Power | None) -> str:
    """Says a difference so that the interval has the sign of the words: "LB loses 0.64 pp against SB (95 % interval 0.38 to ...)".

    Of losses: "LB has a test loss higher by 0.12 nats than SB (...)". Where it is not separated, the sentence also says what would have
    been.
    """
    metric, worse, reference = row.metric, gap.estimate >= 0, row.reference.name if row.reference else "the reference"
    digits = gap_digits(metric, gap.error or gap.estimate)
    size, words = f"{abs(gap.estimate):.{digits}f} {metric.gap_unit}", interval_words(gap, digits)
    if metric.subject:
        side = f"test {metric.subject} {'higher' if worse == (metric.direction == 'lower') else 'lower'} by {size}"
        found = f"{name} has a {side} than {reference}"
    else:
        side = f"{size} {'below' if worse else 'above'}"
        found = f"{name} {'loses' if worse else 'gains'} {size} against {reference}"
    if separated or gap.low is None:
        return f"{found} ({words})"
    chances = chances_text([seen], metric) if seen else ""
    return f"{name} is not separated from {reference} ({'; '.join(part for part in (side, words, chances) if part)})"
