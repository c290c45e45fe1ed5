"""Data sets: a pool of examples, from official files, a user's own arrays or a plugin, and who is trained and tested on what.

    pool = datasets.load(spec.dataset, context)
    split = datasets.split(pool, spec)

Nothing here imports torch; only a download imports torchvision.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from gapbench import catalog
from gapbench.core.errors import DataError, GapbenchError
from gapbench.core.hashing import content_hash
from gapbench.core.registry import load_target
from gapbench.suite.runspec import Component
from gapbench.workloads.datasets import cache
from gapbench.workloads.datasets.arrays import DataContext, Pool, Split, check_declared, check_pool
from gapbench.workloads.datasets.official import FileStatus, OfficialDataset
from gapbench.workloads.datasets.splits import SIZE_OPTIONS, split

__all__ = ["DataContext", "FileStatus", "Pool", "Split", "check_available", "fetch", "forget", "load", "names", "split", "verify"]


def names() -> list[str]:
    """Returns the names of all data sets, those of loaded plugins included."""
    return list(catalog.datasets())


def load(component: Component, context: DataContext) -> Pool:
    """Returns the pool of a data set; what was decoded before comes from the cache, and within a process from memory.

    Args:
        component: name and options. train_size and test_size choose from the pool, so they are left to `split`.
        context: where files are looked for.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: its data are missing, corrupt or not in the expected form.
    """
    target = _target(component.name)
    options = _plugin_options(component)
    if catalog.datasets()[component.name].target.startswith("gapbench."):
        pool: Pool = target(context, **options)  # keeps its pools itself, and knows when a file has changed
        return pool
    return _load_plugin(component.name, target, json.dumps(options, sort_keys=True), context)


def check_available(component: Component, context: DataContext, *, twice: bool = True) -> None:
    """Makes sure, before anything trains, that a data set can be loaded; downloads what is missing unless offline.

    Official files are verified by their checksums, which are remembered for as long as a file keeps its size and time of
    change; other data are loaded, those of plugins twice, so that what is wrong with them is said now.

    Args:
        component: name and options.
        context: where files are looked for.
        twice: whether the loader of a plugin is asked whether it gives the same data again.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: data are missing, corrupt or not in the expected form; the text says which file, and the remedy.
    """
    target = _target(component.name)
    if isinstance(target, OfficialDataset):
        target.check(context)
        return
    pool = load(component, context)
    other = differing(component, pool, context) if twice else []
    if other:
        raise DataError(
            f"{component.name}: its loader gives other {' and '.join(other)} each time that it is called, so that no two processes would "
            "train on the same data; draw with a fixed seed, such as numpy.random.default_rng(0)"
        )


def verify(name: str, context: DataContext) -> list[FileStatus]:
    """Returns the state of each official file of a data set, from checksums computed now; empty where it has none.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: a file cannot be read.
    """
    target = _target(name)
    return target.verify(context) if isinstance(target, OfficialDataset) else []


def fetch(name: str, context: DataContext) -> None:
    """Downloads the official files of a data set that are missing; does nothing where all are there or it has none.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: offline, a file that is there is corrupt, the directory cannot be written to, or the download fails.
    """
    target = _target(name)
    if isinstance(target, OfficialDataset):
        target.fetch(context)


def forget() -> None:
    """Lets go of all pools that this process keeps, so that they are loaded anew."""
    cache.forget()
    _load_plugin.cache_clear()


def differing(component: Component, pool: Pool, context: DataContext) -> list[str]:
    """Returns what of a plugin's data is not that of its pool when its loader is called again: every process that trains calls it."""
    if catalog.datasets()[component.name].target.startswith("gapbench."):
        return []
    again = _call_plugin(component.name, _target(component.name), _plugin_options(component), context)
    parts = {"images": (pool.images, again.images), "labels": (pool.labels, again.labels)}
    found = [name for name, (first, second) in parts.items() if content_hash(first) != content_hash(second)]
    return found + (["sizes"] if pool.official_train != again.official_train else [])


def _plugin_options(component: Component) -> dict[str, Any]:
    return {name: value for name, value in component.options.items() if name not in SIZE_OPTIONS}


@functools.lru_cache(maxsize=2)
def _load_plugin(name: str, target: Callable[..., Any], options: str, context: DataContext) -> Pool:
    return _call_plugin(name, target, json.loads(options), context)


def _call_plugin(name: str, target: Callable[..., Any], options: Mapping[str, Any], context: DataContext) -> Pool:
    try:
        pool = target(context, **options)
    except GapbenchError:
        raise
    except Exception as error:
        raise DataError(f"{name}: its loader failed: {type(error).__name__}: {error}") from error
    if not isinstance(pool, Pool):
        raise DataError(f"{name}: its loader must return a gapbench.workloads.datasets.Pool, not {type(pool).__name__}")
    return check_declared(check_pool(pool, name), catalog.datasets()[name])


def _target(name: str) -> Callable[..., Any]:
    loaded: Callable[..., Any] = load_target(catalog.datasets()[name].target)
    return loaded
