"""The documentation, by running its blocks: suites are planned, plugins tested and trained, Python executed, commands parsed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from gapbench import api, catalog, sizing
from gapbench.analysis import arms_table
from gapbench.store.tables import RUN_COLUMNS
from gapbench.suite.schema import FIGURES

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}


class Block(NamedTuple):
    kind: str
    """suite, plugin, python, or empty."""
    file: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    found = re.findall(r"(?:<!-- (suite|plugin|python)(?:: ([^ ]+))? -->\n)?```(\w*)\n(.*?)```", PAGES[page], flags=re.DOTALL)
    return [Block(*one) for one in found]


def write_files(page: str, folder: Path) -> None:
    """Writes the suites and plugins of a page under the names that it gives them, and the shipped suites that they extend."""
    for block in blocks(page):
        if block.kind in ("suite", "plugin"):
            own = re.findall(r'^name = "(.+)"', block.text, flags=re.MULTILINE)
            (folder / (block.file or f"{own[0]}.toml")).write_text(block.text)
    shutil.copy(ROOT / "suites" / "mnist.toml", folder / "mnist.toml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_tested(page):
    for block in blocks(page):
        assert block.kind or block.language == "bash" or block.text.startswith("[project.entry-points"), block.text


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        file, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        path = (DOCS / file).resolve() if file else DOCS / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_that_a_page_names_exist(page):
    for path in re.findall(r"`((?:gapbench|tests|suites|results/reference)/[\w./-]+)`", PAGES[page]):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"gapbench(?:\.[a-z_]+)+(?=\.[A-Z]| import)", PAGES[page]):
        assert (ROOT / module.replace(".", "/")).is_dir() or (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@pytest.mark.parametrize("page", ["questions.md", "reproducing.md"])
def test_suites_in_the_tables_are_shipped(page):
    """Of a table with a column of suites; a suite that a search writes is named by its own."""
    shipped = {path.stem for path in (ROOT / "suites").glob("*.toml")}
    rows = [line.split(" | ") for line in PAGES[page].splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)`", row[1])}
    assert named - shipped <= {"landscape", "sharpness", "hessian", "tuned-digits-tuned", "paper", "code", "fair"}
    if page == "questions.md":  # every suite answers a question
        assert shipped - named == set()


def test_a_number_is_defined_in_three_lines():
    rows = [line for line in PAGES["numbers.md"].splitlines() if line.startswith("|")]
    assert [row for row in rows if len(row) > 3 * 150] == []


def test_every_page_is_in_the_index():
    assert all(f"]({page})" in PAGES["README.md"] for page in PAGES if page != "README.md")


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.kind == "suite" for block in blocks(page))])
def test_suites_can_be_planned(folder, page):
    write_files(page, folder)
    for block in blocks(page):
        if block.kind == "python" and not block.file and "api" not in block.text:
            exec(block.text, {})  # it makes the data of a suite
    plugins = sorted(folder.glob("my_*.py"))
    for path in sorted(folder.glob("*.toml")):
        suite = api.load_suite(path, plugins=plugins)
        assert suite.runs
        if path.name != "mnist.toml":
            assert not any("no reference cell" in warning or "matches no run" in warning for warning in suite.warnings), suite.warnings


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_commands_and_their_suites_can_be_planned(folder, page):
    """Long training is not done here: `run` is looked at as the `plan` of the same suite."""
    from typer.main import get_command

    from gapbench.cli.app import app

    write_files(page, folder)
    (folder / "my-suite.toml").write_text(api.starter_suite(folder / "starter.toml").read_text())
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for block in blocks(page):
        for line in block.text.splitlines() if block.language == "bash" else []:
            program, name, *arguments = shlex.split(line)
            assert program == "gapbench"
            context = commands[name].make_context(name, arguments)  # parses, and calls nothing
            if name in ("run", "plan"):
                values = context.params
                settings = dict(text.split("=", 1) for text in values["settings"] or ())
                api.plan(values["suite"], plugins=values["plugin"] or (), only=values["only"], settings=settings, devices="cpu")
            if name == "tune":
                api.plan_tuning(context.params["suite"], devices="cpu")
            if name == "test":
                api.listing("models", context.params["plugin"] or ())


COMPONENTS = [block.file for block in blocks("extending.md") if block.kind == "plugin"]


@pytest.mark.parametrize("plugin", COMPONENTS)
def test_the_components_of_the_page_conform_and_train(folder, plugin):
    write_files("extending.md", folder)
    report = api.check_components(plugins=[plugin])
    bad = [check for check in report.checks if check.state in ("fail", "warning")]
    assert [check for check in bad if (check.component, check.check) != ("half-adapted", "reference batch size")] == []
    suite = plugin.removeprefix("my_").replace(".py", ".toml")
    (folder / "once.toml").write_text(f'schema = 1\nname = "once"\nextends = "{suite}"\n[run]\nepochs = 1\n[grid]\nseed = [0]\n')
    done = api.run("once.toml", plugins=[plugin], devices="cpu")
    assert done.exit_status == 0, done.frame()[["cell", "outcome", "reason"]]
    if plugin == "my_probe.py":
        curves = api.load_results(done.results).curves
        assert {"", "linear1.weight"} <= set(curves.layer[curves.metric == "relative_distance"])


def test_a_model_of_the_page_is_priced_and_cut_like_a_built_in_one(folder):
    write_files("extending.md", folder)
    plan = api.plan("model.toml", plugins=["my_model.py"], devices="cpu")
    assert plan.unknown == 0
    assert all(cell.parameters == 1_514 and cell.memory_mib > 100.0 and cell.basis == "rough" for cell in plan.cells)
    spec = api.load_suite("model.toml", only="batch_size=256,ghost_batch_size=16,seed=0", plugins=["my_model.py"]).runs[0].spec
    large = spec.model_copy(update={"batch_size": 1 << 20})
    assert 16 <= sizing.micro_batch_size(large, "cpu") < large.batch_size
    assert not sizing.worth_compiling(spec, replicas=1, device_kind="cpu")
    assert sizing.worth_compiling(spec.model_copy(update={"updates": 10_000_000}), replicas=1, device_kind="cpu")


COMPILED = """
import math
from pathlib import Path
from gapbench import api, engine, sizing
from gapbench.core.events import Finished
from gapbench.core.machine import cache_dir
from gapbench.sizing import decisions
from gapbench.workloads import datasets
from gapbench.workloads.datasets.arrays import DataContext

decisions.FLOPS_A_LAYER = 1.0  # so that a short run is worth it
spec = api.load_suite("model.toml", only="batch_size=256,ghost_batch_size=16,seed=0", plugins=["my_model.py"]).runs[0].spec
pool = datasets.load(spec.dataset, DataContext(data_dir=None, cache_dir=cache_dir(), offline=True, suite_dir=None))

def emit(event):
    if isinstance(event, Finished):
        print(event.summary["program"])

engine.train(
    [spec], pool, [datasets.split(pool, spec)], device="cpu", emit=emit, stop=lambda: None, checkpoint_seconds=math.inf,
    micro_batch_size=sizing.micro_batch_size(spec, "cpu"), compiles=sizing.worth_compiling(spec, replicas=1, device_kind="cpu"),
)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_model_of_the_page_is_compiled_on_a_cpu(folder):
    # In a process of its own: the checks of shapes that tests install cannot be compiled.
    write_files("extending.md", folder)
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, cwd=folder, check=False)
    assert done.stdout.strip() == "compiled", done.stderr[-3000:]


def test_the_page_shows_a_component_of_each_kind(folder):
    from gapbench.catalog.plugins import components_of

    write_files("extending.md", folder)
    assert {kind for kind, _ in components_of(COMPONENTS)} == {"dataset", "model", "optimizer", "probe", "regime"}


def test_the_entry_point_is_the_one_that_is_looked_for():
    import tomllib

    from gapbench.catalog.plugins import ENTRY_POINT_GROUP

    (block,) = [block for block in blocks("extending.md") if block.text.startswith("[project.entry-points")]
    assert ENTRY_POINT_GROUP in tomllib.loads(block.text)["project"]["entry-points"]


def test_the_names_of_checks_are_on_the_page(folder):
    for kind, name in (("model", "mlp"), ("optimizer", "sgd"), ("dataset", "digits"), ("regime", "adapted"), ("probe", "weight_norm")):
        row = next(line for line in PAGES["extending.md"].splitlines() if line.startswith(f"| {kind.replace('dataset', 'data set')} | "))
        for check in api.check_components(f"{kind}:{name}", options={"widths": "[8]"} if kind == "model" else None).checks:
            assert check.check.replace(", one group", "") in row or check.check == "ghost batch norm, chunk by chunk", check.check


def test_the_python_of_the_notebook_page_runs(folder):
    write_files("notebook.md", folder)
    shutil.copytree(ROOT / "results" / "reference" / "quickstart", folder / "results" / "quickstart")
    names: dict[str, object] = {}
    for block in blocks("notebook.md"):
        if block.kind == "python":
            exec(block.text, names)
    assert names["done"].exit_status == 0
    assert len(names["ended"]) >= 1
    assert (folder / "weight_distance.pdf").is_file()


@pytest.mark.parametrize("page", ["diffusion.md", "critical-batch.md"])
def test_the_python_of_the_pages_of_analyses_runs(folder, page):
    shutil.copytree(ROOT / "results" / "reference" / "quickstart", folder / "results" / "quickstart")
    for block in blocks(page):
        if block.kind == "python":
            exec(block.text, {})


def test_every_public_function_is_on_the_notebook_page():
    for name in (
        "load_suite",
        "plan",
        "run",
        "load_results",
        "report",
        "figures",
        "status",
        "check_components",
        "listing",
        "to_frame",
        "analyze",
    ):
        assert hasattr(api, name)
        assert f"{name}(" in PAGES["notebook.md"]


def named(page: str, heading: str) -> set[str]:
    """What a section of a page names in backticks in the first column of its tables."""
    section = re.split(r"^## ", PAGES[page], flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    return {name for row in re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}


@pytest.fixture(scope="module")
def results():
    tables = api.load_results(ROOT / "results" / "reference" / "quickstart")
    return tables, arms_table(tables.runs, tables.curves).frame()


def test_no_column_of_the_run_table_is_missing():
    assert set(RUN_COLUMNS) - named("numbers.md", "The run table") == set()


def test_no_column_of_the_arms_table_is_missing(results):
    assert set(results[1].columns) - named("numbers.md", "The arms table") == set()


def test_no_metric_of_the_curves_is_missing(results):
    curves = results[0].curves
    metrics = set(curves.metric) | {metric for probe in catalog.probes().values() for metric in probe.metrics}
    validation = {"validation_accuracy", "validation_loss"}
    assert (metrics | validation | set(curves.columns)) - named("numbers.md", "Curves") == set()


def test_no_figure_is_missing():
    assert set(FIGURES) - named("numbers.md", "Figures") - named("numbers.md", "The arms table") == set()


def test_no_column_or_figure_of_the_analysis_of_diffusion_is_missing():
    from gapbench.analysis.diffusion.study import COLUMNS

    (text,) = [part for part in re.split(r"^## ", PAGES["numbers.md"], flags=re.MULTILINE) if part.startswith("Diffusion")]
    every = {column for columns in COLUMNS.values() for column in columns}
    assert (every | {f"{name}.csv" for name in COLUMNS}) - set(re.findall(r"`([^`]+)`", text)) == set()
    assert {"drift_and_spread", "local_exponents", "collapse", "weight_cosine"} <= named("numbers.md", "Diffusion")


def test_no_column_or_figure_of_the_analyses_of_batch_sizes_is_missing():
    from gapbench.analysis.critical_batch.study import COLUMNS
    from gapbench.analysis.noise_scale import COLUMNS as OF_NOISE

    sections = re.split(r"^## ", PAGES["numbers.md"], flags=re.MULTILINE)
    (noise,), (batch,) = ([part for part in sections if part.startswith(start)] for start in ("Noise scale", "Critical batch size"))
    assert {*OF_NOISE, "noise.csv", "noise_scale"} - set(re.findall(r"`([^`]+)`", noise)) == set()
    every = {column for columns in COLUMNS.values() for column in columns} | {f"{name}.csv" for name in COLUMNS}
    assert every - set(re.findall(r"`([^`]+)`", batch)) == set()
    assert {"steps_vs_batch_size", "steps_vs_examples", "predicted_vs_measured"} <= named("numbers.md", "Critical batch size")


def test_no_column_of_the_analyses_around_the_weights_is_missing():
    from gapbench.analysis import landscape

    (text,) = [part for part in re.split(r"^## ", PAGES["numbers.md"], flags=re.MULTILINE) if part.startswith("Around the weights")]
    every = {column for columns in landscape.COLUMNS.values() for column in columns} | set(landscape.SHARPNESS_COLUMNS)
    assert (every | {f"{name}.csv" for name in (*landscape.COLUMNS, "sharpness")}) - set(re.findall(r"`([^`]+)`", text)) == set()


def test_no_column_of_a_plan_is_missing():
    assert set(api.plan("quickstart", devices="cpu").frame().columns) - named("numbers.md", "A plan") == set()


def test_no_field_of_a_suite_is_missing():
    from gapbench.suite.schema import RunFields, RunSection

    assert set(RunFields.model_fields) - named("suites.md", "The fields of a run") == set()
    for name in set(RunSection.model_fields) - set(RunFields.model_fields):
        assert f"`{name}`" in PAGES["suites.md"]


def test_measured_times_are_those_of_the_reference_results():
    for suite in ("quickstart", "mnist-f1", "mnist-f1-short"):
        runs = api.load_results(ROOT / "results" / "reference" / suite).runs.drop_duplicates("run_id")
        seconds = runs.train_seconds + runs.evaluation_seconds + runs.other_seconds
        row = next(line for line in PAGES["reproducing.md"].splitlines() if line.startswith(f"| `{suite}` | {len(runs)} |"))
        assert row.endswith(f"| {seconds.sum():,.0f} |")
        means = seconds.groupby(runs.cell).mean()
        for name in (means.idxmin(), means.idxmax()):
            shown = f"{means[name]:.1f}" if means[name] < 1 else f"{means[name]:,.0f}"
            assert f"{shown} ({name})" in row


def test_no_key_or_column_of_a_tuning_is_missing():
    from gapbench.suite.schema import TuneSection
    from gapbench.tuning import CellResult, Rules, Tuned

    assert set(TuneSection.model_fields) - named("tuning.md", "`[tune]`") == set()
    names = ("momentum", "weight_decay", "warmup")
    one = CellResult("SB", ("SB",), 16, ("baseline",), "epochs", "digits, mlp", (), 0, 0, other=dict.fromkeys(names, 0.0))
    tuned = Tuned("fair", Rules(7, 2, 8), 2.0, names, 0.2, (180,), 5, (0,), (1,), (one,), True, ("grid",), 0)
    columns = {*tuned.frame().columns, "eligible"}
    assert columns - named("tuning.md", "What it writes") == set()
