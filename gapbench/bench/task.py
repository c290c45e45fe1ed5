"""What both sides of a comparison train: model, shape of the data, batch, augmentation and the optimizer's constants. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from gapbench.suite.runspec import Component, Normalization, RunSpec

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

LEARNING_RATE = 0.01
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
CLIP_NORM = 5.0
"""The released code of Hoffer et al. 2017 clips every update at this norm; so does every side here."""
PIXEL_MEAN, PIXEL_DEVIATION = 0.5, 0.25
CLASSES = 10
LONG = 1_000_000
"""Updates of a run that a window is timed in."""


@dataclass(frozen=True)
class Task:
    """One thing to train. Data are random bytes of the data set's shape: speed does not depend on what they show."""

    dataset: str
    """Whose shape it is; the planner looks up its sizes."""
    model: Component
    shape: tuple[int, int, int]
    """[height, width, channels]"""
    batch_size: int
    ghost_batch_size: int | None = None
    micro_batch_size: int | None = None
    """Examples that our engine computes at once; None: as its cost model says."""
    crop_padding: int = 0
    flip: bool = False
    replicas: int = 1
    """Seeds that train beside one another."""
    examples: int = 10_000
    test_examples: int = 64
    updates: int | None = None
    """Length of a whole run that is timed from its first update to its last; None: a window within a long run is timed."""
    evaluations: int = 20
    """Of a whole run."""
    recipe_updates: int = LONG
    """Of a run of the recipe, or of its regime adaptation to a larger batch: whether compiling pays, and how seldom probes look,
    depends on how long a run is."""

    def specs(self, precision: Precision, *, probes: tuple[str, ...] = ()) -> list[RunSpec]:
        """Returns the runs, one a seed, as a suite would ask for them."""
        updates = self.updates or LONG
        return [
            RunSpec(
                dataset=Component(name=self.dataset),
                model=self.model,
                optimizer=Component(name="sgd", options={"momentum": MOMENTUM, "nesterov": False}),
                batch_size=self.batch_size,
                ghost_batch_size=self.ghost_batch_size,
                updates=updates,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                clip_norm=CLIP_NORM,
                crop_padding=self.crop_padding,
                flip=self.flip,
                normalization=Normalization(kind="fixed", mean=(PIXEL_MEAN,), standard_deviation=(PIXEL_DEVIATION,)),
                precision="fp32" if precision == "fp32" else "bf16",
                seed=seed,
                init_seed=seed,
                order_seed=seed,
                train_examples=self.examples,
                reference_batch_size=self.batch_size,
                reference_updates=updates,
                reference_learning_rate=LEARNING_RATE,
                evaluations=self.evaluations,
                probes=probes,
            )
            for seed in range(self.replicas)
        ]

    @property
    def examples_per_update(self) -> int:
        """Examples of one update of all replicas."""
        return self.batch_size * self.replicas

    @property
    def updates_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return max(1, self.examples // self.batch_size)

    def smaller(self, batch_size: int) -> Task:
        """Returns the same task at a batch size of at most `batch_size`, with as many ghost groups as it has (four at most)."""
        if self.batch_size <= batch_size:
            return self
        groups = 1 if self.ghost_batch_size is None else min(4, self.batch_size // self.ghost_batch_size)
        ghost = None if self.ghost_batch_size is None else batch_size // groups
        return replace(
            self, batch_size=batch_size, ghost_batch_size=ghost, micro_batch_size=None, examples=min(self.examples, 4 * batch_size)
        )
