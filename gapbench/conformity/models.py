"""Checks of a model: it builds where it says, trains repeatably, mixes no examples but through ghost batch norm, resumes exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gapbench.catalog import ModelEntry, datasets, models
from gapbench.conformity.sheet import (
    BATCH,
    UPDATES,
    Answer,
    Check,
    Step,
    advance,
    close,
    differing,
    distance,
    does_not_apply,
    failed,
    first_sentence,
    listed,
    make_checks,
    make_pool,
    make_spec,
    passed,
    shape_text,
    start,
    warned,
    weights_of,
)
from gapbench.core.errors import GapbenchError, TrainingError, place_of
from gapbench.core.hashing import derive_seed
from gapbench.core.registry import load_target
from gapbench.engine.flat import check_untied
from gapbench.layers.ghost_batch_norm import GhostBatchNorm, convert_batch_norm
from gapbench.layers.keyed import bind_keys
from gapbench.layers.stacked import can_stack, stack
from gapbench.suite.runspec import Component
from gapbench.workloads.tasks import live_task

# Check of replicas: a run trained within a stack is the run trained alone.

SEEDS = (0, 1, 2)
STACK_TOLERANCE = 1e-5


def check_replicas(case: Case, entry: ModelEntry) -> Answer:
    """Compares a stack of three seeds with each of them alone, and the stacked layers with the plain ones."""
    component, model, pool = case.component, case.converted(None), make_pool(case.shape, case.classes)
    if not can_stack(model):
        if entry.stackable:
            return failed(
                "it is declared stackable and is no plain nn.Sequential of Flatten, Linear, BatchNorm1d, GroupNorm and ReLU",
                "write it so, or remove stackable=True",
            )
        return does_not_apply("its runs train one by one; only plain sequences of dense layers stack")
    images = torch.randn(BATCH, *case.input_shape, generator=torch.Generator().manual_seed(2))
    if not close(model(images), stack([model])(images[None])[0].T, STACK_TOLERANCE):
        return failed("its stacked form computes something else", "use torch's own layers as they are, without changing their forward")
    together = advance(start([make_spec(model=component, seed=seed) for seed in SEEDS], pool), UPDATES)
    bits = True
    for replica, seed in enumerate(SEEDS):
        alone = advance(start([make_spec(model=component, seed=seed)], pool), UPDATES)
        if not close(alone.network.weights[0], together.network.weights[replica], STACK_TOLERANCE):
            return failed(
                f"seed {seed} ends elsewhere in a stack of {len(SEEDS)} than alone", "let no replica's values depend on another's"
            )
        bits = bits and torch.equal(alone.network.weights[0], together.network.weights[replica])
    how = "bit by bit" if bits else f"to {STACK_TOLERANCE:g}"
    hint = "" if entry.stackable else "; stackable=True in the decorator lets its seeds train together"
    return passed(f"a stack of {len(SEEDS)} seeds is {len(SEEDS)} runs, {how}{hint}")


FEATURES = ((13,), 3)
"""A shape of plain features, for models that say they take any input."""
TOLERANCE = 1e-4
"""Rounding of fp32 through a deep network stays below this share of the largest value; mixed examples change far more."""


@dataclass(frozen=True)
class Case:
    """A model at one shape of input."""

    component: Component
    shape: tuple[int, ...]
    """(height, width, channels) or (features,)."""
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """As the model takes it: channels first."""
        return self.shape if len(self.shape) == 1 else (self.shape[2], *self.shape[:2])

    @property
    def outputs(self) -> int:
        """Numbers that the model returns for an example: logits, or its loss."""
        return live_task(self.component.name).outputs(self.classes)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean loss of a batch."""
        return live_task(self.component.name).losses(outputs.T[None], labels[None]).mean()

    def build(self, seed: int = 0) -> nn.Module:
        """Returns the model with the initial weights of a seed, in training mode, as it came from its author."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "initial weights"))
            model: nn.Module = load_target(models()[self.component.name].target)(self.input_shape, self.classes, **self.component.options)
        if not isinstance(model, nn.Module):
            raise TypeError(f"it returns {type(model).__name__}, not a torch.nn.Module")
        try:
            check_untied(model)
        except TrainingError as error:
            raise ValueError(str(error)) from None  # unlike a refusal of its own, which is of some shapes only
        return model.train()

    def converted(self, ghost_batch_size: int | None) -> nn.Module:
        """Returns the model with ghost batch norm, torch's own dropout switched off."""
        return without_torch_dropout(convert_batch_norm(self.build(), ghost_batch_size=ghost_batch_size))

    def batch(self, examples: int = BATCH) -> tuple[Tensor, Tensor]:
        """Returns random images or features, and labels."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(examples, *self.input_shape, generator=generator), torch.arange(examples) % self.classes


def check_model(name: str, options: Mapping[str, Any]) -> list[Check]:
    """Returns the checks of a model."""
    entry = models()[name]
    component = Component(name=name, version=entry.version, options=dict(options))
    cases = [Case(component, shape, classes) for shape, classes in shapes_of(entry)]

    @functools.cache
    def working() -> list[Case]:
        return [case for case in cases if not isinstance(_refusal(case), GapbenchError)]

    def smallest(look: Callable[[Case], Answer]) -> Callable[[], Answer]:
        """Returns a check at the smallest shape that the model takes."""
        return lambda: look(min(working(), key=lambda case: torch.Size(case.shape).numel() * case.classes))

    untrainable = "it cannot train before every parameter has a gradient"
    steps = (
        Step("builds", lambda: _builds(cases, entry), needed="it does not build"),
        Step("output shape", lambda: _output_shape(working()), needed="its output has another shape"),
        Step("finite loss", smallest(_finite_loss)),
        Step("gradients everywhere", smallest(_gradients), needed=untrainable),
        Step("repeatable", smallest(_repeatable)),
        Step("batch norm as declared", smallest(functools.partial(_declared_norm, entry=entry))),
        Step("ghost batch norm, one group", smallest(_one_group)),
        Step("ghost batch norm, chunk by chunk", smallest(_chunks)),
        Step("evaluation", smallest(_evaluation)),
        Step("dropout", smallest(_dropout)),
        Step("replicas", smallest(functools.partial(check_replicas, entry=entry))),
        Step("snapshot and restore", smallest(_snapshot)),
    )
    return make_checks("model", name, steps)


def shapes_of(entry: ModelEntry) -> list[tuple[tuple[int, ...], int]]:
    """Returns the shapes of data sets that a model says it takes, with numbers of classes."""
    known = [(data.shape, data.classes) for data in datasets().values() if data.shape and data.classes]
    found = list(dict.fromkeys([*known, FEATURES]))
    if entry.input_shape:
        return [one for one in found if one[0] == entry.input_shape] or [(entry.input_shape, 10)]
    images = [one for one in found if len(one[0]) == 3 and min(one[0][:2]) >= entry.minimum_side]
    features = [one for one in found if len(one[0]) == 1 and not entry.needs_images]
    return [*images, *features] or [((entry.minimum_side, entry.minimum_side, 3), 10)]


def without_torch_dropout(model: nn.Module) -> nn.Module:
    """Switches torch's dropout layers off: their masks depend on the batch, which is said by a check of its own."""
    for module in torch_dropouts(model):
        module.p = 0.0
    return model


def torch_dropouts(model: nn.Module) -> list[nn.modules.dropout._DropoutNd]:
    """Returns the dropout layers that are torch's."""
    return [module for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]


def forward(model: nn.Module, images: Tensor, first: int = 0) -> Tensor:
    """Returns the logits of examples `first` .. of a batch, each with the dropout key of its place."""
    bind_keys(model, torch.arange(first, first + len(images)) * 7919)
    logits: Tensor = model(images)
    return logits


def _refusal(case: Case) -> Exception | None:
    try:
        case.build()
    except Exception as error:
        return error
    return None


def _builds(cases: list[Case], entry: ModelEntry) -> Answer:
    refused, built = [], []
    for case in cases:
        error = _refusal(case)
        if error is None:
            built.append(shape_text(case.shape))
        elif isinstance(error, GapbenchError):
            refused.append((shape_text(case.shape), error))
        else:
            text = (
                f"for {shape_text(case.shape)} and {case.classes} classes: {type(error).__name__}: {first_sentence(error)}{place_of(error)}"
            )
            return failed(text, _narrower(case, entry))
    if not built:
        return failed(f"it refuses every shape that it says it takes: {first_sentence(refused[0][1])}", _narrower(cases[0], entry))
    text = f"for {listed(list(dict.fromkeys(built)))}"
    return passed(text + (f"; refuses {listed(list(dict.fromkeys(shape for shape, _ in refused)))} in words" if refused else ""))


def _narrower(case: Case, entry: ModelEntry) -> str:
    """What to do about a shape that a model says it takes and does not."""
    if entry.input_shape:
        return "mend it for the input_shape that it is declared with"
    if len(case.shape) == 1:
        return "declare needs_images=True if it is for images only, or mend it for plain features"
    return (
        "mend it, declare the only input_shape=(height, width, channels) it takes, or raise gapbench.core.errors.TrainingError for others"
    )


def _output_shape(cases: list[Case]) -> Answer:
    for case in cases:
        images, _ = case.batch()
        try:
            logits = forward(case.build(), images)
        except Exception as error:
            text = f"for {shape_text(case.shape)}: {type(error).__name__}: {first_sentence(error)}{place_of(error)}"
            return failed(text, _narrower(case, models()[case.component.name]))
        if not isinstance(logits, Tensor) or logits.shape != (len(images), case.outputs):
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            return failed(
                f"for {shape_text(case.shape)} it returns {found}, not [{len(images)}, {case.outputs}]",
                "return logits of shape [batch, classes], with no softmax"
                if case.outputs == case.classes
                else "return the loss of each example, in nats, of shape [batch, 1]",
            )
    return passed(f"[batch, {'classes' if case.outputs == case.classes else 1}] for each of them")


def _finite_loss(case: Case) -> Answer:
    images, labels = case.batch()
    loss = float(case.loss(forward(case.build(), images), labels).detach())
    if not torch.isfinite(torch.tensor(loss)):
        return failed(f"the first loss is {loss}", "scale the initial weights down, or look for a division by zero")
    return passed(f"the first loss is {loss:.3g}")


def _gradients(case: Case) -> Answer:
    model = case.build()
    images, labels = case.batch()
    torch.autograd.backward(case.loss(forward(model, images), labels))
    parameters = dict(model.named_parameters())
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if frozen:
        return failed(f"{listed(frozen[:4])} does not require a gradient", "keep what is not trained as a buffer (register_buffer)")
    unused = [name for name, parameter in parameters.items() if parameter.grad is None]
    if unused:
        return failed(f"the loss does not depend on {listed(unused[:4])}", "use them in forward, or remove them")
    broken = [name for name, parameter in parameters.items() if not torch.isfinite(_gradient(parameter)).all()]
    if broken:
        return failed(f"the gradient of {listed(broken[:4])} is not finite", "look for a root, a logarithm or a division at zero")
    silent = [name for name, parameter in parameters.items() if not _gradient(parameter).any()]
    if silent:
        return warned(
            f"the gradient of {listed(silent[:4])} is exactly zero", "look whether something cuts it off, such as detach or a dead ReLU"
        )
    return passed(f"all {len(parameters)} tensors of parameters, {sum(p.numel() for p in parameters.values()):,} numbers")


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _repeatable(case: Case) -> Answer:
    pool = make_pool(case.shape, case.classes)
    first, second = (weights_of(advance(start([make_spec(model=case.component)], pool), UPDATES)) for _ in range(2))
    if names := differing(first, second):
        remedy = "draw random numbers from torch's own generator, in the constructor or in forward, and from no other"
        return failed(f"two trainings with one seed differ in {listed(names[:4])}", remedy)
    first, second = (case.build(seed).state_dict() for seed in (0, 1))
    if not differing(first, second):
        return warned("its initial weights are the same for every seed", "draw them from torch's generator, unless that is meant so")
    return passed(f"{UPDATES} updates twice, bit by bit; another seed gives other weights")


def _declared_norm(case: Case, entry: ModelEntry) -> Answer:
    model = case.converted(None)
    left = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if left:
        return failed(f"{listed(left[:4])} cannot be swapped for ghost batch norm", "use nn.BatchNorm1d or nn.BatchNorm2d")
    has = any(isinstance(module, GhostBatchNorm) for module in model.modules())
    declared = entry.has_batch_norm(dict(case.component.options))
    if has and not declared:
        return failed("it is declared without batch norm under these options and has some", "correct without_norm in the decorator")
    if declared and not has:
        remedy = "declare without_norm={} (or the options under which it has none), so that plans say that a ghost batch size has no effect"
        return failed("it is declared with batch norm and has none", remedy)
    return passed("has batch norm" if has else "has none")


def _one_group(case: Case) -> Answer:
    plain, swapped = without_torch_dropout(case.build()), case.converted(None)
    if not any(isinstance(module, GhostBatchNorm) for module in swapped.modules()):
        return does_not_apply("it has no batch norm")
    images, labels = case.batch()
    outputs, gradients = [], []
    for model in (plain, swapped):
        logits = forward(model, images)
        gradients.append(torch.cat([one.flatten() for one in torch.autograd.grad(case.loss(logits, labels), [*model.parameters()])]))
        outputs.append(logits)
    apart = max(distance(*outputs), float((gradients[0] - gradients[1]).norm() / gradients[0].norm().clamp_min(1e-12)))
    if apart > 10 * TOLERANCE:
        return failed(
            f"with ghost batch norm of one group its outputs or gradients differ by {apart:.1e}",
            "call the norm layers as modules; do not read their weights, statistics or training flag from outside",
        )
    return passed(f"outputs and gradients are batch norm's (to {apart:.0e})")


def _chunks(case: Case) -> Answer:
    images, _ = case.batch()
    half = len(images) // 2
    whole = forward(case.converted(half), images)
    chunks = torch.cat([forward(without_torch_dropout(case.build()), images[at : at + half], first=at) for at in (0, half)])
    if not close(chunks, whole, TOLERANCE):
        return failed(
            f"groups of {half} in a batch of {len(images)} give other outputs than {half} at a time (by {distance(chunks, whole):.1e})",
            "let examples meet in nn.BatchNorm1d and nn.BatchNorm2d only: no statistics over the batch dimension anywhere else",
        )
    return passed(f"groups of {half} give what batches of {half} give (to {distance(chunks, whole):.0e})")


def _evaluation(case: Case) -> Answer:
    model = case.converted(None)
    images, _ = case.batch()
    for _ in range(3):
        forward(model, images)  # so that running statistics are not the initial ones
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        whole = forward(model, images)
        again = forward(model, images)
        single = torch.cat([forward(model, images[i : i + 1], first=i) for i in range(len(images))])
    if names := differing(before, model.state_dict()):
        return failed(f"evaluating changes {listed(names[:4])}", "change buffers in training mode only (if self.training)")
    if not torch.equal(whole, again):
        return failed("evaluating twice gives two results", "use no random numbers in evaluation mode")
    if not close(single, whole, TOLERANCE):
        return failed(
            f"outputs depend on the other examples of the evaluation batch (by {distance(single, whole):.1e})",
            "in evaluation mode compute each example by itself: running statistics, not those of the batch",
        )
    return passed("one example at a time gives what all at once give, and changes nothing")


def _dropout(case: Case) -> Answer:
    model = case.build()
    if layers := torch_dropouts(model):
        return warned(
            f"{type(layers[0]).__name__} of torch draws its masks in order, so that they differ between batch sizes",
            "use gapbench.layers.keyed.Dropout, whose masks are a hash of (seed, epoch, example)",
        )
    if any("ropout" in type(module).__name__ for module in model.modules()):
        return passed("masks are a hash of (seed, epoch, example)")
    return does_not_apply("it has none")


def _snapshot(case: Case) -> Answer:
    pool, spec = make_pool(case.shape, case.classes), make_spec(model=case.component)
    straight, first = advance(start([spec], pool), UPDATES), advance(start([spec], pool), UPDATES // 2)
    snapshot = first.snapshot(0)  # before another run starts: torch's own generator is in it, and starting sets it
    resumed = start([spec], pool)
    resumed.restore([snapshot])
    advance(resumed, UPDATES - UPDATES // 2)
    if names := differing(weights_of(straight), weights_of(resumed)):
        return failed(
            f"a run that is resumed in the middle ends with other {listed(names[:4])}",
            "keep whatever changes while training in parameters or buffers (register_buffer), never in plain attributes",
        )
    return passed(f"resumed after {UPDATES // 2} of {UPDATES} updates, bit by bit")
