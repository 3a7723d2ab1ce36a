"""tiedlib.vae against torch.distributions, scipy, quadrature, and a model whose log-likelihood and posterior are known."""

import functools
import inspect
import math
from typing import Any

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal, kl_divergence

import tiedlib.vae
from tests.ideas.calls import NOT_NEGATIVE, POSITIVE, Call
from tests.ideas.calls import X as GIVEN
from tiedlib.lab.notebook.agreement import agree
from tiedlib.vae import (
    VAE,
    elbo,
    elbo_terms,
    importance_bound,
    kl_standard_normal,
    linear_gaussian_log_prob,
    linear_gaussian_posterior,
    log_weights,
    reparameterize,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed)).to(dtype)


def model_of(likelihood="bernoulli", layers=1, seed=0, **options):
    torch.manual_seed(seed)
    return VAE(6, 5, 2, likelihood=likelihood, layers=layers, **options).double()


def bits(*shape, seed=9):
    return (torch.rand(*shape, generator=seeded(seed)) < 0.5).double()


def linear_gaussian(seed=0, scale=0.7):
    """A VAE whose decoder is W z + b, and W, b."""
    model = model_of("gaussian", layers=0, seed=seed, scale=scale)
    return model, model.decoder[0].weight.detach(), model.decoder[0].bias.detach(), scale


class Fixed:
    """A model with its encoder replaced by given μ, log σ²."""

    def __init__(self, model, mu, logvar):
        self.log_likelihood, self.parts = model.log_likelihood, (mu, logvar)

    def encode(self, x):
        return self.parts


# -- reparameterize ------------------------------------------------------------------------------------------------------


@pytest.mark.claim("reparameterization-trick")
def test_draws_have_the_normal_law():
    """Kolmogorov and Smirnov's distance; by the DKW inequality it exceeds 0.0121 with probability < 2 exp(−29) < 1e-12."""
    n, mu, logvar = 100_000, 1.5, math.log(0.25)
    z = reparameterize(torch.full((n, 1), mu), torch.full((n, 1), logvar), generator=seeded())
    assert scipy.stats.kstest(z[:, 0].double().numpy(), "norm", args=(mu, 0.5)).statistic < 0.0121


@pytest.mark.claim("reparameterization-trick")
def test_derivatives_are_one_and_the_noise():
    mu, logvar = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    z = reparameterize(mu, logvar, generator=seeded(2))
    by_mu, by_logvar = torch.autograd.grad(z.sum(), (mu, logvar))
    epsilon = torch.randn(4, 3, dtype=torch.float64, generator=seeded(2))
    sigma = (0.5 * logvar).exp()
    assert torch.equal(by_mu, torch.ones(4, 3, dtype=torch.float64))
    torch.testing.assert_close(by_logvar, (0.5 * sigma * epsilon).detach())  # ∂σ/∂log σ² = σ/2
    torch.testing.assert_close(z, mu + sigma * epsilon)


def test_the_generator_alone_decides_and_torchs_own_is_left_alone():
    mu = torch.zeros(3, 2)
    state = torch.get_rng_state()
    first = reparameterize(mu, mu, generator=seeded(3))
    assert torch.equal(first, reparameterize(mu, mu, generator=seeded(3)))
    assert torch.equal(torch.get_rng_state(), state)
    reparameterize(mu, mu)
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_shape_and_strides(dtype):
    mu, logvar = draw(5, 3, 2, dtype=dtype).transpose(0, 1), draw(5, 3, 2, seed=1, dtype=dtype).transpose(0, 1)
    z = reparameterize(mu, logvar, generator=seeded())
    assert z.dtype == dtype and z.shape == (3, 5, 2)
    torch.testing.assert_close(z, reparameterize(mu.contiguous(), logvar.contiguous(), generator=seeded()))
    assert torch.equal(reparameterize(mu, torch.full_like(mu, -1e4)), mu)  # σ = 0
    assert reparameterize(mu[:0], logvar[:0]).shape == (0, 5, 2)


# -- the KL term ---------------------------------------------------------------------------------------------------------


@pytest.mark.claim("gaussian-kl")
def test_kl_equals_torchs_summed_over_the_dimensions():
    def reference(mu, logvar):
        return kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(-1)

    agree(kl_standard_normal, reference, draw(4, 3), draw(4, 3, seed=1))
    mu, logvar = draw(3), draw(3, seed=1)
    full = MultivariateNormal(mu, logvar.exp().diag())
    standard = MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(kl_standard_normal(mu, logvar), kl_divergence(full, standard))


@pytest.mark.claim("gaussian-kl")
def test_kl_gradcheck_and_its_zero():
    assert torch.autograd.gradcheck(
        kl_standard_normal, (draw(2, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_())
    )
    zero = torch.zeros(4, 2)
    assert torch.equal(kl_standard_normal(zero, zero), torch.zeros(4))
    tiny = torch.full((1, 1), 1e-4)  # ½(e^t − t − 1) ≈ t²/4, lost where 1 is subtracted in float32
    assert kl_standard_normal(zero[:1, :1], tiny).item() == pytest.approx(2.5e-9, rel=0.05)


@given(st.floats(-3, 3), st.floats(-6, 3))
def test_kl_is_positive_away_from_the_prior(mu, logvar):
    one = kl_standard_normal(torch.tensor([mu], dtype=torch.float64), torch.tensor([logvar], dtype=torch.float64))
    assert one.item() >= 0.0
    assert one.item() > 0.0 or (abs(mu) < 1e-6 and abs(logvar) < 1e-6)


@given(
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=0, max_size=5),
)
def test_extreme_parameters_give_finite_numbers_or_a_clear_error(dtype, pairs):
    mu = torch.tensor([[m] for m, _ in pairs], dtype=dtype).reshape(-1, 1)
    logvar = torch.tensor([[v] for _, v in pairs], dtype=dtype).reshape(-1, 1)
    for function in (kl_standard_normal, reparameterize):
        try:
            value = function(mu, logvar)
        except ValueError as error:
            assert "logvar holds" in str(error) and logvar.max() > 11
        else:
            assert value.isfinite().all() and len(value) == len(pairs)


# -- the model -----------------------------------------------------------------------------------------------------------


def test_sizes_and_what_forward_returns():
    model = VAE(6, 5, 2)
    out, mu, logvar = model(torch.zeros(3, 6), generator=seeded())
    assert (out.shape, mu.shape, logvar.shape) == ((3, 6), (3, 2), (3, 2))
    assert sum(p.numel() for p in model.parameters()) == (6 * 5 + 5) + (5 * 4 + 4) + (2 * 5 + 5) + (5 * 6 + 6)
    z = reparameterize(mu, logvar, generator=seeded())
    torch.testing.assert_close(out, model.decode(z))
    assert len(VAE(6, 5, 2, layers=0).decoder) == 1 and len(VAE(6, 5, 2, layers=2).encoder) == 5


def test_log_likelihoods_are_torchs():
    x, z = bits(4, 6), draw(3, 4, 2)
    model = model_of()
    expected = Independent(Bernoulli(logits=model.decode(z)), 1).log_prob(x)
    torch.testing.assert_close(model.log_likelihood(x, z), expected)
    model = model_of("gaussian", scale=0.3)
    expected = Independent(Normal(model.decode(z), 0.3), 1).log_prob(draw(4, 6))
    torch.testing.assert_close(model.log_likelihood(draw(4, 6), z), expected)


@given(st.floats(-1e4, 1e4), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_extreme_logits_are_finite(logit, dtype):
    model = VAE(784, 1, 1, layers=0).to(dtype)
    with torch.no_grad():
        model.decoder[0].weight.zero_()
        model.decoder[0].bias.fill_(logit)
    value = model.log_likelihood(torch.ones(2, 784, dtype=dtype), torch.zeros(2, 1, dtype=dtype))
    assert value.isfinite().all() and value.dtype == torch.float32


# -- the bound -----------------------------------------------------------------------------------------------------------


def test_elbo_is_the_formula_with_the_same_noise():
    model, x = model_of(), bits(4, 6)
    epsilon = torch.randn(3, 4, 2, dtype=torch.float64, generator=seeded(5))
    names = [name for name, _ in model.named_parameters()]

    class Called(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return elbo(self.model, x, samples=3, beta=0.5, generator=seeded(5))

    def ours(*values):
        named = {f"model.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Called(), named, (x,))

    def reference(e0w, e0b, e2w, e2b, d0w, d0b, d2w, d2b):
        h = torch.relu(x @ e0w.T + e0b) @ e2w.T + e2b
        q = Normal(h[:, :2], torch.exp(h[:, 2:] / 2))
        z = q.mean + q.stddev * epsilon
        logits = torch.relu(z @ d0w.T + d0b) @ d2w.T + d2b
        likelihood = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        return likelihood.mean(0) - 0.5 * kl_divergence(q, Normal(0.0, 1.0)).sum(-1)

    agree(ours, reference, *[p.detach() for p in model.parameters()])
    log_likelihood, kl = elbo_terms(model, x, samples=3, generator=seeded(5))
    torch.testing.assert_close(elbo(model, x, samples=3, beta=2.0, generator=seeded(5)), log_likelihood - 2.0 * kl)


@pytest.mark.claim("elbo-gap")
@given(st.integers(0, 10_000))
def test_the_gap_is_the_kl_to_the_posterior(seed):
    """Linear-Gaussian model, any q: E_q[log p(x|z)] in closed form, so no sampling is left."""
    _, W, b, s = linear_gaussian(seed % 7)
    x, mu, logvar = draw(6, seed=seed), draw(2, seed=seed + 1), draw(2, seed=seed + 2)
    residual = (x - b - W @ mu).square().sum() + (logvar.exp() * W.square().sum(0)).sum()
    expected = -residual / (2 * s * s) - 6 * (math.log(s) + 0.5 * math.log(2 * math.pi))
    bound = expected - kl_standard_normal(mu, logvar)
    mean, covariance = linear_gaussian_posterior(x, W, b, s)
    gap = kl_divergence(MultivariateNormal(mu, logvar.exp().diag()), MultivariateNormal(mean, covariance))
    torch.testing.assert_close(linear_gaussian_log_prob(x, W, b, s) - bound, gap, rtol=1e-9, atol=1e-9)


def test_elbo_of_many_samples_is_the_closed_form():
    """10⁵ samples. By Chebyshev's inequality each of 112 group means is farther off than 2 sd/√m with probability ≤ ¼, their
    median (Hoeffding) with probability ≤ exp(−112/8) < 1e-6; sd: of log p(x|z) under q, in closed form."""
    model, W, b, s = linear_gaussian()
    x, mu, logvar, groups, m = draw(6), draw(2, seed=1), draw(2, seed=2), 112, 900
    fixed = Fixed(model, mu.expand(groups, 2), logvar.expand(groups, 2))
    estimate = elbo(fixed, x.expand(groups, 6), samples=m, generator=seeded(3)).median()
    root = (0.5 * logvar).exp()
    A, r = W * root, x - b - W @ mu  # the residual is r − Aε: a quadratic form in ε
    exact = -(r.square().sum() + A.square().sum()) / (2 * s * s) - 6 * (math.log(s) + 0.5 * math.log(2 * math.pi))
    sd = ((4 * (A.T @ r).square().sum() + 2 * (A.T @ A).square().sum()) / (4 * s**4)).sqrt()
    assert (estimate - (exact - kl_standard_normal(mu, logvar))).abs() <= 2 * sd / math.sqrt(m)
    assert 2 * sd / math.sqrt(m) < 0.5  # the test can fail


def test_weights_are_the_densities():
    model, x = model_of(), bits(4, 6)
    mu, logvar = model.encode(x)
    z = reparameterize(mu.expand(5, 4, 2), logvar.expand(5, 4, 2), generator=seeded(4))
    q, p = Independent(Normal(mu, (0.5 * logvar).exp()), 1), Independent(Normal(torch.zeros_like(mu), 1.0), 1)
    expected = model.log_likelihood(x, z) + p.log_prob(z) - q.log_prob(z)
    weights = log_weights(model, x, samples=5, generator=seeded(4))
    torch.testing.assert_close(weights, expected)
    bound = importance_bound(model, x, samples=5, generator=seeded(4))
    torch.testing.assert_close(bound, expected.exp().mean(0).log())
    one = importance_bound(model, x, samples=1, generator=seeded(4))
    torch.testing.assert_close(one, log_weights(model, x, samples=1, generator=seeded(4))[0])


def orthogonal():
    """A linear-Gaussian model whose W has orthogonal columns: its posterior is diagonal, which the encoder can hold exactly.
    Four examples, their log p(x), and the mean and the log-variances of their posterior."""
    model, _, b, s = linear_gaussian()
    W = torch.linalg.qr(draw(6, 2))[0] * torch.tensor([2.0, 0.5], dtype=torch.float64)
    with torch.no_grad():
        model.decoder[0].weight.copy_(W)
    x = draw(4, 6, seed=3)
    mean, covariance = linear_gaussian_posterior(x, W, b, s)
    assert covariance[0, 1].abs() < 1e-15
    return model, x, linear_gaussian_log_prob(x, W, b, s), mean, covariance.diag().log().expand(4, 2)


def test_the_bound_rises_with_the_samples_towards_the_log_likelihood():
    """Nested groups of the same weights: the mean of the log lies below the log of the mean, always. With q of twice the
    posterior's variance w / p(x) lies in [0, 2], so by Hoeffding's inequality the mean of 4,096 of them is off by more than
    0.1 with probability < 2 exp(−2 · 4096 · 0.1² / 2²) < 3e-9."""
    model, x, exact, mean, logvar = orthogonal()
    weights = log_weights(Fixed(model, mean, logvar + math.log(2)), x, samples=4096, generator=seeded(1))
    sizes = (1, 4, 16, 64, 256, 1024, 4096)
    bounds = torch.stack([(torch.logsumexp(weights.view(-1, k, 4), 1) - math.log(k)).mean(0) for k in sizes])
    assert (bounds.diff(dim=0) > 0).all()
    assert ((bounds[-1] - exact).exp() - 1).abs().max() < 0.1 < (exact - bounds[0]).min()
    ours = importance_bound(Fixed(model, mean, logvar + math.log(2)), x, samples=4096, generator=seeded(1))
    torch.testing.assert_close(ours, bounds[-1])


@pytest.mark.claim("rewritten-objective")
def test_weights_of_the_true_posterior_are_all_the_same():
    model, x, exact, mean, logvar = orthogonal()
    weights = log_weights(Fixed(model, mean, logvar), x, samples=50, generator=seeded())
    torch.testing.assert_close(weights, exact.expand(50, 4), rtol=0, atol=1e-9)
    torch.testing.assert_close(importance_bound(Fixed(model, mean, logvar), x, samples=50), weights[0])


def test_a_posterior_without_width_keeps_its_weights_finite():
    model, x = model_of(), bits(4, 6)
    fixed = Fixed(model, draw(4, 2), torch.full((4, 2), -1e4, dtype=torch.float64))
    assert log_weights(fixed, x, samples=3).isfinite().all() and elbo(fixed, x, samples=3).isfinite().all()


def test_samples_average_and_empty_batches():
    model, x = model_of(), bits(4, 6)
    each = elbo(model, x, samples=1000, generator=seeded())
    assert each.shape == (4,) and elbo(model, x[:0]).shape == (0,)
    assert importance_bound(model, x[:0], samples=3).shape == (0,) and log_weights(model, x, samples=3).shape == (3, 4)
    assert elbo(model, x.expand(2, 4, 6)).shape == (2, 4)


def test_gradients_reach_encoder_and_decoder():
    model = model_of()
    elbo(model, bits(4, 6), generator=seeded()).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_many_models_at_once_under_vmap():
    models = [model_of(seed=seed) for seed in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    x = bits(4, 6)

    class Bound(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = models[0]

        def forward(self, x):
            return elbo_terms(self.model, x, generator=None)

    def one(parameters):
        return torch.func.functional_call(Bound(), {f"model.{k}": v for k, v in parameters.items()}, (x,))

    _, kl = torch.func.vmap(one, randomness="different")(stacked)
    torch.testing.assert_close(kl, torch.stack([kl_standard_normal(*m.encode(x)) for m in models]))


# -- the linear-Gaussian model -------------------------------------------------------------------------------------------


@pytest.mark.claim("marginal-likelihood")
def test_the_marginal_is_scipys_and_the_integral_is_it():
    _, W, b, s = linear_gaussian()
    x = draw(3, 6)
    covariance = W @ W.T + s * s * torch.eye(6)
    reference = scipy.stats.multivariate_normal(b.numpy(), covariance.numpy()).logpdf(x.numpy())
    torch.testing.assert_close(linear_gaussian_log_prob(x, W, b, s), torch.from_numpy(reference))
    grid = torch.linspace(-8, 8, 401, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    p_z = Normal(0.0, 1.0).log_prob(z).sum(-1)
    p_x = Independent(Normal(z @ W.T + b, s), 1).log_prob(x[:, None])
    integral = torch.logsumexp(p_x + p_z, -1) + 2 * math.log(0.04)
    torch.testing.assert_close(integral, torch.from_numpy(reference), rtol=0, atol=1e-6)
    # the posterior's mean from the same grid
    weights = torch.softmax(p_x + p_z, -1)
    mean, posterior = linear_gaussian_posterior(x, W, b, s)
    torch.testing.assert_close(weights @ z, mean, rtol=0, atol=1e-6)
    spread = torch.einsum("n,ni,nj->ij", weights[0], z - mean[0], z - mean[0])
    torch.testing.assert_close(spread, posterior, rtol=0, atol=1e-6)


def test_bayes_rule_holds_at_any_point():
    """log p(x|z) + log p(z) − log p(z|x) = log p(x) for every z."""
    model, W, b, s = linear_gaussian()
    x, z = draw(6), draw(10, 2, seed=4)
    mean, covariance = linear_gaussian_posterior(x, W, b, s)
    joint = model.log_likelihood(x.expand(10, 6), z) + Normal(0.0, 1.0).log_prob(z).sum(-1)
    difference = joint - MultivariateNormal(mean, covariance).log_prob(z)
    torch.testing.assert_close(difference, linear_gaussian_log_prob(x, W, b, s).expand(10))
    assert torch.autograd.gradcheck(
        lambda w, s: linear_gaussian_log_prob(x, w, b, s),
        (W.requires_grad_(), torch.tensor(0.7).double().requires_grad_()),
    )


# -- bad input -----------------------------------------------------------------------------------------------------------


MODEL = VAE(6, 5, 2)
X, MU = torch.zeros(3, 6), torch.zeros(3, 2)
NAN = float("nan")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: reparameterize(torch.zeros(2, dtype=torch.long), MU), TypeError, "mu has dtype torch.int64"),
        (lambda: reparameterize(MU, MU[:2]), ValueError, r"mu has shape \(3, 2\) and logvar \(2, 2\)"),
        (lambda: reparameterize(MU, MU + 1e4), ValueError, "logvar holds 10000; .* none may exceed 88.0"),
        (lambda: reparameterize(MU, MU * NAN), ValueError, "logvar holds nan"),
        (lambda: kl_standard_normal(MU, MU.long()), TypeError, "logvar has dtype torch.int64"),
        (lambda: kl_standard_normal(MU, MU[:, :1]), ValueError, r"mu has shape \(3, 2\) and logvar \(3, 1\)"),
        (lambda: kl_standard_normal(MU, MU + 89), ValueError, "logvar holds 89"),
        (lambda: VAE(0, 5, 2), ValueError, "features is 0; it must be at least 1"),
        (lambda: VAE(6, -1, 2), ValueError, "hidden is -1"),
        (lambda: VAE(6, 5, 0), ValueError, "latent is 0"),
        (lambda: VAE(6, 5, 2, layers=-1), ValueError, "layers is -1; it must be at least 0"),
        (lambda: VAE(6, 5, 2, likelihood="poisson"), ValueError, "likelihood is 'poisson'; it must be"),
        (lambda: VAE(6, 5, 2, scale=0.0), ValueError, "scale is 0.0; it must be positive"),
        (lambda: VAE(6, 5, 2, scale=NAN), ValueError, "scale is nan"),
        (lambda: MODEL.encode(X[:, :5]), ValueError, "x has 5 features and the model 6"),
        (lambda: MODEL(X[:, :5]), ValueError, "x has 5 features and the model 6"),
        (lambda: MODEL.decode(X), ValueError, "z has 6 dimensions and the model 2"),
        (lambda: MODEL.log_likelihood(X, X), ValueError, "z has 6 dimensions and the model 2"),
        (lambda: elbo(MODEL, X, beta=-1.0), ValueError, "beta is -1.0; it must be at least 0"),
        (lambda: elbo(MODEL, X, beta=NAN), ValueError, "beta is nan"),
        (lambda: elbo(MODEL, X, samples=0), ValueError, "samples is 0; it must be at least 1"),
        (lambda: elbo_terms(MODEL, X, samples=-1), ValueError, "samples is -1"),
        (lambda: log_weights(MODEL, X, samples=0), ValueError, "samples is 0"),
        (lambda: importance_bound(MODEL, X, samples=0), ValueError, "samples is 0"),
        (lambda: linear_gaussian_log_prob(X, torch.zeros(6, 2), X[0], 0.0), ValueError, "scale is 0.0"),
        (lambda: linear_gaussian_posterior(X, torch.zeros(6, 2), X[0], NAN), ValueError, "scale is nan"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_every_public_callable_is_in_the_table_of_bad_input():
    module = inspect.getsource(inspect.getmodule(test_bad_input_is_named))
    table = module[module.index("# -- bad input") : module.index("def test_bad_input_is_named")]
    assert [name for name in tiedlib.vae.__all__ if f"{name}(" not in table] == []


# Half precision, no axes, and data that is no data


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_log_weights_in_half_precision(dtype):
    """z² of 300 is 9e4, more than float16 holds; the logarithm of a weight is not."""

    class Far:
        def encode(self, x):
            return torch.full((2, 3), 300.0, dtype=dtype), torch.full((2, 3), 4.0, dtype=dtype)

        def log_likelihood(self, x, z):
            assert z.dtype is dtype
            return torch.zeros(z.shape[:-1])

    found = log_weights(Far(), torch.zeros(2, 4, dtype=dtype), samples=5)
    assert torch.isfinite(found).all() and (found < -1e5).all()


@pytest.mark.usefixtures("unchecked")
def test_one_number_is_a_law_of_one_dimension():
    found = kl_standard_normal(torch.tensor(1.0), torch.tensor(0.5))
    torch.testing.assert_close(found, kl_standard_normal(torch.tensor([1.0]), torch.tensor([0.5])))
    assert reparameterize(torch.tensor(1.0), torch.tensor(-50.0)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0), (0.0, 1.01), (float("nan"), 1.0)])
def test_pixels_outside_of_0_and_1_are_refused_before_anything_else(low, high):
    x = torch.tensor([[low, high, 0.5, 0.0]])
    model = VAE(4, 3, 2)
    for call in (
        lambda: elbo(model, x),
        lambda: model(x),
        lambda: log_weights(model, x, samples=2),
        lambda: model.log_likelihood(x, torch.zeros(1, 2)),
    ):
        with pytest.raises(
            ValueError, match=r"^x holds .* for likelihood='bernoulli' its entries must lie in \[0, 1\]"
        ):
            call()
    if not math.isnan(low):
        assert torch.isfinite(elbo(VAE(4, 3, 2, likelihood="gaussian"), x)).all()


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones


@functools.cache
def small_vae() -> nn.Module:
    return tiedlib.vae.VAE(4, 3, 2)


GAUSSIAN: dict[str, Any] = {"x": GIVEN, "weight": torch.ones(4, 2), "bias": torch.ones(4), "scale": 1.0}

GOOD_CALLS = {
    "VAE": Call(
        lambda: {"features": 4, "hidden": 3, "latent": 2, "layers": 1, "likelihood": "gaussian", "scale": 1.0},
        scale=POSITIVE,
    ),
    "reparameterize": Call(lambda: {"mu": GIVEN, "logvar": torch.zeros(3, 4)}),
    "kl_standard_normal": Call(lambda: {"mu": GIVEN, "logvar": torch.zeros(3, 4)}),
    "elbo": Call(lambda: {"model": small_vae(), "x": GIVEN, "samples": 1, "beta": 1.0}, beta=NOT_NEGATIVE),
    "elbo_terms": Call(lambda: {"model": small_vae(), "x": GIVEN, "samples": 1}),
    "importance_bound": Call(lambda: {"model": small_vae(), "x": GIVEN, "samples": 2}),
    "log_weights": Call(lambda: {"model": small_vae(), "x": GIVEN, "samples": 2}),
    "linear_gaussian_log_prob": Call(lambda: dict(GAUSSIAN), scale=POSITIVE),
    "linear_gaussian_posterior": Call(lambda: dict(GAUSSIAN), scale=POSITIVE),
}
