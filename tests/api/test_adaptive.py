"""A batch size that follows the noise scale from suite to report: what is planned, trained, tabled, drawn and said."""

from pathlib import Path

import pytest

from gapbench import api
from gapbench.api.running import smoke_suite
from gapbench.store import read_tables

SUITE = """
schema = 1
name = "following"

[run]
recipe = "digits"
reference_batch_size = 32
batch_size = 32
ghost_batch_size = 8
epochs = 3

[grid]
regime = ["baseline", "mine"]
seed = [0, 1]

[regimes.mine]
learning_rate_scaling = "sqrt"
adaptive_batch = { smallest = 0.5, largest = 2, measure_every = 2 }

[report]
reference = { regime = "baseline" }
"""


@pytest.fixture
def suite(own_folder: Path) -> Path:
    path = own_folder / "following.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def test_a_plan_says_between_which_numbers_the_updates_lie(suite: Path) -> None:
    frame = api.plan(suite, devices="cpu").frame().set_index("regime")
    assert list(frame["examples"]) == [2688, 2688]
    assert frame.loc["baseline", ["updates", "fewest_updates", "most_updates"]].tolist() == [84, 84, 84]
    first = 5  # of 20 decisions the first is due after 4.2 updates of 32
    assert frame.loc["mine", ["updates", "fewest_updates", "most_updates"]].tolist() == [84, first + 40, first + 158]


def test_a_run_is_counted_as_it_was_and_drawn_at_equal_examples(suite: Path) -> None:
    done = api.run(suite, devices="cpu")
    assert done.exit_status == 0
    path = suite.parent / "results" / "following"
    tables = read_tables(path)
    runs = tables.runs.set_index("run_id")
    own = runs[runs["adaptive_batch"].notna()]
    assert set(own["cell"]) == {"mine"}
    assert set(own["examples"]) == set(runs["examples"]) == {2688}
    assert (own["replicas"] == 1).all()
    assert (own["updates"] != own["planned_updates"]).all()
    for run_id, updates in own["updates"].items():
        curves = tables.curves[tables.curves["run_id"] == run_id]
        sizes = curves[curves["metric"] == "batch_size"].sort_values("update")
        assert sizes["value"].between(8, 64).all()
        assert int(curves["update"].max()) == updates
        assert (curves["metric"] == "adaptive_noise_scale").any()
    (status,) = [cell for cell in api.status(path).cells if cell.cell == "mine"]
    assert status.updates_done == status.updates == own["updates"].sum()
    (row,) = [line for line in (path / "tables" / "arms.md").read_text(encoding="utf-8").splitlines() if line.startswith("| mine")]
    assert "equal examples; by rule sqrt" in row
    assert (path / "figures" / "training_curves.svg").is_file()


def test_smoke_divides_the_bounds_with_the_batch(suite: Path) -> None:
    loaded = api.load_suite(suite)
    small, (said,) = smoke_suite(loaded, "cpu")
    assert "about as many where the batch follows the noise scale" in said
    assert [run.spec.unramped_updates for run in small.runs if run.spec.adaptive_batch] == [3]
