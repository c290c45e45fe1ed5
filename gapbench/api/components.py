"""What exists (data sets, models, regimes, optimizers, recipes, probes, suites), and whether a component does what the engine relies on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gapbench import catalog
from gapbench.api.keeping import as_html, to_frame
from gapbench.api.place import HERE, Place, Where
from gapbench.catalog import show
from gapbench.catalog.plugins import components_of, load_plugins
from gapbench.core.errors import GapbenchError, UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.suite import shipped_suites
from gapbench.suite.source import parse_value

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.conformity import Check
    from gapbench.workloads.datasets import FileStatus


@dataclass(frozen=True)
class Listed:
    """One thing that exists."""

    name: str
    summary: str
    options: tuple[str, ...]
    """Options with their defaults and what they mean, as in a suite file; or presets of a recipe."""
    source: str


def kinds() -> list[str]:
    """Returns what can be listed."""
    return [*_REGISTRIES, "suites"]


def names(kind: str) -> list[str]:
    """Returns the names of one kind, without loading plugins: for completion."""
    return [*shipped_suites()] if kind == "suites" else [*_REGISTRIES[kind]()]


def listing(kind: str, plugins: Iterable[str | Path] = ()) -> list[Listed]:
    """Returns everything of one kind, plugins included.

    Raises:
        UnknownNameError: there is no such kind.
        GapbenchError: a plugin cannot be loaded.
    """
    if kind == "suites":
        return [Listed(name, _suite_summary(path), (), str(path)) for name, path in shipped_suites().items()]
    if kind not in _REGISTRIES:
        raise UnknownNameError(unknown_name("kind", kind, kinds()))
    load_plugins(plugins)
    return [Listed(name, entry.summary, tuple(_options(entry)), entry.source) for name, entry in _REGISTRIES[kind]().items()]


_REGISTRIES = {f"{kind}s": registry for kind, registry in catalog.REGISTRIES.items()}


def _options(entry: Any) -> list[str]:
    if isinstance(entry, catalog.RecipeEntry):
        return [f"preset {name}" for name in entry.presets]
    parameters = getattr(entry, "parameters", {})
    shown = {name: parameter for name, parameter in parameters.items() if name != "content"}  # nobody has to know of that one
    return [_option(name, parameter) for name, parameter in shown.items()]


def _option(name: str, parameter: catalog.Parameter) -> str:
    value = "..." if parameter.required else "left open" if parameter.default is None else show(parameter.default)
    what = [part for part in (parameter.help, "must be given" if parameter.required else "") if part]
    choices = f"one of {', '.join(show(choice) for choice in parameter.choices)}" if parameter.choices else ""
    return f"{name} = {value}" + (f"  # {'; '.join([*what, choices] if choices else what)}" if what or choices else "")


def _suite_summary(path: Path) -> str:
    return str(tomllib.loads(path.read_text(encoding="utf-8")).get("summary", ""))


def fetch_dataset(name: str, place: Place = HERE, **where: Unpack[Where]) -> list[FileStatus]:
    """Downloads what is missing of a data set's official files and returns the state of all of them; arguments as of `verify_dataset`.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: the download fails, a file is corrupt, or the folder cannot be written to.
    """
    from gapbench.workloads import datasets

    place = place.but(**where)
    load_plugins(place.plugins)
    datasets.fetch(name, place.data_context())
    return verify_dataset(name, place)


def verify_dataset(name: str, place: Place = HERE, **where: Unpack[Where]) -> list[FileStatus]:
    """Returns the state of a data set's official files, from checksums computed now; empty where it has no files.

    Args:
        name: of the data set.
        place: its folder of data sets, and plugins that define some.
        where: fields of the place, for this call.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: a file cannot be read.
    """
    from gapbench.workloads import datasets

    place = place.but(**where)
    load_plugins(place.plugins)
    return datasets.verify(name, place.but(offline=True).data_context())


_TESTABLE = {kind: registry for kind, registry in catalog.REGISTRIES.items() if kind != "recipe"}


class ComponentOptionError(GapbenchError):
    """An option that a component does not have, or that it needs and was not given."""


@dataclass(frozen=True)
class ConformityReport:
    """What testing components came to."""

    checks: tuple[Check, ...]
    """Component by component, in the order that they were made."""

    @property
    def ok(self) -> bool:
        """Whether no check failed; warnings may be meant so."""
        return not any(check.state == "fail" for check in self.checks)

    @property
    def exit_status(self) -> int:
        """0 no check failed, 1 one did."""
        return 0 if self.ok else 1

    def frame(self) -> pd.DataFrame:
        """Returns one row a check: kind, component, check, state, text, remedy."""
        return to_frame(self.checks)

    def __repr__(self) -> str:
        counts = {state: sum(check.state == state for check in self.checks) for state in ("pass", "fail", "warning", "does not apply")}
        return f"ConformityReport({', '.join(f'{number} {state}' for state, number in counts.items() if number)})"

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.frame())


def check_components(
    *names: str,
    place: Place = HERE,
    options: Mapping[str, str] | None = None,
    observe: Callable[[Check], None] = lambda _check: None,
    **where: Unpack[Where],
) -> ConformityReport:
    """Tests components by name: data sets, models, optimizers, regimes and probes; by default everything that plugin files define.

    Args:
        names: a name, or a kind and a name such as "model:tiny" where several components share it.
        place: the plugin files, and where data sets are.
        options: of the component, as TOML values; for one component at a time.
        observe: receives every check of a component once that component is done.
        where: fields of the place, for this call, such as plugins=["my_model.py"].

    Raises:
        UnknownNameError: there is no such component.
        GapbenchError: a plugin cannot be loaded, an option is wrong, or nothing is named.
    """
    place = place.but(**where)
    load_plugins(place.plugins)
    chosen = list(dict.fromkeys(found for name in names for found in _named(name))) if names else components_of(place.plugins)
    if not chosen:
        raise GapbenchError("nothing to test: name a component (`gapbench ls models`), or a file that defines some with --plugin")
    if options and len(chosen) > 1:
        raise ComponentOptionError(f"options are for one component, and there are {len(chosen)}; test them one by one")
    resolved = [(kind, name, _given_options(kind, name, options or {})) for kind, name in chosen]

    from gapbench.conformity import check_component  # after what can be said without torch

    checks: list[Check] = []
    for kind, name, own in resolved:
        for check in check_component(kind, name, own, place.data_context()):
            checks.append(check)
            observe(check)
    return ConformityReport(tuple(checks))


def _named(name: str) -> Iterator[tuple[str, str]]:
    wanted, colon, bare = name.partition(":")
    if colon and wanted in _TESTABLE:
        _TESTABLE[wanted]()[bare]  # says what would be right
        yield wanted, bare
        return
    found = [(kind, name) for kind, registry in _TESTABLE.items() if name in registry()]
    if not found:
        known = [one for registry in _TESTABLE.values() for one in registry()]
        raise UnknownNameError(f"{unknown_name('component', name, known)}; a component of your own needs its file: --plugin FILE")
    yield from found


def _given_options(kind: str, name: str, given: Mapping[str, str]) -> dict[str, Any]:
    parameters = getattr(_TESTABLE[kind]()[name], "parameters", {})
    values = {option: parse_value(text) for option, text in given.items()}
    own, problems = catalog.check_options(parameters, values, owner=f'{kind} "{name}"')
    if problems:
        lines = (message if option in message else f'{kind} "{name}": option {option} {message}' for option, message in problems)
        raise ComponentOptionError("\n".join(f"{line}{_how(option, given)}" for (option, _), line in zip(problems, lines, strict=True)))
    return own


def _how(option: str, given: Mapping[str, str]) -> str:
    return "" if option in given else f"; give it by --set {option}=VALUE"
