"""A worker whose engine is arithmetic: no torch, but the same events, checkpoints and ways to fail as the real one.

What it does is set by environment variables, such as FAKE_UPDATE_SECONDS, FAKE_HOLD (a file: while it exists training comes to no
end), and FAKE_BEHAVIOR, a JSON object of behaviors by seed.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path

from gapbench.core.errors import DataError, TrainingError
from gapbench.core.events import Finished, Measured, Outcome, Progressed, Snapshotted, Started, WeightsKept
from gapbench.core.hashing import MASK32, mix32
from gapbench.execution.worker import serve


class FakeBackend:
    def prepare(self, setup):
        self.setup = setup
        if os.environ.get("FAKE_REFUSES"):
            raise DataError(os.environ["FAKE_REFUSES"])
        if os.environ.get("FAKE_DIES_BEFORE_READY"):
            die_before_ready(Path(os.environ["FAKE_DIES_BEFORE_READY"]))
        if os.environ.get("FAKE_CANNOT_START"):
            raise RuntimeError(os.environ["FAKE_CANNOT_START"])

    def train(self, specs, *, emit, stop, snapshots, checkpoint_seconds, compiles):
        print("a stray print")
        os.write(1, b"a stray write\n")
        behaviors = json.loads(os.environ.get("FAKE_BEHAVIOR", "{}"))
        behavior = [behaviors.get(str(spec.seed), "") for spec in specs]
        seconds = float(os.environ.get("FAKE_UPDATE_SECONDS", "0"))
        updates, batch = specs[0].updates, specs[0].batch_size
        if "stack-out-of-memory" in behavior and len(specs) > 1:
            raise MemoryError("not for a stack")
        states = [snapshot["state"] for snapshot in snapshots] if snapshots else [initial(spec) for spec in specs]
        update = snapshots[0]["update"] if snapshots else 0
        emit(Started(update, updates, "fake", 0.0))
        checkpointed = time.monotonic()
        while update < updates:
            if (reason := stop()) is not None:
                if reason is Outcome.INTERRUPTED:
                    snapshot(states, update, emit)
                for replica in range(len(specs)):
                    emit(Finished(replica, reason, f"stopped after {update}", update, {}))
                return
            if update >= 5 and "FAKE_HOLD" in os.environ and Path(os.environ["FAKE_HOLD"]).exists():
                time.sleep(0.02)
                continue
            time.sleep(seconds)
            update += 1
            states = [mix32((state + update) & MASK32) for state in states]
            if update % 3 == 0 or update == updates:
                for replica, state in enumerate(states):
                    emit(Measured(replica, update, update * batch, values(state)))
            if update == updates // 2:
                for replica in range(len(specs)):
                    misbehave(behavior[replica])
            if update in (1, updates) and specs[0].keep_weights:
                for replica, state in enumerate(states):
                    emit(WeightsKept(replica, update, update / updates, {"state": state}))
            emit(Progressed(update, updates, 1000.0, (0.5,) * len(specs)))
            if time.monotonic() - checkpointed >= checkpoint_seconds and update < updates:
                snapshot(states, update, emit)
                checkpointed = time.monotonic()
        for replica, state in enumerate(states):
            outcome = Outcome.DIVERGED if behavior[replica] == "diverge" else Outcome.OK
            accuracy = 0.9 + state / MASK32 / 10
            summary = dict.fromkeys(("test_accuracy", "train_accuracy"), accuracy) | {"test_loss": float("nan"), "train_loss": 0.25}
            costs = {"train_seconds": 1.5 / len(specs), "evaluation_seconds": 0.5, "other_seconds": 0.25, "program": "fake"}
            emit(Finished(replica, outcome, "" if outcome is Outcome.OK else "not finite", update, summary | costs, bytes([state % 256])))

    def dump(self, value, file):
        pickle.dump(value, file)

    def load(self, payload):
        return pickle.loads(payload)

    def lacks_memory(self, error):
        return isinstance(error, MemoryError)


def die_before_ready(deaths):
    """Dies as long as a file counts down to 0, one start a death."""
    left = int(deaths.read_text())
    if left > 0:
        deaths.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)


def initial(spec):
    return mix32(spec.seed + 7919 * spec.batch_size)


def values(state):
    return (("test_accuracy", "", 0.9 + state / MASK32 / 10), ("weight_distance", "layer", float("inf") if state % 5 == 0 else state / 3))


def snapshot(states, update, emit):
    for replica, state in enumerate(states):
        emit(Snapshotted(replica, update, {"state": state, "update": update}))


def misbehave(behavior):
    match behavior:
        case "raise":
            raise ValueError("the model has a hole")
        case "training-error":
            raise TrainingError("model x does not fit data y")
        case "memory":
            raise MemoryError("no more")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        case "exit":
            sys.stdout.flush()
            os._exit(7)


if __name__ == "__main__":
    serve(FakeBackend())
