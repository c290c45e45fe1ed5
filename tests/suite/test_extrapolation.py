"""Extrapolation in a suite file: what it resolves to, what has no effect, budgets, and one clear error for each thing that cannot be."""

# ruff: noqa: E501 - messages stand on one line, as they are shown
import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import load_suite
from gapbench.suite.runspec import Extrapolation, run_id

SUITE = """schema = 1
name = "x"
[run]
recipe = "digits"
batch_size = {batch}
ghost_batch_size = {ghost}
{more}
"""


def suite(tmp_path, more="", *, batch=256, ghost=16):
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.format(batch=batch, ghost=ghost, more=more))
    return load_suite(path)


def spec(tmp_path, more="", **sizes):
    (run,) = suite(tmp_path, more, **sizes).runs
    return run.spec


def test_a_run_that_does_not_extrapolate_has_the_id_that_it_always_had(tmp_path):
    plain = spec(tmp_path)
    for table in ('{ direction = "none" }', '{ direction = "sam", step = 0 }'):
        assert run_id(spec(tmp_path, f"extrapolation = {table}")) == run_id(plain)
    assert run_id(spec(tmp_path, 'extrapolation = { direction = "sam", step = 0.05 }')) != run_id(plain)


def test_steps_of_gradients_are_of_the_unscaled_rate_unless_something_else_is_said(tmp_path):
    scaled = 'learning_rate_scaling = "sqrt"\n'
    local = spec(tmp_path, scaled + 'extrapolation = { direction = "past-local", step = 2, workers = 8 }')
    factor = local.reference_learning_rate / local.learning_rate
    assert factor < 1
    assert local.extrapolation == Extrapolation(direction="past-local", step=2 * factor, schedule="rate", workers=8, until=1.0)
    sam = spec(tmp_path, 'extrapolation = { direction = "sam", step = 0.05, worker_examples = 32, until = 0.5 }')
    assert sam.extrapolation == Extrapolation(direction="sam", step=0.05, schedule="constant", workers=8, until=0.5)


def test_workers_are_of_a_size_that_stays_while_the_batch_varies(tmp_path):
    sizes = 'extrapolation = { direction = "sam", step = 0.05, worker_examples = 32 }'
    workers = {batch: spec(tmp_path, sizes, batch=batch).extrapolation.workers for batch in (32, 64, 512)}
    assert workers == {32: 1, 64: 2, 512: 16}


def test_workers_that_would_all_look_at_one_place_are_one(tmp_path):
    for direction in ("past-global", "momentum"):
        assert spec(tmp_path, f'extrapolation = {{ direction = "{direction}", step = 1, workers = 4 }}').extrapolation.workers == 1


@pytest.mark.parametrize(("until", "factor"), [(1.0, 2.0), (0.5, 1.5)])
def test_a_budget_of_gradients_gives_all_runs_the_same(tmp_path, until, factor):
    budget = 'budget = { kind = "gradients" }\n'
    plain = spec(tmp_path, budget)
    sam = spec(tmp_path, f'{budget}extrapolation = {{ direction = "sam", step = 0.05, until = {until} }}')
    assert plain.updates == spec(tmp_path, 'budget = { kind = "examples" }').updates
    assert sam.updates == pytest.approx(plain.updates / factor, abs=1)
    assert sam.gradients(sam.updates) == pytest.approx(plain.gradients(plain.updates), abs=2 * plain.batch_size)


@pytest.mark.parametrize(
    ("more", "sizes", "message"),
    [
        ('{ direction = "past-local", step = 1, workers = 3 }', {}, "the batch size 256 cannot be dealt out to 3 workers; choose a divisor"),
        ('{ direction = "past-local", step = 1, workers = 32 }', {}, "batch norm is over 16 examples, and each of 32 workers has 8 examples; choose a ghost_batch_size that divides these, or fewer workers"),
        ('{ direction = "past-local", step = 1, workers = 2 }', {"ghost": '"off"'}, "batch norm is over the whole batch, and each of 2 workers has 128 examples; choose a ghost_batch_size that divides these, or fewer workers"),
        ('{ direction = "sam", step = 1, worker_examples = 96 }', {}, "worker_examples = 96 does not divide the batch size 256"),
        ('{ direction = "sam", step = 1, workers = 2 }\ntail = "ragged"', {}, "workers have equal shares of batches of one size; leave out ragged tails and growing batches"),
        ('{ direction = "momentum", step = 1 }\noptimizer = { momentum = 0 }', {}, 'there is no momentum to extrapolate along: the optimizer "sgd" has none'),
        ('{ direction = "momentum", step = 1 }\noptimizer = { nesterov = true }', {}, "Nesterov's form looks ahead along the momentum already; set nesterov = false"),
        ('{ direction = "sam", step = 1 }\nregime = "adaptive"', {}, "extrapolation is for batches whose sizes are planned; choose a regime without adaptive_batch"),
        ('{ direction = "sam" }', {}, 'direction = "sam" needs a step'),
        ('{ direction = "sam", step = 1, workers = 2, worker_examples = 64 }', {}, "workers and worker_examples say the same; give one of them"),
        ('{ direction = "sam", step = 1, scale = "tensor" }', {}, 'scale is only for direction = "gauss" and "uniform"'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_error(tmp_path, more, sizes, message):
    with pytest.raises(SuiteError) as raised:
        suite(tmp_path, f"extrapolation = {more}", **sizes)
    text = str(raised.value)
    assert message in text
    assert text.count("extrapolation:") + text.count("extrapolation.") >= 1
