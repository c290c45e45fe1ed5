"""`--only arm=LB,seed=0`: keeping some runs of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import did_you_mean, unknown_name
from gapbench.suite.plan import DroppedRun
from gapbench.suite.runspec import PlannedRun
from gapbench.suite.source import COMPONENTS, parse_value

_LABELS = ("arm", "cell", "recipe", "preset", "regime", "learning_rate_rule", "budget")
_FIELDS = ("batch_size", "ghost_batch_size", "learning_rate", "updates", "precision", "seed", "init_seed", "order_seed", "split_seed")
KEYS = (*_LABELS, *COMPONENTS, *_FIELDS)
"""What runs can be chosen by."""


def keep_only(runs: Sequence[PlannedRun], dropped: Sequence[DroppedRun], only: str) -> tuple[list[PlannedRun], list[DroppedRun]]:
    """Returns the runs (and the dropped ones) that have all the values of `only`; a key given twice means either value.

    Raises:
        SuiteError: a key that does not exist, or no run that matches.
    """
    wanted: dict[str, list[Any]] = {}
    for part in only.split(","):
        key, sign, text = part.partition("=")
        key, text = key.strip(), text.strip()
        if not sign or not text:
            raise SuiteError([Problem("--only", f'"{part.strip()}" is not of the form key=value, such as arm=LB or seed=0')])
        if key not in KEYS:
            raise SuiteError([Problem("--only", unknown_name("key", key, KEYS))])
        wanted.setdefault(key, []).append(text)
    kept = [run for run in runs if all(_has(_value_of(run, key), texts) for key, texts in wanted.items())]
    if not kept:
        raise SuiteError([Problem("--only", _nothing_matches(runs, wanted))])
    kept_dropped = [
        run
        for run in dropped
        if all(key in (*_LABELS, "seed") and _has(_value_of_dropped(run, key), texts) for key, texts in wanted.items())
    ]
    return kept, kept_dropped


def _value_of(run: PlannedRun, key: str) -> Any:
    if key in _LABELS:
        return getattr(run.labels, key)
    value = getattr(run.spec, key)
    if key in COMPONENTS:
        return value.name
    return "off" if key == "ghost_batch_size" and value is None else value


def _value_of_dropped(run: DroppedRun, key: str) -> Any:
    return run.seed if key == "seed" else getattr(run.labels, key)


def _has(value: Any, texts: Sequence[str]) -> bool:
    return any(value == text or (not isinstance(value, str) and value == parse_value(text)) for text in texts)


def _nothing_matches(runs: Sequence[PlannedRun], wanted: dict[str, list[str]]) -> str:
    """Returns what to say: for the first key that alone matches nothing, which values there are."""
    for key, texts in wanted.items():
        values = list(dict.fromkeys(str(_value_of(run, key)) for run in runs))
        if not any(_has(_value_of(run, key), texts) for run in runs):
            listed = ", ".join(value or "none" for value in values)
            return f'no run has {key} = "{texts[0]}"{did_you_mean(texts[0], values)}; there are: {listed}'
    return "no run has all of these values; see `gapbench plan`"
