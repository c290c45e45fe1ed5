"""The architecture: each room imports only rooms above it, and quick commands import nothing slow."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gapbench"
SLOW = {"torch", "torchvision"}
LATE = {"report/tensorboard.py": {"torch"}}
"""Modules of rooms without torch that may import it after all, inside a function: what they write, only torch writes."""
SLOW_AT_IMPORT = {"pandas", "scipy", "matplotlib", "pyarrow", "sklearn"}


def rooms() -> dict[str, str]:
    """Rooms in the order of the table in CONTRIBUTING.md -> what it says about torch."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([a-z ]+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    return dict(rows)


ORDER = list(rooms())


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    nodes = list(ast.walk(tree)) if not top_level_only else _executed_at_import(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _executed_at_import(tree: ast.AST) -> list[ast.AST]:
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        found.append(node)
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not typing_only:
                waiting.append(child)
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name not in ("__init__.py", "__main__.py"))


def test_every_module_lives_in_a_room_of_the_table():
    assert {room_of(path) for path in MODULES} <= set(ORDER)
    assert len(ORDER) == 21


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_above_it(path):
    room = room_of(path)
    allowed = {*ORDER[: ORDER.index(room) + 1]}
    for name in imports(path, top_level_only=False):
        parts = name.split(".")
        if parts[0] == "gapbench" and len(parts) > 1 and parts[1] in ORDER:
            assert parts[1] in allowed, f"{room} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_without_torch_import_nothing_slow(path):
    if rooms()[room_of(path)] == "no":
        late = LATE.get(str(path.relative_to(PACKAGE)), set())
        assert not {name.split(".")[0] for name in imports(path, top_level_only=False)} & (SLOW - late)
        assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & (SLOW | SLOW_AT_IMPORT)


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


def test_modules_stay_small():
    long = {str(path.relative_to(ROOT)): lines for path in MODULES if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}
