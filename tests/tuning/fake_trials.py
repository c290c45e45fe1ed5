"""The fake worker with held-out accuracies that have a best learning rate, which the batch size moves: trials without torch.

FAKE_BEST, a JSON object, gives the best rate by batch size; four times that rate and more diverges.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "execution"))

from fake_worker import FakeBackend

from gapbench.core.events import Finished, Outcome
from gapbench.execution.worker import serve


class FakeTrials(FakeBackend):
    def train(self, specs, *, emit, **more):
        def watch(event):
            if isinstance(event, Finished) and event.outcome is Outcome.OK:
                event = judged(event, specs[event.replica])
            emit(event)

        super().train(specs, emit=watch, **more)


def judged(event, spec):
    best = json.loads(os.environ.get("FAKE_BEST", "{}")).get(str(spec.batch_size), 0.1)
    away = math.log2(spec.learning_rate / best)
    costs = {name: value for name, value in event.summary.items() if "accuracy" not in name and "loss" not in name}
    if away >= 2:
        return Finished(event.replica, Outcome.DIVERGED, "the training loss was not finite", event.update, costs)
    accuracy = 0.95 - 0.008 * abs(away) + 0.002 * random.Random(f"{spec.seed} {spec.fold} {away:.3f}").random()
    if spec.test_evaluation:  # a run of the tuned suite
        return Finished(event.replica, Outcome.OK, "", event.update, {**event.summary, "test_accuracy": accuracy}, event.test_correct)
    held_out = {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy, "train_accuracy": 1.0, "train_loss": 0.01}
    return Finished(event.replica, Outcome.OK, "", event.update, {**costs, **held_out})


if __name__ == "__main__":
    serve(FakeTrials())
