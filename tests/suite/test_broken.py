"""Suites with several mistakes each: all are told at once, at the right lines, in words that were read and found good.

In broken/*.toml every line that is wrong says so in a comment; broken/*.txt hold the messages in full.
"""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gapbench import catalog
from gapbench.core.errors import SuiteError
from gapbench.suite import load_suite
from gapbench.suite.toml import KeyPath, dumps, locate
from tests.suite.nested import at, changed, paths, shown

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(path.name for path in BROKEN.glob("*.toml"))


def message(path: str | Path) -> str:
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    return str(caught.value)


def lines_of(text: str) -> set[tuple[str, int]]:
    """(file, line) of every message that names a line."""
    return {(found[1], int(found[2])) for found in re.finditer(r"^([\w./-]+\.toml):(\d+): ", text, re.MULTILINE)}


def test_there_are_twenty_and_each_has_several_mistakes() -> None:
    assert len(FILES) >= 20
    for name in FILES:
        assert len((BROKEN / name).with_suffix(".txt").read_text(encoding="utf-8").splitlines()) >= 2, name


@pytest.mark.parametrize("name", FILES)
def test_all_mistakes_are_told_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    assert message(name) + "\n" == (BROKEN / name).with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_exactly_the_lines_that_are_wrong_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    named = lines_of(message(name))
    files = {name} | {file for file, _ in named}
    wrong = {
        (file, number)
        for file in files
        for number, line in enumerate(Path(file).read_bytes().decode().splitlines(), 1)
        if line.endswith("# wrong")
    }
    assert named == wrong


@pytest.mark.parametrize("name", FILES)
def test_messages_stand_in_the_order_of_lines_once_each(name: str) -> None:
    texts = (BROKEN / name).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert len(set(texts)) == len(texts)
    by_file: dict[str, list[int]] = {}
    for text in texts:
        file, _, rest = text.partition(":")
        by_file.setdefault(file, []).append(int(found[0]) if (found := re.match(r"\d+", rest)) else 0)
    assert all(numbers == sorted(numbers) for numbers in by_file.values())


def test_paths_are_those_that_lead_there_from_where_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN.parent)
    assert lines_of(message("broken/extends.toml")) == {(f"broken/{file}", line) for file, line in lines_of(golden("extends"))}


def golden(name: str) -> str:
    return (BROKEN / f"{name}.txt").read_text(encoding="utf-8")


def test_line_ends_of_windows_change_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("grid.toml", "python-habits.toml", "lists-over-lines.toml"):
        text = (BROKEN / name).read_bytes()
        assert b"\r" not in text
        Path(name).write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
        assert message(name) + "\n" == (BROKEN / name).with_suffix(".txt").read_text(encoding="utf-8")
    assert b"\r\n" in (BROKEN / "windows.toml").read_bytes()


SOUND = """
schema = 1
name = "sound"
[run]
recipe = "digits"
preset = "paper"
model = { name = "mlp", widths = [8], norm = "batch" }
optimizer = { name = "sgd", momentum = 0.5, nesterov = true }
dataset = { train_size = 600 }
phases = [{ start = 0.0 }, { start = 0.5, learning_rate_factor = 0.1, momentum = 0.1 }]
probes = ["weight_norm"]
keep_weights = [0.5]
holdout = 0.1
clip_norm = 1.0
[grid]
batch_size = [16, 512]
ghost_batch_size = ["off", 16]
regime = ["mine"]
seed = [0, 1]
[[arm]]
label = "A"
ghost_batch_size = 8
budget = { kind = "updates", factor = 0.5 }
[[arm]]
label = "B"
batch_size = 32
split_seed = 3
[[exclude]]
batch_size = 512
ghost_batch_size = 16
reason = "too many"
[[override]]
where = { arm = "A", seed = 1 }
set = { learning_rate = 0.3, updates = 4 }
[regimes.mine]
learning_rate_scaling = "sqrt"
budget = { kind = "examples" }
[report]
reference = { batch_size = 16 }
arms = ["A"]
figures = ["training_curves"]
"""


SOUND_DATA = tomllib.loads(SOUND)
VALUES = [path for path in paths(SOUND_DATA) if not isinstance(at(SOUND_DATA, path), dict | list) and path not in (("schema",), ("name",))]
KEYS = [path for path in paths(SOUND_DATA) if isinstance(path[-1], str) and path != ("regimes", "mine")]
"""Another name of a regime is no mistake there, but where it is used."""


def told_of(data: dict[str, Any]) -> tuple[set[int], dict[KeyPath, int]]:
    """The lines that messages name, and the line of every key."""
    text = dumps(data)
    Path("suite.toml").write_text(text, encoding="utf-8")
    return {line for _, line in lines_of(message("suite.toml"))}, locate(text)


@pytest.mark.parametrize("path", VALUES, ids=shown)
def test_one_mistake_is_told_at_its_place_and_has_no_consequences(path: KeyPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told, lines = told_of(changed(SOUND_DATA, path, 5 if path[-1] in ("label", "reason") else "nonsense"))
    assert told
    assert told <= {lines[path[:end]] for end in range(1, len(path) + 1) if path[:end] in lines}


@pytest.mark.parametrize("path", KEYS, ids=shown)
def test_a_misspelled_key_has_no_consequences(path: KeyPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = copy.deepcopy(SOUND_DATA)
    table, wrong = at(data, path[:-1]), f"{path[-1]}s"
    items = [(wrong if key == path[-1] else key, item) for key, item in table.items()]
    table.clear()
    table.update(items)
    told, lines = told_of(data)
    assert told == {lines[(*path[:-1], wrong)]}


def test_the_sound_suite_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sound.toml").write_text(SOUND, encoding="utf-8")
    assert load_suite("sound.toml").runs


def test_what_is_extended_and_cannot_be_read_hides_no_mistake_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.toml").write_text(
        'schema = 1\nname = "x"\nextends = "gone.toml"\n[run]\nregime = "of-the-parent"\nepochs = -1\n[report]\narms = ["A"]\n'
    )
    assert message("suite.toml").splitlines() == [
        "suite.toml:3: extends: there is no suite file gone.toml; name a .toml file, or a suite of `gapbench ls suites`",
        "suite.toml:6: run.epochs: must be greater than 0, not -1",
    ]


def test_all_mistaken_settings_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("suite.toml").write_text('schema = 1\nname = "x"\n[run]\nrecipe = "digits"\nbatch_size = 16\nlearning_rate = 0\n')
    options = {"epoch": "1", "name": "y", "model..depth": "2", "holdout": "2", "model": "mlp", "model.norm": "batch"}
    with pytest.raises(SuiteError) as caught:
        load_suite("suite.toml", settings=options)
    places = [problem.place for problem in caught.value.problems]
    assert sorted(places) == ["--set", "--set", "--set", "--set: run.epoch", "--set: run.holdout", "suite.toml:6: run.learning_rate"]


def test_the_options_of_a_plugins_component_are_checked_with_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import gapbench\n"
        "from typing import Literal\n\n"
        "@gapbench.model(name='tiny')\n"
        "def tiny(input_shape, classes, *, width: int = 8, kind: Literal['a', 'b'] = 'a'):\n    '''Tiny.'''\n"
    )
    Path("suite.toml").write_text(
        'schema = 1\nname = "x"\n[run]\nrecipe = "digits"\nbatch_size = 16\n'
        'model = { name = "tiny", widht = 3, kind = "c" }\nepochs = 0\n[grid]\nregime = ["sqrt"]\n'
    )
    with pytest.raises(SuiteError) as caught:
        load_suite("suite.toml", plugins=["mine.py"])
    assert [str(problem) for problem in caught.value.problems] == [
        'suite.toml:6: run.model.kind: must be one of "a", "b", not "c"',
        'suite.toml:6: run.model.widht: model "tiny" has no option widht (did you mean "width"?); its options: kind, width',
        "suite.toml:7: run.epochs: must be greater than 0, not 0",
        'suite.toml:9: grid.regime[0]: unknown regime "sqrt" (did you mean "sqrt-lr"?); known: ' + ", ".join(sorted(catalog.regimes())),
    ]
