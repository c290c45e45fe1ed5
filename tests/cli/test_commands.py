"""The other commands: each answers its question, writes what it says, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gapbench
from gapbench import api
from gapbench.cli import options
from gapbench.store import ResultsDirectory
from gapbench.suite import load_suite, shipped_suites


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts}


def test_version(call):
    assert call("--version").stdout.strip() == f"gapbench {gapbench.__version__}"


def test_help_names_every_command(call):
    text = call("--help").stdout
    commands = "init run plan tune report analyze status ls data doctor bench export clean compare merge schema test"
    for command in commands.split():
        assert command in text


def test_init_writes_a_suite_that_can_be_planned(call):
    call("init", "My suite.toml")
    suite = load_suite("My suite.toml")
    assert suite.name == "my-suite"
    assert {run.labels.cell for run in suite.runs} == {"SB", "LB", "LB+LR", "LB+LR+GBN"}


def test_init_never_writes_over_a_file(call, refused):
    Path("suite.toml").write_text("precious")
    assert "exists already" in refused("init")
    assert Path("suite.toml").read_text() == "precious"
    assert ".toml" in refused("init", "suite.txt")


def test_schema_is_printed_or_written_but_never_over_a_file(call, refused, tmp_path):
    text = call("schema").stdout
    assert text.startswith("{")
    assert "suite.schema.json" in call("schema", "--output", "suite.schema.json").stdout
    assert Path("suite.schema.json").read_text(encoding="utf-8") == text
    assert "exists already" in refused("schema", "--output", "suite.schema.json")


def test_several_mistakes_are_counted_and_each_line_begins_with_its_file(call, suite):
    suite.write_text(suite.read_text().replace("epochs = 2", 'epoch = 2\nregime = "sqrt"'))
    lines = call("plan", suite, code=2).stderr.splitlines()
    assert lines[0] == "error: 2 mistakes"
    assert [line.startswith(str(suite)) for line in lines[1:]] == [True, True]


def test_plan_says_what_would_train_and_writes_nothing(call, suite, tmp_path):
    suite.write_text(suite.read_text() + '[[exclude]]\narm = "LB"\nseed = 1\nreason = "no money"\n')
    before = files(tmp_path)
    text = call("plan", suite).stdout
    assert files(tmp_path) == before
    for words in ("small: 3 runs in 2 cells", "SB", "no money", "predicted", "device hours", "warning: short phases"):
        assert words in text


def test_a_plan_of_many_cells_lists_sixty_and_counts_the_rest(call, tmp_path):
    path = tmp_path / "many.toml"
    rates = ", ".join(f"{rate / 1000}" for rate in range(1, 71))
    path.write_text(
        f'schema = 1\nname = "many"\n[run]\nrecipe = "digits"\nbatch_size = 32\n[grid]\nlearning_rate = [{rates}]\nseed = "0..1"\n'
    )
    short, whole = call("plan", path).stdout, call("plan", path, "--all").stdout
    assert "many: 140 runs in 70 cells" in short
    assert "and 10 cells more with 20 runs; --all lists them" in short
    assert "more with" not in whole
    assert (short.count("rough"), whole.count("rough")) == (60 + 1, 70 + 1)  # one explains the word


def test_plan_counts_what_is_done(call, suite):
    call("run", suite, "--only", "arm=LB")
    text = call("plan", suite).stdout
    assert "2 (2 done)" in text
    assert "2 runs to train" in text


def test_plan_measures_first_where_it_is_asked_to(call, suite, tmp_path):
    rough = call("plan", suite)
    assert "rough: a guess" in rough.stdout
    assert "--calibrate measures" in rough.stdout
    before = files(tmp_path)
    measured = call("plan", suite, "--calibrate")
    assert files(tmp_path) == before  # but for the cache
    assert "measuring 2 programs" in measured.stderr
    for text in (measured.stdout, call("plan", suite).stdout):
        assert "calibrated: a short measurement" in text
        assert "rough" not in text


def test_plan_has_nothing_to_measure_where_all_is_done(call, suite):
    call("run", suite)
    assert "nothing was measured" in call("plan", suite, "--calibrate").stderr


@pytest.mark.parametrize("name", sorted(set(shipped_suites()) - {"hoffer2017-table2"}))  # which needs a folder of the user's own
def test_every_shipped_suite_can_be_planned(call, name):
    assert "to train" in call("plan", name).stdout


def test_report_works_on_partial_results_and_finds_them_by_name(call, suite):
    call("run", suite, "--only", "arm=SB")
    text = call("report", "small").stdout
    assert "0 of 2" in text
    assert call("report").stdout == text


def test_report_needs_only_the_parquet_tables(call, suite, tmp_path):
    call("run", suite)
    expected = call("report", "small").stdout
    runs = tmp_path / "results" / "small" / "runs"
    runs.rename(tmp_path / "gone")
    assert call("report", "small").stdout == expected


def test_export_and_report_of_a_bundle_elsewhere(call, suite, tmp_path, figures):
    call("run", suite)
    expected = (tmp_path / "results/small/tables/arms.csv").read_text()
    call("export", "small", "--bundle", "away/results.tar.gz")
    call("report", "away/results.tar.gz")
    assert (tmp_path / "away/results/tables/arms.csv").read_text() == expected
    assert (tmp_path / "away/results/figures/weight_distance.svg").is_file()
    assert not (tmp_path / "away/results/runs").exists()


def test_clean_asks_says_what_and_keeps_results(call, suite):
    call("run", suite)
    call("run", suite, "--force", "--only", "arm=SB")
    before = len(list(Path("results/small/runs").iterdir()))
    assert "nothing was removed" in call("clean", answer="n\n").stdout
    assert len(list(Path("results/small/runs").iterdir())) == before
    text = call("clean", "small", "--yes").stdout
    assert "old attempt" in text
    assert "removed 2 leftovers" in text
    assert "nothing to remove" in call("clean").stdout
    assert "training" not in call("run", suite).stderr


def test_clean_can_remove_the_cache_but_not_downloads(call, tmp_path):
    (tmp_path / "cache" / "datasets").mkdir(parents=True)
    (tmp_path / "cache" / "datasets" / "x.npy").write_bytes(b"x")
    (tmp_path / "cache" / "data").mkdir()
    call("clean", "--cache", "--yes")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["data"]


def test_a_file_named_like_a_results_schema_above_the_cache_is_no_results_directory(call, tmp_path):
    (tmp_path / "schema.json").write_text("something else")
    (tmp_path / "cache" / "datasets").mkdir(parents=True)
    assert "removed 1 leftover" in call("clean", "--cache", "--yes").stdout
    assert not (tmp_path / "cache" / "datasets").exists()


def test_clean_leaves_a_directory_in_use_alone(call, refused, suite):
    call("run", suite)
    call("run", suite, "--force")
    with ResultsDirectory.open_existing(Path("results/small")).locked():
        assert "another gapbench" in refused("clean", "--yes")


@pytest.mark.parametrize("kind", ["datasets", "models", "regimes", "optimizers", "recipes", "probes", "suites"])
def test_everything_that_exists_is_listed(call, kind):
    text = call("ls", kind).stdout
    for name in api.names(kind):
        assert name in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run quickstrat", "quickstart"),
        ("run nowhere.toml", "nowhere.toml"),
        ("report", "gapbench run"),
        ("report nothing", "unknown results directory"),
        ("ls model", 'did you mean "models"?'),
        ("data verify minst", 'did you mean "mnist"?'),
        ("compare nothing published:hoffer2017", "unknown results directory"),
        ("compare published:hofer2017 nothing", 'did you mean "hoffer2017"?'),
        ("analyze diffusion published:hoffer", "unknown paper"),
        ("analyze diffusion --first 20 --last 10", "must be greater"),
        ("analyze critical-batch published:zhang2024 --target train_loss=0.1", "leave out --target"),
        ("analyze critical-batch published:zhang", 'unknown paper "zhang"'),
        ("analyze critical-batch none.csv", "cannot be read as CSV"),
        ("analyze noise-scale published:zhang2024", "papers published no gradients"),
        ("analyze noise-scale", "holds no results yet"),
        ("test resnett", 'unknown component "resnett" (did you mean "resnet"?)'),
        ("test", "nothing to test"),
        ("test sgd --set nothing=1", "has no option"),
    ],
)
def test_what_does_not_exist_or_fit_is_wrong_input_and_said(refused, command, words):
    assert words in refused(*command.split())


def test_data_verify_says_which_files_are_missing_and_how_to_get_them(call, tmp_path):
    result = call("data", "verify", "mnist", "--data-dir", tmp_path, code=2)
    assert "missing" in result.stdout
    assert "data fetch mnist" in result.stderr
    call("data", "verify", "digits")


def test_doctor_says_what_this_machine_can_do(call):
    text = call("doctor", "--fast").stdout
    for words in ("gapbench", "Python", "cores", "GiB free", "data: digits", "data fetch cifar10", "cache"):
        assert words in text


def test_doctor_survives_a_torch_that_does_not_import(call, tmp_path, monkeypatch):
    package = tmp_path / "broken" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('libcudart.so.99: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    text = call("doctor", code=1).stdout
    assert "libcudart.so.99" in text
    assert "pip install" in text


def test_gapbench_is_a_module_too():
    done = subprocess.run([sys.executable, "-m", "gapbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gapbench ")


def test_suites_recipes_and_models_are_completed(suite):
    assert options.complete_suites("quick") == ["quickstart"]
    assert options.complete_suites("small") == ["small.toml"]
    assert options.complete_settings("rec") == ["recipe="]
    assert "recipe=hoffer2017/f1-mnist" in options.complete_settings("recipe=hoffer2017/f1")
    assert "model=mlp" in options.complete_settings("model=m")
    assert options.complete_settings("epochs=") == []
    assert options.completes(lambda: api.names("datasets"))("mn") == ["mnist"]


def test_ls_without_a_kind_names_everything(call):
    said = call("ls").stdout
    assert "models: mlp, f1, c1, c3, " in said
    assert "suites: " in said


def test_ls_says_what_options_mean(call):
    said = call("ls", "datasets").stdout
    assert "path = ...  # the .npz file, relative to the suite file's directory; must be given" in said
    assert "content" not in said
    assert '# after each hidden Linear; one of "batch", "group", "none"' in call("ls", "models").stdout
