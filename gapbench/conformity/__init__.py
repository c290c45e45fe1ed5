"""Whether a component does what the engine relies on: named checks for a model, data set, optimizer, regime or probe of one's own.

    checks = check_component("model", "tiny", {}, context)
    [check for check in checks if check.state == "fail"]

What is checked here is what a comparison of batch sizes silently needs: that ghost batch norm is exact, that evaluation does
not depend on its batch, that a replica in a stack is the run it stands for, that a resumed run is the run that was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from gapbench.conformity.datasets import check_dataset
from gapbench.conformity.models import check_model
from gapbench.conformity.optimizers import check_optimizer
from gapbench.conformity.probes import check_probe
from gapbench.conformity.regimes import check_regime
from gapbench.conformity.sheet import Check

if TYPE_CHECKING:
    from gapbench.workloads.datasets import DataContext

__all__ = ["Check", "check_component"]


def check_component(kind: str, name: str, options: Mapping[str, Any], context: DataContext) -> list[Check]:
    """Returns every check of one component, in order. Whatever the component raises is a check that fails.

    Args:
        kind: dataset, model, optimizer, regime or probe.
        name: in the catalog.
        options: all its options, defaults included.
        context: where data sets are looked for.
    """
    checks: Mapping[str, Callable[[], list[Check]]] = {
        "model": lambda: check_model(name, options),
        "optimizer": lambda: check_optimizer(name, options),
        "dataset": lambda: check_dataset(name, options, context),
        "regime": lambda: check_regime(name),
        "probe": lambda: check_probe(name, options),
    }
    precision = torch.get_float32_matmul_precision()
    try:
        with torch.random.fork_rng(devices=[]):  # a notebook's own random numbers go on as if nothing had been
            return checks[kind]()
    finally:
        torch.set_float32_matmul_precision(precision)
