"""The architecture: each room imports only rooms above it, nothing imports in a circle, and quick commands import nothing slow."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gapbench"
TORCH = {"torch", "torchvision"}
SLOW = TORCH | {"pandas", "scipy", "matplotlib", "pyarrow", "sklearn"}
"""Libraries that a function may import late, so that a command that needs none of them answers at once."""
TENSORBOARD = "report/tensorboard.py"
"""Module of a room without torch that imports torch after all, inside a function: event files are written by torch's own writer."""


def rooms() -> dict[str, str]:
    """Rooms in the order of the table in CONTRIBUTING.md -> what it says about torch."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([a-z ]+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return dict(rows)


ROOMS = rooms()
ORDER = list(ROOMS)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ROOM_MODULES = {name: path for name, path in MODULES.items() if name not in ("gapbench", "gapbench.__main__")}


def imported(nodes: list[ast.AST]) -> Iterator[str]:
    """The modules that import statements name: of gapbench the module itself where a name of a package is one, else the package."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                yield part if part in MODULES else node.module


def everywhere(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


def in_functions(tree: ast.Module) -> list[ast.AST]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    return [inner for function in functions for inner in ast.walk(function)]


def for_types_only(tree: ast.Module) -> list[ast.AST]:
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return [inner for block in blocks for inner in ast.walk(block)]


def at_import(tree: ast.Module) -> list[ast.AST]:
    late = {id(node) for node in [*in_functions(tree), *for_types_only(tree)]}
    return [node for node in ast.walk(tree) if id(node) not in late]


TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def room_of(name: str) -> str:
    return name.split(".")[1]


def slow(name: str) -> bool:
    """Whether importing it is slow: a library, or a module of a room with torch."""
    return name.split(".")[0] in SLOW or (name in ROOM_MODULES and ROOMS[room_of(name)] == "yes")


def refuse(found: Iterator[tuple[str, str]]) -> None:
    offenders = sorted({f"{module} imports {name}" for module, name in found})
    assert not offenders, "\n".join(offenders)


def test_every_module_lives_in_a_room_of_the_table_and_every_room_exists():
    assert {room_of(name) for name in ROOM_MODULES} == set(ORDER)


def test_a_room_imports_only_rooms_above_it():
    refuse(
        (module, name)
        for module in ROOM_MODULES
        for name in imported(everywhere(TREES[module]))
        if name in ROOM_MODULES and ORDER.index(room_of(name)) > ORDER.index(room_of(module))
    )


def test_no_modules_import_one_another_in_a_circle_late_and_type_only_imports_counted():
    parts = {module: {name for name in imported(everywhere(tree)) if name in MODULES and name != module} for module, tree in TREES.items()}
    try:
        TopologicalSorter(parts).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_rooms_without_torch_import_it_nowhere_and_nothing_slow_at_the_top():
    without = {name: path for name, path in ROOM_MODULES.items() if ROOMS[room_of(name)] == "no"}
    refuse(
        (module, name)
        for module, path in without.items()
        for name in imported(everywhere(TREES[module]))
        if name.split(".")[0] in TORCH and str(path.relative_to(PACKAGE)) != TENSORBOARD
    )
    refuse((module, name) for module in without for name in imported(at_import(TREES[module])) if slow(name))


def test_a_function_imports_only_what_is_slow():
    refuse(
        (module, name)
        for module in ROOM_MODULES
        for name in imported(in_functions(TREES[module]))
        if not slow(name) and name.split(".")[0] not in {*sys.stdlib_module_names, "numpy"}  # numpy is a third of what a plan imports
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ls", "models"], ["plan", "suites/quickstart.toml"]], ids=" ".join)
def test_quick_commands_import_neither_torch_nor_pandas(arguments):
    code = (
        "import sys\n"
        "from gapbench.cli import main\n"
        f"sys.argv = ['gapbench', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "slow = sorted({'torch', 'torchvision', 'pandas', 'scipy', 'matplotlib', 'sklearn'} & set(sys.modules))\n"
        "print('SLOW', slow)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "SLOW []"


STEPS = re.findall(r"^\d+\. (.*)$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
WALKS = [re.findall(r"`(\w+/\w+)\.py` ((?:`\w+`(?:, )?)+)", step) for step in STEPS]


def test_there_are_three_walks_of_ten_steps_that_name_code_but_for_the_readme():
    assert len(STEPS) == 30
    assert [step for step, named in zip(STEPS, WALKS, strict=True) if not named] == [
        step for step in STEPS if step.startswith("`README.md`")
    ]


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for step in WALKS for module, names in step for name in re.findall(r"`(\w+)`", names)]
)
def test_the_walks_in_contributing_name_what_is_there(module, name):
    tree = TREES[f"gapbench.{module.replace('/', '.')}"]
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
