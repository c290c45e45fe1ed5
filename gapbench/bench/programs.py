"""Which program a side is: names -> loops, built on a task and its data; and our own sides, the engine as a worker runs it.

Nothing else in the bench knows the engine, but for the gate in `measure`, which asks it for its first batches and losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from gapbench import catalog, sizing
from gapbench.bench.cases import CLASSES, Task
from gapbench.bench.peers import Build, Loop
from gapbench.bench.peers.memory import Memory
from gapbench.bench.peers.parts import MOST_WORKERS
from gapbench.bench.peers.reference import Loader, Reference
from gapbench.bench.peers.released import Released
from gapbench.bench.peers.resident import Chunked, Resident
from gapbench.engine.feed import Feed
from gapbench.engine.trainer import Trainer
from gapbench.suite.batches import probe_updates
from gapbench.workloads.datasets.arrays import Pool, Split

LATE = 10_000
"""Windows begin at this update of a long run: probes are spread over a run's logarithm, and most of a run is late."""


class Ours:
    """Sessions of the engine that train for ever, or one whole run.

    Args:
        build: what to train, on which data, where; its precision is that of activations.
        probes: whether probes run when they are due.
        chosen: those that run besides the default ones; None: all that look at micro-batches or updates.
        evaluation: whether evaluations run when they are due.
        ghosts: False: plain batch norm over the whole batch.
        singly: every seed in a session of its own, taking turns.
    """

    def __init__(
        self,
        build: Build,
        *,
        probes: bool = True,
        chosen: tuple[str, ...] | None = None,
        evaluation: bool = False,
        ghosts: bool = True,
        singly: bool = False,
    ) -> None:
        task, device = build.task, build.device
        self._examples = task.examples_per_update
        if chosen is None:
            stages = ("micro-batch", "update")
            chosen = tuple(name for name, probe in catalog.probes().items() if probe.stage in stages and not probe.default)
        specs = task.specs(build.precision, probes=chosen if probes else ())
        if not ghosts:
            specs = [spec.model_copy(update={"ghost_batch_size": None}) for spec in specs]
        of_recipe = specs[0].model_copy(update={"updates": task.recipe_updates})  # what pays in a run so long is what is timed
        pieces = task.micro_batch_size or sizing.micro_batch_size(specs[0], device.type)
        self.sessions = [
            Trainer(
                part,
                build.pool,
                [whole_split(task)] * len(part),
                device=device,
                emit=lambda _event: None,
                micro_batch_size=pieces,
                compiles=sizing.worth_compiling(of_recipe, replicas=len(part), device_kind=device.type),
            )
            for part in ([[spec] for spec in specs] if singly else [specs])
        ]
        for session in self.sessions:
            session.prepare()
            often = () if not probes else None if task.updates is None else _share_of_probes(task)
            session.look_at(probe_updates=often, evaluation_updates=None if evaluation else ())
        self.form = self.sessions[0].program.kind + ("" if pieces == task.batch_size else f", micro-batches of {pieces}")
        self.modules = [session.network.module for session in self.sessions]
        self._beginnings = [
            [session.snapshot(replica) for replica in range(len(session.specs))] for session in self.sessions if task.updates is not None
        ]

    def again(self) -> None:
        """Goes back to the first update, programs and memory kept, so that a whole run can be timed without its preparation."""
        for session, beginning in zip(self.sessions, self._beginnings, strict=True):
            session.restore(beginning)

    def skip(self) -> None:
        """Goes to the late part of a long run."""
        for session in self.sessions:
            session.skip_to(LATE)

    def run(self) -> Iterator[int]:
        """Trains; yields the number of examples after each update of all replicas."""
        while True:
            for session in self.sessions:
                state = session.step()
                if state is not None and session.update in session.probe_updates:
                    session.probe(state, "update")
                if state is not None and session.update in session.evaluation_updates:
                    session.probe(state, "evaluation")
                    session.evaluate()
            yield self._examples


class OurFeed:
    """The engine's data path alone."""

    form = "eager gather"

    def __init__(self, build: Build) -> None:
        self._task = build.task
        self.feed = Feed(build.pool, [whole_split(build.task)], build.task.specs("fp32"), build.device)

    def run(self) -> Iterator[int]:
        """Makes batches for ever."""
        for update in range(self.feed.batches.updates):
            self.feed.batch(update)
            yield self._task.batch_size


def _share_of_probes(task: Task) -> frozenset[int]:
    """Returns after which updates of a run probes look: in the share of its recipe's, evenly, as often as that is in so many updates.

    Probes are spread over a run's logarithm, so that a shorter run by itself would have almost as many of them as a long one.
    """
    assert task.updates is not None
    often = max(1, round(len(probe_updates(task.recipe_updates)) * task.updates / task.recipe_updates))
    return frozenset(math.ceil(task.updates * (index + 1) / often) for index in range(often))


def random_pool(task: Task) -> Pool:
    """Returns random bytes of the data set's shape."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (task.examples + task.test_examples, *task.shape), dtype=np.uint8)
    return Pool(images, generator.integers(0, CLASSES, len(images)), CLASSES, 255.0, task.examples)


def whole_split(task: Task) -> Split:
    """Returns the split that trains on all training examples."""
    train = np.arange(task.examples)
    test = np.arange(task.examples, task.examples + task.test_examples)
    return Split(train, test, np.array([], dtype=np.int64), train[: task.test_examples])


PROGRAMS: Mapping[str, Callable[[Build], Loop]] = {
    "ours": Ours,
    "ours singly": partial(Ours, singly=True),
    "ours without probes": partial(Ours, probes=False),
    "ours with default probes": partial(Ours, chosen=()),
    "ours with noise scale": partial(Ours, chosen=("noise_scale_stream",)),
    "ours with evaluation": partial(Ours, evaluation=True),
    "ours without ghosts": partial(Ours, ghosts=False),
    "our feed": OurFeed,
    "loader": Loader,
    "reference": Reference,
    "released": Released,
    "resident": Resident,
    "resident compiled": partial(Resident, on_cpu=True),
    "chunked": Chunked,
    "memory": Memory,
}
"""Every program that a side of a case may name."""


def workers_of(workers: int | None, threads: int) -> int:
    """Returns how many workers a DataLoader gets."""
    return min(MOST_WORKERS, threads) if workers is None else workers
