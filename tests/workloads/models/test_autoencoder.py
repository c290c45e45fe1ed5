"""Autoencoder and variational autoencoder against torch's own distributions; the small convolutional network."""

import pytest
import torch
from torch import distributions, nn

from gapbench.core.errors import TrainingError
from gapbench.layers.keyed import bind_keys
from gapbench.workloads.models.autoencoder import autoencoder, variational_autoencoder
from gapbench.workloads.models.cnn import cnn


def images_of(examples=6, shape=(3, 8, 8)):
    return torch.randn(examples, *shape, generator=torch.Generator().manual_seed(0))


def test_negative_evidence_lower_bound_is_that_of_torchs_distributions():
    model, images = variational_autoencoder((3, 8, 8), 10, channels=(4,), latent=5), images_of()
    bind_keys(model, torch.arange(6) * 7919)
    losses = model(images)
    mean, log_variance = model.encoder(images).chunk(2, dim=1)
    code = distributions.Normal(mean, (log_variance / 2).exp())
    prior = distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    draw = model.noise(mean, log_variance)
    density = distributions.Normal(model.decoder(draw), 1.0).log_prob(images).flatten(1).sum(dim=1)
    wanted = distributions.kl_divergence(code, prior).sum(dim=1) - density
    torch.testing.assert_close(losses[:, 0], wanted, rtol=1e-5, atol=1e-4)


def test_the_bound_lies_above_minus_the_evidence():
    """Slowly: log p(x) by importance sampling with many draws of the code; the mean of the bound over draws is never below it."""
    model, images = variational_autoencoder((1, 4, 4), 10, channels=(2,), latent=2), images_of(1, (1, 4, 4))
    many = images.expand(4000, -1, -1, -1)
    bind_keys(model, torch.arange(4000) * 104729 % 2**32)
    with torch.no_grad():
        bound = model(many).mean()
        mean, log_variance = model.encoder(many).chunk(2, dim=1)
        draw = model.noise(mean, log_variance)
        joint = distributions.Normal(model.decoder(draw), 1.0).log_prob(many).flatten(1).sum(dim=1)
        joint = joint + distributions.Normal(0.0, 1.0).log_prob(draw).sum(dim=1)
        weights = joint - distributions.Normal(mean, (log_variance / 2).exp()).log_prob(draw).sum(dim=1)
        evidence = torch.logsumexp(weights, dim=0) - torch.log(torch.tensor(4000.0))
    assert float(bound) > -float(evidence) - 1e-3


def test_autoencoders_loss_is_half_the_squared_error_of_each_image():
    model, images = autoencoder((3, 8, 8), 10, channels=(4,), latent=5), images_of()
    rebuilt = model.decoder(model.encoder(images))
    wanted = [0.5 * sum((rebuilt[i] - images[i]).flatten().double() ** 2) for i in range(6)]
    torch.testing.assert_close(model(images)[:, 0].double(), torch.stack(wanted), rtol=1e-5, atol=1e-5)


def test_the_draw_belongs_to_the_example_and_not_to_the_batch():
    model, images = variational_autoencoder((3, 8, 8), 10, channels=(4,), latent=5), images_of()
    keys = torch.arange(6) * 7919
    for mode in (True, False):
        model.train(mode)
        bind_keys(model, keys)
        whole = model(images)
        pieces = []
        for part in (slice(0, 1), slice(1, 6)):
            bind_keys(model, keys[part])
            pieces.append(model(images[part]))
        torch.testing.assert_close(torch.cat(pieces), whole)
    bind_keys(model, keys + 1)
    assert not torch.equal(model(images), whole)


def test_the_draw_is_standard_normal():
    model = variational_autoencoder((3, 8, 8), 10, channels=(4,), latent=50)
    bind_keys(model, torch.randint(2**32, (2000,), generator=torch.Generator().manual_seed(1)))
    draws = model.noise(torch.zeros(2000, 50), torch.zeros(2000, 50))
    assert abs(float(draws.mean())) < 4 / 100_000**0.5
    assert float(draws.var()) == pytest.approx(1, abs=0.02)
    between = torch.corrcoef(draws.T) - torch.eye(50)
    assert float(between.abs().max()) < 5.5 / 2000**0.5


def test_a_draw_from_nowhere_is_refused():
    with pytest.raises(TrainingError, match="bind_keys"):
        variational_autoencoder((3, 8, 8), 10)(images_of())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 9, 7)])
def test_images_of_any_size_come_back_in_their_size(shape):
    model = autoencoder(shape, 10)
    images = images_of(2, shape)
    assert model.decoder(model.encoder(images)).shape == images.shape


@pytest.mark.parametrize("build", [autoencoder, variational_autoencoder, cnn])
def test_features_and_too_small_images_are_refused(build):
    with pytest.raises(TrainingError, match="takes images"):
        build((64,), 10)
    with pytest.raises(TrainingError, match="at least 8 x 8"):
        build((1, 7, 9), 10, channels=(2, 2, 2))


def test_the_small_network_halves_images_and_normalizes_nothing():
    model = cnn((3, 32, 32), 10)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert model.hidden.weight.shape == (1024, 64 * 8 * 8)
    assert {type(module) for module in model} == {nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear}
