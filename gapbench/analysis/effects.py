"""The factorial in words and as tables: which axis does something by itself, and which ones depend on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gapbench.analysis.cells import Panel
from gapbench.analysis.factorial import MEASURES, Effect, Factorial, factorials
from gapbench.analysis.formats import nats_digits, range_text, signed

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("effect", "n", "test accuracy, pp", "p (Holm)", "test loss, nats", "p (Holm), loss")
HEADLINES = {"test_accuracy": "test accuracy in pp", "test_loss": "test loss in nats"}


def effect_sentences(panel: Panel) -> list[str]:
    """Returns what the factorials of a panel come to; nothing where its grid is none."""
    return [sentence for found in factorials([panel]) for sentence in _sentences(found)]


def effects_frame(found: Sequence[Factorial]) -> pd.DataFrame:
    """Returns the effects as tidy numbers, one row for each effect and measure: what `factorial.csv` holds."""
    import pandas as pd

    rows: list[dict[str, Any]] = [
        {
            "panel": one.title,
            "measure": effect.measure,
            "effect": effect.name,
            "order": len(effect.factors),
            "estimate": effect.estimate,
            "low": effect.low,
            "high": effect.high,
            "degrees_of_freedom": effect.degrees,
            "p_value": effect.p_value,
            "p_holm": effect.p_holm,
            "separated": effect.separated,
            "method": effect.method,
            "n": effect.n,
        }
        for one in found
        for effect in one.effects
    ]
    return pd.DataFrame(rows)


def effect_rows(found: Factorial) -> list[tuple[str, ...]]:
    """Returns the texts of a table under COLUMNS, one row an effect."""
    accuracies, losses = ({effect.factors: effect for effect in found.of(measure)} for measure in MEASURES)
    out: list[tuple[str, ...]] = []
    for effect in found.headline:
        accuracy, loss = accuracies.get(effect.factors), losses.get(effect.factors)
        texts = [(_text(one, digits), _p(one)) if one else ("", "") for one, digits in ((accuracy, 2), (loss, 4))]
        out.append((effect.name, str(effect.n), *texts[0], *texts[1]))
    return out


def effect_notes(found: Sequence[Factorial]) -> list[str]:
    """Returns how to read the table."""
    methods = {effect.method for one in found for effect in one.effects if effect.low is not None}
    if not methods:
        return []
    how = "one contrast for each split, t over splits" if methods == {"paired"} else "t with Welch and Satterthwaite's degrees of freedom"
    return [
        "Effect of an axis: mean over all combinations of the others of what its second level has more than its first. Interaction of two: "
        "half of what the effect of one changes from the first to the second level of the other.",
        f"Intervals: 95 % each, {how}. p by Holm's procedure over all effects of a factorial on one measure. Interactions of more than two "
        "axes are not tested; an effect is an average over them.",
    ]


def _sentences(found: Factorial) -> list[str]:
    at = f" at {', '.join(f'{axis.replace(chr(95), chr(32))} {level}' for axis, level in found.stratum.items())}" if found.stratum else ""
    head = f"Factorial of {_listed([factor.name for factor in found.factors])}{at}"
    if found.reason:
        return [f"{head}: no effects ({found.reason})."]
    effects = found.headline
    if any(effect.low is None for effect in effects):
        return [f"{head}: no interval from one seed."]
    main, two = ([effect for effect in effects if len(effect.factors) == order] for order in (1, 2))
    return [
        f"{head}, {len(found.cells)} cells, n = {min(effect.n for effect in effects)} in each, {HEADLINES[found.panel.headline]}: "
        f"{'; '.join(_said(effect) for effect in main)}.",
        _interactions(two),
    ]


def _interactions(effects: Sequence[Effect]) -> str:
    separated = [effect for effect in effects if effect.separated]
    rest = len(effects) - len(separated)
    largest = max(effects, key=lambda effect: abs(effect.estimate))
    if not separated:
        which = "The interaction of the two is" if len(effects) == 1 else f"None of {len(effects)} interactions of two is"
        not_said = " not separated from zero" if len(effects) == 1 else " separated from zero"
        return f"{which}{not_said}; the largest is {_said(largest)}." if len(effects) > 1 else f"{which}{not_said}: {_said(largest)}."
    others = f"; the other {rest} {'is' if rest == 1 else 'are'} not separated from zero" if rest else ""
    return f"What one does depends on another: {'; '.join(_said(effect) for effect in separated)}{others}."


def _said(effect: Effect) -> str:
    sign = "+" if effect.estimate >= 0 else ""
    width = 0.0 if effect.low is None else effect.estimate - effect.low
    digits = 2 if effect.measure == "test_accuracy" else nats_digits(width or effect.estimate)
    interval = "" if effect.low is None or effect.high is None else f" ({range_text(effect.low, effect.high, digits)})"
    text = f"{effect.name} {sign}{signed(effect.estimate, digits)}"
    if effect.p_value is None:
        return f"{text} (no spread between seeds)"
    return f"{text}{interval}{'' if effect.separated else ', not separated'}"


def _text(effect: Effect, digits: int) -> str:
    text = signed(effect.estimate, digits)
    return text if effect.low is None or effect.high is None else f"{text} ({range_text(effect.low, effect.high, digits)})"


def _p(effect: Effect) -> str:
    if effect.p_holm is None:
        return ""
    return "< 0.001" if effect.p_holm < 0.001 else f"{effect.p_holm:.3f}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
