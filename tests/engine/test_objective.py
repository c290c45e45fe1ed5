"""The objective against plain torch, and that training with it goes where training without it goes, bit by bit."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, jacrev

from gapbench.catalog import plugins
from gapbench.core.errors import TrainingError
from gapbench.core.events import Measured
from gapbench.engine import train
from gapbench.layers.keyed import Dropout
from gapbench.suite.runspec import Component
from tests.engine.runs import advance, make_trainer
from tests.small import make_pool, make_spec

CPU = torch.device("cpu")
SMALL = Component(name="mlp", options={"widths": [5], "norm": "batch", "bias": False})
MODELS = {
    "mlp": Component(name="mlp", options={"widths": [16, 16], "norm": "batch", "bias": False}),
    "plain": Component(name="mlp", options={"widths": [8], "norm": "none", "bias": True}),
    "resnet": Component(name="resnet", options={"depth": 8}),
}


def trainer_of(replicas=1, probes=None, micro_batch_size=None, updates=3, **changes):
    data = changes.pop("data", None) or make_pool(height=8, channels=3)
    specs = [make_spec(seed=seed, **changes) for seed in range(replicas)]
    trainer = make_trainer(
        specs,
        data,
        probes=probes or {},
        objective=True,
        micro_batch_size=micro_batch_size,
    )
    advance(updates, trainer)
    return trainer


def plain_loss(trainer, indices, group):
    """Returns f(parameters by name) of an unstacked trainer: the mean over groups of the loss of each, by torch's own batch norm."""
    module, feed = trainer.network.module, trainer.feed
    batches = [feed.evaluation_batch(part[None]) for part in indices[0].split(group)]

    def loss(parameters):
        total = 0.0
        for data in batches:
            module.train()
            logits = functional_call(module, parameters, (data.images[0],))
            for norm in trainer.network.norms:
                norm.forget_pending()
            total = total + F.cross_entropy(logits, data.labels[0], reduction="sum")
        return total / indices.shape[1]

    return loss


@pytest.mark.parametrize("model", ["resnet", "dropping"])
def test_loss_and_gradient_are_those_of_plain_torch(model):
    changes = {"model": MODELS["resnet"]} if model == "resnet" else {"model": own_model()}
    trainer = trainer_of(ghost_batch_size=5, **changes)
    objective = trainer.program.objective
    batch = objective.fixed(40)
    for layer in trainer.network.module.modules():
        # Fixed examples are not dropped out; those of the plain loop would be.
        if isinstance(layer, Dropout):
            layer.probability = 0.0
        elif isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    loss = plain_loss(trainer, batch.indices, 5)
    parameters = {name: tensor.detach() for name, tensor in trainer.network.module.named_parameters()}
    assert objective.loss(batch).item() == pytest.approx(loss(parameters).item(), rel=1e-5)
    found = trainer.network.views(objective.gradient(batch))
    wanted = grad(loss)(parameters)
    for name, piece in zip(trainer.network.names, found, strict=True):
        torch.testing.assert_close(piece, wanted[name], rtol=1e-4, atol=1e-5)


def own_model():
    """A model with dropout and torch's own dropout, batch norm between."""

    @plugins.model(name="dropping")
    def dropping(input_shape, classes):
        features = input_shape[0] * input_shape[1] * input_shape[2]
        layers = [torch.nn.Flatten(), torch.nn.Linear(features, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), Dropout(0.5)]
        return torch.nn.Sequential(*layers, torch.nn.Dropout(0.2), torch.nn.Linear(6, classes))

    return Component(name="dropping")


@pytest.fixture(autouse=True)
def plugins_are_importable(monkeypatch):
    """`own_model` registers a function inside a function, which only the workers could not import."""
    from gapbench.catalog import plugins
    from gapbench.engine import trainer

    made = {}
    add = plugins.add

    def add_component(registry, entry_type, component, summary, **facts):
        made[facts["name"]] = component
        add(registry, entry_type, component, target=f"own:{facts['name']}", summary="own", **facts)

    monkeypatch.setattr(plugins, "add_component", add_component)
    load = trainer.load_target
    monkeypatch.setattr(trainer, "load_target", lambda target: made[target[4:]] if target.startswith("own:") else load(target))


@pytest.mark.parametrize("norm", ["train", "running"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_hessian_product_is_the_exact_hessian_times_the_vector(pool, norm, replicas):
    trainer = trainer_of(replicas, model=SMALL, ghost_batch_size=5, data=pool(height=3))
    objective, network = trainer.program.objective, trainer.network
    batch = objective.fixed(20, norm=norm)
    data = trainer.feed.evaluation_batch(batch.indices)
    vector = torch.randn(network.weights.shape, generator=torch.Generator().manual_seed(0))
    product = objective.hessian_product(batch, vector)
    layer = network.norms[0]
    shapes = [parameter.shape[1:] if network.stacked else parameter.shape for parameter in network.parameters]

    for replica in range(replicas):
        running = [tensor[replica].double() for tensor in (layer.running_mean, layer.running_var)]
        left = 0.9 ** int(layer.steps)
        moving = running[0] / (1 - left), (running[1] - left) / (1 - left)

        def loss(row, replica=replica, moving=moving):
            """The network written out, in float64: linear, batch norm in groups of 5, ReLU, linear."""
            named = {
                name: row[item.start : item.stop].view(shape)
                for name, item, shape in zip(network.names, network.layers, shapes, strict=True)
            }
            first, scale, shift, last, bias = (
                named[name] for name in ("linear1.weight", "norm1.weight", "norm1.bias", "output.weight", "output.bias")
            )
            hidden = data.images[replica].double().flatten(1) @ first.T
            groups = hidden.view(4, 5, -1)
            mean, variance = (groups.mean(1, keepdim=True), groups.var(1, unbiased=False, keepdim=True)) if norm == "train" else moving
            hidden = ((groups - mean) * torch.rsqrt(variance + 1e-5) * scale + shift).flatten(0, 1)
            return F.cross_entropy(hidden.relu() @ last.T + bias, data.labels[replica])

        row = network.weights[replica].double()
        assert objective.loss(batch)[replica].item() == pytest.approx(loss(row).item(), rel=1e-5)
        wanted = jacrev(jacrev(loss))(row) @ vector[replica].double()
        torch.testing.assert_close(product[replica].double(), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
        slope = grad(loss)(row)
        torch.testing.assert_close(objective.gradient(batch)[replica].double(), slope, rtol=1e-3, atol=1e-5)


def test_results_depend_on_no_chunk_and_no_stack():
    whole = trainer_of(2, ghost_batch_size=5)
    objective = whole.program.objective
    cut = objective.at(objective.update)
    cut._chunk = 7  # one norm group at a time
    alone = trainer_of(1, ghost_batch_size=5)
    for norm in ("train", "running"):
        batch = objective.fresh(40, 0, norm=norm)
        ones = torch.ones_like(whole.network.weights)
        torch.testing.assert_close(cut.hessian_product(batch, ones), objective.hessian_product(batch, ones), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(cut.loss(batch), objective.loss(batch))
        torch.testing.assert_close(cut.gradient(batch), objective.gradient(batch), rtol=1e-4, atol=1e-6)
        single = alone.program.objective.fresh(40, 0, norm=norm)
        torch.testing.assert_close(alone.program.objective.loss(single)[0], objective.loss(batch)[0])


def test_the_parts_of_a_batch_make_the_batch():
    objective = trainer_of(ghost_batch_size=5).program.objective
    batch = objective.fresh(43, 0)
    assert batch.examples == 40  # whole norm groups
    parts = batch.split(15)
    assert [part.examples for part in parts] == [15, 15, 10]
    gradients = sum(objective.gradient(part) * part.examples for part in parts) / 40
    torch.testing.assert_close(gradients, objective.gradient(batch), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="cut a norm group of 5"):
        batch.split(7)


def test_fresh_examples_are_independent_draws_of_the_training_set():
    trainer = trainer_of(2, model=MODELS["plain"], crop_padding=1, flip=True)
    objective = trainer.program.objective
    drawn = torch.cat([objective.fresh(100, draw).indices[0] for draw in range(400)])
    counts = torch.bincount(drawn, minlength=100)
    assert len(counts) == 100  # of the training set, none of the test set
    assert ((counts - 400.0).square() / 400.0).sum() < 148  # chi-squared with 99 degrees of freedom: 0.999 quantile
    first, second = objective.fresh(100, 0), objective.fresh(100, 1)
    assert not torch.equal(first.indices, second.indices)
    assert not torch.equal(first.indices[0], first.indices[1])  # replicas of other seeds
    assert not torch.equal(first.indices, objective.at(7).fresh(100, 0).indices)
    assert not torch.equal(first.indices, objective.fresh(100, 0, purpose="other").indices)
    assert torch.equal(first.indices[:, :30], objective.fresh(30, 0).indices)
    assert len(first.indices[0].unique()) < 100  # with replacement
    twice = torch.full((2, 2), 5)
    images = trainer.feed.drawn_batch(twice, objective.fresh(50, 3).draws[:, [0, 1]]).images
    assert not torch.equal(images[:, 0], images[:, 1])  # an example that is drawn twice is augmented twice


def test_the_fixed_subset_is_the_same_for_every_run_of_a_split():
    runs = [trainer_of(replicas, batch_size=size) for replicas, size in ((2, 20), (1, 50))]
    first, second = (run.program.objective.fixed(50) for run in runs)
    assert first.indices[0].tolist() == first.indices[1].tolist()
    assert set(second.indices[0].tolist()) >= set(first.indices[0].tolist())
    assert runs[1].program.objective.fixed(10**9).examples == 100  # no more than there are
    assert (first.group, second.group) == (20, 50)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("model", "replicas", "micro"), [("mlp", 1, None), ("mlp", 3, None), ("mlp", 2, 10), ("resnet", 1, 10), ("own", 1, None)]
)
def test_probes_of_the_objective_leave_no_trace_in_training(model, replicas, micro, precision):
    component = own_model() if model == "own" else MODELS[model]
    changes = {"model": component, "ghost_batch_size": 5, "precision": precision, "crop_padding": 1, "flip": True, "clip_norm": 1.0}

    def curious(state):
        objective = state.objective
        ones = torch.ones_like(state.weights)
        for batch in (objective.fresh(20, 0), objective.fixed(20), objective.fixed(20, norm="running")):
            loss = objective.loss(batch, state.weights + 0.1)
            objective.gradient(batch)
            objective.hessian_product(batch, ones)
        return {"curious": loss}

    stages = {stage: [curious] for stage in ("micro-batch", "update", "evaluation", "checkpoint")}
    plain, probed = (trainer_of(replicas, updates=0, probes=probes, micro_batch_size=micro, **changes) for probes in ({}, stages))
    if probed.network._shadow is not None:
        assert precision == "bf16"
    probed._probes["checkpoint"][0](probed.program.untrained())
    for trainer in (plain, probed):
        trainer.probe_updates = frozenset(range(1, 31))
        for _ in range(5):
            # Both look at every update, so that both compute the same way.
            torch.manual_seed(trainer.update)
            state = trainer.step()
            for stage in ("update", "evaluation", "checkpoint"):
                trainer.probe(state, stage)
            if trainer.update == 3:
                trainer.evaluate()
    for replica in range(replicas):
        before, after = plain.snapshot(replica), probed.snapshot(replica)
        assert flat(before) == flat(after)
    assert all(module.training for module in probed.network.module.modules())


def flat(value):
    """Returns a snapshot without its clock, in a form that can be compared bit by bit."""
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items() if key != "seconds"}
    if isinstance(value, list):
        return [flat(item) for item in value]
    return value.contiguous().view(torch.uint8).tolist() if isinstance(value, torch.Tensor) and value.ndim else value


def test_bf16_runs_have_the_objective_of_their_fp32_weights():
    trainer = trainer_of(2, precision="bf16")
    other = trainer_of(2, updates=0)
    for replica in range(2):
        kept = trainer.network.snapshot(replica)
        other.network.restore(replica, kept)
    batch = trainer.program.objective.fixed(40)
    assert torch.equal(trainer.program.objective.loss(batch), other.program.objective.loss(batch))
    assert torch.equal(trainer.program.objective.gradient(batch), other.program.objective.gradient(batch))


def test_a_probe_that_does_not_declare_the_objective_is_told(spec, pool):
    def curious(state):
        return {"curious": state.objective.loss(state.objective.fixed(10))}

    data = pool()
    trainer = make_trainer([spec()], data, probes={"update": [curious]})
    with pytest.raises(TrainingError, match="needs_objective=True"):
        trainer.probe(trainer.step(), "update")


def test_a_declared_probe_gets_the_objective_also_before_the_first_update(spec, pool, split, tmp_path):
    (tmp_path / "own.py").write_text(
        "import gapbench\n"
        '@gapbench.probe(stage="checkpoint", needs_objective=True)\n'
        "def own_loss(state):\n"
        '    """Loss of fixed examples."""\n'
        '    return {"own_loss": state.objective.loss(state.objective.fixed(40))}\n'
    )
    plugins.load_plugins([tmp_path / "own.py"])
    events = []
    data = pool()
    wanted = spec(probes=("own_loss",), keep_weights=(0.0, 0.5, 1.0))
    train([wanted], data, [split(data)], device="cpu", emit=events.append, stop=lambda: None)
    found = {
        event.update: value for event in events if isinstance(event, Measured) for name, _, value in event.values if name == "own_loss"
    }
    assert list(found) == [0, 15, 30]
    assert found[30] < found[0]
