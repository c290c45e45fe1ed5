from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapbench.core.errors import Problem, SuiteError
from gapbench.suite import load_suite
from gapbench.suite.toml import KeyPath, dumps
from tests.suite.nested import paths

BASE = tomllib.loads(Path(__file__).with_name("sound.toml").read_text(encoding="utf-8"))


words = st.sampled_from(
    ["", "off", "seed", "0..2", "digits", "npz", "mlp", "c1", "adamw", "sqrt-lr", "baseline", "A", "drop", "fixed", "x y"]
)
numbers = st.sampled_from([-1, 0, 1, 2, 7, 16, 10**6, 2**70, -0.5, 0.0, 0.5, 1.0, 3.7, float("inf"), float("nan")])
scalars = words | numbers | st.booleans()
names = st.sampled_from(
    ["name", "kind", "path", "factor", "norm", "seed", "batch_size", "label", "arm", "reason", "where", "set", "start", "zzz"]
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=5)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "suite.toml"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from([*paths(BASE)]), values, st.none() | names), min_size=1, max_size=2))
def test_any_nonsense_is_a_suite_error_with_a_place_or_a_suite(file: Path, changes: list[tuple[KeyPath, Any, str | None]]) -> None:
    data = copy.deepcopy(BASE)
    for path, value, name in changes:
        table: Any = data
        for key in path[:-1]:
            there = key in table if isinstance(table, dict) else isinstance(table, list) and isinstance(key, int) and key < len(table)
            table = table[key] if there else {}
        if isinstance(table, list) and isinstance(path[-1], int) and path[-1] < len(table):
            table[path[-1]] = value
        elif isinstance(table, dict) and (name or isinstance(path[-1], str)):
            table[name or path[-1]] = value
    file.write_text(dumps(data))
    problems = problems_of(file)
    assert all(problem.place.startswith(str(file)) and problem.message for problem in problems)
    if not problems:
        suite = load_suite(file)
        assert suite.runs or suite.dropped
        file.write_text(suite.resolved_toml())
        assert [run.run_id for run in load_suite(file).runs] == [run.run_id for run in suite.runs]


def problems_of(file: Path) -> tuple[Problem, ...]:
    try:
        load_suite(file)
    except SuiteError as error:
        return error.problems
    return ()
