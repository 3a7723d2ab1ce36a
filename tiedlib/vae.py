"""The variational auto-encoder: a latent-variable model trained through a lower bound of its log-likelihood.

    p(z) = N(0, I),    p_θ(x|z): the decoder,    q_φ(z|x) = N(μ(x), diag σ²(x)): the encoder
    log p_θ(x) ≥ L(x) = E_q[log p_θ(x|z)] − KL(q_φ(z|x) ‖ p(z))            the ELBO, in nats

Explained in the chapter `vae`. Sources: Kingma & Welling 2013, arXiv:1312.6114 (model, bound, reparameterization; the KL
in closed form is its appendix B); Burda, Grosse & Salakhutdinov 2015, arXiv:1509.00519 (importance-weighted bound);
Tipping & Bishop 1999 (the linear-Gaussian model, where everything is known exactly).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from tiedlib import _arguments as arguments

__all__ = [
    "VAE",
    "elbo",
    "elbo_terms",
    "importance_bound",
    "kl_standard_normal",
    "linear_gaussian_log_prob",
    "linear_gaussian_posterior",
    "log_weights",
    "reparameterize",
]


def reparameterize(
    mu: Float[Tensor, "*batch latent"],
    logvar: Float[Tensor, "*batch latent"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch latent"]:
    """z = μ + σ ⊙ ε,   σ = exp(½ log σ²),   ε ~ N(0, I).   Kingma & Welling 2013, section 2.4.

    z has the law N(μ, diag σ²), and ∂z/∂μ = 1, ∂z/∂σ = ε: a gradient at z reaches μ = mu and log σ² = logvar. σ = 0
    (logvar → −∞) gives z = μ. Raises TypeError for tensors that are not floating point, ValueError for unequal shapes or
    a logvar whose exp is not finite.
    """
    _check_gaussian(mu, logvar)
    arguments.replayable(generator)
    epsilon = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=mu.device)
    return mu + torch.exp(0.5 * logvar) * epsilon


def kl_standard_normal(
    mu: Float[Tensor, "*batch latent"], logvar: Float[Tensor, "*batch latent"]
) -> Float[Tensor, "*batch"]:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ_j (μ_j² + σ_j² − log σ_j² − 1).   Kingma & Welling 2013, appendix B.

    One number for each example: the **sum** over the latent dimensions, in nats. Half precision is summed in float32 and
    comes back as float32. Raises as `reparameterize`.
    """
    _check_gaussian(mu, logvar)
    mu, logvar = _wide(mu), _wide(logvar)
    return 0.5 * (mu.square() + torch.expm1(logvar) - logvar).sum(-1)


class VAE(nn.Module):
    """Encoder q(z|x) = N(μ(x), diag σ²(x)), decoder p(x|z), prior N(0, I).   Kingma & Welling 2013, appendix C.

        encoder     x → [hidden, ReLU] × layers → (μ, log σ²)
        decoder     z → [hidden, ReLU] × layers → logits of x's bits ("bernoulli"), or the mean of x ("gaussian")

    "bernoulli":  log p(x|z) = Σ_i x_i log π_i + (1 − x_i) log(1 − π_i),  π = sigmoid(logits), for x in {0, 1}. Values in
    between are accepted, and then the sum is no log-likelihood. "gaussian":  p(x|z) = N(mean, scale² I), scale fixed.
    layers=0 with "gaussian" is the linear-Gaussian model of `linear_gaussian_log_prob`.

    Raises ValueError for sizes < 1, layers < 0, another likelihood, or a scale that is not positive and finite.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        latent: int,
        *,
        layers: int = 1,
        likelihood: str = "bernoulli",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        for name, size in (("features", features), ("hidden", hidden), ("latent", latent)):
            arguments.whole(name, size)
        arguments.whole("layers", layers, 0)
        arguments.choice("likelihood", likelihood, ("bernoulli", "gaussian"))
        arguments.number("scale", scale, "positive and finite")
        self.features, self.latent, self.likelihood, self.scale = features, latent, likelihood, scale
        self.encoder = _perceptron(features, hidden, 2 * latent, layers)
        self.decoder = _perceptron(latent, hidden, features, layers)

    def encode(
        self, x: Float[Tensor, "*batch features"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "*batch latent"]]:
        """μ(x) and log σ²(x)."""
        arguments.floating(x=x)
        if x.shape[-1] != self.features:
            raise ValueError(f"x has {x.shape[-1]} features and the model {self.features}; they must be equal")
        self._check_bits(x)
        mu, logvar = self.encoder(x).chunk(2, dim=-1)
        return mu, logvar

    def _check_bits(self, x: Tensor) -> None:
        """On a processor alone: elsewhere, to look at a value makes the device wait."""
        if (
            self.likelihood == "bernoulli"
            and x.numel()
            and x.device.type == "cpu"
            and not arguments.holds(((x >= 0) & (x <= 1)).all())
        ):
            raise ValueError(
                f"x holds {float(x.min()):.6g} … {float(x.max()):.6g}; for likelihood='bernoulli' its entries must lie in [0, 1]: "
                "divide grey levels by their largest value, or take likelihood='gaussian'"
            )

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch features"]:
        """Logits of x's bits ("bernoulli") or the mean of x ("gaussian")."""
        if z.shape[-1] != self.latent:
            raise ValueError(f"z has {z.shape[-1]} dimensions and the model {self.latent}; they must be equal")
        return self.decoder(z)

    def log_likelihood(
        self, x: Float[Tensor, "*batch features"], z: Float[Tensor, "*samples latent"]
    ) -> Float[Tensor, "*samples"]:
        """log p(x|z), summed over the features, in nats; z may have a dimension of samples before those of x."""
        self._check_bits(x)
        out = _wide(self.decode(z))
        x = _wide(x).expand_as(out)
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(-1)
        constant = self.features * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))
        return -0.5 * ((x - out) / self.scale).square().sum(-1) - constant

    def forward(
        self, x: Float[Tensor, "*batch features"], *, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "*batch features"], Float[Tensor, "*batch latent"], Float[Tensor, "*batch latent"]]:
        """decode(z) for one z ~ q(z|x), and μ(x), log σ²(x)."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterize(mu, logvar, generator=generator)), mu, logvar


def elbo_terms(
    model: Any, x: Float[Tensor, "*batch features"], *, samples: int = 1, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The two terms of the bound: (1/S) Σ_s log p(x|z_s) with z_s ~ q(z|x), and KL(q(z|x) ‖ N(0, I)) in closed form.

    Per example, in nats; S = samples. model is a VAE, or anything with two methods: encode(x) gives μ and log σ² for x
    (*batch, features), both (*batch, latent); log_likelihood(x, z) gives log p(x|z), summed over the features, (samples, *batch)
    for z (samples, *batch, latent). Raises ValueError for
    samples < 1, and as `reparameterize`.
    """
    mu, logvar = _encoded(model, x, samples)
    z = reparameterize(mu, logvar, generator=generator)
    return model.log_likelihood(x, z).mean(0), kl_standard_normal(mu[0], logvar[0])


def elbo(
    model: Any,
    x: Float[Tensor, "*batch features"],
    *,
    samples: int = 1,
    beta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch"]:
    """L(x) = E_q[log p(x|z)] − β KL(q(z|x) ‖ N(0, I)) ≤ log p(x).   Kingma & Welling 2013, equations 3 and 7.

    An unbiased estimate from S = samples draws for the first term, the second in closed form; per example, in nats.
    Only β = beta = 1 is the bound: β > 1 lies below it (Higgins et al. 2017), β < 1 is no bound. The gap is
    log p(x) − L(x) = KL(q(z|x) ‖ p(z|x)). Raises ValueError for beta < 0 or NaN, and as `elbo_terms`.
    """
    arguments.number("beta", beta, "at least 0 and finite")
    log_likelihood, kl = elbo_terms(model, x, samples=samples, generator=generator)
    return log_likelihood - beta * kl


def log_weights(
    model: Any, x: Float[Tensor, "*batch features"], *, samples: int, generator: torch.Generator | None = None
) -> Float[Tensor, "samples ..."]:
    """log w_s = log p(x|z_s) + log p(z_s) − log q(z_s|x),   z_s ~ q(z|x).   E[w] = p(x) and E[log w] = L(x).

    The mean of the rows estimates the ELBO with both terms by sampling. Raises as `elbo_terms`.
    """
    mu, logvar = _encoded(model, x, samples)
    _check_gaussian(mu, logvar)
    dtype, mu, logvar = mu.dtype, _wide(mu), _wide(logvar)
    epsilon = reparameterize(torch.zeros_like(mu), torch.zeros_like(mu), generator=generator)
    z = mu + torch.exp(0.5 * logvar) * epsilon  # ε itself is needed: (z − μ)/σ would lose it where σ is tiny
    log_ratio = 0.5 * (epsilon.square() + logvar - z.square())  # log p(z) − log q(z|x): the constants cancel
    return model.log_likelihood(x, z.to(dtype)) + log_ratio.sum(-1)


def importance_bound(
    model: Any, x: Float[Tensor, "*batch features"], *, samples: int, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch"]:
    """L_K(x) = log (1/K) Σ_k w_k,   L = L_1 ≤ E[L_K] ≤ E[L_{K+1}] ≤ log p(x).   Burda et al. 2015, equation 8, theorem 1.

    The importance-weighted bound with K = samples draws from the encoder; per example, in nats. It needs K decodings of
    each example at once: cut x into batches. Raises as `elbo_terms`.
    """
    return torch.logsumexp(log_weights(model, x, samples=samples, generator=generator), 0) - math.log(samples)


def linear_gaussian_log_prob(
    x: Float[Tensor, "*batch features"],
    weight: Float[Tensor, "features latent"],
    bias: Float[Tensor, " features"],
    scale: float | Tensor,
) -> Float[Tensor, "*batch"]:
    """log p(x) = log N(x; b, W Wᵀ + s² I) of  z ~ N(0, I),  x|z ~ N(W z + b, s² I).   Tipping & Bishop 1999.

    The one decoder whose integral over z is known: W = weight, b = bias, s = scale.
    Half precision gives float32. Raises ValueError for scale ≤ 0.
    """
    _check_linear(x, weight, bias, scale)
    kept, (x, weight, bias) = _wide(x).dtype, _for_inverses(x, weight, bias)
    return LowRankMultivariateNormal(bias, weight, scale**2 * torch.ones_like(bias)).log_prob(x).to(kept)


def linear_gaussian_posterior(
    x: Float[Tensor, "*batch features"],
    weight: Float[Tensor, "features latent"],
    bias: Float[Tensor, " features"],
    scale: float | Tensor,
) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "latent latent"]]:
    """Mean and covariance of p(z|x) = N(M⁻¹Wᵀ(x − b)/s², M⁻¹),   M = I + WᵀW/s², of the same model (there as well).

    The covariance does not depend on x. Raises as `linear_gaussian_log_prob`.
    """
    _check_linear(x, weight, bias, scale)
    kept, (x, weight, bias) = _wide(x).dtype, _for_inverses(x, weight, bias)
    precision = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device) + weight.T @ weight / scale**2
    covariance = torch.linalg.inv(precision)
    return ((x - bias) @ weight @ covariance / scale**2).to(kept), covariance.to(kept)


def _encoded(model: Any, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """μ(x) and log σ²(x), repeated (not copied) `samples` times in front."""
    arguments.whole("samples", samples)
    mu, logvar = model.encode(x)
    return mu.expand(samples, *mu.shape), logvar.expand(samples, *mu.shape)


def _perceptron(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(inputs, hidden), nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*parts, nn.Linear(inputs, outputs))


def _wide(x: Tensor) -> Tensor:
    """Sums of many terms are taken in float32 at least."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _for_inverses(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Half precision has no kernel for them, and its largest numbers squared leave float32 no digits for the 1 in 1 + w²."""
    return tuple(t.double() if t.dtype in (torch.float16, torch.bfloat16) else t for t in tensors)


def _check_linear(x: Tensor, weight: Tensor, bias: Tensor, scale: float | Tensor) -> None:
    arguments.floating(x=x, weight=weight, bias=bias)
    arguments.number("scale", float(scale.detach()) if isinstance(scale, Tensor) else scale, "positive and finite")
    features = weight.shape[0]
    if bias.shape != (features,) or x.shape[-1:] != (features,):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; "
            "the last size of x and the size of bias must be the first of weight"
        )


def _check_gaussian(mu: Tensor, logvar: Tensor) -> None:
    arguments.floating(mu=mu, logvar=logvar)
    if mu.shape != logvar.shape:
        raise ValueError(f"mu has shape {tuple(mu.shape)} and logvar {tuple(logvar.shape)}; they must be equal")
    if (
        logvar.numel() == 0 or logvar.device.type != "cpu" or torch.compiler.is_compiling()
    ):  # elsewhere, to look at a value makes the device wait
        return
    limit = math.log(
        torch.finfo(logvar.dtype).max / math.prod(logvar.shape[-1:])
    )  # one number without axes is one dimension
    try:
        largest = float(logvar.detach().max())
    except RuntimeError:  # inside torch.func.vmap a value cannot be looked at
        return
    if not largest <= limit:
        raise ValueError(
            f"logvar holds {largest:.6g}; the variances exp(logvar) must have a finite sum in {logvar.dtype}, "
            f"so none may exceed {limit:.4g}: lower the learning rate or clip the gradient"
        )
