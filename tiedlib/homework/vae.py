"""Checks of the homework `vae`. The mistakes are those of the notes (claims `minibatch-objection`, `kl-as-ce-minus-entropy-vae`,
`kl-to-prior-loosens-bound`, `sampling-not-differentiable`, `gaussian-kl`) and of the forums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import tiedlib.vae
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_number, numbers
from tiedlib.vae import kl_standard_normal

__all__ = ["check_bound", "check_cause", "check_gap", "check_kl", "check_kl_of_two", "check_push", "check_sample"]

_OURS = (tiedlib.vae, torch.distributions, torch.nn.functional.kl_div, torch.kl_div)  # may not be called
Rule = Callable[..., Any]


def _normal(secret: str | None, what: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=numbers(secret, what), dtype=torch.float64)


def _check(name: str, answer: Any, right: Rule, cases: list[Any], mistakes: list[Mistake], secret: str | None) -> None:
    check_function(name, answer, right, cases, mistakes=mistakes, forbid=_OURS, show=secret is None)


@calmly
def check_sample(sample: Any, secret: str | None = None) -> None:
    """μ + exp(½ log σ²) ε, first in value, then the gradients that reach μ and log σ²."""
    mu, logvar, epsilon = (_normal(secret, f"sample {what}", 5, 3) for what in ("mu", "logvar", "epsilon"))
    cases = [(mu, logvar, epsilon), (mu[0], 3 * logvar[0], epsilon[0])]

    def form(sigma: Rule) -> Rule:
        return lambda m, v, e: m + sigma(v) * e

    def right(m: Tensor, v: Tensor, e: Tensor) -> Tensor:
        return m + (v / 2).exp() * e

    values = [
        Mistake(form(torch.exp), "exp(log σ²) is the variance; the noise is stretched by σ, its root"),
        Mistake(form(lambda v: v), "log σ² stands where σ should: take the exponential of half of it"),
        Mistake(form(lambda v: v.exp().square()), "this stretches by σ⁴: half of log σ² is log σ, not twice"),
        Mistake(form(lambda v: v.sqrt()), "this is the root of a logarithm, NaN where σ < 1: first exp, then the root"),
        Mistake(
            form(lambda v: torch.ones_like(v)), "σ is missing: every draw has variance 1, whatever the encoder says"
        ),
        Mistake(lambda m, v, e: m, "the noise is missing: this is the mean, an auto-encoder without a draw"),
        Mistake(
            lambda m, v, e: (m + e) * (v / 2).exp(), "μ is stretched too; only the noise is, and μ is added afterwards"
        ),
        Mistake(form(lambda v: -(v / 2).exp()), "a minus before σ: the law is the same, but asked is μ + σε"),
    ]
    _check("sample", sample, right, cases, values, secret)

    def gradient(rule: Rule) -> Rule:
        def run(m: Tensor, v: Tensor, e: Tensor) -> Any:
            m, v = m.clone().requires_grad_(), v.clone().requires_grad_()
            z = rule(m, v, e.clone())
            if not z.requires_grad:
                return "none"
            found = torch.autograd.grad(z.square().sum(), (m, v), allow_unused=True)
            return tuple("none" if part is None else part for part in found)

        return run

    slopes = [
        Mistake(lambda *case: "none", "the value is right, but no gradient passes: without detach, no_grad or .data"),
        Mistake(
            gradient(lambda m, v, e: right(m, v.detach(), e)),
            "the gradient reaches μ and not log σ²: the width of q would never be trained",
        ),
        Mistake(
            gradient(lambda m, v, e: right(m.detach(), v, e)),
            "the gradient reaches log σ² and not μ: the mean of q would never be trained",
        ),
    ]
    _check("sample", gradient(sample), gradient(right), cases, slopes, secret)


@calmly
def check_kl(kl: Any, secret: str | None = None) -> None:
    """½ Σ_j (μ² + σ² − log σ² − 1), one number for each example."""
    mu, logvar = _normal(secret, "kl mu", 5, 3), _normal(secret, "kl logvar", 5, 3)

    def form(terms: Rule = lambda m, v: m**2 + v.exp() - v - 1, factor: float = 0.5) -> Rule:
        return lambda m, v: factor * terms(m, v).sum(-1)

    mistakes = [
        Mistake(
            lambda m, v: kl_standard_normal(m, v) / m.shape[-1],
            "this is the mean over the latent dimensions: the price is a sum, yours is n times too cheap",
        ),
        Mistake(
            lambda m, v: kl_standard_normal(m, v).sum(), "this sums over the examples too; one number each is wanted"
        ),
        Mistake(
            lambda m, v: kl_standard_normal(m, v).mean(), "this is the mean over the batch; one number each is wanted"
        ),
        Mistake(lambda m, v: 0.5 * (m**2 + v.exp() - v - 1), "the sum over the latent dimensions is missing"),
        Mistake(form(factor=1.0), "the factor ½ is missing"),
        Mistake(form(factor=-0.5), "the sign is wrong: a KL divergence is never negative"),
        Mistake(
            form(lambda m, v: m**2 + (2 * v).exp() - 2 * v - 1),
            "you read the second argument as log σ; it is log σ², so exp of it is the variance already",
        ),
        Mistake(form(lambda m, v: m**2 + (v / 2).exp() - v - 1), "σ stands where σ² should"),
        Mistake(form(lambda m, v: m**2 + v.exp() - v / 2 - 1), "log σ stands where log σ² should"),
        Mistake(form(lambda m, v: m**2 + v.exp() - v), "the −1 is missing: at μ = 0, σ = 1 the price must be 0"),
        Mistake(form(lambda m, v: m**2 + v.exp() + v - 1), "log σ² has the wrong sign: a narrow q is dear, not cheap"),
        Mistake(form(lambda m, v: m + v.exp() - v - 1), "μ is not squared"),
        Mistake(
            form(lambda m, v: (1 + m**2) * (-v).exp() + v - 1),
            "this is KL(p‖q), the wrong way round; the bound has KL(q‖p)",
        ),
    ]
    _check("kl", kl, kl_standard_normal, [(mu, logvar), (2 * mu[:2], logvar[:2] - 3)], mistakes, secret)


@calmly
def check_kl_of_two(kl_of_two: Any, secret: str | None = None) -> None:
    """KL(q‖p) = H(q, p) − H(q) of two laws on two points."""
    q, p = (0.9, 0.1), (0.5, 0.5)

    def cross(a: tuple[float, float], b: tuple[float, float]) -> float:
        return -sum(x * math.log(y) for x, y in zip(a, b, strict=True))

    right = cross(q, p) - cross(q, q)
    check_number(
        "kl_of_two",
        kl_of_two,
        right,
        mistakes=[
            (
                cross(p, q) - cross(q, q),
                "that is H(p, q) − H(q), which is no divergence: the mean of log p must be taken under q, so it is H(q, p)",
            ),
            (cross(p, q) - cross(p, p), "that is KL(p‖q), the other way round"),
            (-right, "the sign is wrong: a KL divergence is never negative"),
            (right / math.log(2), "that is in bits; take the natural logarithm"),
            (cross(q, p), "that is the cross-entropy; the entropy of q goes off"),
            (cross(q, q), "that is the entropy of q alone"),
        ],
        show=secret is None,
    )


@calmly
def check_bound(bound: Any, secret: str | None = None) -> None:
    """Σ_i log p(x_i|z) − KL for each image, with moderate logits and with huge ones."""
    logits, mu, logvar = (
        2 * _normal(secret, "logits", 6, 9),
        _normal(secret, "mu", 6, 3),
        _normal(secret, "logvar", 6, 3),
    )
    x = (_normal(secret, "x", 6, 9) > 0).double()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits

    def fit(logits: Tensor, x: Tensor) -> Tensor:
        return -entropy(logits, x, reduction="none")

    def form(
        likelihood: Rule = lambda o, x: fit(o, x).sum(-1), price: Rule = kl_standard_normal, sign: float = -1.0
    ) -> Rule:
        return lambda o, x, m, v: likelihood(o, x) + sign * price(m, v)

    mistakes = [
        Mistake(form(sign=1.0), "the price is added: the bound takes the KL off"),
        Mistake(lambda *case: -form()(*case), "this is minus the bound, the loss; asked is what is raised"),
        Mistake(
            form(lambda o, x: fit(o, x).mean(-1)),
            "the reconstruction is the mean over the pixels. That multiplies β by their number; the log-likelihood is a sum",
        ),
        Mistake(
            form(lambda o, x: fit(o, x).mean()),
            "the reconstruction is averaged over images and pixels (the default in torch): sum over pixels, for each image",
        ),
        Mistake(form(lambda o, x: fit(o, x).sum()), "the reconstruction is summed over the images too"),
        Mistake(form(sign=0.0), "the price is missing: without the KL this is an auto-encoder with noise"),
        Mistake(
            form(price=lambda m, v: kl_standard_normal(m, v) / m.shape[-1]),
            "the price is the mean over the latent dimensions: this is β = 1/n, no bound",
        ),
        Mistake(form(price=lambda m, v: 2 * kl_standard_normal(m, v)), "the ½ of the price is missing: this is β = 2"),
        Mistake(
            form(lambda o, x: fit(o.sigmoid(), x).sum(-1)),
            "the sigmoid is applied twice: a loss “with logits” has one inside already",
        ),
        Mistake(form(lambda o, x: (x * -(-o).exp().log1p()).sum(-1)), "only ink counts: (1 − x) log(1 − π) is missing"),
        Mistake(form(lambda o, x: -(x - o.sigmoid()).square().sum(-1)), "a squared error is no log-likelihood of bits"),
        Mistake(lambda *case: form()(*case).mean(), "this is the mean over the batch; one number each is wanted"),
    ]
    _check("bound", bound, form(), [(logits, x, mu, logvar)], mistakes, secret)

    def logs(end: float) -> Rule:
        def likelihood(o: Tensor, x: Tensor) -> Tensor:
            pi = o.sigmoid()
            return (x * (pi + end).log() + (1 - x) * (1 - pi + end).log()).sum(-1)

        return likelihood

    def clamped(o: Tensor, x: Tensor) -> Tensor:
        return -torch.nn.functional.binary_cross_entropy(o.sigmoid(), x, reduction="none").sum(-1)

    capped = "a logit of 1e4 costs 1e4 nats where the bit is the other one; your logarithm stops far earlier. Stay with logits"
    nan = "log of a sigmoid that is 0 or 1 gives NaN at huge logits: use softplus, or a loss with logits"
    huge = [Mistake(form(logs(0.0)), nan)]
    huge += [Mistake(form(rule), capped) for rule in (clamped, *map(logs, (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)))]
    _check("bound", bound, form(), [(1e4 * logits.sign(), x, mu, logvar)], huge, secret)


@calmly
def check_push(push: Any, secret: str | None = None) -> None:
    """p(z = k|x) for each image, also where every likelihood is far below what a float can hold."""
    each = 2 * _normal(secret, "each", 6, 5) - 9
    log_prior = _normal(secret, "prior", 5).log_softmax(-1)

    def right(each: Tensor, log_prior: Tensor) -> Tensor:
        joint = each + log_prior
        return (joint - torch.logsumexp(joint, -1, keepdim=True)).exp()

    def naive(each: Tensor, log_prior: Tensor) -> Tensor:
        joint = (each + log_prior).exp()
        return joint / joint.sum(-1, keepdim=True)

    alike = "this pushes every z alike, as the note has it; but p(x) hardly notices a z that does not explain x"
    mistakes = [
        Mistake(lambda a, p: torch.ones_like(a), alike),
        Mistake(lambda a, p: torch.full_like(a, 1 / a.shape[-1]), alike),
        Mistake(
            lambda a, p: p.exp().expand_as(a),
            "this is the prior: the gradient of the mean of log p(x|z). Here the logarithm stands outside the sum",
        ),
        Mistake(lambda a, p: a.softmax(-1), "the prior is left out: a rare z counts less"),
        Mistake(
            lambda a, p: (a + p).exp(), "this is the joint λ p(x|z): the derivative of the logarithm divides by p(x)"
        ),
        Mistake(lambda a, p: a.exp() / (a + p).exp().sum(-1, keepdim=True), "λ is missing above the fraction"),
        Mistake(lambda a, p: right(a, p).log(), "this is the logarithm of the answer"),
        Mistake(
            lambda a, p: (a + p).softmax(0), "the weights sum to 1 over the images; they must over the values of z"
        ),
        Mistake(lambda a, p: right(a, p) / len(a), "each image is a case of its own: nothing is divided by the batch"),
    ]
    _check("push", push, right, [(each, log_prior)], mistakes, secret)
    says = "the exponential of −2000 is 0, and 0/0 is NaN: stay with logarithms, or let torch's softmax take the largest off"
    _check("push", push, right, [(40 * each - 2000, log_prior)], [Mistake(naive, says)], secret)


@calmly
def check_gap(gap: Any, secret: str | None = None) -> None:
    """KL(q ‖ posterior); the reference computes log p(x) and the bound, each from its own formula."""
    drawn = torch.rand(4, 5, generator=numbers(secret, "gap"), dtype=torch.float64) + 0.3

    def log_normal(x: float, mean: float, variance: float) -> float:
        return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))

    def divergence(a: float, alpha2: float, b: float, beta2: float) -> float:
        return 0.5 * (math.log(beta2 / alpha2) + (alpha2 + (a - b) ** 2) / beta2 - 1)

    def posterior(x: float, w: float, s: float) -> tuple[float, float]:
        return w * x / (w * w + s * s), s * s / (w * w + s * s)

    def fit(x: float, w: float, s: float, mu: float, sigma: float) -> float:
        return log_normal(x, w * mu, s * s) - 0.5 * (w * sigma / s) ** 2

    def right(x: float, w: float, s: float, mu: float, sigma: float) -> float:
        bound = fit(x, w, s, mu, sigma) - divergence(mu, sigma**2, 0.0, 1.0)
        return log_normal(x, 0.0, w * w + s * s) - bound

    mistakes = [
        Mistake(
            lambda x, w, s, mu, sigma: divergence(mu, sigma**2, 0.0, 1.0),
            "this is the KL to the prior, a term of the bound. The gap is a KL to the posterior, and a small one to the prior "
            "does not make it large",
        ),
        Mistake(
            lambda x, w, s, mu, sigma: divergence(*posterior(x, w, s), mu, sigma**2),
            "this is KL(posterior‖q), the wrong way round: the expectation in the bound is under q",
        ),
        Mistake(
            lambda x, w, s, mu, sigma: divergence(*posterior(x, w, s), 0.0, 1.0),
            "this is KL(posterior‖prior), which does not depend on q at all",
        ),
        Mistake(lambda *c: -right(*c), "the sign is wrong: the bound lies below log p(x), the gap is never negative"),
        Mistake(
            lambda x, *c: log_normal(x, 0.0, c[0] ** 2 + c[1] ** 2) - fit(x, *c),
            "the price is missing: the bound is the reconstruction minus the KL to the prior",
        ),
        Mistake(
            lambda x, w, s, mu, sigma: divergence(mu, sigma**2, *posterior(x, w, 1.0)),
            "s is missing in your posterior: its precision is 1 + w²/s²",
        ),
        Mistake(
            lambda x, w, s, mu, sigma: log_normal(x, 0.0, w * w + s * s) - right(x, w, s, mu, sigma),
            "this is the bound itself; asked is how far it lies below log p(x)",
        ),
    ]
    _check("gap", gap, right, [tuple(row) for row in drawn.tolist()], mistakes, secret)


@calmly
def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the run is silent. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "B",
        {
            "A": "z = μ + σε passes it: with sums in place of the means the same draw trains the encoder",
            "B": "right",
            "C": "what counts is the ratio: the reconstruction was divided too, and by more",
            "D": "with sums in place of the means the same four numbers tell digits apart",
        },
        show=secret is not None,
    )
