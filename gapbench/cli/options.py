"""Options and arguments that several commands share, and what completes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from gapbench import api
from gapbench.core.errors import GapbenchError


class UsageError(GapbenchError):
    """An option that is not of the right form."""


def parse_settings(texts: Iterable[str] | None) -> dict[str, str]:
    """Returns `--set` options by key.

    Raises:
        UsageError: one is not of the form key=value, or a key stands twice.
    """
    settings: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text}: should be key=value, such as --set epochs=1 or --set model.depth=20")
        if key.strip() in settings:
            raise UsageError(f"--set {key.strip()} stands twice; give one value")
        settings[key.strip()] = value.strip()
    return settings


def completes(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Returns a completion of names, which are looked up only when a shell asks."""
    return lambda incomplete: _starting(incomplete, names())


def complete_suites(incomplete: str) -> list[str]:
    """Completes names of shipped suites and paths of suite files."""
    files = [path for pattern in ("*.toml", "suites/*.toml") for path in sorted(str(path) for path in Path().glob(pattern))]
    return _starting(incomplete, [*api.names("suites"), *files])


def complete_results(incomplete: str) -> list[str]:
    """Completes results directories."""
    return _starting(incomplete, [str(path) for path in Path("results").glob("*") if (path / "schema.json").is_file()])


def complete_settings(incomplete: str) -> list[str]:
    """Completes the values of --set for recipes, models, regimes and data sets."""
    key, equals, value = incomplete.partition("=")
    kinds = {"recipe": "recipes", "model": "models", "regime": "regimes", "dataset": "datasets", "optimizer": "optimizers"}
    if not equals:
        return _starting(key, [f"{name}=" for name in kinds])
    return [f"{key}={name}" for name in _starting(value, api.names(kinds[key]))] if key in kinds else []


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def results_argument(text: str, metavar: str = "[RESULTS]") -> Any:
    """Returns the argument for results, with its help."""
    return typer.Argument(metavar=metavar, help=text, autocompletion=complete_results, show_default=False)


SuiteArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="SUITE", help="Suite file, or name of a shipped suite.", autocompletion=complete_suites)
]
ResultsArgument: TypeAlias = Annotated[
    str | None, results_argument("Results directory, bundle, suite, or name below --results; default: the newest there.")
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the suite, such as epochs=1; results go to <suite>+<hash>/. May be repeated.",
        autocompletion=complete_settings,
    ),
]
OnlyOption: TypeAlias = Annotated[
    str | None, typer.Option("--only", metavar="KEY=VALUE,...", help='Only the runs that match, such as "arm=LB,seed=0".')
]
DevicesOption: TypeAlias = Annotated[
    str | None, typer.Option("--devices", metavar="NAMES", help="Such as cuda:0,cuda:1 or cpu; default: all GPUs, else the CPU.")
]
SlotsOption: TypeAlias = Annotated[
    int | None, typer.Option("--slots", min=1, help="Runs that train at a time; default: one a core, or one a GPU and more of small runs.")
]
ParentOption: TypeAlias = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Parent of the suite's results directory.", file_okay=False)
]
DataOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        envvar="GAPBENCH_DATA",
        help="Where data sets are, in torchvision's layout; default: downloads in the cache.",
        show_envvar=True,
    ),
]
OfflineOption: TypeAlias = Annotated[bool, typer.Option("--offline", help="Never download anything.")]
PluginOption: TypeAlias = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="Python file with components of your own. May be repeated.")
]


def at_place(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command of typer, in the place of its argument `place`, the options that say where and with what suites train."""

    def place_of(
        devices: DevicesOption = None,
        slots: SlotsOption = None,
        results: ParentOption = Path("results"),
        data_dir: DataOption = None,
        offline: OfflineOption = False,
        plugin: PluginOption = None,
    ) -> Any:
        return api.Place(results, data_dir, devices, slots, plugin or (), offline)

    def call(**given: Any) -> None:
        place = place_of(**{name: given.pop(name) for name in shared})
        command(place=place, **given)

    shared = inspect.signature(place_of, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True, locals={"Place": Any}).parameters  # the class is imported once a command runs
    parameters = [*(parameter for name, parameter in own.items() if name != "place"), *shared.values()]
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call
