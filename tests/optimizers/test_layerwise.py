"""LARS and LAMB on flat rows against slow rules on separate tensors, against pytorch_optimizer, and by what defines them."""

import itertools

import pytest
import pytorch_optimizer
import torch

from gapbench.catalog import check_options, optimizers
from gapbench.layers.rows import Columns
from gapbench.optimizers import FlatBuffers, Hyperparameters
from gapbench.optimizers.lamb import LAMB
from gapbench.optimizers.lars import LARS

TENSORS = (Columns("kernel", 0, 24, (2, 3, 2, 2)), Columns("matrix", 32, 44, (3, 4)), Columns("bias", 48, 51, (3,)))
DECAYED, WIDTH = 48, 64
KINDS = {"lars": LARS, "lamb": LAMB}
WARMUP = [0.125, 0.25, 0.375, 0.5, 0.25, 0.0625]


class Path:
    """Weights of some replicas that a rule moves by gradients that depend on the replica's seed and the update alone, in float64."""

    def __init__(self, name, seeds=(0,), *, shared=True, weights=None, **options):
        resolved, problems = check_options(optimizers()[name].parameters, options, owner=name)
        assert not problems
        self.seeds = seeds
        self.weights = torch.stack([draw(seed) for seed in seeds]) if weights is None else weights
        self.gradients = torch.zeros_like(self.weights)
        buffers = FlatBuffers(self.weights, self.gradients, DECAYED, TENSORS)
        self.optimizer = KINDS[name](buffers, resolved, shared=shared)
        self.made = 0

    def go(self, rates=WARMUP, *, scale=1.0, on_device=False, **hyperparameters):
        for rate in rates:
            self.gradients.copy_(torch.stack([draw(1000 * seed + self.made + 1) for seed in self.seeds]) * scale)
            rows = [hyperparameters_at(rate / (1 + seed), **hyperparameters) for seed in self.seeds]
            kept = self.gradients.clone()
            self.optimizer.update(Hyperparameters.on_device(rows, dtype=torch.float64) if on_device else rows)
            assert torch.equal(self.gradients, kept)  # probes look at them afterwards
            self.made += 1
        return self.weights


def hyperparameters_at(rate, *, decay=0.0, momentum=0.9):
    return Hyperparameters(rate, decay, momentum)


def draw(seed):
    row = torch.zeros(WIDTH, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for tensor in TENSORS:
        row[tensor.start : tensor.stop] = torch.randn(tensor.stop - tensor.start, dtype=torch.float64, generator=generator)
    return row


def parts(row):
    """The tensors of a row, each in its shape."""
    return [row[tensor.start : tensor.stop].clone().view(tensor.shape) for tensor in TENSORS]


def same(row, tensors, tolerance=1e-12):
    """Whether a row holds these tensors, to so much of the largest number."""
    return all((one - other).abs().max() <= tolerance * other.abs().max() for one, other in zip(parts(row), tensors, strict=True))


def theirs(kind, decay_of_bias, rates=WARMUP, **options):
    """What another library's optimizer makes of the path of seed 0."""
    tensors = [tensor.requires_grad_() for tensor in parts(draw(0))]
    decay = options.pop("weight_decay")
    optimizer = kind([{"params": tensors[:2], "weight_decay": decay}, {"params": tensors[2:], "weight_decay": decay_of_bias}], **options)
    for update, rate in enumerate(rates, 1):
        for tensor, gradient in zip(tensors, parts(draw(update)), strict=True):
            tensor.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return [tensor.detach() for tensor in tensors]


# Slow rules: a tensor at a time, as the papers have them. timm 1.0.31 is equal to them, with its defaults, to the last digits.


def slow_lars(*, decay, adapt, rate_inside, decay_inside, clip, epsilon, nesterov, trust=0.001, momentum=0.9):
    weights = parts(draw(0))
    velocities = [torch.zeros_like(tensor) for tensor in weights]
    for update, rate in enumerate(WARMUP, 1):
        for position, gradient in enumerate(parts(draw(update))):
            w, own = weights[position], decay if position < 2 else 0.0
            ratio = 1.0
            if w.ndim > 1 or adapt == "all":
                ratio = trust * w.norm() / (gradient.norm() + (own * w.norm() if decay_inside else 0.0) + epsilon)
                ratio = min(ratio / rate, 1.0) if clip else ratio
            d = ratio * (gradient + own * w) if decay_inside else ratio * gradient + own * w
            velocities[position] = v = momentum * velocities[position] + (rate * d if rate_inside else d)
            moved = (rate * d if rate_inside else d) + momentum * v if nesterov else v
            weights[position] = w - (moved if rate_inside else rate * moved)
    return weights


def slow_lamb(*, decay, adapt, correction, decay_inside, phi_min, phi_max, ratio_max, epsilon=1e-6, betas=(0.9, 0.999)):
    weights = parts(draw(0))
    moments = [[torch.zeros_like(tensor), torch.zeros_like(tensor)] for tensor in weights]
    for update, rate in enumerate(WARMUP, 1):
        for position, gradient in enumerate(parts(draw(update))):
            w, own = weights[position], decay if position < 2 else 0.0
            m, s = moments[position]
            m.copy_(betas[0] * m + (1 - betas[0]) * gradient)
            s.copy_(betas[1] * s + (1 - betas[1]) * gradient**2)
            first, second = (1 - beta**update if correction == "moments" else 1.0 for beta in betas)
            r = (m / first) / ((s / second).sqrt() + epsilon)
            if decay_inside:
                r = r + own * w
            else:
                w = w * (1 - rate * own)
            step = rate / (1 - betas[0] ** update) if correction == "rate" else rate
            ratio = 1.0
            if w.ndim > 1 or adapt == "all":
                ratio = min(max(w.norm(), phi_min), phi_max or float("inf")) / r.norm()
                ratio = min(ratio, ratio_max) if ratio_max else ratio
            weights[position] = w - step * ratio * r
    return weights


@pytest.mark.parametrize("rate", ["inside", "outside"])
@pytest.mark.parametrize("decay", ["inside", "outside"])
@pytest.mark.parametrize(("adapt", "nesterov"), [("matrices", False), ("all", False), ("matrices", True)])
@pytest.mark.parametrize(("clip", "epsilon"), [(False, 0.0), (False, 1e-8), (True, 1e-8)])
def test_lars_is_the_rule_of_the_paper_with_its_options(rate, decay, adapt, nesterov, clip, epsilon):
    path = Path("lars", rate=rate, decay=decay, adapt=adapt, clip_to_rate=clip, epsilon=epsilon, nesterov=nesterov)
    slow = slow_lars(
        decay=0.01, adapt=adapt, rate_inside=rate == "inside", decay_inside=decay == "inside", clip=clip, epsilon=epsilon, nesterov=nesterov
    )
    assert same(path.go(decay=0.01)[0], slow)


@pytest.mark.parametrize("correction", ["moments", "rate", "none"])
@pytest.mark.parametrize("decay", ["inside", "outside"])
@pytest.mark.parametrize("adapt", ["matrices", "all"])
@pytest.mark.parametrize("limits", [{}, {"phi_max": 3.5}, {"phi_min": 4.0}, {"ratio_max": 1.0}])
def test_lamb_is_the_rule_of_the_paper_with_its_options(correction, decay, adapt, limits):
    path = Path("lamb", bias_correction=correction, decay=decay, adapt=adapt, **limits)
    bounds = {"phi_min": 0.0, "phi_max": 0.0, "ratio_max": 0.0, **limits}
    slow = slow_lamb(decay=0.01, adapt=adapt, correction=correction, decay_inside=decay == "inside", **bounds)
    assert same(path.go(decay=0.01)[0], slow)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_with_the_rate_outside_is_that_of_pytorch_optimizer(nesterov):
    path = Path("lars", rate="outside", nesterov=nesterov)
    assert same(path.go(decay=0.01)[0], theirs(pytorch_optimizer.LARS, 0.0, weight_decay=0.01, momentum=0.9, nesterov=nesterov))


@pytest.mark.parametrize(("debias", "correction"), [(True, "none"), (False, "rate")])
@pytest.mark.parametrize(("decouple", "decay"), [(False, "inside"), (True, "outside")])
def test_lamb_of_all_tensors_with_phi_to_ten_is_that_of_pytorch_optimizer(debias, correction, decouple, decay):
    # Theirs adds epsilon to the ratio's denominator, too.
    path = Path("lamb", adapt="all", bias_correction=correction, decay=decay, phi_max=10.0, epsilon=0.0)
    other = theirs(pytorch_optimizer.Lamb, 0.0, weight_decay=0.01, weight_decouple=decouple, adam_debias=debias, eps=0.0)
    assert same(path.go(decay=0.01)[0], other)


@pytest.mark.parametrize(("name", "options"), [("lars", {"trust_coefficient": 1.0}), ("lamb", {"epsilon": 0.0})])
def test_a_loss_times_a_number_makes_the_same_steps(name, options):
    paths = [Path(name, **options, adapt="all").go(scale=scale)[0] for scale in (1.0, 1000.0)]
    assert same(paths[1], parts(paths[0]))


def test_a_step_of_lamb_is_the_rate_times_the_norm_of_the_weights():
    path = Path("lamb")
    for rate in WARMUP:
        before = parts(path.weights[0])
        after = parts(path.go([rate], decay=0.01)[0])
        for old, new in list(zip(before, after, strict=True))[:2]:
            assert float((new - old).norm() / old.norm()) == pytest.approx(rate, rel=1e-14)
        assert float((after[2] - before[2]).norm() / before[2].norm()) != pytest.approx(rate, rel=1e-3)


def test_without_decay_and_epsilon_bias_correction_changes_nothing():
    paths = [Path("lamb", adapt="all", epsilon=0.0, bias_correction=correction).go()[0] for correction in ("moments", "none")]
    assert same(paths[1], parts(paths[0]))


def test_the_rate_inside_of_the_velocity_is_the_rate_outside_only_while_it_stays():
    constant, warmup = (
        [Path("lars", rate=rate, trust_coefficient=1.0).go(rates)[0] for rate in ("inside", "outside")] for rates in ([0.25] * 6, WARMUP)
    )
    assert same(constant[0], parts(constant[1]))
    assert (warmup[0] - warmup[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", KINDS)
def test_tensors_of_zeros_and_gradients_of_zeros_have_the_ratio_one(name):
    path = Path(name, adapt="all", weights=torch.zeros(1, WIDTH, dtype=torch.float64))
    first = path.go([0.5])[0]
    step = draw(1) if name == "lars" else draw(1) / (draw(1).abs() + 1e-6)
    torch.testing.assert_close(first, -0.5 * step)
    still = Path(name, adapt="all")
    before = still.weights.clone()
    assert torch.equal(still.go([0.5], scale=0.0), before)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("on_device", [False, True])
def test_replicas_of_a_stack_move_as_each_does_alone(name, on_device):
    together = Path(name, (0, 1, 2), shared=False).go(decay=0.01, on_device=on_device)
    for row, seed in enumerate((0, 1, 2)):
        assert torch.equal(together[row], Path(name, (seed,)).go(decay=0.01)[0])


@pytest.mark.parametrize("name", KINDS)
def test_a_stopped_path_goes_on_bit_by_bit_in_another_stack(name):
    straight, stopped = Path(name, (0, 1), shared=False), Path(name, (0, 1), shared=False)
    straight.go(decay=0.01)
    stopped.go(WARMUP[:3], decay=0.01)
    resumed = Path(name, (1,), weights=stopped.weights[1:].clone())
    resumed.optimizer.restore(0, stopped.optimizer.snapshot(1, 3))
    resumed.made = 3
    assert torch.equal(resumed.go(WARMUP[3:], decay=0.01)[0], straight.weights[1])


@pytest.mark.parametrize(("which", "expected"), [("matrices", [1, 1, 0]), ("decayed", [1, 1, 0]), ("all", [1, 1, 1])])
def test_tensors_are_chosen_by_dimensions_or_by_decay(which, expected):
    assert Path("lars", adapt=which).optimizer._adapted.int().tolist() == expected


def test_padding_stays_zero():
    for name in KINDS:
        weights = Path(name, adapt="all", epsilon=0.0).go(decay=0.01)[0]
        for tensor, following in itertools.pairwise([*TENSORS, Columns("end", WIDTH, WIDTH)]):
            assert not weights[tensor.stop : following.start].any()
