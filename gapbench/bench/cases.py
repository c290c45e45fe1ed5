"""What is compared, as data: a task, the sides that train it, and which side is held against which, with what goal.

Both sides of a comparison train the same: model, shape of the data, batch, augmentation and the optimizer's constants. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from gapbench.execution.devices import DeviceKind
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
        examples = min(self.examples, 4 * batch_size)
        return replace(self, batch_size=batch_size, ghost_batch_size=ghost, micro_batch_size=None, examples=examples)


TRAINED, PREDICTED = "suite trained", "suite predicted"
"""Programs of the sides of a case that names a suite; what runs suites times them."""


@dataclass(frozen=True)
class Side:
    """One program at one precision."""

    name: str
    """Unique within its case; the first side of a case is timed twice a round, to see how far equal things differ."""
    program: str
    """See `gapbench.bench.programs`."""
    precision: Precision = "fp32"
    workers: int | None = None
    """Of a DataLoader; None: one a thread of the process, eight at most."""


@dataclass(frozen=True)
class Kind:
    """What the ratio of a comparison is of, and which way it should lie."""

    axis: str
    """Label of a figure's axis."""
    sign: Literal[">=", "<=", "within"] = ">="
    """On which side of the goal one wants to be; `within`: no farther from 1 than the goal."""
    in_seconds: bool = False
    """Whether it is of seconds, side by rival; else of images a second."""
    in_percent: bool = False
    """How a goal is shown."""

    def bounds(self, goal: float) -> tuple[float | None, float | None]:
        """Returns the least and the largest ratio that meets a goal; None: there is none."""
        return {">=": (goal, None), "<=": (None, goal), "within": (1.0 - goal, 1.0 + goal)}[self.sign]

    def goal_text(self, goal: float) -> str:
        """Returns a goal as people read it: ">= 3", "within 15 %"."""
        return f"{self.sign} {100 * goal:.0f} %" if self.in_percent else f"{self.sign} {goal:g}"


KINDS = {
    "speedup": Kind("images/s, ours to theirs (log scale)"),
    "cost": Kind("seconds of an update, with to without", "<=", in_seconds=True),
    "share": Kind("share of the roofline", in_percent=True),
    "agreement": Kind("seconds by the clock, predicted to actual", "within", in_seconds=True, in_percent=True),
}


@dataclass(frozen=True)
class Comparison:
    """One row of the table."""

    side: str
    against: tuple[str, ...] = ()
    """The fastest of these; empty: the roofline."""
    goal: float | None = None
    kind: Literal["speedup", "cost", "share", "agreement"] = "speedup"
    """One of KINDS. A `share` is of what the machine could do at best."""
    remark: str = ""


@dataclass(frozen=True)
class Case:
    """Sides that are timed in turns, in one place, on one task."""

    name: str
    summary: str
    device: DeviceKind
    task: Task
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    seconds: float = 2.0
    """Length of a window."""
    threads: int | None = None
    """None: all cores. Stacks train on one thread, as the scheduler runs them; so does what they are held against."""
    suite: str | None = None
    """Of a case of prices: the shipped suite that its sides train and predict, of which the task is an example."""

    @property
    def together(self) -> bool:
        """Whether the sides take turns within whole runs, in one process: all are the engine's, and differ by a few percent at most."""
        return self.task.updates is not None and self.suite is None

    def side(self, name: str) -> Side:
        """Returns a side by name."""
        return next(side for side in self.sides if side.name == name)


_F1 = Task("mnist", Component(name="f1"), (28, 28, 1), 128, crop_padding=2, recipe_updates=23_437)
_C1 = Task("cifar10", Component(name="c1"), (32, 32, 3), 128, crop_padding=4, flip=True, recipe_updates=78_125)
_RESNET44 = Task(
    "cifar10", Component(name="resnet", options={"depth": 44}), (32, 32, 3), 128, crop_padding=4, flip=True, recipe_updates=39_062
)
_RESNET8 = replace(_RESNET44, model=Component(name="resnet", options={"depth": 8}), recipe_updates=4_687)
_MLP = Component(name="mlp", options={"widths": [128, 128, 128], "norm": "batch", "bias": False})
_DIGITS = Task("digits", _MLP, (8, 8, 1), 16, examples=1500, test_examples=297, recipe_updates=3_374)

_OURS, _OURS_BF16 = Side("ours", "ours"), Side("ours bf16", "ours", "bf16")
_REFERENCE, _REFERENCE_BF16 = Side("reference", "reference"), Side("reference bf16", "reference", "bf16")
_RELEASED, _RELEASED_BF16 = Side("released", "released"), Side("released bf16", "released", "bf16")
_MEMORY, _MEMORY_BF16 = Side("memory", "memory"), Side("memory bf16", "memory", "bf16")
_PLAIN_NORM = Side("ours plain norm", "ours without ghosts")
_RESIDENT, _RESIDENT_FP16 = Side("resident", "resident"), Side("resident fp16", "resident", "fp16")
_RESIDENT_CPU = (
    _RESIDENT,
    Side("resident compiled", "resident compiled"),
    Side("resident bf16", "resident", "bf16"),
    Side("resident compiled bf16", "resident compiled", "bf16"),
)
"""The strongest loop on a CPU: eager or compiled, whichever is faster; in bf16 its weights, too, are in half precision."""


def _plain(
    name: str, summary: str, task: Task, *, loader: tuple[float, float] | None, resident: tuple[float, float], seconds: float = 1.5
) -> Case:
    """Returns the case of one model on the CPU.

    Args:
        name: of the case.
        summary: what it is.
        task: what is trained.
        loader: goals of fp32 and bf16 against the loop with a DataLoader in fp32; None: it is not timed.
        resident: goals of fp32 and bf16 against the resident loop at the same precision.
        seconds: length of a window.
    """
    compared = [
        Comparison("ours", ("resident", "resident compiled"), resident[0]),
        Comparison("ours bf16", ("resident bf16", "resident compiled bf16"), resident[1]),
    ]
    if loader is not None:
        compared += [
            Comparison("ours", ("reference",), loader[0]),
            Comparison("ours bf16", ("reference",), loader[1]),
            Comparison("ours bf16", ("reference bf16",)),
        ]
    sides = (_OURS, _OURS_BF16, *_RESIDENT_CPU, *((_REFERENCE, _REFERENCE_BF16) if loader else ()))
    return Case(name, summary, "cpu", task, sides, tuple(compared), seconds=seconds)


def _cost(name: str, summary: str, device: DeviceKind, task: Task, without: Side, *more: tuple[Side, float, str]) -> Case:
    """Returns the case of what measuring costs, over whole runs.

    Args:
        name: of the case.
        summary: what it is.
        device: where.
        task: of a run that has its recipe's share of probes and, as the task says, of evaluations.
        without: the side that does not measure.
        more: each side that does, with its goal and a remark.
    """
    compared = tuple(Comparison(side.name, (without.name,), goal, "cost", remark) for side, goal, remark in more)
    sides = (without, *(side for side, *_ in more))
    if device == "cuda":
        return Case(name, summary, device, task, tuple(replace(side, precision="bf16") for side in sides), compared)
    return Case(name, summary, device, task, sides, compared, threads=1)


_PROBES = (
    Side("probes off", "ours without probes"),
    (Side("probes on", "ours"), 1.01, "all probes, no evaluation"),
    (Side("probes and evaluation", "ours with evaluation"), 1.03, "all probes, and evaluation as a suite does it"),
)
_NOISE = (
    Side("default probes", "ours with default probes"),
    (Side("noise scale", "ours with noise scale"), 1.01, "noise_scale_stream beside the probes that always run"),
)
"""The latter where updates are made in micro-batches anyway."""


def _plan(name: str, device: DeviceKind) -> Case:
    """Returns the case of how good prices are: the time by the clock of a suite, as predicted after calibrating and as it was."""
    remark = "seconds by the clock; the plan knows the machine from calibrating alone"
    return Case(
        name,
        "prices: the suite quickstart, as a calibrated plan predicts it and as it trains",
        device,
        _DIGITS,
        (Side("trained", TRAINED), Side("predicted", PREDICTED)),
        (Comparison("predicted", ("trained",), 0.15, "agreement", remark),),
        suite="quickstart",
    )


_CPU = (
    _plain("f1", "F1, MNIST shape, batch 128", _F1, loader=(3.0, 4.5), resident=(1.1, 1.5), seconds=1.0),
    _plain("c1", "C1, CIFAR-10 shape, batch 128", _C1, loader=(1.5, 2.5), resident=(1.1, 1.5)),
    _plain("resnet8", "ResNet-8, CIFAR-10 shape, batch 128", _RESNET8, loader=None, resident=(1.1, 1.3)),
    _plain("resnet44", "ResNet-44, CIFAR-10 shape, batch 128", _RESNET44, loader=(1.3, 2.1), resident=(1.1, 1.3)),
    Case(
        "digits-stack",
        "MLP, digits shape, batch 16, eight seeds as a stack, one thread",
        "cpu",
        replace(_DIGITS, replicas=8),
        (_OURS, Side("ours singly", "ours singly"), _MEMORY),
        (Comparison("ours", ("ours singly",), 3.0), Comparison("ours", ("memory",), 4.0)),
        seconds=1.0,
        threads=1,
    ),
    Case(
        "feed",
        "data path alone: CIFAR-10 shape, crop and flip, batch 128",
        "cpu",
        _RESNET44,
        (Side("ours", "our feed"), *(Side(f"loader {workers} workers", "loader", workers=workers) for workers in (0, 2, 4))),
        (
            Comparison(
                "ours",
                tuple(f"loader {workers} workers" for workers in (0, 2, 4)),
                8.0,
                remark="an eager gather of strided windows, which needs no C++ compiler; the goal of 40 is for a compiled one",
            ),
        ),
        seconds=1.0,
    ),
    Case(
        "ghost",
        "ResNet-44, CIFAR-10 shape, batch 256, ghost batch size 32",
        "cpu",
        replace(_RESNET44, batch_size=256, ghost_batch_size=32),
        (_OURS, _RELEASED, Side("chunked", "chunked"), _PLAIN_NORM),
        (
            Comparison("ours", ("released",)),
            Comparison("ours", ("chunked",)),
            Comparison("ours", ("ours plain norm",), kind="cost", remark="the price of ghost batch norm, whole update"),
        ),
        seconds=1.5,
    ),
    _cost("probes", "what measuring costs: MLP, digits shape, batch 16, 3,000 updates", "cpu", replace(_DIGITS, updates=3000), *_PROBES),
    _cost(
        "probes-f1",
        "what measuring costs: F1, MNIST shape, batch 128, 2,000 of the recipe's 23,437 updates",
        "cpu",
        # A run of the recipe has 13 evaluations, 9 of them with recalibrated statistics, too; 2,000 updates have the share of one.
        replace(_F1, test_examples=10_000, updates=2000, evaluations=1),
        *_PROBES,
    ),
    _cost(
        "noise-stream",
        "what the noise scale costs: MLP, digits shape, batch 128 in micro-batches of 32, 3,000 updates",
        "cpu",
        replace(_DIGITS, batch_size=128, ghost_batch_size=16, micro_batch_size=32, updates=3000),
        *_NOISE,
    ),
    _plan("plan", "cpu"),
)

_ALL = 50_000
_WRESNET = Component(name="wresnet", options={"depth": 16, "width": 4, "form": "released"})
_CUDA = (
    Case(
        "resnet44-cuda",
        "ResNet-44, CIFAR-10 shape, batch 128",
        "cuda",
        replace(_RESNET44, examples=_ALL),
        (_OURS_BF16, _OURS, _REFERENCE_BF16, _REFERENCE, _RELEASED, _RESIDENT_FP16, _RESIDENT),
        (
            Comparison("ours bf16", ("reference bf16",), 5.0),
            Comparison("ours bf16", ("released",), 8.0),
            Comparison("ours bf16", ("resident fp16",), 1.3),
            Comparison("ours", ("reference",)),
            Comparison("ours", ("released",)),
            Comparison("ours", ("resident",)),
        ),
    ),
    Case(
        "ghost-cuda",
        "ResNet-44, CIFAR-10 shape, batch 4096, ghost batch size 128",
        "cuda",
        replace(_RESNET44, batch_size=4096, ghost_batch_size=128, examples=_ALL),
        (_OURS_BF16, _RELEASED, _RELEASED_BF16, Side("chunked bf16", "chunked", "bf16"), replace(_PLAIN_NORM, precision="bf16")),
        (
            Comparison("ours bf16", ("released",), 8.0),
            Comparison("ours bf16", ("chunked bf16",), 3.0),
            Comparison("ours bf16", ("ours plain norm",), 1.03, "cost", "the price of ghost batch norm, whole update"),
            Comparison("ours bf16", ("released bf16",)),
        ),
    ),
    Case(
        "f1-cuda",
        "F1, MNIST shape, batch 128",
        "cuda",
        replace(_F1, examples=_ALL),
        (_OURS, _OURS_BF16, _MEMORY, _MEMORY_BF16, _REFERENCE),
        (Comparison("ours", ("memory",), 4.0), Comparison("ours bf16", ("memory bf16",)), Comparison("ours", ("reference",))),
    ),
    Case(
        "f1-stack-cuda",
        "F1, MNIST shape, batch 128, 32 seeds as a stack",
        "cuda",
        replace(_F1, examples=_ALL, replicas=32),
        (_OURS, _OURS_BF16, _MEMORY, _MEMORY_BF16),
        (Comparison("ours", ("memory",), 30.0), Comparison("ours bf16", ("memory bf16",))),
    ),
    *(
        Case(
            f"roofline-{name}-cuda",
            f"share of the roofline: {title}, CIFAR-10 shape, batch 1024",
            "cuda",
            replace(_RESNET44, model=model, batch_size=1024, examples=_ALL),
            (_OURS_BF16,),
            (Comparison("ours bf16", (), goal, "share"),),
        )
        for name, title, model, goal in (
            ("resnet44", "ResNet-44", _RESNET44.model, 0.45),
            ("wresnet16-4", "WResNet16-4 as released", _WRESNET, 0.5),
            ("vgg16", "VGG-16", Component(name="vgg", options={"depth": 16}), 0.5),
        )
    ),
    _cost(
        "probes-cuda",
        "what measuring costs: ResNet-44, CIFAR-10 shape, batch 128, 4,000 of the recipe's 39,062 updates",
        "cuda",
        # Of the recipe's 22 evaluations 18 have recalibrated statistics, too: a tenth of them pass as many examples as three do with one.
        replace(_RESNET44, examples=_ALL, test_examples=10_000, updates=4000, evaluations=3),
        *_PROBES,
    ),
    _cost(
        "noise-stream-cuda",
        "what the noise scale costs: ResNet-44, CIFAR-10 shape, batch 512 in micro-batches of 128, 2,000 updates",
        "cuda",
        replace(_RESNET44, batch_size=512, ghost_batch_size=32, micro_batch_size=128, examples=_ALL, updates=2000),
        *_NOISE,
    ),
    _plan("plan-cuda", "cuda"),
)

CASES: dict[str, Case] = {case.name: case for case in (*_CPU, *_CUDA)}
"""All comparisons by name, in the order of the table. Goals on the CPU are for two cores, on CUDA for an H200."""
