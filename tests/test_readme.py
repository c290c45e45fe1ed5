"""The README, by running its blocks."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from gapbench import api

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(marker: str) -> list[str]:
    found = re.findall(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```", README, flags=re.DOTALL)
    assert found, marker
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (80, 6, 6), dtype=np.uint8), np.arange(80) % 4
    np.savez(tmp_path / "mine.npz", x_train=images[:64], y_train=labels[:64], x_test=images[64:], y_test=labels[64:])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", blocks("suite"), ids=["explained", "own-data"])
def test_suites_in_the_readme_can_be_planned(folder, text):
    (folder / "suite.toml").write_text(text)
    suite = api.load_suite("suite.toml")
    assert suite.runs
    if suite.name == "my-first-suite":
        # 3 batch sizes x 2 regimes x 2 ghost sizes x 5 seeds, less the excluded 2 x 5 ghost sizes and seeds.
        assert len(suite.runs) + len(suite.dropped) == 60
        assert len(suite.dropped) == 10


def test_the_plugin_in_the_readme_trains(folder):
    (folder / "my_model.py").write_text(blocks("plugin")[0])
    own = blocks("suite")[1].replace('model = { name = "mlp", widths = [64, 64] }', 'model = { name = "tiny", width = 64 }')
    (folder / "suite.toml").write_text(own)
    done = api.run("suite.toml", plugins=["my_model.py"], results="results", devices="cpu")
    assert done.exit_status == 0
    assert set(api.load_results(folder / "results" / "own-data").runs.outcome) == {"ok"}


def test_the_python_in_the_readme_reads_results(folder, capsys):
    shutil.copytree(ROOT / "results" / "reference" / "quickstart", folder / "results" / "quickstart")
    exec(blocks("python: results")[0], {})
    assert "LB+LR+GBN+RA" in capsys.readouterr().out


def test_the_two_commands_name_files_that_are_there():
    commands = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert (ROOT / words[words.index("-c") + 1]).is_file()
    assert (ROOT / "suites/quickstart.toml").is_file()


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_every_command_of_the_command_line_is_in_the_readme():
    from typer.main import get_command

    from gapbench.cli.app import app

    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"`gapbench {name}" in README, name
