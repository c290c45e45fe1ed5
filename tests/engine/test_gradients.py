"""What a rule may ask for within an update: gradients at other weights, of fresh examples and of workers, and that asking moves nothing."""

import functools

import pytest
import torch

from gapbench.catalog.plugins import optimizer
from gapbench.conformity.optimizers import Walk
from gapbench.core.errors import TrainingError
from gapbench.engine.prepared import PreparedProgram
from gapbench.engine.program import UpdateGradients
from gapbench.engine.trainer import Trainer
from gapbench.optimizers import Gradients, Hyperparameters, Optimizer
from gapbench.optimizers.adamw import AdamW
from gapbench.optimizers.base import plus
from gapbench.suite.runspec import Component
from tests.engine.emulated_graphs import EmulatedGraphs
from tests.engine.runs import advance, make_trainer

CPU = torch.device("cpu")
RESNET8 = Component(name="resnet", options={"depth": 8})
GHOSTS = {"ghost_batch_size": 5, "weight_decay": 0.0}


class Extragradient(Optimizer):
    """The step of the gradient that a step ahead finds on the same batch (Korpelevich 1976)."""

    state_names = ()
    follows_device = elementwise = True

    def gather(self, gradients: Gradients, hyperparameters) -> None:
        on_device = isinstance(hyperparameters, Hyperparameters)
        now = hyperparameters if on_device else Hyperparameters.on_device(hyperparameters)
        gradients.again(plus(self.buffers.weights, gradients.again(), -now.learning_rate), into=self.buffers.gradients)

    def move(self, tile, hyperparameters) -> None:
        plus(tile.weights, tile.gradients, -hyperparameters.learning_rate, out=tile.weights)


class LookingAdamW(AdamW):
    """AdamW of the gradient at weights that are a little further on."""

    def gather(self, gradients: Gradients, hyperparameters) -> None:
        self.before = self.buffers.weights.clone()
        gradients.again(self.before * 1.01)
        gradients.again(self.before * 0.99, into=self.buffers.gradients)
        self.kept = torch.equal(self.buffers.weights, self.before)


@pytest.fixture
def trainer(spec, pool):
    def build(name="sgd", **changes):
        if name == "extragradient":
            optimizer(name=name, gradients_per_update=2)(Extragradient)
        if name == "looking-adamw":
            optimizer(name=name, gradients_per_update=2)(LookingAdamW)
        data = pool(height=8, channels=3)
        changes = {"optimizer": Component(name=name, options={}), **GHOSTS, "updates": 60, **changes}
        options = {option: changes.pop(option) for option in ("micro_batch_size", "make") if option in changes}
        return make_trainer([spec(**changes)], data, **options)

    return build


def gradients_of(built: Trainer, update: int = 0, **options) -> UpdateGradients:
    return UpdateGradients(built.program, update, built.feed.micro_batches(update, built.micro_batch_size), None, observe=False, **options)


def statistics(built: Trainer) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in built.network.module.buffers()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_extragradient_on_a_quadratic_shrinks_by_its_factor():
    curvature, rate = torch.linspace(0.1, 4.0, 64), 0.2
    walk = Walk(Extragradient, {}, (0, 1), decayed=64, shared=True)
    start = walk.weights.double()
    walk.go(10, lambda weights, _seed, _update: curvature * weights, lambda _update, _seed: Hyperparameters(rate, 0.0, 0.0))
    steps = rate * curvature.double()
    torch.testing.assert_close(walk.weights.double(), start * (1.0 - steps * (1.0 - steps)) ** 10, rtol=1e-5, atol=1e-7)
    assert walk.gradients_made == 20


@pytest.mark.parametrize("changes", [{}, {"model": RESNET8}, {"micro_batch_size": 10}])
def test_extragradient_of_a_network_is_the_step_that_a_step_ahead_would_make(trainer, changes):
    ours, oracle = trainer("extragradient", **changes), trainer(**changes)
    for update in range(3):
        start = ours.network.weights.clone()
        state = ours.step()
        # Slowly: a plain step, then the gradient of the same batch there, then back.
        oracle.network.weights.copy_(start)
        oracle.update = update
        plain = oracle.step()
        assert equal(statistics(ours), statistics(oracle))  # norm statistics moved once, by the first pass
        if state is not None and plain is not None:
            assert torch.equal(state.batch_loss, plain.batch_loss)
        ahead = gradients_of(oracle, update).again()
        oracle.network.forget_pending()
        torch.testing.assert_close(ours.network.weights, start - 0.1 * ahead, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_asking_moves_neither_weights_nor_what_a_forward_reads(trainer, precision):
    built = trainer(precision=precision, model=RESNET8)
    before = [tensor.clone() for tensor in built.network.moved if tensor is not built.network.gradients]
    gradients = gradients_of(built)
    here = gradients.again()
    there = gradients.again(built.network.weights * 1.1)
    assert not torch.equal(here, there)
    assert torch.equal(here, gradients.again())
    assert equal(before, [tensor for tensor in built.network.moved if tensor is not built.network.gradients])
    assert built.network.gradients.count_nonzero() == 0


def test_the_state_of_a_rule_advances_once_an_update_and_a_stop_changes_nothing(trainer):
    built, straight = trainer("looking-adamw"), trainer("looking-adamw")
    for _ in range(3):
        built.step()
        assert built.program.optimizer.kept
    assert built.program.optimizer._steps == 3
    assert {int(norm.steps) for norm in built.network.norms} == {3}
    resumed = trainer("looking-adamw")
    resumed.restore([built.snapshot(0)])
    for number in range(6):
        straight.step()
        if number >= 3:
            resumed.step()
    assert torch.equal(straight.network.weights, resumed.network.weights)


def test_the_gradients_of_workers_have_the_batchs_for_their_mean_and_its_statistics(trainer):
    built, plain = trainer(micro_batch_size=5), trainer(micro_batch_size=5)
    gradients, whole = gradients_of(built), gradients_of(plain)
    by_worker = [worker.again() for worker in gradients.by_worker(2)]
    torch.testing.assert_close(sum(by_worker) / 2, whole.again(), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(by_worker[0], by_worker[1])
    assert torch.equal(gradients.passed.loss(), whole.passed.loss())
    for network in (built.network, plain.network):
        network.commit_norms()
    assert equal(statistics(built), statistics(plain))


def test_a_worker_is_a_batch_of_its_own(trainer):
    built = trainer(micro_batch_size=5)
    second = gradients_of(built).by_worker(4)[1]
    alone = built.program.gradients(None, [built.feed.piece(5, 5)])
    torch.testing.assert_close(second.again(), alone, rtol=1e-5, atol=1e-7)


def test_what_cannot_be_dealt_out_evenly_or_was_not_asked_for_is_refused(trainer):
    gradients = gradients_of(trainer(micro_batch_size=5))
    with pytest.raises(TrainingError, match="4 micro-batches cannot be dealt to 3 workers in equal shares"):
        gradients.by_worker(3)
    gradients.by_worker(2)[0].again()
    with pytest.raises(TrainingError, match="without asking for the gradients of all of its micro-batches"):
        gradients.passed.loss()


def test_fresh_examples_are_others_at_every_call_and_the_same_again(trainer):
    built = trainer(micro_batch_size=10)
    first = gradients_of(built)
    own, *fresh = first.again(), first.again(fresh=True), first.again(fresh=True)
    other_update = gradients_of(built, 1).again(fresh=True)
    rows = [own, *fresh, other_update]
    assert not any(torch.allclose(one, other) for position, one in enumerate(rows) for other in rows[:position])
    assert torch.equal(gradients_of(built).again(fresh=True), fresh[0])
    assert list(first.passed.losses) == [0, 1]  # of the update's own micro-batches alone


def test_a_rule_that_asks_again_is_recorded_like_any_other(trainer):
    plain, ours = trainer("extragradient"), trainer("extragradient", make=functools.partial(PreparedProgram, graphs=EmulatedGraphs()))
    ours.prepare()
    assert (ours.program.kind, ours.program.refused) == ("graph", ())
    advance(5, ours, plain)
    torch.testing.assert_close(ours.network.weights, plain.network.weights, rtol=1e-4, atol=1e-5)
    recorded = UpdateGradients(ours.program, 0, list(ours.feed.micro_batches(0, 20)), None, observe=False)
    with pytest.raises(TrainingError, match="a recorded update does not ask"):
        recorded.again(fresh=True)


def test_clipping_is_of_the_gradient_that_the_step_is_made_from(trainer):
    built = trainer("extragradient", clip_norm=0.01)
    start = built.network.weights.clone()
    built.step()
    assert float((built.network.weights - start).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)
