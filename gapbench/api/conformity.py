"""`gapbench test`: whether components, the user's own or built in, do what the engine relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from gapbench import catalog
from gapbench.api.keeping import as_html, to_frame
from gapbench.api.place import HERE, Place, Where
from gapbench.catalog.plugins import components_of, load_plugins
from gapbench.core.errors import GapbenchError, UnknownNameError
from gapbench.core.registry import unknown_name
from gapbench.suite.source import parse_value

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.conformity import Check

_REGISTRIES = {kind: registry for kind, registry in catalog.REGISTRIES.items() if kind != "recipe"}


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
    chosen = list(dict.fromkeys(found for name in names for found in _find(name))) if names else components_of(place.plugins)
    if not chosen:
        raise GapbenchError("nothing to test: name a component (`gapbench ls models`), or a file that defines some with --plugin")
    if options and len(chosen) > 1:
        raise ComponentOptionError(f"options are for one component, and there are {len(chosen)}; test them one by one")
    resolved = [(kind, name, _options(kind, name, options or {})) for kind, name in chosen]

    from gapbench.conformity import check_component  # after what can be said without torch

    checks: list[Check] = []
    for kind, name, own in resolved:
        for check in check_component(kind, name, own, place.data_context()):
            checks.append(check)
            observe(check)
    return ConformityReport(tuple(checks))


def _find(name: str) -> Iterator[tuple[str, str]]:
    wanted, colon, bare = name.partition(":")
    if colon and wanted in _REGISTRIES:
        _REGISTRIES[wanted]()[bare]  # says what would be right
        yield wanted, bare
        return
    found = [(kind, name) for kind, registry in _REGISTRIES.items() if name in registry()]
    if not found:
        known = [one for registry in _REGISTRIES.values() for one in registry()]
        raise UnknownNameError(f"{unknown_name('component', name, known)}; a component of your own needs its file: --plugin FILE")
    yield from found


def _options(kind: str, name: str, given: Mapping[str, str]) -> dict[str, Any]:
    parameters = getattr(_REGISTRIES[kind]()[name], "parameters", {})
    values = {option: parse_value(text) for option, text in given.items()}
    own, problems = catalog.check_options(parameters, values, owner=f'{kind} "{name}"')
    if problems:
        lines = (message if option in message else f'{kind} "{name}": option {option} {message}' for option, message in problems)
        raise ComponentOptionError("\n".join(f"{line}{_how(option, given)}" for (option, _), line in zip(problems, lines, strict=True)))
    return own


def _how(option: str, given: Mapping[str, str]) -> str:
    return "" if option in given else f"; give it by --set {option}=VALUE"
