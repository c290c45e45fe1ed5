"""Plugins: a user's own data sets, models, optimizers, regimes and probes, each one decorated function or class.

    import gapbench

    @gapbench.model(name="tiny", version=1)
    def tiny(input_shape: tuple[int, ...], classes: int, *, width: int = 32) -> nn.Module: ...

The annotated keyword-only parameters and their defaults are the schema that suite files are checked against. A plugin is a
file (`--plugin my.py`) or a package with an entry point of the group `gapbench.plugins`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from gapbench import catalog
from gapbench.catalog.entries import ComponentEntry, DatasetEntry, Entry, ModelEntry, OptimizerEntry, ProbeEntry, RegimeEntry
from gapbench.catalog.signatures import from_defaults, from_signature
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import Registry

ENTRY_POINT_GROUP = "gapbench.plugins"

C = TypeVar("C", bound=Callable[..., Any])
E = TypeVar("E", bound=Entry)

_added: list[tuple[Registry[Any], str]] = []
"""Every entry that plugins have added, in order."""
_loaded_files: dict[Path, tuple[str, list[tuple[Registry[Any], str]]]] = {}
"""By file: the hash of its text and the entries that it added."""
_loaded_entry_points: set[str] = set()


def model(
    *,
    name: str,
    version: int = 1,
    summary: str = "",
    source: str = "",
    input_shape: Sequence[int] = (),
    needs_images: bool = False,
    without_norm: Mapping[str, Any] | None = None,
) -> Callable[[C], C]:
    """Registers a model: called with (input_shape, classes, **options), it returns a torch.nn.Module with plain batch norm layers.

    Args:
        name: what suites call it.
        version: raised whenever the same options give other numbers.
        summary: one line for `gapbench ls`; default: the first line of the docstring.
        source: a citation or an address.
        input_shape: the only (height, width, channels) that it takes; empty: any.
        needs_images: whether it needs images and not plain features.
        without_norm: options under which it has no batch norm; {} where it never has any.
    """

    def register(component: C) -> C:
        parameters = from_signature(component, reserved=("input_shape", "classes"), owner=f'model "{name}"')
        facts = {"name": name, "version": version, "source": source, "parameters": parameters, "needs_images": needs_images}
        norm = None if without_norm is None else dict(without_norm)
        _add_component(catalog.models(), ModelEntry, component, summary, **facts, input_shape=tuple(input_shape), without_norm=norm)
        return component

    return register


def dataset(
    *,
    name: str,
    train_examples: int,
    test_examples: int,
    shape: Sequence[int],
    classes: int,
    pixel_max: float = 255.0,
    split: Literal["official", "drawn"] = "official",
    version: int = 1,
    summary: str = "",
    source: str = "",
) -> Callable[[C], C]:
    """Registers a data set: called with (context, **options), it returns a Pool. Sizes are given here, so that planning loads nothing.

    Args:
        name: what suites call it.
        train_examples: size of the training set.
        test_examples: size of the test set.
        shape: (height, width, channels), or (features,).
        classes: number of classes.
        pixel_max: the stored value that means 1.0.
        split: "official": the pool's first examples are the training set; "drawn": by `split_seed`.
        version: raised whenever the data change.
        summary: one line for `gapbench ls`; default: the first line of the docstring.
        source: a citation or an address.
    """

    def register(component: C) -> C:
        parameters = from_signature(component, reserved=("context",), owner=f'dataset "{name}"')
        sizes = {"train_examples": train_examples, "test_examples": test_examples, "shape": tuple(shape), "classes": classes}
        facts = {"name": name, "version": version, "source": source, "parameters": parameters, "pixel_max": pixel_max, "split": split}
        _add_component(catalog.datasets(), DatasetEntry, component, summary, **facts, **sizes)
        return component

    return register


def optimizer(
    *, name: str, version: int = 1, summary: str = "", source: str = "", options: Mapping[str, Any] | None = None
) -> Callable[[C], C]:
    """Registers an optimizer: a subclass of gapbench.optimizers.base.Optimizer.

    Its options reach it as one mapping; `options` gives their defaults, and with these their types.
    """

    def register(component: C) -> C:
        owner = f'optimizer "{name}"'
        parameters = from_signature(component, reserved=("buffers", "options", "shared"), owner=owner)
        parameters.update(from_defaults(options or {}, owner=owner))
        _add_component(
            catalog.optimizers(), OptimizerEntry, component, summary, name=name, version=version, source=source, parameters=parameters
        )
        return component

    return register


def regime(*, name: str, summary: str = "", source: str = "") -> Callable[[C], C]:
    """Registers a regime: a function without arguments that returns its fields, such as {"learning_rate_scaling": "sqrt"}."""

    def register(component: C) -> C:
        _add(catalog.regimes(), RegimeEntry, name=name, summary=summary or _first_line(component), source=source, **component())
        return component

    return register


def probe(
    *,
    stage: Literal["micro-batch", "update", "evaluation", "checkpoint"],
    name: str = "",
    version: int = 1,
    metrics: Sequence[str] = (),
    per_layer: bool = False,
    default: bool = False,
    summary: str = "",
    source: str = "",
) -> Callable[[C], C]:
    """Registers a probe: a function of the training state that returns metrics by name. Default name and metric: the function's name."""

    def register(component: C) -> C:
        called = name or getattr(component, "__name__", "")
        parameters = from_signature(component, reserved=("state",), owner=f'probe "{called}"')
        facts = {"name": called, "version": version, "source": source, "parameters": parameters, "stage": stage, "per_layer": per_layer}
        _add_component(catalog.probes(), ProbeEntry, component, summary, **facts, metrics=tuple(metrics) or (called,), default=default)
        return component

    return register


def load_plugins(paths: Iterable[str | Path] = ()) -> None:
    """Imports plugin files, and the installed plugins of the entry point group, so that their decorators register entries.

    Calling it again does nothing more; a file that has changed since is imported anew and its entries replaced.

    Raises:
        GapbenchError: a file that is missing or fails to import, or a name that is taken.
    """
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.value not in _loaded_entry_points:
            try:
                entry_point.load()
            except GapbenchError:
                raise
            except Exception as error:
                raise GapbenchError(
                    f'installed plugin "{entry_point.name}" ({entry_point.value}) cannot be imported: {type(error).__name__}: {error}; '
                    "repair or uninstall the package"
                ) from error
            _loaded_entry_points.add(entry_point.value)
    for path in paths:
        _load_file(Path(path))


def _load_file(path: Path) -> None:
    path = path.resolve()
    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise GapbenchError(f"plugin {path}: cannot be read: {error.strerror}; name a Python file") from error
    seen, entries = _loaded_files.get(path, ("", []))
    if seen == digest:
        return
    for registry, name in entries:
        registry.remove(name)
    module_name = f"gapbench_plugin_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise GapbenchError(f"plugin {path}: is no Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # the targets of its entries are looked up here
    before = len(_added)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        for registry, name in _added[before:]:
            registry.remove(name)
        del _added[before:]
        _loaded_files.pop(path, None)
        reason = str(error) if isinstance(error, GapbenchError) else f"{type(error).__name__}: {error}"
        raise GapbenchError(f"plugin {path}{_line_of(error, path)}: cannot be loaded: {reason}") from error
    _loaded_files[path] = (digest, _added[before:])


def _line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _add_component(
    registry: Registry[Any], entry_type: type[ComponentEntry], component: Callable[..., Any], summary: str, **facts: Any
) -> None:
    target = f"{component.__module__}:{component.__qualname__}"
    name = facts["name"]
    if "." in component.__qualname__:  # also "<locals>"
        raise GapbenchError(f'{registry.kind} "{name}" must be defined at the top level of its file, not inside {component.__qualname__}')
    if name in registry and registry[name].target == target:
        return  # the module of a known component was imported under its own name
    _add(registry, entry_type, target=target, summary=summary or _first_line(component), **facts)


def _add(registry: Registry[Any], entry_type: type[Entry], **facts: Any) -> None:
    try:
        entry = entry_type(**facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise GapbenchError(f'{registry.kind} "{facts["name"]}": {place}: {first["msg"]}') from error
    registry.add(entry.name, entry)
    _added.append((registry, entry.name))


def _first_line(component: Callable[..., Any]) -> str:
    return (component.__doc__ or "").strip().split("\n")[0]
