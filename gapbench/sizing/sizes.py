"""How large a model is: counted once on torch's meta device, and kept.

Counts of what the shipped suites train lie beside the catalog (`catalog/sizes.json`, made by `python -m gapbench.workloads.counting`).
Any other model, a plugin's too, is counted once by a process of its own, so that planning imports no torch, and kept in the cache by
everything that its size depends on: name, version, options, shape of an example, classes, and the text of a plugin's file.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from gapbench import catalog
from gapbench.catalog.plugins import INSTALLED, added_entry
from gapbench.core.errors import DataError, UnknownNameError
from gapbench.core.machine import cache_dir, python_environment, write_note
from gapbench.core.progress import say
from gapbench.suite.facts import DatasetFacts, dataset_facts
from gapbench.suite.runspec import Component, RunSpec

COUNTING_COMMAND = (sys.executable, "-P", "-m", "gapbench.workloads.counting")
FLOPS_A_MULTIPLICATION = 2.0
"""A multiply-add is two operations."""
PASSES = 3.0
"""Of an update, in forward passes: forward, and backward to the activations and to the weights."""


@dataclass(frozen=True)
class Size:
    """What one example costs in a model."""

    parameters: int
    multiplications: int
    """Multiply-adds of the forward pass."""
    activations: int
    """Numbers of 4 bytes that an example adds to what is kept for the backward pass or written by an operation that keeps something."""
    layers: int
    """Weights of two or more dimensions."""
    recomputed: int
    """As `activations`, where blocks keep their inputs and pass forward again: what is outside, and within the largest; 0: no blocks."""

    def training_flops(self, examples: float) -> float:
        """Returns the floating point operations of updates on so many examples, forward and backward."""
        return FLOPS_A_MULTIPLICATION * PASSES * self.multiplications * examples

    def evaluation_flops(self, examples: float) -> float:
        """Returns the floating point operations of so many forward passes of one example."""
        return FLOPS_A_MULTIPLICATION * self.multiplications * examples


@dataclass(frozen=True)
class Counted:
    """A model as it is counted."""

    model: str
    version: int
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    """Of an example: (height, width, channels) or (features,)."""
    classes: int
    text: str = ""
    """Hash of the file that a plugin's model comes from."""

    def key(self) -> str:
        """Returns all of it as one text."""
        return json.dumps(vars(self), sort_keys=True)


Answer = Mapping[str, Any]
"""Of one model: `size`, and `note` where people should know how it was counted; or `error`, why it cannot be."""

_sizes: dict[str, Size | None] = {}
"""What this process knows, by key; None: it cannot be counted."""


def input_shape(spec: RunSpec, facts: DatasetFacts) -> tuple[int, ...]:
    """Returns the shape of what the model takes: (height, width, channels), after crops, or (features,)."""
    return (spec.crop_size, spec.crop_size, facts.shape[2]) if spec.crop_size and facts.is_image else facts.shape


def facts_of(spec: RunSpec) -> DatasetFacts | None:
    """Returns what is known of a run's data set without reading it, or None where that is nothing."""
    return _facts_of(spec.dataset.model_dump_json())


def model_size(spec: RunSpec) -> Size | None:
    """Returns the size of a run's model for its data set.

    None where it is unknown: the data are not there, the plugin is not loaded, or the model cannot be counted, which is said on stderr.
    """
    wanted = counted_of(spec)
    return None if wanted is None else _size(wanted)


def size_of(model: Component, shape: Sequence[int], classes: int) -> Size | None:
    """Returns the size of a model for examples of a shape, (height, width, channels) or (features,); None as `model_size`."""
    wanted = _as_counted(model, tuple(shape), classes)
    return None if wanted is None else _size(wanted)


def count_models(specs: Iterable[RunSpec]) -> None:
    """Counts all models of these runs whose sizes are not known, in one process."""
    _know([wanted for wanted in map(counted_of, specs) if wanted is not None])


def count_with(counter: Callable[[Sequence[Counted]], Sequence[Answer]]) -> None:
    """Lets a process that has torch count for itself: `gapbench.workloads.counting.answers`."""
    global _counter
    _counter = counter


def counted_of(spec: RunSpec) -> Counted | None:
    """Returns what is counted for a run; None where its data are not there, or its plugin is not loaded."""
    facts = facts_of(spec)
    return None if facts is None else _as_counted(spec.model, input_shape(spec, facts), facts.classes)


def _as_counted(model: Component, shape: tuple[int, ...], classes: int) -> Counted | None:
    """Returns what is counted: options that a run is older than have their defaults."""
    try:
        entry = catalog.models()[model.name]
    except UnknownNameError:
        return None
    options = {name: model.options.get(name, parameter.default) for name, parameter in entry.parameters.items()}
    added = added_entry("model", model.name)
    return Counted(model.name, entry.version, options, shape, classes, added.text if added else "")


def _size(wanted: Counted) -> Size | None:
    if wanted.key() not in _sizes:
        _know([wanted])
    return _sizes[wanted.key()]


def _know(wanted: Sequence[Counted]) -> None:
    """Makes sure that these are known, or known to be uncountable."""
    missing = {one.key(): one for one in wanted if one.key() not in _sizes}
    for key in list(missing):
        found = _shipped().get(key) or _kept(key)
        if found is not None:
            _sizes[key] = found
            del missing[key]
    if not missing:
        return
    for (key, one), answer in zip(missing.items(), _counter(list(missing.values())), strict=True):
        if "size" in answer:
            _sizes[key] = Size(**answer["size"])
            if one.text or added_entry("model", one.model) is None:  # what stands in no file may be another one tomorrow
                _keep(key, answer["size"])
            if answer.get("note"):
                say(f"model {one.model}: {answer['note']}")
        else:
            _sizes[key] = None
            say(
                f"model {one.model}: its size cannot be counted ({answer['error']}), so that its batches are not cut, it is not compiled "
                "on a CPU, and its time and memory are not predicted"
            )


def _count_in_a_process(wanted: Sequence[Counted]) -> Sequence[Answer]:
    """Asks a process that may import torch."""
    names = ", ".join(dict.fromkeys(one.model for one in wanted))
    say(f"counting the size of {names}, once, in a process with torch")
    added = [added_entry("model", one.model) for one in wanted]
    files = sorted({one.source for one in added if one is not None and one.source and not one.source.startswith(INSTALLED)})
    question = json.dumps({"plugins": files, "models": [asdict(one) for one in wanted]})
    done = subprocess.run(COUNTING_COMMAND, input=question, capture_output=True, text=True, check=False, env=python_environment())
    if done.returncode:
        words = done.stderr.strip().splitlines()
        return [{"error": words[-1] if words else "the process that counts ended"}] * len(wanted)
    answers: list[Answer] = json.loads(done.stdout)
    return answers


_counter = _count_in_a_process


@functools.cache
def _shipped() -> Mapping[str, Size]:
    text = resources.files("gapbench.catalog").joinpath("sizes.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    return {Counted(**{**entry["model"], "shape": tuple(entry["model"]["shape"])}).key(): Size(**entry["size"]) for entry in entries}


def _file(key: str) -> Path:
    return cache_dir() / "sizes" / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.json"


def _kept(key: str) -> Size | None:
    try:
        found = json.loads(_file(key).read_text(encoding="utf-8"))
        return Size(**found["size"]) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet, or damaged: it is counted


def _keep(key: str, size: Mapping[str, int]) -> None:
    """Keeps a size; where the cache cannot be written to, the next process counts again."""
    with contextlib.suppress(OSError):
        write_note(_file(key), {"key": key, "size": dict(size)})


@functools.lru_cache(maxsize=64)
def _facts_of(component: str) -> DatasetFacts | None:
    try:
        return dataset_facts(Component.model_validate_json(component))
    except (DataError, UnknownNameError):
        return None
