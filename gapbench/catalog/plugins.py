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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from gapbench import catalog
from gapbench.catalog.entries import ComponentEntry, DatasetEntry, Entry, ModelEntry, OptimizerEntry, ProbeEntry, RegimeEntry
from gapbench.catalog.parameters import from_defaults, from_signature
from gapbench.core.errors import GapbenchError
from gapbench.core.registry import Registry, unknown_name

# What plugins have added to the catalog, and from where: entries of one file come and go together.

INSTALLED = "installed plugin "
"""The source of what comes from an entry point begins so."""


@dataclass(frozen=True, eq=False)
class Added:
    """An entry that a plugin has added."""

    registry: Registry[Any]
    name: str
    component: Callable[..., Any]
    source: str
    """Path of the plugin file, INSTALLED and a name, or empty: defined in a notebook or in a module of the user's own."""
    text: str = ""
    """Hash of the file that defines the component; empty where there is none, as in a notebook."""

    @property
    def target(self) -> str:
        """`module:object`, under which a worker process finds the component."""
        return f"{self.component.__module__}:{self.component.__qualname__}"


@dataclass(frozen=True)
class Load:
    """A plugin that is being imported."""

    source: str
    entries: list[Added] = field(default_factory=list)
    """What it has added so far."""


_added: dict[tuple[str, str], Added] = {}
"""By kind and name."""
_loads: list[Load] = []
"""Innermost last."""


def added_entry(kind: str, name: str) -> Added | None:
    """Returns what a plugin added under a name; None where the name is built in or unknown."""
    return _added.get((kind, name))


@contextmanager
def loading(source: str) -> Iterator[Load]:
    """While a plugin is imported: its entries are known as its own, and taken back where that fails.

    Raises:
        GapbenchError: two components share a place in their module, so that one would train in the other's name.
    """
    load = Load(source)
    _loads.append(load)
    try:
        yield load
        _check_targets(load.entries)
    except BaseException:
        for added in load.entries:
            forget(added)
        raise
    finally:
        _loads.pop()


def add_component(
    registry: Registry[Any], entry_type: type[ComponentEntry], component: Callable[..., Any], summary: str, **facts: Any
) -> None:
    """Adds an entry whose target is `component`. Raises GapbenchError where a worker process could not import it, or as `add`."""
    if "." in component.__qualname__:  # also "<locals>"
        name = facts["name"]
        raise GapbenchError(f'{registry.kind} "{name}" must be defined at the top level of its file, not inside {component.__qualname__}')
    target = f"{component.__module__}:{component.__qualname__}"
    add(registry, entry_type, component, target=target, summary=summary or first_line(component), **facts)


def add(registry: Registry[Any], entry_type: type[Entry], component: Callable[..., Any], **facts: Any) -> None:
    """Adds an entry; it replaces one of the same name from the same file, such as that of a notebook's cell that runs again.

    Raises:
        GapbenchError: the facts are wrong, or the name is taken.
    """
    load = _loads[-1] if _loads else Load("")
    try:
        entry = entry_type(**facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise GapbenchError(f'{registry.kind} "{facts["name"]}": {place}: {first["msg"]}') from error
    before = added_entry(registry.kind, entry.name)
    if before is not None and before not in load.entries and _file_of(before.component) == _file_of(component):
        forget(before)
    registry.add(entry.name, entry)
    added = Added(registry, entry.name, component, load.source, _text_of(component))
    _added[registry.kind, entry.name] = added
    load.entries.append(added)


def forget(added: Added) -> None:
    """Takes an entry back, unless another one has its name by now."""
    if _added.get((added.registry.kind, added.name)) is added:
        added.registry.remove(added.name)
        del _added[added.registry.kind, added.name]


def first_line(component: Callable[..., Any]) -> str:
    """Returns the first line of a docstring."""
    return (component.__doc__ or "").strip().split("\n")[0]


def _check_targets(entries: Sequence[Added]) -> None:
    first: dict[str, Added] = {}
    for added in entries:
        other = first.setdefault(added.target, added)
        if other.component is not added.component:
            raise GapbenchError(
                f'{other.registry.kind} "{other.name}" and {added.registry.kind} "{added.name}" are both called '
                f"{added.component.__qualname__} in their file, where the second replaces the first; give them names of their own"
            )


def _file_of(component: Callable[..., Any]) -> str:
    """Returns the file that a component comes from, or its module where there is none, as in a notebook."""
    file = getattr(sys.modules.get(component.__module__), "__file__", None)
    return str(Path(file).resolve()) if file else component.__module__


def _text_of(component: Callable[..., Any]) -> str:
    """Returns a hash of the file that a component comes from; empty where there is none."""
    file = getattr(sys.modules.get(component.__module__), "__file__", None)
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest() if file else ""


ENTRY_POINT_GROUP = "gapbench.plugins"

C = TypeVar("C", bound=Callable[..., Any])

_loaded_files: dict[Path, tuple[str, list[Added]]] = {}
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
    minimum_side: int = 0,
    stackable: bool = False,
    without_norm: Mapping[str, Any] | None = None,
    loss: str = "cross-entropy",
    task: str = "",
) -> Callable[[C], C]:
    """Registers a model: called with (input_shape, classes, **options), it returns a torch.nn.Module with plain batch norm layers.

    Args:
        name: what suites call it.
        version: raised whenever the same options give other numbers.
        summary: one line for `gapbench ls`; default: the first line of the docstring.
        source: a citation or an address.
        input_shape: the only (height, width, channels) that it takes; empty: any.
        needs_images: whether it needs images and not plain features.
        minimum_side: the smallest height and width that it takes.
        stackable: whether its runs may train as one stack: a plain nn.Sequential of Flatten, Linear, BatchNorm1d, GroupNorm and ReLU.
        without_norm: options under which it has no batch norm (a list: any of its values); {} where it never has any.
        loss: "cross-entropy" of its logits; "reconstruction" or "evidence-lower-bound" where the model itself returns each example's loss
            in nats, [batch, 1], and has no accuracy.
        task: what it is trained for, in the place of `loss`.
    """

    def register(component: C) -> C:
        parameters = from_signature(component, reserved=("input_shape", "classes"), owner=f'model "{name}"')
        facts = {"name": name, "version": version, "source": source, "parameters": parameters, "needs_images": needs_images}
        norm = None if without_norm is None else dict(without_norm)
        facts |= {"input_shape": tuple(input_shape), "minimum_side": minimum_side, "stackable": stackable}
        facts |= {"without_norm": norm, "task": _task(name, loss, task)}
        add_component(catalog.models(), ModelEntry, component, summary, **facts)
        return component

    return register


def _task(model: str, loss: str, task: str) -> str:
    """Returns the name of the task that a model names or that its loss belongs to. Raises GapbenchError where there is none."""
    if task:
        return catalog.tasks()[task].name
    by_loss = {name: entry.name for entry in catalog.tasks().values() for name in entry.losses}
    if loss not in by_loss:
        raise GapbenchError(f'model "{model}": {unknown_name("loss", loss, by_loss)}')
    return by_loss[loss]


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
        add_component(catalog.datasets(), DatasetEntry, component, summary, **facts, **sizes)
        return component

    return register


def optimizer(
    *,
    name: str,
    version: int = 1,
    summary: str = "",
    source: str = "",
    options: Mapping[str, Any] | None = None,
    gradients_per_update: int = 1,
) -> Callable[[C], C]:
    """Registers an optimizer: a subclass of gapbench.optimizers.base.Optimizer.

    Its options reach it as one mapping; `options` gives their defaults, and with these their types. `gradients_per_update` is how many
    gradients of a batch an update computes.
    """

    def register(component: C) -> C:
        owner = f'optimizer "{name}"'
        parameters = from_signature(component, reserved=("buffers", "options", "shared"), owner=owner)
        parameters.update(from_defaults(options or {}, owner=owner))
        facts = {"name": name, "version": version, "source": source, "parameters": parameters}
        add_component(catalog.optimizers(), OptimizerEntry, component, summary, **facts, gradients_per_update=gradients_per_update)
        return component

    return register


def regime(*, name: str, summary: str = "", source: str = "") -> Callable[[C], C]:
    """Registers a regime: a function without arguments that returns its fields, such as {"learning_rate_scaling": "sqrt"}."""

    def register(component: C) -> C:
        fields = component()
        if not isinstance(fields, Mapping):
            raise GapbenchError(f'regime "{name}" must return its fields as a mapping, such as {{"learning_rate_scaling": "sqrt"}}')
        add(catalog.regimes(), RegimeEntry, component, name=name, summary=summary or first_line(component), source=source, **fields)
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
    needs_objective: bool = False,
    vectors: Sequence[str] = (),
    passes: Mapping[str, float] = MappingProxyType({}),
    summary: str = "",
    source: str = "",
) -> Callable[[C], C]:
    """Registers a probe: a function (state, **options) that returns metrics by name.

    Args:
        stage: when it is called.
        name: what suites call it; default: the function's name.
        version: raised whenever the same state gives other numbers.
        metrics: names of the values it returns; default: its name.
        per_layer: whether it also returns `metric/layer`.
        default: whether it runs in every suite.
        needs_objective: whether its state has `objective`: loss, gradient and Hessian product at other examples and weights.
        vectors: those of `metrics` that are several numbers each, returned as `metric/bucket`.
        passes: of stage `checkpoint`, roughly, for the price of a plan: how often a look passes its option `examples` through the network,
            for each unit of its other options, and under "" besides. A loss is 1, a gradient 4, a product with the Hessian 12.
        summary: one line for `gapbench ls`; default: the first line of the docstring.
        source: a citation or an address.
    """

    def register(component: C) -> C:
        called = name or getattr(component, "__name__", "")
        options = from_signature(component, reserved=("state",), owner=f'probe "{called}"')
        facts = {"name": called, "version": version, "source": source, "stage": stage, "per_layer": per_layer}
        facts |= {"needs_objective": needs_objective, "parameters": options, "vectors": tuple(vectors), "passes": dict(passes)}
        add_component(catalog.probes(), ProbeEntry, component, summary, **facts, metrics=tuple(metrics) or (called,), default=default)
        return component

    return register


def load_plugins(paths: Iterable[str | Path] = ()) -> None:
    """Imports plugin files, and the installed plugins of the entry point group, so that their decorators register entries.

    Calling it again does nothing more; a file that has changed since is imported anew and its entries replaced. Modules beside
    a plugin file can be imported by it.

    Raises:
        GapbenchError: a file that is missing or fails to import, or a name that is taken.
    """
    for entry_point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.value not in _loaded_entry_points:
            try:
                with loading(f"{INSTALLED}{entry_point.name}"):
                    entry_point.load()
            except Exception as error:
                reason = str(error) if isinstance(error, GapbenchError) else f"{type(error).__name__}: {error}"
                raise GapbenchError(
                    f'installed plugin "{entry_point.name}" ({entry_point.value}) cannot be imported: {reason}; '
                    "repair or uninstall the package"
                ) from error
            _loaded_entry_points.add(entry_point.value)
    for path in paths:
        _load_file(Path(path))


def components_of(paths: Iterable[str | Path]) -> list[tuple[str, str]]:
    """Returns what plugin files define, as (kind, name) in the order of the files. Raises GapbenchError as `load_plugins` does."""
    files = [Path(path).expanduser().resolve() for path in paths]
    load_plugins(files)
    return [(added.registry.kind, added.name) for file in dict.fromkeys(files) for added in _loaded_files[file][1]]


def plugin_files(used: Iterable[tuple[Registry[Any], str]]) -> dict[str, str]:
    """Returns the hash of each file of plugins that defines some of these components (registry and name), by the file's name."""
    found = [added_entry(registry.kind, name) for registry, name in used]
    files = {Path(str(sys.modules[added.component.__module__].__file__)).name: added.text for added in found if added and added.text}
    return dict(sorted(files.items()))


def check_reachable(used: Iterable[tuple[Registry[Any], str]], paths: Iterable[str | Path]) -> None:
    """Makes sure that worker processes, which import only installed plugins and `paths`, will know the components of a suite.

    Args:
        used: registry and name of each component.
        paths: the plugin files that they are given.

    Raises:
        GapbenchError: one is known to this process alone, such as one that was defined in a notebook.
    """
    files = {str(Path(path).expanduser().resolve()) for path in paths}
    for registry, name in used:
        added = added_entry(registry.kind, name)
        if added is None or added.source in files or added.source.startswith(INSTALLED):
            continue
        place = f"in {added.source}" if added.source else f"in module {added.component.__module__}"
        raise GapbenchError(
            f'{registry.kind} "{name}" is defined {place}, which worker processes do not import; '
            "name the file that defines it: --plugin FILE on the command line, plugins=[FILE] in Python"
        )


def _load_file(path: Path) -> None:
    path = path.expanduser().resolve()
    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise GapbenchError(f"plugin {path}: cannot be read: {error.strerror}; name a Python file") from error
    seen, entries = _loaded_files.get(path, ("", []))
    if seen == digest:
        return
    for added in entries:
        forget(added)
    module_name = f"gapbench_plugin_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise GapbenchError(f"plugin {path}: is no Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # the targets of its entries are looked up here
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end: a file beside the plugin never stands in for a library
    try:
        with loading(str(path)) as load:
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        _loaded_files.pop(path, None)
        reason = str(error) if isinstance(error, GapbenchError) else f"{type(error).__name__}: {error}"
        raise GapbenchError(f"plugin {path}{_line_of(error, path)}: cannot be loaded: {reason}") from error
    _loaded_files[path] = (digest, load.entries)


def _line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""
