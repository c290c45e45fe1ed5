"""Batches that differ within a run: those that grow instead of a decaying learning rate, and the ragged ends of epochs.

Growing batches: Smith, Kindermans and Le 2018, arXiv:1711.00489. The noise of an update goes with learning rate / batch size, so a batch
that is 1 / drop times as large has the noise of a dropped rate, in fewer updates.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from gapbench.core.errors import GapbenchError
from gapbench.suite.arithmetic import exactly
from gapbench.suite.asked import Asked
from gapbench.suite.batches import UpdateBatch, chunk_size, grown
from gapbench.suite.layers import Unknown
from gapbench.suite.regime import Regime
from gapbench.suite.schema import PhaseTable

LARGEST_SHARE = Fraction(1, 10)
"""Of the training set, that a batch grows to; from there on the rate drops, as in Smith et al. 2018."""


def phases_of(asked: Asked, regime: Regime, examples: int) -> list[PhaseTable]:
    """Returns the phases of a run, with the drops of its rate turned into larger batches where the regime says so.

    Adds a mistake where a batch would be no whole number of examples or larger than the training set, or where what else is asked does not
    go with a batch that grows.

    Args:
        asked: what the suite asks of the run.
        regime: of the run.
        examples: of the training set; 0 where that is not known.
    """
    phases: list[PhaseTable] = asked.get("phases", [])
    key = "phases"
    if regime.drops == "batch":
        if _grows(phases):
            text = f"phases with batch_size_factor and the regime {regime.label} both change the batch size; choose one of them"
            asked.problem("phases", text)
            raise Unknown("phases")
        if not examples:
            raise Unknown("phases")
        phases, key = _instead_of_drops(phases, asked.get("batch_size"), examples), "regime"
        if not _grows(phases):
            what = f"regime {regime.label} makes no batch larger: a tenth of the training set is {examples // 10} examples"
            asked.no_effect.append((what, asked.cell))
    if _grows(phases):
        _check(asked, regime, phases, examples, key)
    return phases


def batch_sizes(asked: Asked, phases: list[PhaseTable]) -> list[int]:
    """Returns the sizes of the run's full batches, its own first."""
    batch = asked.get("batch_size")
    return list(dict.fromkeys([batch, *(grown(batch, phase.batch_size_factor) for phase in phases)]))


def check_ragged(asked: Asked, ghost: int | None, examples: int) -> None:
    """Adds a mistake where the last batch of an epoch leaves batch norm a group of one example."""
    batch = asked.get("batch_size")
    rest = examples % batch
    if asked.get("tail", "stream") != "ragged" or not rest:
        return
    if ghost is None:
        if rest == 1:
            text = f"the last batch of an epoch has one of {examples} examples, and batch norm needs two or more"
            asked.problem("tail", f'{text}; choose another batch size, or tail = "stream"')
        return
    size = chunk_size(UpdateBatch(0, rest, batch), ghost)
    if size == 1 or rest % size == 1:
        groups = -(-rest // size)
        text = f"the last batch of an epoch has {rest} examples, which the released code cuts into {groups} groups of {size}, the last of 1"
        remedy = 'choose another batch or ghost batch size, or tail = "stream"'
        asked.problem("tail", f"{text}: batch norm needs two or more; {remedy}")


def _grows(phases: list[PhaseTable]) -> bool:
    return any(phase.batch_size_factor != 1.0 for phase in phases)


def _instead_of_drops(phases: list[PhaseTable], batch_size: int, examples: int) -> list[PhaseTable]:
    """Returns the phases with every drop of the rate by a factor as a batch larger by its inverse.

    From the first drop on that would make the batch larger than a tenth of the training set, drops stay drops. A rise stays a rise.
    """
    found = phases[:1]
    rate, factor = (exactly(phases[0].learning_rate_factor), Fraction(1)) if phases else (Fraction(1), Fraction(1))
    growing = True
    for before, phase in pairwise(phases):
        now, then = exactly(phase.learning_rate_factor), exactly(before.learning_rate_factor)
        change = now / then if then else None
        if change is not None and 0 < change < 1 and growing and factor / change * batch_size <= LARGEST_SHARE * examples:
            factor /= change
        else:
            growing &= change is None or change >= 1
            rate = now if change is None else rate * change
        found.append(phase.model_copy(update={"learning_rate_factor": float(rate), "batch_size_factor": float(factor)}))
    return found


def _check(asked: Asked, regime: Regime, phases: list[PhaseTable], examples: int, key: str) -> None:
    batch = asked.get("batch_size")
    before = len(asked.problems)
    for phase in phases:
        try:
            size = grown(batch, phase.batch_size_factor)
        except GapbenchError as error:
            remedy = "choose another batch size" + (" or other factors of the rate" if key == "regime" else " or factor")
            asked.problem(key, f"from start = {phase.start:g} on, {error}; {remedy}")
            continue
        if examples and size > examples:
            text = f"the batch of {size} from start = {phase.start:g} on is larger than the training set ({examples} examples)"
            asked.problem(key, f"{text}; choose a smaller factor")
    check_changing(asked, regime, key, verb="grows", updates="makes fewer updates than another of its examples", source="its phases")
    if len(asked.problems) > before:
        raise Unknown("phases")


def check_changing(asked: Asked, regime: Regime, key: str, *, verb: str, updates: str, source: str) -> None:
    """Adds a mistake for each setting that does not go with a batch that changes.

    Args:
        asked: what the suite asks of the run.
        regime: of the run.
        key: that makes the batch change.
        verb: what the batch does.
        updates: what is so of the number of updates.
        source: what that number follows from.
    """
    if asked.get("tail", "stream") != "stream":
        tail = asked.get("tail")
        asked.problem("tail", f'a batch that {verb} goes on from epoch to epoch, so tail = "{tail}" is not for it; choose "stream"')
    if regime.budget.kind == "updates":
        text = f'a run whose batch {verb} {updates}; choose a budget of kind "epochs" or "examples"'
        asked.problem("budget" if asked.settings.layer_of("budget") else key, text)
    if asked.get("learning_rate_factor", 1.0) == "momentum-gain":
        asked.problem("learning_rate_factor", f'"momentum-gain" is of epochs of equally many updates, and the batch {verb}; give a number')
    if asked.settings.layer_of("updates"):
        asked.problem("updates", f"the updates of a run whose batch {verb} follow from {source}; set epochs")
