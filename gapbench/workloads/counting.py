"""The size of a model, counted: it is built on torch's meta device, where tensors have shapes and no numbers, and run there.

    python -m gapbench.workloads.counting --shipped > gapbench/catalog/sizes.json

counts what the shipped suites train. Without `--shipped` it answers planning: {"plugins": [...], "models": [...]} on stdin.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gapbench import catalog
from gapbench.catalog.plugins import load_plugins
from gapbench.core.errors import GapbenchError, SuiteError
from gapbench.core.registry import load_target
from gapbench.layers.keyed import bind_keys
from gapbench.layers.recompute import blocks_of
from gapbench.sizing.sizes import FLOPS_A_MULTIPLICATION, Answer, Counted, Size, counted_of
from gapbench.suite import load_suite
from gapbench.suite.source import shipped_suites

FEW, MORE = 2, 4
"""Batches that are counted: what an example adds is their difference. Batch norm needs two examples."""


class _Kept(TorchFunctionMode):
    """Notes memory that a forward pass keeps for the backward pass, and the outputs of every operation that keeps some.

    So a sum, of which nothing is kept, counts only where something else keeps it, and what batch norm writes counts although it may be
    dropped after the next ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._packed = 0

    @property
    def numbers(self) -> int:
        """Of 4 bytes each."""
        return sum(storage.nbytes() for storage in self._storages.values()) // 4

    def pack(self, tensor: Tensor) -> Tensor:
        """Notes what autograd keeps: a hook of saved tensors."""
        self._packed += 1
        self._note(tensor)
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and notes its outputs where it has kept something."""
        before = self._packed
        found = func(*args, **(kwargs or {}))
        if self._packed > before:
            for output in tree_leaves(found):
                if isinstance(output, Tensor):
                    self._note(output)
        return found

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._storages[storage._cdata] = storage  # held, so that no other storage comes to lie at its place


def count(wanted: Counted) -> tuple[Size, str]:
    """Returns the size of a model and, where it could not be counted on the meta device, a sentence that says so.

    Raises:
        GapbenchError: it can be built neither there nor on the CPU.
    """
    try:
        return _count_on("meta", wanted), ""
    except Exception as error:  # whatever a user's model does that needs numbers
        on_meta = _first_line(error)
    try:
        return _count_on("cpu", wanted), f"counted on the CPU, for on torch's meta device it does not run ({on_meta})"
    except Exception as error:
        raise GapbenchError(_first_line(error)) from error


def answers(wanted: Sequence[Counted]) -> list[Answer]:
    """Returns the sizes of models, or why they cannot be counted."""
    found: list[Answer] = []
    for one in wanted:
        try:
            size, note = count(one)
            found.append({"size": asdict(size), "note": note})
        except GapbenchError as error:
            found.append({"error": str(error)})
    return found


def shipped() -> list[Counted]:
    """Returns what the shipped suites train, as far as their data need no folder of the user's, and all models as they are by default."""
    return list({one.key(): one for one in _all_shipped()}.values())


def _all_shipped() -> Iterator[Counted]:
    for entry in catalog.models().values():
        for dataset in catalog.datasets().values():
            images = len(dataset.shape) == 3
            if dataset.classes is None or (entry.needs_images and not images) or entry.input_shape not in ((), dataset.shape):
                continue
            if not images or min(dataset.shape[:2]) >= entry.minimum_side:
                options = {name: parameter.default for name, parameter in entry.parameters.items()}
                yield Counted(entry.name, entry.version, options, dataset.shape, dataset.classes)
    for path in shipped_suites().values():
        try:
            runs = load_suite(path).runs
        except SuiteError:
            continue  # a folder of images that is not here
        yield from filter(None, (counted_of(run.spec) for run in runs))


def _count_on(device: str, wanted: Counted) -> Size:
    shape = (wanted.shape[-1], *wanted.shape[:-1])
    with torch.random.fork_rng(devices=[]), torch.device(device):
        module: nn.Module = load_target(catalog.models()[wanted.model].target)(shape, wanted.classes, **wanted.options)
        few, more = (_passed(module, shape, examples) for examples in (FEW, MORE))
    parameters = list(module.parameters())
    multiplications, activations, recomputed = ((large - small) / (MORE - FEW) for small, large in zip(few, more, strict=True))
    return Size(
        parameters=sum(parameter.numel() for parameter in parameters),
        multiplications=round(multiplications / FLOPS_A_MULTIPLICATION),
        activations=round(activations),
        layers=sum(parameter.ndim >= 2 for parameter in parameters),
        recomputed=round(recomputed),
    )


def _passed(module: nn.Module, shape: tuple[int, ...], examples: int) -> tuple[int, int, int]:
    """Returns the operations of a forward pass in training mode, the kept numbers, and those kept where blocks are recomputed, or 0."""
    bind_keys(module, torch.arange(examples))
    taken: dict[nn.Module, tuple[Any, ...]] = {}
    hooks = [block.register_forward_pre_hook(lambda block, inputs: taken.update({block: inputs})) for block in blocks_of(module)]
    with FlopCounterMode(display=False) as flops:
        kept = _kept(module, (torch.zeros(examples, *shape),))
    for hook in hooks:
        hook.remove()
    within = [_kept(block, inputs) for block, inputs in taken.items()]
    inputs = sum(leaf.numel() for leaf in tree_leaves([*taken.values()]) if isinstance(leaf, Tensor))
    return flops.get_total_flops(), kept, kept - sum(within) + inputs + max(within) if within else 0


def _kept(module: nn.Module, inputs: tuple[Any, ...]) -> int:
    """Returns the numbers that a forward pass keeps."""
    kept = _Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor), kept:
        module(*inputs)
    return kept.numbers


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]


def main(arguments: Sequence[str]) -> None:
    """Answers one question, or writes the shipped counts, one model a line."""
    torch.set_num_threads(1)
    if "--shipped" in arguments:
        lines = sorted(json.dumps({"model": _model(one), "size": asdict(count(one)[0])}, sort_keys=True) for one in shipped())
        print("[\n" + ",\n".join(lines) + "\n]")
        return
    out = os.dup(1)
    os.dup2(2, 1)  # prints of a plugin must not stand in the answer
    question = json.load(sys.stdin)
    load_plugins(question["plugins"])
    found = answers([Counted(**{**model, "shape": tuple(model["shape"])}) for model in question["models"]])
    os.write(out, json.dumps(found).encode())


def _model(wanted: Counted) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(wanted).items() if name != "text"}


if __name__ == "__main__":
    main(sys.argv[1:])
