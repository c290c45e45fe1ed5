"""Evaluation: the metrics of the task of all replicas on fixed examples, with running and with recalibrated norm statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapbench.engine.feed import Feed
from gapbench.engine.program import Program
from gapbench.layers.norms import recalibrated
from gapbench.suite.batches import CHUNK_EXAMPLES, RECALIBRATION_EXAMPLES
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Split


@dataclass(frozen=True)
class Evaluation:
    """Values of all replicas after one update: metric -> one number a replica."""

    values: Mapping[str, list[float]]
    test_correct: Tensor | None
    """bool [replica, test examples], on the CPU; None where the test set was left alone, or nothing is classified."""

    def packed_test_correct(self, replica: int) -> bytes:
        """Returns one bit for each test example of a replica, in the order of the test set (numpy.packbits)."""
        if self.test_correct is None:
            return b""
        return np.packbits(self.test_correct[replica].numpy()).tobytes()


class Evaluator:
    """Evaluates a program's network on the test set, a fixed part of the training set and, where there is one, the held-out part.

    Of a run without `test_evaluation` it never learns which examples the test set has.
    """

    def __init__(self, program: Program, feed: Feed, splits: Sequence[Split], spec: RunSpec) -> None:
        self._program = program
        self._feed = feed
        sets = {"test": [split.test for split in splits]} if spec.test_evaluation else {}
        sets["train"] = [split.train_evaluation for split in splits]
        if len(splits[0].validation):
            sets["validation"] = [split.validation for split in splits]
        self._sets = {name: torch.from_numpy(np.stack(indices)).to(feed.home) for name, indices in sets.items()}
        self._recalibrated_headline = spec.headline_statistics == "recalibrated"
        self._ghost_batch_size = spec.ghost_batch_size

    def evaluate(self, *, recalibrate: bool, batch_size: int) -> Evaluation:
        """Returns the metrics; with `recalibrate` also those under recalibrated norm statistics. Waits for the device.

        Where the headline is under recalibrated statistics, all of them are.

        Args:
            recalibrate: whether to measure these, too.
            batch_size: of a full batch at this time, which their statistics are computed over where there are no ghost batches.
        """
        module = self._program.network.module
        module.eval()
        values: dict[str, list[float]] = {}
        with torch.no_grad():
            if self._recalibrated_headline:
                with recalibrated(module, lambda: self._pass_calibration(batch_size)):
                    correct = {name: self._measure(name, "", values) for name in self._sets}
                if recalibrate:
                    values.update(_as_recalibrated(values))
                module.train()
                return Evaluation(values, correct.get("test"))
            correct = {name: self._measure(name, "", values) for name in self._sets}
            if recalibrate and not self._program.network.norms:  # there is nothing to recalibrate
                values.update(_as_recalibrated(values))
            elif recalibrate:
                with recalibrated(module, lambda: self._pass_calibration(batch_size)):
                    for name in (name for name in ("test", "train") if name in self._sets):
                        self._measure(name, "recalibrated_", values)
        module.train()
        return Evaluation(values, correct.get("test"))

    def _measure(self, name: str, prefix: str, values: dict[str, list[float]]) -> Tensor | None:
        indices, task = self._sets[name], self._program.task
        sums: dict[str, list[Tensor]] = {}
        hits, counted = [], []
        for batch in self._feed.evaluation_batches(torch.split(indices, max(1, CHUNK_EXAMPLES // len(indices)), dim=1)):
            outputs = self._program.forward(batch)
            right = task.correct(outputs, batch.labels)
            if right is not None:
                hits.append(right)
            weights = task.weights(batch.labels)
            if weights is not None:
                counted.append(weights.double().sum(dim=1))
            for metric, each in task.values(outputs, batch.labels).items():
                own = each.double() if weights is None else each.double() * weights
                sums.setdefault(metric, []).append(own.sum(dim=1))
        whole = torch.stack(counted).sum(dim=0) if counted else indices.shape[1]
        for metric, parts in sums.items():
            values[f"{prefix}{name}_{metric}"] = (torch.stack(parts).sum(dim=0) / whole).tolist()
        return torch.cat(hits, dim=1).cpu() if hits else None

    def _pass_calibration(self, batch_size: int) -> None:
        """Passes the fixed training examples through the network in groups of the size that training has, many of them at once."""
        network, examples = self._program.network, min(RECALIBRATION_EXAMPLES, self._feed.train_size)
        group = min(self._ghost_batch_size or batch_size, examples)
        at_once = max(1, CHUNK_EXAMPLES // (group * len(network.weights))) * group
        if self._ghost_batch_size is None:
            network.use_groups_of(group)  # a batch of training is one group, and one of these holds many
        chosen = self._feed.members[:, : examples // group * group]
        for indices in torch.split(chosen, at_once, dim=1):
            self._program.forward(self._feed.calibration_batch(indices))
        network.use_groups_of(None)


def _as_recalibrated(values: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {f"recalibrated_{name}": value for name, value in values.items() if name.startswith(("test_", "train_"))}
