"""The arms table in words: first the answer, then what was judged, then estimates that no verdict stands behind.

Verdict words (loses, gains, below, above, not separated) are said only of comparisons that Holm's procedure judged. Any other difference is
given as a number with its interval, and of one seed the numbers alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gapbench.analysis.cells import Cell, Panel
from gapbench.analysis.factorial import effect_sentences
from gapbench.analysis.formats import chances_text, gap_digits, interval_text, interval_words, lengths_of, listed, some
from gapbench.analysis.frames import grouped
from gapbench.analysis.rows import ArmRow, verdicts_of
from gapbench.analysis.stats import NOT_SEPARATED, Difference
from gapbench.suite.change import word_of

MANY = 6
"""More cells than this are counted instead of listed."""
LONG = 24
"""Names of more characters are not listed in an answer."""
CAUTIONS = 3
"""At most so many stand below the table; all of them are notes."""
SAID_BY_PARTS = ("baseline", "sqrt-lr", "linear-lr", "adapted")
"""Regimes that are nothing but their learning-rate rule and their budget, which are said anyway."""
ALIKE = 1.5
"""Mean train losses within this factor count as about the same."""


@dataclass(frozen=True)
class Verdict:
    """What the table says of one panel."""

    panel: Panel
    scope: str
    """Number of seeds, and what the intervals are over."""
    answer: str
    """How much the large batch loses, and what closes that: one or two sentences."""
    details: tuple[str, ...]
    """One sentence a comparison, those first that were judged."""
    cautions: tuple[str, ...]
    """What the answer depends on, the weightiest first."""


def verdicts(rows: Sequence[ArmRow]) -> tuple[Verdict, ...]:
    """Returns the verdict on every panel, in table order."""
    return tuple(_verdict(panel, own) for panel, own in grouped((row.panel, row) for row in rows).items())


def _verdict(panel: Panel, rows: Sequence[ArmRow]) -> Verdict:
    if not any(row.headline for row in rows):
        return Verdict(panel, "no run is ok yet", "No run is ok yet, so there is nothing to compare.", (), ())
    scope = f"{_counts(rows)}; {_scope(rows)}"
    effects = effect_sentences(panel)
    if all(row.reference is None for row in rows):
        lead = "There is no reference cell among these runs, so there is no batch gap and no verdict."
        return Verdict(panel, scope, lead, tuple(effects), ())
    others = [row for row in rows if row.reference is not row.cell]
    if not others:
        return Verdict(panel, scope, "There is only the reference cell, so there is nothing to compare.", (), ())
    told = [row for row in others if not _told_elsewhere(row)]
    judged = [row for row in told if row.p_holm is not None]
    main = _main(judged) or _main(told)
    answer = [_answer(main), *_rest(main, judged)] if main else []
    details = [
        *_tally(others),
        *(f"{_with(row)}{_against(row)}." for row in _telling(judged) if row is not main),
        *_matched([row for row in told if row is main or row.cell.scaling_rule == "tuned"]),
        *_without_verdict([row for row in told if row.p_holm is None and row is not main]),
        *_same_runs(others),
        *effects,
    ]
    lead = " ".join(answer) or f"No comparison can be made: {_reasons(told or others)}."
    return Verdict(panel, scope, lead, tuple(dict.fromkeys(details)), tuple(_cautions(main, told, rows)))


# The answer.


def _main(rows: Sequence[ArmRow]) -> ArmRow | None:
    """Returns the row that the suite is about: of the largest batch the tuned or else the untouched one, at equal examples if possible."""

    def rank(row: ArmRow) -> tuple[bool, ...]:
        untouched = row.panel.baseline_of(row.cell) is row.cell
        plain = row.cell.change.learning_rate_factor == 1.0
        return not row.cell.held_against, row.cell.scaling_rule == "tuned", untouched, _equal_examples(row), plain

    rows = [row for row in rows if row.batch_gap and not _reference_batch(row)] or [row for row in rows if row.batch_gap]
    largest = max((row.cell.batch_size for row in rows), default=0)
    return max((row for row in rows if row.cell.batch_size == largest), key=rank, default=None)


def _answer(row: ArmRow) -> str:
    """Says by how much the large batch is worse: sizes, budget, rate, interval, n."""
    at = f"{_budget(row)} and {_rate(row)}"
    text = f"{'as in the paper, ' if row.as_published else ''}at {at}, {_against(row, sized=True, chance=True)}."
    return text[:1].upper() + text[1:]


def _budget(row: ArmRow) -> str:
    return row.batch_gap_budget.replace("equal updates, ", "equal updates and ")


def _rate(row: ArmRow) -> str:
    rule = row.cell.scaling_rule
    known = {"untouched": "the same rate", "tuned": "tuned rates", "sqrt": "the square-root rate", "linear": "the linear rate"}
    if row.cell.change.learning_rate_factor != 1.0:
        return f"the rate {row.batch_gap_learning_rate}"
    return known.get(rule, "a rate set by hand")


def _rest(main: ArmRow, judged: Sequence[ArmRow]) -> list[str]:
    """Says which other cells of that batch size are no longer separated from the same reference, or better, and which are still worse."""
    worse, better = verdicts_of(main.metric)
    alike = [row for row in judged if row is not main and row.reference is main.reference and row.cell.batch_size == main.cell.batch_size]
    if main.verdict != worse or not alike or main.reference is None:
        return []
    name = main.reference.name
    said = {better: f"better than {name}", NOT_SEPARATED: f"not separated from {name}", worse: "still worse"}
    sides = {words: [row.cell.name for row in alike if row.verdict == verdict] for verdict, words in said.items()}
    if len(alike) > MANY or (len(alike) > 1 and any(len(row.cell.name) > LONG for row in alike)):
        counts = listed([f"{len(names)} {words}" for words, names in sides.items() if names])
        return [f"Of the {len(alike)} other cells of batch {main.cell.batch_size}, {counts}."]
    text = "; ".join(f"{words}: {some(names)}" for words, names in sides.items() if names)
    return [f"{text[:1].upper()}{text[1:]}."]


def _telling(judged: Sequence[ArmRow]) -> list[ArmRow]:
    """Returns the judged rows that get a sentence: tuned ones first; of many those of the largest batch and of the reference's."""
    tuned = sorted((row for row in judged if row.cell.scaling_rule == "tuned"), key=lambda row: -row.cell.batch_size)
    rows = [*tuned, *(row for row in judged if row.cell.scaling_rule != "tuned")]
    if len(rows) <= MANY:
        return rows
    largest = max(row.cell.batch_size for row in rows)
    return [row for row in rows if row.cell.batch_size == largest or _reference_batch(row)][: 2 * MANY]


def _cautions(main: ArmRow | None, told: Sequence[ArmRow], rows: Sequence[ArmRow]) -> list[str]:
    found = [f"{row.cell.name}: {row.verdict.removeprefix('no verdict ').strip('()')}" for row in rows if not row.cell.complete][:1]
    if main is not None and main.metric.name == "accuracy" and not any(row.cell.scaling_rule == "tuned" for row in told):
        found.append(f"No rate was tuned for a batch size{_fitted(main)}")
    if main is not None and main.alternatives:
        found.append(f"{main.cell.name}: the interval holds every rate that tuning could not tell from the best one")
    unseen = [row.power for row in told if row.verdict == NOT_SEPARATED and row.power]
    if main is not None and (chances := chances_text(unseen, main.metric)):
        found.append(f"Not separated is not equal: {chances}")
    if told and max(len(row.cell.ok_runs) for row in told) >= 2:
        found.append("Intervals are over splits of this data set" if all(row.cell.split_drawn for row in rows) else _ONE_SPLIT)
    return [f"{text}." for text in found[:CAUTIONS]]


_ONE_SPLIT = "Intervals are over seeds: other data may give another answer"


def _fitted(row: ArmRow) -> str:
    """Says how far a cell has fitted the training set beside its reference, where both have a train loss."""
    train = row.reference.mean("train_loss") if row.reference else None
    if not train or row.train_loss is None or row.reference is None:
        return ""
    times = row.train_loss.mean / train
    name = row.reference.name
    if times > ALIKE:
        return f": {row.cell.name} ends at {times:.2g} times {name}'s train loss, so part of the gap may be optimization"
    how = "a lower train loss than" if times * ALIKE < 1 else "about the train loss of"
    return f"; {row.cell.name} ends at {how} {name}"


# The details.


def _counts(rows: Sequence[ArmRow]) -> str:
    n = sorted({len(row.cell.ok_runs) for row in rows})
    return f"n = {n[0]} in every cell" if len(n) == 1 else f"n = {n[0]} to {n[-1]} by cell"


def _scope(rows: Sequence[ArmRow]) -> str:
    if max(len(row.cell.ok_runs) for row in rows) < 2:
        return "no interval from one seed"
    return "95 % intervals over splits" if all(row.cell.split_drawn for row in rows) else "95 % intervals over seeds, for this split"


def _reference_batch(row: ArmRow) -> bool:
    return row.reference is not None and row.cell.batch_size == row.reference.batch_size


def _tally(rows: Sequence[ArmRow]) -> list[str]:
    if len(rows) <= MANY:
        return []
    reference = rows[0].reference
    name = reference.name if reference and all(row.reference is reference for row in rows) else "the reference"
    metric = rows[0].metric
    found = Counter(row.verdict for row in rows)
    with_test = "with test " if metric.subject else ""
    kinds = {f"{with_test}{verdict.removesuffix('reference')}{name}": found[verdict] for verdict in verdicts_of(metric)}
    kinds |= {"not separated from it": found[NOT_SEPARATED], "without verdict": sum(row.p_holm is None for row in rows)}
    return [f"Of {len(rows)} cells, {listed([f'{count} {kind}' for kind, count in kinds.items() if count])}."]


def _with(row: ArmRow) -> str:
    """Begins a sentence with what a cell changes: "With square-root scaling and ghost batch norm 16, "."""
    means = _means(row)
    return f"{'At' if means.startswith(row.batch_gap_budget) else 'With'} {means}, "


def _means(row: ArmRow) -> str:
    """Names what a cell changes against the untouched large batch: "square-root scaling, ghost batch norm 16 and equal updates"."""
    cell, change = row.cell, row.cell.change
    rule = {"sqrt": "square-root scaling", "linear": "linear scaling", "set": "a rate set by hand", "tuned": "a tuned rate"}
    factor = f"the {word_of('learning_rate_factor', change.learning_rate_factor)}" if change.learning_rate_factor != 1.0 else None
    reset = word_of("momentum_reset", change.beside["momentum_reset"]) if "momentum_reset" in change.beside else None
    ghost = f"ghost batch norm {cell.ghost_batch_size}" if cell.ghost_batch_size else None
    budget = "" if _equal_examples(row) and cell.scaling_rule != "tuned" else _budget(row)
    if budget and row.reference and (lengths := lengths_of(cell, row.reference)).equal_updates and not lengths.equal_examples:
        budget = f"the same number of updates ({lengths.ratio})"
    regime = "" if change.regime in SAID_BY_PARTS else f"the regime {change.regime}"
    found = [part for part in (regime, rule.get(cell.scaling_rule), factor, reset, ghost, budget) if part]
    return listed(found) if found else f"{row.batch_gap_budget} and {_rate(row)}"


def _equal_examples(row: ArmRow) -> bool:
    return bool(row.batch_gap_budget) and row.reference is not None and lengths_of(row.cell, row.reference).equal_examples


def _matched(rows: Sequence[ArmRow]) -> Iterator[str]:
    """Gives the differences at equal train loss, which no verdict stands behind, as estimates; cells without one are in the notes."""
    for row in rows[:MANY]:
        matched, reference = row.matched_loss, row.reference
        if matched and matched.gap_pp and reference and row.cell.complete and reference.complete:
            text = f"At equal train loss ({matched.train_loss:.2g}), test accuracy of {reference.name} minus that of {row.cell.name}"
            yield f"{text}: {_estimate(row, matched.gap_pp)}."


def _estimate(row: ArmRow, gap: Difference) -> str:
    """Returns a difference that was not judged: its number and interval."""
    text = interval_text(gap, gap_digits(row.metric, gap.error or gap.estimate), unit=f" {row.metric.gap_unit}")
    return f"{text}, one seed" if gap.low is None else f"{text}, n = {gap.n}, not adjusted for the other comparisons"


def _reasons(rows: Sequence[ArmRow]) -> str:
    return some([f"{row.cell.name} {row.verdict.removeprefix('no verdict ')}" for row in rows])


def _without_verdict(rows: Sequence[ArmRow]) -> list[str]:
    return [f"No verdict on {_reasons(rows)}."] if rows else []


def _told_elsewhere(row: ArmRow) -> bool:
    """Whether a cell is told under another name: its very runs, which came about alike. That a tuned rate is that of a rule is news."""
    original = row.panel.original_of(row.cell)
    return original is not None and original.learning_rate_rule == row.cell.learning_rate_rule


def _same_runs(rows: Sequence[ArmRow]) -> list[str]:
    same = [f"{row.cell.name} (those of {row.same_runs_as})" for row in rows if row.same_runs_as]
    return [f"The very same runs under another name: {some(same)}."] if same else []


def _named(cell: Cell) -> str:
    """Names a cell by its batch size: "batch 512 (LB)"."""
    return f"batch {cell.batch_size} ({cell.name})" if cell.arm else cell.name


def _against(row: ArmRow, *, sized: bool = False, chance: bool = False) -> str:
    """Says a batch gap so that the interval has the sign of the words: "LB loses 0.64 pp against SB (95 % interval 0.38 to ...)".

    Of losses: "LB has a test loss higher by 0.12 nats than SB (...)". With `chance`, where it is not separated, also what would have been
    seen. Of one seed only the numbers.
    """
    metric, gap, reference = row.metric, row.batch_gap, row.reference
    assert gap is not None  # only rows that have one come here
    assert reference is not None
    own, other = (_named(cell) if sized else cell.name for cell in (row.cell, reference))
    if row.p_holm is None:
        return f"{own} {_reached(row.cell, row)}, {other} {_reached(reference, row)} ({_unjudged(row)})"
    worse, digits = gap.estimate >= 0, gap_digits(metric, gap.error or gap.estimate)
    size, words = f"{abs(gap.estimate):.{digits}f} {metric.gap_unit}", interval_words(gap, digits)
    if metric.subject:
        side = f"test {metric.subject} {'higher' if worse == (metric.direction == 'lower') else 'lower'} by {size}"
        found = f"{own} has a {side} than {other}"
    else:
        side = f"{size} {'below' if worse else 'above'}"
        found = f"{own} {'loses' if worse else 'gains'} {size} against {other}"
    if row.separated:
        return f"{found} ({words})"
    chances = chances_text([row.power], metric) if row.power and chance else ""
    return f"{own} is not separated from {other} ({'; '.join(part for part in (side, words, chances) if part)})"


def _reached(cell: Cell, row: ArmRow) -> str:
    mean, metric = cell.mean(row.metric.column("test")), row.metric
    return "has no result" if mean is None else f"reaches {metric.shown(mean):.4g} {metric.unit}"


def _unjudged(row: ArmRow) -> str:
    return "one seed, no interval" if row.batch_gap and row.batch_gap.low is None else row.verdict


def sentences(found: Iterable[Verdict]) -> list[str]:
    """Returns all sentences: of each panel the answer, what it is of, and the details; what holds for every panel once."""
    parts = [sentence for one in found for sentence in (one.answer, f"{one.panel.title}: {one.scope}.", *one.details, *one.cautions)]
    return list(dict.fromkeys(parts)) or ["No run is planned."]
