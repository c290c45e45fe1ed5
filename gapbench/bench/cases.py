"""What is timed: a model, a batch size, a precision, and the plain loop that it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gapbench.suite.runspec import Component, Normalization, RunSpec


@dataclass(frozen=True)
class Case:
    """One comparison. Data are random bytes of the data set's shape: speed does not depend on what they show."""

    name: str
    summary: str
    model: Component
    shape: tuple[int, int, int]
    """[height, width, channels]"""
    batch_size: int
    crop_padding: int = 0
    flip: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    replicas: int = 1
    """Runs that train together in ours and one after another in the plain loop."""
    examples: int = 8192
    goal: float = 1.0
    """Ratio (ours to theirs) that this case is meant to reach on a CPU."""

    def specs(self, updates: int = 1_000_000) -> list[RunSpec]:
        """Returns the runs, one a seed."""
        return [
            RunSpec(
                dataset=Component(name="random"),
                model=self.model,
                optimizer=Component(name="sgd", options={"momentum": 0.9, "nesterov": False}),
                batch_size=self.batch_size,
                updates=updates,
                learning_rate=0.01,
                weight_decay=1e-4,
                clip_norm=5.0,
                crop_padding=self.crop_padding,
                flip=self.flip,
                normalization=Normalization(kind="fixed", mean=(0.5,), standard_deviation=(0.25,)),
                precision=self.precision,
                seed=seed,
                init_seed=seed,
                order_seed=seed,
                train_examples=self.examples,
                reference_batch_size=self.batch_size,
                reference_updates=updates,
                reference_learning_rate=0.01,
            )
            for seed in range(self.replicas)
        ]


_F1 = Component(name="f1")
_C1 = Component(name="c1")
_RESNET44 = Component(name="resnet", options={"depth": 44})
_DIGITS = Component(name="mlp", options={"widths": [128, 128, 128], "norm": "batch", "bias": False})

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("f1", "F1, MNIST shape, batch 128, fp32", _F1, (28, 28, 1), 128, crop_padding=2, goal=3.0),
        Case("c1", "C1, CIFAR-10 shape, batch 128, fp32", _C1, (32, 32, 3), 128, crop_padding=4, flip=True, examples=2048),
        Case(
            "resnet44", "ResNet-44, CIFAR-10 shape, batch 128, fp32", _RESNET44, (32, 32, 3), 128, crop_padding=4, flip=True, examples=1024
        ),
        Case("digits-stack", "MLP, digits shape, batch 16, eight seeds", _DIGITS, (8, 8, 1), 16, replicas=8, examples=900, goal=4.0),
    )
}
"""All comparisons by name."""
