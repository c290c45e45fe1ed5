"""Components with one mistake each fail the check that is about it, with its remedy; those without pass."""

import re

import pytest

GOOD_MODEL = '''
@gapbench.model(name="own", stackable=True)
def own(input_shape, classes, *, width: int = 8) -> nn.Module:
    """Fine."""
    inputs = int(np.prod(input_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))
'''


def network(forward="return self.output(hidden)", extra="", decorator=""):
    """A model of our own class, with a mistake put in."""
    return f"""
class Network(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.hidden = nn.Linear(int(np.prod(input_shape)), 8)
        self.norm = nn.BatchNorm1d(8)
        self.output = nn.Linear(8, classes)
        self.classes = classes
        {extra}

    def forward(self, images):
        hidden = self.norm(self.hidden(images.flatten(1))).relu()
        {forward}

@gapbench.model(name="own"{decorator})
def own(input_shape, classes) -> nn.Module:
    return Network(input_shape, classes)
"""


def states(checks):
    return {name: check.state for name, check in checks.items()}


def test_good_models_pass(check):
    assert set(states(check(GOOD_MODEL)).values()) == {"pass", "does not apply"}
    assert set(states(check(network())).values()) == {"pass", "does not apply"}


MODELS = {
    "returns no module": (
        '@gapbench.model(name="own")\ndef own(input_shape, classes):\n    return 3\n',
        "builds",
        "returns int, not a torch.nn.Module",
    ),
    "is for one shape only and does not say so": (
        '@gapbench.model(name="own", needs_images=True)\ndef own(input_shape, classes):\n'
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))\n",
        "output shape",
        "for 8 x 8 x 1: RuntimeError",
    ),
    "is for images only and does not say so": (
        '@gapbench.model(name="own")\ndef own(input_shape, classes):\n    channels, height, width = input_shape\n'
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))\n",
        "builds",
        r"for 13 features and 3 classes: ValueError: not enough values to unpack .* \(own.py:11\)",
    ),
    "forgets the classes": (network("return hidden"), "output shape", r"it returns \[16, 8\], not \[16, 10\]"),
    "overflows": (network("return self.output(hidden) * 1e38 * 1e38"), "finite loss", "the first loss is (nan|inf)"),
    "has a parameter that it does not use": (
        network(extra="self.spare = nn.Linear(2, 2)"),
        "gradients everywhere",
        "spare.weight and spare.bias",
    ),
    "has a frozen parameter": (
        network(extra="self.hidden.weight.requires_grad_(False)"),
        "gradients everywhere",
        "hidden.weight does not require a gradient",
    ),
    "draws from another generator": (
        network("return self.output(hidden + torch.from_numpy(np.random.default_rng().random(8, dtype=np.float32)))"),
        "repeatable",
        "two trainings with one seed differ",
    ),
    "has norm that it does not declare": (network(decorator=", without_norm={}"), "batch norm as declared", "declared without batch norm"),
    "declares norm that it does not have": (
        '@gapbench.model(name="own")\ndef own(input_shape, classes):\n'
        "    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), classes))\n",
        "batch norm as declared",
        "declared with batch norm and has none",
    ),
    "goes round its norm layer": (
        network("return self.output(hidden) * (1.0 if type(self.norm) is nn.BatchNorm1d else 1.1)"),
        "ghost batch norm, one group",
        "outputs or gradients differ",
    ),
    "centers over the batch": (
        network("return self.output(hidden - (hidden.mean(0) if self.training else 0))"),
        "ghost batch norm, chunk by chunk",
        "groups of 8 in a batch of 16 give other outputs",
    ),
    "centers over the evaluation batch": (
        network("return self.output(hidden - (0 if self.training else hidden.mean(0)))"),
        "evaluation",
        "depend on the other examples",
    ),
    "is random in evaluation": (
        network("return self.output(hidden + (0 if self.training else torch.rand(8)))"),
        "evaluation",
        "evaluating twice gives two results",
    ),
    "counts evaluations in a buffer": (
        network("self.seen += 1; return self.output(hidden)", extra="self.register_buffer('seen', torch.zeros(()))"),
        "evaluation",
        "evaluating changes seen",
    ),
    "counts updates in an attribute": (
        network("self.calls += self.training; return self.output(hidden * (1 + 0.01 * self.calls))", extra="self.calls = 0"),
        "snapshot and restore",
        "a run that is resumed in the middle ends with other",
    ),
    "is declared stackable and is not": (
        network(decorator=", stackable=True"),
        "replicas",
        "declared stackable and is no plain nn.Sequential",
    ),
    "claims a layer of torch that computes otherwise": (
        "class Doubled(nn.Linear):\n    def forward(self, x):\n        return 2 * super().forward(x)\n"
        + GOOD_MODEL.replace("nn.Linear(width, classes)", "Doubled(width, classes)"),
        "replicas",
        "declared stackable",
    ),
}


@pytest.mark.parametrize(("text", "failing", "message"), MODELS.values(), ids=MODELS)
def test_a_model_that(check, text, failing, message):
    _fails(check(text), failing, message)


def test_a_dropout_layer_of_torch_is_a_warning(check):
    found = check(network("return self.output(self.drop(hidden))", extra="self.drop = nn.Dropout(0.5)"))
    assert found["dropout"].state == "warning"
    assert "fail" not in states(found).values()


def test_a_model_may_refuse_shapes_in_words(check):
    found = check(
        """
        from gapbench.core.errors import TrainingError

        @gapbench.model(name="own", without_norm={})
        def own(input_shape, classes):
            if len(input_shape) != 3 or input_shape[1] < 28:
                raise TrainingError("model own takes images of 28 x 28 or more")
            return nn.Sequential(nn.Conv2d(input_shape[0], 4, 28, stride=28), nn.Flatten(), nn.Linear(4, classes))
        """
    )
    assert found["builds"].text == "for 28 x 28 x 1 and 32 x 32 x 3; refuses 8 x 8 x 1 and 13 features in words"
    assert "fail" not in states(found).values()


def optimizer(move, state="()", extra=""):
    return f'''
@gapbench.optimizer(name="own", options={{"momentum": 0.0}})
class Own(Optimizer):
    """Own."""
    state_names = {state}
    {extra}

    def move(self, tile, hyperparameters):
        rate, decay = hyperparameters.learning_rate, hyperparameters.weight_decay
        gradients = tile.gradients + decay * tile.weights
        {move}
'''


COUNTING = """calls = 0

    def update(self, hyperparameters):
        self.calls += 1
        super().update(hyperparameters)
"""
GOOD_MOVE = "tile.weights.add_(gradients, alpha=-rate)"

OPTIMIZERS = {
    "is no optimizer": ('@gapbench.optimizer(name="own")\nclass Own: ...\n', "builds", "no subclass of gapbench.optimizers.Optimizer"),
    "names no state": (optimizer(GOOD_MOVE).replace("state_names = ()", ""), "builds", "state_names is no tuple"),
    "goes uphill": (optimizer("tile.weights.add_(gradients, alpha=rate)"), "downhill", "goes uphill"),
    "does not move": (optimizer("pass"), "downhill", "does not move"),
    "is random": (optimizer("tile.weights.add_(gradients * torch.rand(()), alpha=-rate)"), "repeatable", "two walks"),
    "has a rate of its own": (optimizer("tile.weights.add_(gradients, alpha=-0.01)"), "learning rate", "move at learning rate 0"),
    "takes only the sign of the rate": (
        optimizer("tile.weights.add_(gradients, alpha=-0.01 if rate else 0.0)"),
        "learning rate",
        "half the learning rate makes the same steps",
    ),
    "decays everything": (optimizer("tile.weights.add_(tile.gradients + 0.1 * tile.weights, alpha=-rate)"), "weight decay", "to be spared"),
    "decays upwards": (
        optimizer("tile.weights.add_(tile.gradients - decay * tile.weights, alpha=-rate)"),
        "weight decay",
        "makes weights grow",
    ),
    "normalizes over a tile": (
        optimizer("tile.weights.add_(gradients / gradients.norm().clamp_min(0.1), alpha=-rate)"),
        "replicas",
        "moves otherwise than alone",
    ),
    "keeps state in an attribute": (
        optimizer("tile.weights.add_(gradients, alpha=-rate / self.calls)", extra=COUNTING),
        "snapshot and restore",
        "resumed after 5 of 10 updates ends elsewhere",
    ),
}


@pytest.mark.parametrize(("text", "failing", "message"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_that(check, text, failing, message):
    _fails(check(text), failing, message)


def test_good_optimizers_pass(check):
    found = states(check(optimizer(GOOD_MOVE)))
    assert found.pop("on the device") == "does not apply"
    assert set(found.values()) == {"pass"}
    heavy_ball = 'tile.state["v"].mul_(hyperparameters.momentum).add_(gradients); tile.weights.add_(tile.state["v"], alpha=-rate)'
    assert states(check(optimizer(heavy_ball, state='("v",)'))) == {**found, "on the device": "does not apply"}


def test_a_rate_that_enters_the_velocity_is_named(check):
    own = 'tile.state["v"].mul_(hyperparameters.momentum).add_(gradients, alpha=rate); tile.weights.sub_(tile.state["v"])'
    found = check(optimizer(own, state='("v",)').replace('"momentum": 0.0', '"momentum": 0.9'))
    assert found["rate in the state"].state == "warning"
    assert "the learning rate enters its state (v)" in found["rate in the state"].text


TENSORS = "follows_device = elementwise = True"


@pytest.mark.parametrize(("of_all", "state"), [("rate", "pass"), ("(rate if isinstance(rate, float) else rate[0])", "fail")])
def test_a_step_with_tensors_is_held_to_that_with_numbers(check, of_all, state):
    found = check(optimizer(f"tile.weights.sub_({of_all} * gradients)", extra=TENSORS))["on the device"]
    assert found.state == state, found.text


TWICE = """def gather(self, gradients, hyperparameters):
        there = self.buffers.weights - 0.01 * gradients.again()
        gradients.again(there, into=self.buffers.gradients)
"""


@pytest.mark.parametrize(("declared", "state"), [("", "fail"), (", gradients_per_update=2", "pass")])
def test_the_gradients_of_an_update_are_counted(check, declared, state):
    found = check(optimizer(GOOD_MOVE, extra=TWICE).replace('{"momentum": 0.0}', f'{{"momentum": 0.0}}{declared}'))
    assert found["gradients"].state == state, found["gradients"].text
    assert {one.state for name, one in found.items() if name != "gradients"} <= {"pass", "does not apply"}


def test_a_rate_that_enters_the_velocity_is_warned_of(check):
    inside = "velocity = tile.state['v']; velocity.mul_(0.9).add_(gradients, alpha=rate); tile.weights.sub_(velocity)"
    found = check(optimizer(inside, state='("v",)'))["learning rate"]
    assert found.state == "warning"
    assert found.text.startswith("the rate enters the state: at rate 0 weights move on")


def test_a_rule_with_norms_of_tensors_passes_where_it_says_that_it_is_layerwise(check):
    move = "tile.weights.add_(gradients * (tile.weights.norm() / gradients.norm().clamp_min(1e-9)), alpha=-rate)"
    assert check(optimizer(move))["replicas"].remedy.endswith("says layerwise = True and gets each")
    found = states(check(optimizer(move, extra="layerwise = True")))
    assert set(found.values()) == {"pass", "does not apply"}


def test_an_optimizer_without_weight_decay_is_warned_of(check):
    found = check(optimizer("tile.weights.add_(tile.gradients, alpha=-rate)"))
    assert (found["weight decay"].state, found["weight decay"].text) == ("warning", "weight decay has no effect")


def dataset(body, decorator=""):
    return f'''
@gapbench.dataset(name="own", train_examples=40, test_examples=20, shape=(4, 4, 1), classes=3{decorator})
def own(context):
    """Own."""
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (60, 4, 4, 1), dtype=np.uint8), np.arange(60) % 3
    {body}
'''


GOOD_POOL = "return Pool(images, labels, classes=3, pixel_max=255.0, official_train=40)"

DATASETS = {
    "does not load": (
        dataset('return Pool(np.load("gone.npy"), labels, 3, 255.0, 40)'),
        "loads as declared",
        r"FileNotFoundError.*\(own.py:15\)",
    ),
    "has another shape than declared": (
        dataset(GOOD_POOL).replace("shape=(4, 4, 1)", "shape=(8, 8, 1)"),
        "loads as declared",
        "declared with shape",
    ),
    "has labels out of range": (dataset(GOOD_POOL.replace("labels", "labels + 1", 1)), "loads as declared", "labels run from 1 to 3"),
    "draws anew at every load": (
        dataset("images = np.random.default_rng().integers(0, 256, images.shape, dtype=np.uint8); " + GOOD_POOL),
        "same every time",
        "loading it twice gives two data sets",
    ),
    "exceeds its pixel_max": (
        dataset(GOOD_POOL.replace("255.0", "16.0"), decorator=", pixel_max=16.0"),
        "values",
        "above pixel_max = 16",
    ),
}


@pytest.mark.parametrize(("text", "failing", "message"), DATASETS.values(), ids=DATASETS)
def test_a_dataset_that(check, text, failing, message):
    _fails(check(text), failing, message)


def test_good_datasets_pass(check):
    assert set(states(check(dataset(GOOD_POOL))).values()) == {"pass"}
    found = check(dataset(GOOD_POOL.replace("official_train=40", "official_train=None"), decorator=', split="drawn"'))
    assert set(states(found).values()) == {"pass"}
    assert "drawn by the seed" in found["split by seed"].text


def test_copies_missing_classes_and_dark_images_are_warnings(check):
    found = check(dataset("images[40:45] = images[:5]; images = images // 255; labels = np.where(labels == 2, 1, labels); " + GOOD_POOL))
    assert [name for name, one in found.items() if one.state == "warning"] == ["labels", "values", "training and test apart"]
    assert "no training example of class 2" in found["labels"].text


def probe(body, decorator='stage="update"'):
    return f'@gapbench.probe({decorator})\ndef own(state):\n    """Own."""\n    {body}\n'


PROBES = {
    "raises": (probe("return {'own': state.nothing}"), "runs", r"AttributeError: .*nothing.* \(own.py:12\)"),
    "returns no mapping": (probe("return state.weights.norm(dim=1)"), "names", "returns Tensor, not metrics by name"),
    "returns another name": (probe("return {'other': state.weights.norm(dim=1)}"), "names", "it returns other, and is declared with own"),
    "leaves out a metric": (
        probe("return {'a': state.weights.norm(dim=1)}", 'stage="update", metrics=["a", "b"]'),
        "names",
        "it does not return b",
    ),
    "promises layers that it does not return": (
        probe("return {'own': state.weights.norm(dim=1)}", 'stage="update", per_layer=True'),
        "names",
        "returns no own/layer",
    ),
    "waits for the device": (probe("return {'own': state.weights.norm(dim=1).tolist()}"), "shapes", "own is list, not a tensor"),
    "mixes replicas": (probe("return {'own': state.weights.norm()}"), "shapes", r"own has shape \[\], not \[2\]"),
    "changes the weights": (probe("return {'own': state.weights.mul_(0.999).norm(dim=1)}"), "pure", "it changes weights of the state"),
    "is random": (probe("return {'own': state.weights.norm(dim=1) + torch.rand(len(state.weights))}"), "repeatable", "answers differently"),
    "averages over replicas": (
        probe("return {'own': state.weights.norm(dim=1).mean().expand(len(state.weights))}"),
        "replicas",
        "is not that of the run alone",
    ),
}


@pytest.mark.parametrize(("text", "failing", "message"), PROBES.values(), ids=PROBES)
def test_a_probe_that(check, text, failing, message):
    _fails(check(text), failing, message)


@pytest.mark.parametrize("stage", ["micro-batch", "update", "evaluation", "checkpoint"])
def test_good_probes_pass_at_every_stage(check, stage):
    body = "return {'own': state.gradients.norm(dim=1), 'own/layer': state.by_layer(state.gradients)}"
    assert set(states(check(probe(body, f'stage="{stage}", per_layer=True'))).values()) == {"pass"}


def test_a_probe_of_the_objective_conforms_with_its_options(check):
    text = """
        @gapbench.probe(stage="checkpoint", needs_objective=True, metrics=["own", "many"], vectors=["many"])
        def own(state, *, examples: int = 8):
            \"\"\"Own.\"\"\"
            batch = state.objective.fresh(examples, 0)
            many = torch.stack([state.objective.loss(part) for part in batch.split(batch.group)], dim=1)
            return {"own": state.objective.loss(batch), "many/bucket": many}
        """
    assert set(states(check(text)).values()) == {"pass"}
    assert set(states(check(text, examples="32")).values()) == {"pass"}


def test_a_probe_that_uses_the_objective_and_does_not_say_so_is_told(check):
    _fails(check(probe("return {'own': state.objective.loss(state.objective.fixed(8))}")), "runs", "needs_objective=True")


def test_values_that_are_not_finite_are_a_warning(check):
    assert check(probe("return {'own': state.weights.norm(dim=1) / 0}"))["finite"].state == "warning"


def regime(fields):
    return f'@gapbench.regime(name="own")\ndef own():\n    """Own."""\n    return {fields}\n'


def test_a_regime_that_trains_nothing_fails(check):
    _fails(check(regime('{"budget": {"kind": "updates", "factor": 1e-6}}')), "resolves", "make no update at batch size 8")


def test_a_regime_that_adapts_nothing_is_warned_of(check):
    found = check(regime('{"learning_rate_scaling": "none"}'))
    assert found["adapts"].state == "warning"
    longer = check(regime('{"budget": {"kind": "epochs", "factor": 4}}'))
    assert longer["reference batch size"].state == "warning"
    assert "fail" not in states(longer).values()


def _fails(found, failing, message):
    failed = [name for name, one in found.items() if one.state == "fail"]
    assert failing in failed, states(found)
    assert failed[0] == failing, failed
    assert re.search(message, found[failing].text), found[failing].text
    assert found[failing].remedy
