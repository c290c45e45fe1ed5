"""What can be concluded of how the weights walked: sentences, each with its interval, or "not separated"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapbench.analysis.diffusion.collapse import Bounded, ratio_at
from gapbench.analysis.diffusion.ensemble import Walks
from gapbench.analysis.diffusion.exponents import DISTANCE, LOG, POWER, Exponent, Predictions
from gapbench.analysis.diffusion.orders import QUANTITIES, jackknife_error
from gapbench.analysis.diffusion.twins import Twin
from gapbench.analysis.diffusion.window import CLIPPED, MEMORY
from gapbench.analysis.formats import range_text, signed
from gapbench.analysis.intervals import LEVEL, Estimate, t_quantile

if TYPE_CHECKING:
    from gapbench.analysis.diffusion.study import PanelStudy

UPDATES = "updates"
UNKNOWN = "not determined, for it is not separated from 0 in one of the two"


def sentences_of(panel: PanelStudy) -> list[str]:
    """Returns the sentences of a panel: window, comparisons, drift and spread, exponents, predictions, then what is flagged or missing.

    Of a twin only what its original is compared with is said: by itself it is that cell again.
    """
    if panel.common is None:
        return [f"{name}: {reason}." for name, reason in panel.left_out.items()]
    twins = {twin.perturbed.cell.name for twin in panel.twins}
    told = [walks for walks in panel.walks if walks.cell.name not in twins]
    out = [_window(panel)]
    out += [text for walks in told for text in _against(panel, walks)]
    out += [_share(walks) for walks in told if walks.decomposition is not None]
    out += [_twin(twin) for twin in panel.twins if twin.last is not None]
    out += [text for walks in told for text in _exponents(walks, panel.exponents[walks.cell.name])]
    out += [_prediction(walks, panel.predictions[walks.cell.name]) for walks in told]
    out += [text for walks in told for text in _flags(walks)]
    out += [f"{walks.cell.name}: drift and spread are not computed: {walks.reason}." for walks in panel.walks if walks.reason]
    return out + [f"{name}: {reason}." for name, reason in panel.left_out.items()]


def _window(panel: PanelStudy) -> str:
    assert panel.common is not None
    last = panel.common.last
    ends = {min(walks.window.full.last, walks.window.clean_last) for walks in panel.walks}
    why = "where the first rate falls, or training ends, or weight decay begins to bend a walk" if last in ends else "as asked"
    return f"Cells are compared on updates {panel.common}, the window that all of them have; it ends {why}."


def _share(walks: Walks) -> str:
    found = walks.decomposition
    assert found is not None
    share = found.share[:, -1]
    error = np.hypot(float(jackknife_error(share)), share[0] * found.sketch_share)
    half = t_quantile(LEVEL, len(share) - 2) * error
    estimate = Estimate(float(share[0]), float(share[0] - half), float(share[0] + half), len(share) - 1)
    values = {name: float(np.exp(logs.value[-1])) for name, logs in found.logs.items()}
    drift = "not separated from 0" if not found.logs["drift"].separated()[-1] else f"{values['drift']:.3g}"
    return (
        f"{walks.cell.name} at update {int(found.updates[-1]):,}: total distance {values['total']:.3g}, drift {drift}, spread between "
        f"orders {values['spread']:.3g}, which is {_percent(estimate)} of the squared distance (n = {estimate.n} {walks.scope})."
    )


def _against(panel: PanelStudy, walks: Walks) -> list[str]:
    """Says how a cell's walk lies against its reference's at the end of the window and over it, and against which clock it collapses."""
    reference = panel.reference_of(walks)
    if reference is None or walks.decomposition is None or reference.decomposition is None:
        return []
    out = [text for text in (_at_the_end(panel, walks, reference),) if text]
    found = panel.collapses.get(walks.cell.name, [])
    spreads = sorted((one for one in found if one.quantity == "spread"), key=lambda one: round(one.deviation.value, 6))
    same_clocks = (walks.cell.batch_size, walks.cell.learning_rate) == (reference.cell.batch_size, reference.cell.learning_rate)
    scores = "; ".join(
        f"{_digits(one.deviation.value)} % ({range_text(100 * one.deviation.low, 100 * one.deviation.high, 0)}) against {one.clock}"
        for one in spreads
        if one.clock == UPDATES or not same_clocks
    )
    if scores:
        out.append(f"{walks.cell.name}: over the window its spread lies off that of {reference.cell.name} by {scores}.")
    return out


def _at_the_end(panel: PanelStudy, walks: Walks, reference: Walks) -> str:
    assert panel.common is not None
    mine, theirs = walks.decomposition, reference.decomposition
    assert mine is not None
    assert theirs is not None
    shared = np.intersect1d(mine.updates, theirs.updates)
    shared = shared[shared <= panel.common.last]
    if not len(shared):
        return ""
    places = int(np.searchsorted(mine.updates, shared[-1])), int(np.searchsorted(theirs.updates, shared[-1]))
    ratios = {name: ratio_at(mine.logs[name], theirs.logs[name], places) for name in QUANTITIES}
    known = {name: mine.logs[name].separated()[places[0]] and theirs.logs[name].separated()[places[1]] for name in QUANTITIES}
    parts = [f"{name} {_ratio(ratio) if known[name] else UNKNOWN}" for name, ratio in ratios.items()]
    total, spread = (_separated(ratios[name]) for name in ("total", "spread"))
    lead = "; as far from the start, but not by the same diffusion" if spread and not total else ""
    return f"{walks.cell.name} over {reference.cell.name} at update {int(shared[-1]):,}: {'; '.join(parts)}{lead}."


def _twin(twin: Twin) -> str:
    return (
        f"{twin.original.cell.name}: of its squared spread, {_percent(twin.last)} is already there between runs of one order that started "
        f"{twin.perturbation:.0e} apart, at update {int(twin.updates[-1]):,} (n = {twin.last.n if twin.last else 0} pairs)."
    )


def _ratio(ratio: Bounded) -> str:
    words = ("longer" if ratio.value > 1 else "shorter") if _separated(ratio) else "not separated"
    return f"{ratio.value:.2f} times ({range_text(ratio.low, ratio.high, 2)}), {words}"


def _separated(ratio: Bounded) -> bool:
    return not ratio.low <= 1 <= ratio.high


def _exponents(walks: Walks, found: list[Exponent]) -> list[str]:
    """Says each exponent over the common window; a reason that all quantities share is said once."""
    own = [one for one in found if one.common]
    return [_exponent(walks, one) for place, one in enumerate(own) if one.estimate or not place or one.reason != own[0].reason]


def _exponent(walks: Walks, one: Exponent) -> str:
    what = f"{walks.cell.name}: {'the distance of each run' if one.quantity == DISTANCE else f'the {one.quantity}'}"
    if one.estimate is None:
        return f"{what} on updates {one.window}: no exponent, for {one.reason}."
    estimate = one.estimate
    if estimate.low is None or estimate.high is None:
        return f"{what} grows with exponent {signed(estimate.mean, 2)} on updates {one.window} (one run: no interval)."
    named = (("the log law's 0", 0.0), ("a free walk's 0.5", 0.5))
    excluded = [label for label, value in named if not estimate.low <= value <= estimate.high]
    kept = [label for label, value in named if estimate.low <= value <= estimate.high]
    verdict = "; ".join([f"excludes {' and '.join(excluded)}"] * bool(excluded) + [f"not separated from {' or '.join(kept)}"] * bool(kept))
    return (
        f"{what} grows with exponent {signed(estimate.mean, 2)} ({range_text(estimate.low, estimate.high, 2)}) on updates {one.window} "
        f"(n = {estimate.n} {walks.scope}): {verdict}."
    )


def _prediction(walks: Walks, found: Predictions | str) -> str:
    if isinstance(found, str):
        return f"{walks.cell.name}: no law is tried beyond what it was fitted to: {found}."
    errors = ", ".join(f"{name} {100 * float(np.abs(values).mean()):.1f} %" for name, values in found.errors.items())
    span = f"fitted to updates {found.fitted}, at update {found.last:,}"
    preference = found.preference
    if preference is None or preference.low is None or preference.high is None:
        return f"{walks.cell.name}: mean error of the distance, {span}: {errors} (one run: no preference)."
    better, worse, sign = (LOG, POWER, 1) if preference.mean >= 0 else (POWER, LOG, -1)
    low, high = sorted((100 * sign * preference.low, 100 * sign * preference.high))
    lead = f"{better} preferred over {worse} by {100 * abs(preference.mean):.1f} % ({range_text(low, high, 1)}) of the distance"
    if preference.low <= 0 <= preference.high:
        lead = f"log law and power law not separated ({better} ahead by {100 * abs(preference.mean):.1f} %, {range_text(low, high, 1)})"
    return f"{walks.cell.name}: {lead}, {span} (n = {preference.n}); mean errors: {errors}."


def _flags(walks: Walks) -> list[str]:
    window, name = walks.window, walks.cell.name
    out = []
    if window.decayed:
        out.append(
            f"{name}: its full window, to update {window.full.last:,}, reaches to {window.memory:.2g} of the weight-decay memory; beyond "
            f"{MEMORY:g} (update {window.clean_last:,}) decay bends the walk."
        )
    if window.clipped_until:
        beyond = "" if window.clean else ", which leaves it no window of its own: what is said of it is about clipped updates, too"
        out.append(f"{name}: more than {100 * CLIPPED:.0f} % of updates were clipped up to update {window.clipped_until:,}{beyond}.")
    return out


def _percent(estimate: Estimate | None) -> str:
    assert estimate is not None
    text = f"{_digits(estimate.mean)} %"
    if estimate.low is None or estimate.high is None:
        return text
    digits = 0 if abs(estimate.mean) >= 0.1 else 1
    return f"{text} ({range_text(100 * max(0.0, estimate.low), 100 * min(1.0, estimate.high), digits)})"


def _digits(fraction: float) -> str:
    return signed(100 * fraction, 0 if abs(fraction) >= 0.1 else 1)
