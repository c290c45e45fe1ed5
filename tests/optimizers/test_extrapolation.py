"""Extrapolation by what theory says of it on functions of a few weights, in float64: stability, smoothing, equalities, fixed points."""

import pytest
import pytorch_optimizer
import torch

from gapbench.core.errors import TrainingError
from gapbench.layers.rows import Columns
from gapbench.optimizers import Extrapolated, FlatBuffers, Gradients, Hyperparameters, Optimizer
from gapbench.optimizers.sgd import SGD
from gapbench.suite.runspec import Extrapolation


class Toy(Gradients):
    """Gradients of some workers, each a function of weights [replica, parameters] and the number of the batch."""

    def __init__(self, walk, functions):
        self.walk = walk
        self.functions = functions

    def again(self, weights=None, *, fresh=False, into=None):
        self.walk.made += 1
        batch = 1000 + self.walk.update if fresh else self.walk.update
        place = self.walk.weights if weights is None else weights
        rows = torch.stack([function(place, batch) for function in self.functions]).mean(dim=0)
        return rows if into is None else into.copy_(rows)

    def by_worker(self, workers):
        assert workers == len(self.functions)
        return tuple(Toy(self.walk, [function]) for function in self.functions)


class Walk:
    """SGD of extrapolated gradients; no direction: at the present weights."""

    def __init__(self, weights, functions, direction=None, *, step=0.1, momentum=0.0, nesterov=False, noise=pytest.fail, **rule):
        self.weights, self.update, self.made, self.functions, self.momentum, self.step = weights, 0, 0, functions, momentum, step
        gradients, tensors = torch.zeros_like(weights), (Columns("all", 0, weights.shape[1], (weights.shape[1],)),)
        buffers = FlatBuffers(weights, gradients, weights.shape[1], tensors)
        self.optimizer = SGD(buffers, {"nesterov": nesterov}, shared=True)
        self.extrapolated = None
        if direction is not None:
            fields = {"schedule": "constant", "workers": len(functions), "until": 1.0, **rule}
            self.extrapolated = Extrapolated(self.optimizer, Extrapolation(direction=direction, step=step, **fields), noise)

    def go(self, updates, rate):
        now = [Hyperparameters(rate, 0.0, self.momentum)] * len(self.weights)
        for _ in range(updates):
            before = self.weights.clone()
            if self.extrapolated is None:
                self.optimizer.gather(Toy(self, self.functions), now)
            else:
                self.extrapolated.gather(Toy(self, self.functions), self.update, [self.step] * len(self.weights))
            assert torch.equal(self.weights, before)
            self.optimizer.update(now)
            self.update += 1
        return self.weights


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def noisy(curvature, cubic, worker):
    """A worker's gradient: linear in the weights but for a cubic term of the loss, plus noise of its own in every batch."""

    def gradient(weights, batch):
        noise = draw(weights.shape[1], seed=10_000 + 100 * batch + worker)
        return curvature * weights + cubic * weights**2 + noise

    return gradient


def radius(rate, step, momentum):
    """Spectral radius of an update of past-local extrapolation on w^2 / 2: its rows are images of the unit vectors of its state."""
    unit = torch.eye(3, dtype=torch.float64)
    walk = Walk(unit[:, :1].clone(), [lambda w, _: w], "past-local" if step else None, step=step or 1.0, momentum=momentum, nesterov=True)
    velocity = walk.optimizer.state["momentum_buffer"]
    velocity.copy_(unit[:, 1:2] * (momentum > 0))
    past = walk.extrapolated.past[0] if step else torch.zeros(3, 1, dtype=torch.float64)
    past.copy_(unit[:, 2:])
    walk.go(1, rate)
    image = torch.cat([walk.weights, velocity, past if step else torch.zeros_like(past)], dim=1)
    return float(torch.linalg.eigvals(image).abs().max())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("step", [0.0, 0.1, 0.25, 0.5])
def test_past_gradients_lower_the_largest_stable_rate_to_that_of_theory(momentum, step):
    largest = 2 * (1 + momentum) * (1 - step) / (1 + 2 * momentum)
    if momentum == 0.9:
        assert largest == pytest.approx({0.0: 1.3571, 0.1: 1.2214, 0.25: 1.0179, 0.5: 0.6786}[step], abs=1e-4)
    if momentum == 0.0 and step > largest:  # then another root leaves the circle first
        largest = min(largest, 1.0)
    assert radius(largest * (1 - 1e-6), step, momentum) < 1.0 < radius(largest * (1 + 1e-6), step, momentum)


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("nesterov", [False, True])
def test_local_is_global_on_a_quadratic_and_of_one_worker_and_not_on_a_cubic(workers, nesterov):
    curvature = draw(6).abs()
    for cubic in (0.0, 0.2):
        functions = [noisy(curvature, cubic, worker) for worker in range(workers)]
        local = Walk(draw(1, 6), functions, "past-local", momentum=0.9, nesterov=nesterov).go(8, 0.02)
        mean = Walk(draw(1, 6), functions, "past-global", momentum=0.9, nesterov=nesterov, workers=1).go(8, 0.02)
        if cubic and workers > 1:
            assert (local - mean).abs().max() > 1e-6
        else:
            torch.testing.assert_close(local, mean, rtol=0.0, atol=1e-12)


def test_local_is_centred_and_global_together():
    functions = [noisy(draw(6).abs(), 0.2, worker) for worker in range(4)]
    paths = {which: Walk(draw(1, 6), functions, f"past-{which}") for which in ("local", "centered")}
    for path in paths.values():
        path.go(1, 0.1)  # the first update has no past, and is the same everywhere
    assert torch.equal(paths["local"].weights, Walk(draw(1, 6), functions).go(1, 0.1))
    own = paths["local"].extrapolated
    mean, asked = own.past.mean(dim=0), Toy(paths["local"], functions)
    centred = torch.stack([paths["centered"].extrapolated._direction(asked, number, 1, mean) for number in range(4)])
    torch.testing.assert_close(centred - mean, -own.past, rtol=0.0, atol=1e-15)
    assert all((path.go(1, 0.1) - Walk(draw(1, 6), functions).go(2, 0.1)).abs().max() > 1e-6 for path in paths.values())


def test_torchs_nesterov_is_sutskevers_with_past_gradients_at_a_constant_rate():
    functions, rate, momentum, step = [noisy(draw(6).abs(), 0.2, worker) for worker in range(3)], 0.02, 0.9, 0.1
    ours = Walk(draw(1, 6), functions, "past-local", step=step, momentum=momentum, nesterov=True)
    weights, velocity, past = draw(1, 6), torch.zeros(1, 6, dtype=torch.float64), [torch.zeros(1, 6, dtype=torch.float64)] * 3
    for batch in range(6):
        past = [function(weights + momentum * velocity - step * own, batch) for function, own in zip(functions, past, strict=True)]
        velocity = momentum * velocity - rate * sum(past) / 3
        weights = weights + velocity
    # Torch keeps the weights at which Sutskever's form looks.
    torch.testing.assert_close(ours.go(6, rate), weights + momentum * velocity, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("direction", ["same-batch", "fresh-local"])
def test_an_extragradient_step_has_its_factor(direction):
    curvature, start = draw(6).abs(), draw(1, 6)
    walk = Walk(start.clone(), [lambda w, _: curvature * w], direction, step=0.3)
    expected = start * (1 - 0.2 * curvature * (1 - 0.3 * curvature)) ** 5
    torch.testing.assert_close(walk.go(5, 0.2), expected, rtol=1e-14, atol=0.0)
    assert walk.made == 10


def test_gaussian_noise_smooths_a_quartic():
    numbers, deviation, weight = 400_000, 0.5, 1.3
    walk = Walk(
        torch.full((1, numbers), weight, dtype=torch.float64), [lambda w, _: w**3], "gauss", step=deviation,
        noise=lambda number: draw(1, numbers, seed=number),
    )  # fmt: skip
    walk.go(1, 0.0)
    gradients = walk.optimizer.buffers.gradients
    error = float(gradients.std()) / numbers**0.5
    assert float(gradients.mean()) - weight**3 == pytest.approx(3 * deviation**2 * weight, abs=4 * error)
    assert walk.made == 1


def test_noise_of_tensors_is_as_large_as_their_weights():
    start = draw(1, 50)
    walk = Walk(start.clone(), [lambda w, _: w - start], "uniform", step=0.1, scale="tensor", noise=lambda _: torch.ones_like(start))
    walk.go(1, 0.0)
    torch.testing.assert_close(walk.optimizer.buffers.gradients, torch.full_like(start, 0.1) * start.square().mean().sqrt())


def test_sam_ends_in_its_cycle_of_two():
    walk = Walk(torch.tensor([[1.0], [-0.7]], dtype=torch.float64), [lambda w, _: w], "sam", step=0.1)
    walk.go(200, 0.5)
    first = walk.weights.clone()
    torch.testing.assert_close(first.abs(), torch.full_like(first, 0.5 * 0.1 / (2 - 0.5)), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(walk.go(1, 0.5), -first)
    assert walk.made == 402


def test_sam_is_that_of_pytorch_optimizer():
    gradient = noisy(draw(6).abs(), 0.2, 0)
    walk = Walk(draw(1, 6), [gradient], "sam", step=0.05, momentum=0.9)
    parameter = draw(1, 6).requires_grad_()
    theirs = pytorch_optimizer.SAM([parameter], torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
    for batch in range(5):
        parameter.grad = gradient(parameter.detach(), batch)
        theirs.first_step(zero_grad=True)
        parameter.grad = gradient(parameter.detach(), batch)
        theirs.second_step(zero_grad=True)
    torch.testing.assert_close(walk.go(5, 0.1), parameter.detach(), rtol=1e-9, atol=1e-9)


def test_along_the_momentum_it_looks_a_fixed_length_ahead_at_the_price_of_sgd():
    functions = [noisy(draw(6).abs(), 0.2, 0)]
    walk, seen = Walk(draw(1, 6), functions, "momentum", step=2.0, momentum=0.9), []
    walk.functions = [lambda w, batch: seen.append(w.clone()) or functions[0](w, batch)]
    walk.go(1, 0.1)
    before, momentum = walk.weights.clone(), walk.optimizer.state["momentum_buffer"].clone()
    walk.go(1, 0.1)
    assert torch.equal(seen[0], draw(1, 6))  # there is no momentum yet
    torch.testing.assert_close(seen[1], before - 2.0 * momentum / momentum.norm())
    assert walk.made == len(seen) == 2


class Plain(Optimizer):
    """No momentum."""

    state_names = ()

    def move(self, tile, hyperparameters):
        tile.weights.sub_(tile.gradients)


class Asking(Plain):
    """Gathers gradients itself."""

    def gather(self, gradients, hyperparameters):
        gradients.again(into=self.buffers.gradients)


@pytest.mark.parametrize(("kind", "message"), [(Asking, "this one asks for others"), (Plain, "needs an optimizer that keeps one")])
def test_optimizers_that_cannot_be_wrapped_are_refused(kind, message):
    optimizer = kind(FlatBuffers(torch.zeros(1, 4), torch.zeros(1, 4), 4), {}, shared=True)
    rule = Extrapolation(direction="momentum", step=0.1, schedule="constant", workers=1, until=1.0)
    with pytest.raises(TrainingError, match=message):
        Extrapolated(optimizer, rule, pytest.fail)
