"""The controls of one run: noise, sampling, repeated augmentation, twins, recalibrated headlines, decay that follows the rate.

What changes nothing is made neutral, so that a control equal to the run that it controls is that run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gapbench import catalog
from gapbench.suite.arithmetic import exactly
from gapbench.suite.asked import Asked
from gapbench.suite.regime import Regime
from gapbench.suite.runspec import Component, GradientNoise


def controls(asked: Asked, regime: Regime, model: Component, numbers: Mapping[str, Any], examples: int) -> dict[str, Any]:
    """Returns the fields of the spec that only controls set.

    Args:
        asked: the settings.
        regime: effective.
        model: of the run.
        numbers: with its `updates`.
        examples: size of the training set.
    """
    has_norm = catalog.models()[model.name].has_batch_norm(model.options)
    return {
        "gradient_noise": _noise(asked, regime, has_norm),
        "sampling": asked.get("sampling", "permutation"),
        "augmentation_epochs": _augmentation_epochs(asked, regime, numbers["updates"], examples),
        "initial_perturbation": asked.get("initial_perturbation", 0.0),
        "headline_statistics": asked.get("headline_statistics", "running") if has_norm else "running",
    }


def decay(asked: Asked, regime: Regime, numbers: Mapping[str, Any], schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weight decay and phases with the regime's factor of weight decay; what an [[override]] sets is final."""
    if regime.weight_decay_scaling == "none":
        return {}
    factor = numbers["reference_learning_rate"] / numbers["learning_rate"]
    of_run, of_phases = (1.0 if _final(asked, name) else factor for name in ("weight_decay", "phases"))
    phases = [
        phase if phase.weight_decay is None else phase.model_copy(update={"weight_decay": phase.weight_decay * of_phases})
        for phase in schedule["phases"]
    ]
    return {"weight_decay": schedule["weight_decay"] * of_run, "phases": tuple(phases)}


def _final(asked: Asked, name: str) -> bool:
    layer = asked.settings.layer_of(name)
    return layer is not None and layer.kind == "override"


def _noise(asked: Asked, regime: Regime, has_norm: bool) -> GradientNoise | None:
    rule = regime.gradient_noise
    if rule.kind == "none":
        return None
    if rule.kind == "isotropic":
        return GradientNoise(kind="isotropic")
    batch, reference = asked.get("batch_size"), asked.get("reference_batch_size")
    variance = batch / reference - 1 if isinstance(rule.variance, str) else float(rule.variance)
    if variance < 0:
        what = "noise gives a batch the covariance of a smaller one, so none is added below the reference batch size"
        asked.no_effect.append((what, asked.cell))
        return None
    ghost = asked.get("ghost_batch_size", "off")
    if variance > 0 and rule.centred and has_norm and ghost != reference:
        what = "gradients of a model with batch norm get the small batch's covariance only with ghost_batch_size = reference_batch_size"
        asked.no_effect.append((what, asked.cell))
    return GradientNoise(kind="multiplicative", variance=variance, centred=rule.centred) if variance > 0 else None


def _augmentation_epochs(asked: Asked, regime: Regime, updates: int, examples: int) -> int | None:
    """Returns after how many epochs augmentation begins anew; None where the run is no longer than that or has no augmentation."""
    asked_for = regime.augmentation_epochs
    if asked_for == "off":
        return None
    if not (asked.get("crop_padding", 0) or asked.get("flip", False)):
        asked.no_effect.append(("augmentation_epochs has no effect without crops or flips", asked.cell))
        return None
    epochs = math.ceil(exactly(asked.get("epochs"))) if isinstance(asked_for, str) else asked_for
    batch = asked.get("batch_size")
    epoch = examples // batch * batch if asked.get("tail", "stream") == "drop" else examples
    return epochs if updates * batch > epochs * epoch else None
