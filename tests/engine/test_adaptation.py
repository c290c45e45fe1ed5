"""A batch size that follows the noise scale, as it trains: exact counts, resumed to the bit, the estimate against an oracle."""

import numpy as np
import pytest
import torch

from gapbench.core.errors import TrainingError
from gapbench.core.events import Measured, Outcome, WeightsKept
from gapbench.engine.adaptation import Adaptation, pieces_of
from gapbench.optimizers import schedule
from gapbench.probes import ObjectiveBatch
from gapbench.suite.regime import next_size
from gapbench.suite.runspec import AdaptiveBatch, Component
from tests.engine.runs import curve, finished, make_trainer, run, snapshots_of

CPU = torch.device("cpu")
PLAIN = Component(name="mlp", options={"widths": [16], "norm": "none", "bias": True})
RESNET8 = Component(name="resnet", options={"depth": 8})


def adaptive(spec, *, unramped=40, rule=None, **changes):
    """A batch of 20 in groups of 5, over the examples of 40 updates, decided on ten times."""
    fields = {
        "exchange_rate": 20.0, "smallest": 10, "largest": 80, "unit": 5, "decisions": 10, "measure_every": 2, "smoothing": 0.8,
        "largest_change": 2.0, "learning_rate_scaling": "sqrt",
    }  # fmt: skip
    wanted = AdaptiveBatch(**(fields | (rule or {})))
    fields = {"batch_size": 20, "ghost_batch_size": 5, "updates": unramped, "unramped_updates": unramped, "adaptive_batch": wanted}
    return spec(**(fields | changes))


def values(events):
    return [(event.update, event.examples, event.values) for event in events if isinstance(event, Measured)]


def sizes_of(events, wanted):
    """The size of every update from the curve, which has each one that differs from that before it."""
    found, size = [], wanted.batch_size
    recorded = curve(events, "batch_size")
    for update in range(1, finished(events)[0].update + 1):
        size = recorded.get(update, size)
        found.append(int(size))
    return found


@pytest.mark.parametrize("model", [None, PLAIN, RESNET8], ids=["ghost", "no norm", "resnet"])
def test_examples_are_exact_updates_follow_and_every_size_is_recorded(spec, pool, model):
    data = pool(height=8, channels=3)
    changes = {} if model is None else {"model": model, "ghost_batch_size": None if model is PLAIN else 5}
    wanted = adaptive(spec, **changes)
    events = run([wanted], data)
    end = finished(events)[0]
    sizes = sizes_of(events, wanted)
    assert end.outcome is Outcome.OK
    assert sum(sizes) == end.summary["examples"] == wanted.examples == 800
    assert len(sizes) == end.summary["updates"] == end.update != wanted.updates
    assert len(set(sizes)) > 2  # it does change
    measured = {event.update: event.examples for event in events if isinstance(event, Measured)}
    assert measured == {update: sum(sizes[:update]) for update in measured}
    assert max(measured) == end.update
    assert set(curve(events, "test_accuracy")) == set(curve(events, "train_accuracy")) >= {end.update}


def test_the_rate_of_every_update_is_that_of_its_batch(spec, pool):
    data = pool()
    wanted = adaptive(spec, warmup=0.1, warmup_start=0.5)
    trainer = make_trainer([wanted], data)
    seen = rates = 0
    while trainer.update < trainer.batches.updates:
        state = trainer.step()
        size = trainer.batches.at(trainer.update - 1).size
        share = seen / 800
        expected = 0.1 * (0.1 if share >= 0.5 else 1.0) * (size / 20) ** 0.5 * min(1.0, 0.5 + 0.5 * (seen + size) / 80)
        assert schedule(wanted, trainer.batches).learning_rate[trainer.update - 1] == pytest.approx(expected)
        if state is not None:
            assert state.learning_rate.item() == pytest.approx(expected)
            rates += 1
        seen += size
    assert rates > 10


@pytest.mark.parametrize("stop_at", [1, 4, 5, 9, 17])
@pytest.mark.parametrize("changes", [{}, {"momentum_reset": "epoch", "keep_weights": (0.5, 1.0)}], ids=["plain", "resets"])
def test_a_run_resumed_in_the_middle_equals_an_undisturbed_one_bit_by_bit(spec, pool, stop_at, changes):
    data = pool(height=8)
    wanted = adaptive(spec, clip_norm=0.5, crop_padding=1, **changes)
    undisturbed = run([wanted], data)
    first = run([wanted], data, stop_at=stop_at)
    snapshots = snapshots_of(first)
    assert [snapshot["update"] for snapshot in snapshots] == [stop_at]
    second = run([wanted], data, snapshots=snapshots)
    assert values(first) + values(second) == values(undisturbed)
    assert finished(second)[0].update == finished(undisturbed)[0].update
    kept = [[event for event in events if isinstance(event, WeightsKept)] for events in (first + second, undisturbed)]
    for mine, theirs in zip(*kept, strict=True):
        assert mine.update == theirs.update
        assert all(torch.equal(tensor, theirs.state_dict[name]) for name, tensor in mine.state_dict.items())


def test_the_device_s_micro_batches_change_no_size(spec, pool):
    """A measured batch is cut in the same way whatever the pieces of an update."""
    data = pool()
    wanted = adaptive(spec)
    whole, pieces = (run([wanted], data, micro_batch_size=size) for size in (None, 10))
    assert sizes_of(whole, wanted) == sizes_of(pieces, wanted)
    assert curve(whole, "adaptive_noise_scale") == pytest.approx(curve(pieces, "adaptive_noise_scale"), rel=1e-3)


def test_the_estimate_is_that_of_the_gradients_of_pieces_and_the_sizes_follow_it(spec, pool):
    """Against the paper's two-batch form (appendix A.1) at the weights that each update begins with, averaged by hand."""
    data = pool()
    wanted = adaptive(spec)
    rule = wanted.adaptive_batch
    trainer = make_trainer([wanted], data, objective=True)
    trace = square = 0.0
    sizes, decided_at = [20], [80 * number for number in range(1, 10)]
    while trainer.update < trainer.batches.updates:
        seen = trainer.batches.examples(trainer.update)
        due = [moment for moment in decided_at if moment <= seen]
        if due:
            decided_at = decided_at[len(due) :]
            sizes.append(next_size(rule, trace / square if square > 0 else float("inf"), sizes[-1]))
        measures, before = trainer.update % 2 == 0, trainer.network.weights.clone()
        update = trainer.update
        trainer.step()
        batch = trainer.program.objective.at(update + 1).batch()
        if batch.examples != sizes[-1]:
            assert 800 - seen < 80 + 80  # only the one that takes what is left over
        if not measures:
            continue
        parts = pieces_of(batch)
        gradients = [trainer.program.objective.gradient(part, before)[0].double() for part in parts]
        small, big = parts[0].examples, parts[0].examples * len(parts)
        if len(parts) == 1:
            continue
        mean_square = np.mean([float(gradient @ gradient) for gradient in gradients])
        mean = torch.stack(gradients).mean(dim=0)
        square_of_mean = float(mean @ mean)
        square = 0.8 * square + 0.2 * (big * square_of_mean - small * mean_square) / (big - small)
        trace = 0.8 * trace + 0.2 * (mean_square - square_of_mean) / (1 / small - 1 / big)
    adaptation = trainer._adaptation
    adaptation._settle()
    assert adaptation.snapshot()["sizes"] == sizes[1:] or len(sizes) < 10  # two decisions may be due at once
    assert (adaptation.trace, adaptation.square) == pytest.approx((trace, square), rel=1e-3)


@pytest.mark.parametrize("noise_scale", [5.0, 80.0, 320.0])
def test_the_size_follows_a_synthetic_noise_scale(spec, noise_scale):
    """Gaussian gradients with |G|^2 = 1 and tr(Sigma) = B_noise: the average size is near sqrt(exchange rate * B_noise)."""
    generator = np.random.default_rng(0)
    wanted = adaptive(
        spec, unramped=4000,
        rule={"largest": 400, "unit": 1, "smallest": 2, "decisions": 200, "measure_every": 1, "smoothing": 0.98},
    )  # fmt: skip
    adaptation = Adaptation(wanted)
    batches, update, sizes, dimensions = wanted.batches, 0, [], 200
    direction = np.ones(dimensions) / np.sqrt(dimensions)
    while update < batches.updates:
        if adaptation.decide(batches, update):
            batches = adaptation.table
        size = batches.at(update).size
        sizes.append(size)
        count = min(8, size)
        small = size // count
        gradients = direction + generator.normal(size=(count, dimensions)) * np.sqrt(noise_scale / dimensions / small)
        if count > 1:
            mean = gradients.mean(axis=0)
            adaptation._average(small, count, float(np.mean((gradients**2).sum(axis=1))), float(mean @ mean))
        update += 1
    assert batches.examples(update) == 80_000
    late = sizes[len(sizes) // 2 :]
    assert np.mean(late) == pytest.approx((20.0 * noise_scale) ** 0.5, rel=0.15)


def test_a_batch_is_cut_into_whole_groups_and_few_of_its_examples_are_left_out():
    def shapes(examples, group):
        batch = ObjectiveBatch(torch.zeros(1, examples, dtype=torch.int64), None, "train", group)
        return [part.examples for part in pieces_of(batch)]

    assert shapes(64, 16) == [16] * 4
    assert shapes(64, 1) == [8] * 8
    assert shapes(13, 1) == [2] * 6
    assert shapes(32, 16) == [16, 16]
    assert shapes(16, 16) == [16]
    assert shapes(10 * 32, 32) == [64] * 5


def test_without_a_measurement_the_size_stays_and_a_run_without_signal_grows(spec):
    adaptation = Adaptation(adaptive(spec))
    assert adaptation.noise_scale is None
    adaptation._average(5, 4, 1.0, 0.2)  # |G|^2 comes out negative
    assert adaptation.noise_scale == float("inf")
    assert next_size(adaptation.rule, adaptation.noise_scale, 20) == 40
    adaptation._average(5, 4, float("nan"), 0.2)
    assert adaptation.noise_scale is None


def test_runs_of_sizes_of_their_own_are_no_stack(spec, pool):
    data = pool()
    with pytest.raises(TrainingError, match="train it alone"):
        make_trainer([adaptive(spec), adaptive(spec, seed=1)], data)
