# ruff: noqa: E501 - messages stand on one line, as they are shown
from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from gapbench import catalog
from gapbench.catalog import Parameter, plugins
from gapbench.core.errors import GapbenchError, SuiteError
from gapbench.core.registry import load_target
from gapbench.suite import load_suite

Write = Callable[[str], Path]
REGISTRIES = [*catalog.REGISTRIES.values()]


@pytest.fixture(autouse=True)
def forget_plugins() -> Iterator[None]:
    """Takes away what a test's plugins have added."""
    before = [set(registry()) for registry in REGISTRIES]
    yield
    for registry, names in zip(REGISTRIES, before, strict=True):
        for name in set(registry()) - names:
            registry().remove(name)
    plugins._loaded_files.clear()
    plugins._loaded_entry_points.clear()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a plugin file."""

    def write_file(text: str) -> Path:
        path = tmp_path / "my.py"
        path.write_text("from __future__ import annotations\nimport gapbench\nfrom typing import Literal\n" + textwrap.dedent(text))
        return path

    return write_file


def test_annotated_keyword_parameters_are_the_schema(write: Write) -> None:
    path = write(
        '''
        @gapbench.model(name="tiny", version=3, without_norm={"norm": False})
        def tiny(
            input_shape: tuple[int, ...], classes: int, *,
            width: int, rate: float = 1, kind: Literal["a", "b"] = "a", sizes: tuple[int, ...] = (1, 2), norm: bool = True,
            limit: float | None = None,
        ):
            """A tiny model.

            More of it.
            """
        '''
    )
    plugins.load_plugins([path])
    entry = catalog.models()["tiny"]
    assert (entry.version, entry.summary) == (3, "A tiny model.")
    assert entry.parameters == {
        "width": Parameter(type="int", required=True),
        "rate": Parameter(type="float", default=1.0),
        "kind": Parameter(type="str", default="a", choices=("a", "b")),
        "sizes": Parameter(type="list[int]", default=[1, 2]),
        "norm": Parameter(type="bool", default=True),
        "limit": Parameter(type="float", default=None),
    }
    assert load_target(entry.target).__name__ == "tiny"
    assert not entry.has_batch_norm({"norm": False})


def test_every_kind_of_component_can_be_added(write: Write) -> None:
    path = write(
        """
        @gapbench.dataset(name="own", train_examples=100, test_examples=50, shape=(4, 4, 1), classes=3, split="drawn")
        def own(context, *, noise: float = 0.5): "Own data."

        @gapbench.optimizer(name="signum", options={"beta": 0.9, "steps": [1, 2]})
        class Signum:
            def __init__(self, buffers, options, *, shared): ...

        @gapbench.regime(name="cube-root", summary="between none and square root")
        def cube_root():
            return {"learning_rate_scaling": "sqrt", "budget": {"kind": "updates", "factor": 0.5}}

        @gapbench.probe(stage="update")
        def angle(state): "Angle."
        """
    )
    plugins.load_plugins([path])
    assert catalog.datasets()["own"].split == "drawn"
    assert set(catalog.datasets()["own"].parameters) == {"noise", "train_size", "test_size", "stratified"}
    assert catalog.optimizers()["signum"].parameters["beta"] == Parameter(type="float", default=0.9)
    assert catalog.optimizers()["signum"].parameters["steps"] == Parameter(type="list[int]", default=[1, 2])
    assert catalog.regimes()["cube-root"].budget.factor == 0.5
    assert (catalog.probes()["angle"].metrics, catalog.probes()["angle"].default) == (("angle",), False)


def test_suite_may_name_the_components_of_a_plugin(write: Write, tmp_path: Path) -> None:
    path = write(
        """
        @gapbench.model(name="tiny")
        def tiny(input_shape, classes, *, width: int = 32): ...

        @gapbench.dataset(name="own", train_examples=100, test_examples=50, shape=(4,), classes=3)
        def own(context): ...
        """
    )
    suite = tmp_path / "suite.toml"
    text = 'schema = 1\nname = "x"\n[run]\nrecipe = "digits"\ndataset = "own"\nmodel = {{ name = "tiny", width = {} }}\nbatch_size = 20\n'
    suite.write_text(text.format(8))
    (run,) = load_suite(suite, plugins=[path]).runs
    assert (run.spec.model.options, run.spec.train_examples) == ({"width": 8}, 100)
    suite.write_text(text.format('"wide"'))
    with pytest.raises(SuiteError, match=r'run\.model\.width: must be a whole number, not "wide"'):
        load_suite(suite, plugins=[path])


def test_loading_again_changes_nothing_and_a_changed_file_replaces_its_entries(write: Write) -> None:
    path = write('@gapbench.model(name="one")\ndef one(input_shape, classes): ...\n')
    plugins.load_plugins([path])
    plugins.load_plugins([path, path])
    write('@gapbench.model(name="two")\ndef two(input_shape, classes): ...\n')
    plugins.load_plugins([path])
    assert "two" in catalog.models()
    assert "one" not in catalog.models()


ONE = '@gapbench.model(name="one")\ndef build(input_shape, classes): ...\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1 / 0\n", r"my\.py:4: cannot be loaded: ZeroDivisionError: division by zero$"),
        ("import no_such_module\n", r"my\.py:4: cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'$"),
        ("def broken(:\n", r"my\.py:4: cannot be loaded: SyntaxError: "),
        ('@gapbench.model(name="mlp")\ndef m(input_shape, classes): ...\n', r'cannot be loaded: model "mlp" is already defined; choose another name$'),
        ('@gapbench.model(name="m")\ndef m(input_shape, classes, *, width=3): ...\n', r'model "m": option "width" has no annotation; annotate it with bool, int'),
        ('@gapbench.model(name="m")\ndef m(input_shape, classes, width: int = 3): ...\n', r'model "m": option "width" must be keyword-only: put it behind a bare \*'),
        ('@gapbench.model(name="m")\ndef m(input_shape, classes, *, width: dict = None): ...\n', r"model \"m\": annotation <class 'dict'> of option \"width\" is not understood"),
        ('@gapbench.model(name="m")\ndef m(input_shape, classes, *, width: int = "a"): ...\n', r'model "m": default of option "width" must be a whole number, not "a"'),
        ('@gapbench.model(name="m")\ndef m(input_shape, classes, *, width: Undefined = 3): ...\n', r'model "m": its annotations cannot be read: NameError'),
        ('@gapbench.regime(name="r")\ndef r(): return {"learning_rate_scaling": "cubic"}\n', r'regime "r": learning_rate_scaling: Input should be'),
        ('@gapbench.optimizer(name="o", options={"x": None})\nclass O: ...\n', r'optimizer "o": default None of option "x" is neither'),
        ('@gapbench.regime(name="r")\ndef r(): return 3\n', 'regime "r" must return its fields as a mapping'),
        ('@gapbench.model(name="half")\ndef half(input_shape, classes): ...\nraise RuntimeError("later")\n', "later"),
        (f"{ONE}{ONE.replace('one', 'two')}", 'model "one" and model "two" are both called build in their file'),
        ('def f():\n    @gapbench.model(name="m")\n    def m(input_shape, classes): ...\nf()\n', r'model "m" must be defined at the top level of its file, not inside f'),
    ],
)  # fmt: skip
def test_files_that_cannot_be_loaded_say_why_and_leave_nothing(write: Write, text: str, message: str) -> None:
    path = write("")
    path.write_text(path.read_text() + text)
    known = [dict(registry()) for registry in REGISTRIES]
    with pytest.raises(GapbenchError, match=message):
        plugins.load_plugins([path])
    assert [dict(registry()) for registry in REGISTRIES] == known


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GapbenchError, match=r"gone\.py: cannot be read: No such file or directory; name a Python file"):
        plugins.load_plugins([tmp_path / "gone.py"])


class EntryPoint:
    """An installed plugin, as importlib.metadata gives it."""

    name = "their"
    value = "their.package"

    def __init__(self, load: Callable[[], object]) -> None:
        self.load = load


def entry_points_with(load: Callable[[], object]) -> Callable[..., list[EntryPoint]]:
    return lambda *, group: [EntryPoint(load)] if group == "gapbench.plugins" else []


def test_installed_plugins_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Mapping[str, int]] = []
    monkeypatch.setattr(plugins.metadata, "entry_points", entry_points_with(lambda: calls.append({})))
    plugins.load_plugins()
    plugins.load_plugins()
    assert len(calls) == 1


def test_installed_plugin_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.metadata, "entry_points", entry_points_with(lambda: {}["x"]))
    with pytest.raises(
        GapbenchError, match=r'installed plugin "their" \(their\.package\) cannot be imported: KeyError: .*repair or uninstall'
    ):
        plugins.load_plugins()


def test_one_function_may_have_two_names(write: Write) -> None:
    path = write('@gapbench.model(name="one")\n@gapbench.model(name="two")\ndef build(input_shape, classes): ...\n')
    assert plugins.components_of([path]) == [("model", "two"), ("model", "one")]


def test_probes_take_options_and_those_at_fractions_of_training_also_the_fractions(write: Write) -> None:
    path = write(
        '@gapbench.probe(stage="update")\ndef angle(state, *, power: int = 2): ...\n'
        '@gapbench.probe(stage="checkpoint", needs_objective=True)\ndef depth(state, *, examples: int = 9): ...\n'
    )
    plugins.load_plugins([path])
    assert list(catalog.probes()["angle"].parameters) == ["power"]
    assert list(catalog.probes()["depth"].parameters) == ["examples", "at"]
    assert (catalog.probes()["angle"].needs_objective, catalog.probes()["depth"].needs_objective) == (False, True)


def test_a_module_that_is_also_a_plugin_file_is_one_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that imports its own plugin may name the same file as a plugin."""
    path = tmp_path / "my_imported_plugin.py"
    path.write_text('import gapbench\n@gapbench.model(name="own")\ndef own(input_shape, classes): ...\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("my_imported_plugin")
    used = [(catalog.models(), "own")]
    with pytest.raises(GapbenchError, match='model "own" is defined in module my_imported_plugin, which worker processes do not import'):
        plugins.check_reachable(used, [])
    plugins.load_plugins([path])
    plugins.check_reachable(used, [path])
    with pytest.raises(GapbenchError, match=rf'model "own" is defined in {path}, which worker.*plugins=\[FILE\] in Python'):
        plugins.check_reachable(used, [])


def test_a_cell_that_runs_again_replaces_its_component() -> None:
    cell = 'import gapbench\n@gapbench.model(name="own")\ndef own(input_shape, classes, *, width: int = {}): ...\n'
    for width in (1, 2):
        exec(cell.format(width), {"__name__": "notebook"})
    assert catalog.models()["own"].parameters["width"].default == 2


def test_modules_beside_a_plugin_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("WIDTH = 7\n")
    (tmp_path / "my.py").write_text(
        "import gapbench\nfrom beside_it import WIDTH\n@gapbench.model(name='own')\ndef own(input_shape, classes, *, width: int = WIDTH): ...\n"
    )
    plugins.load_plugins([tmp_path / "my.py"])
    assert catalog.models()["own"].parameters["width"].default == 7


def test_stackable_models_say_so(write: Write) -> None:
    plugins.load_plugins([write('@gapbench.model(name="m", stackable=True)\ndef m(input_shape, classes): ...\n')])
    assert catalog.models()["m"].stackable
