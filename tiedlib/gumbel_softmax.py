"""Gumbel-max and Gumbel-softmax: drawing a category with noise and an argmax, and a relaxation that gradients can pass.

Explained in the chapter `gumbel_softmax`. Sources: Gumbel 1954 (the law); Yellott 1977 (only this law gives the softmax);
Jang, Gu & Poole 2016, arXiv:1611.01144 (Gumbel-softmax, straight-through); Maddison, Mnih & Teh 2016, arXiv:1611.00712 (the
same as the Concrete distribution, its density); Williams 1992 (REINFORCE).

Logits z are unnormalised log-probabilities in nats, π = softmax(z): a constant added to all of them changes nothing, −∞ is
a category of probability 0. Noise and sums are float64 inside (float32 on devices without it), results have the logits' dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiedlib import _arguments as arguments

__all__ = [
    "exact_gradient",
    "gumbel_cdf",
    "gumbel_log_density",
    "gumbel_max",
    "gumbel_softmax",
    "gumbel_softmax_gradients",
    "kl_uniform",
    "log_density",
    "reinforce_gradients",
    "relax",
    "sample_gumbel",
]


Temperature = float | Float[Tensor, "..."]


def gumbel_log_density(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log f(x) = −x − e^{−x}: the standard Gumbel law, location 0, scale 1, x any real number."""
    arguments.floating(x=x)
    return -x - torch.exp(-x)


def gumbel_cdf(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """F(x) = exp(−e^{−x}).   Mean γ = 0.5772…, variance π²/6."""
    arguments.floating(x=x)
    return torch.exp(-torch.exp(-x))


def sample_gumbel(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "*shape"]:
    """G = F⁻¹(1 − u) = −log(−log(1 − u)),   u uniform on [0, 1).

    u is drawn in float64, a multiple of 2⁻⁵³; u = 0 counts as half a step. So G is finite always, and lies in
    [−3.61, 37.43]: outside lie 5·10⁻¹⁷ of the law. From a float32 u it would end at 16.6. dtype: of the result, torch's default
    if None; device: the generator's if None. Raises ValueError for a negative size, TypeError for an integer dtype.
    """
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if any(size < 0 for size in shape):
        raise ValueError(f"shape is {tuple(shape)}; every size must be at least 0")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype is {dtype}; the noise is real, it must be a floating-point type")
    arguments.replayable(generator)
    if device is None:
        device = torch.get_default_device() if generator is None else generator.device
    uniform = torch.rand(tuple(shape), generator=generator, dtype=_widest(torch.device(device)), device=device)
    exponential = -torch.log1p(-uniform)
    return -exponential.clamp_min(torch.finfo(uniform.dtype).eps / 4).log().to(dtype)


def gumbel_max(
    logits: Float[Tensor, "*batch classes"], *, generator: torch.Generator | None = None
) -> Int[Tensor, "*batch"]:
    """argmax_k (z_k + G_k),   G_k independent standard Gumbel: an index with the law softmax(z), one for each row.

    No normaliser is computed. Raises TypeError for logits that are not floating point, ValueError for rows without a
    category, with NaN or +∞, or with nothing but −∞.
    """
    _check_logits(logits, -1)
    return _perturbed(logits, generator).argmax(-1)


def relax(
    scores: Float[Tensor, "*shape"], tau: Temperature = 1.0, hard: bool = False, dim: int = -1, *, log: bool = False
) -> Float[Tensor, "*shape"]:
    """y = softmax(s / τ) along `dim`, in place of onehot(argmax s),   s = scores, τ = tau > 0.

    hard=True is the straight-through variant: the value is onehot(argmax s) exactly, the gradient is that of y
    (Jang et al. 2016, section 2.2). log=True gives log y, also where y itself is too small to be held. τ is a number, or a
    tensor that broadcasts to s, such as one temperature for each row. The maximum is taken off before dividing, so that no s
    and no τ overflows; half precision is computed in float32. Raises as `gumbel_softmax`.
    """
    _check_logits(scores, dim, "scores")
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    _check_tau(tau, wide)
    if hard and log:
        raise ValueError("log is True with hard; the logarithm of a one-hot vector is -inf in all places but one")
    if isinstance(tau, Tensor):
        tau = tau.to(wide.dtype)
    below = (wide - wide.amax(dim, keepdim=True).detach()) / tau
    if log:
        return torch.log_softmax(below, dim).to(scores.dtype)
    y = torch.softmax(below, dim)
    if hard:
        onehot = torch.zeros_like(y).scatter(dim, wide.argmax(dim, keepdim=True), 1.0)
        y = onehot + (y - y.detach())  # the bracket is exactly 0
    return y.to(scores.dtype)


def gumbel_softmax(
    logits: Float[Tensor, "*shape"],
    tau: Temperature = 1.0,
    hard: bool = False,
    dim: int = -1,
    *,
    generator: torch.Generator | None = None,
    log: bool = False,
) -> Float[Tensor, "*shape"]:
    """y = softmax((z + G) / τ),   G independent standard Gumbel: a point of the simplex whose largest entry has the law π.

    Jang et al. 2016, equation 2; arguments as in torch.nn.functional.gumbel_softmax. τ = tau → 0 gives onehot vectors,
    τ → ∞ the centre (1/K, …, 1/K); E[y] ≠ π between. hard=True, log=True, a tensor for tau: see `relax`. The same generator
    state gives the same category here and in `gumbel_max`. Raises TypeError for logits that are not floating point, ValueError
    for tau ≤ 0 or not finite, a dim that logits has not, and rows as in `gumbel_max`.
    """
    _check_logits(logits, dim)
    last = logits.movedim(dim, -1)  # so that the noise falls as in gumbel_max
    if isinstance(tau, Tensor) and tau.dim():
        _check_tau(tau, logits)
        tau = tau.expand(logits.shape).movedim(dim, -1)
    return relax(_perturbed(last, generator), tau, hard, log=log).to(logits.dtype).movedim(-1, dim)


def log_density(
    y: Float[Tensor, "*batch classes"], logits: Float[Tensor, "#*batch classes"], tau: float, *, log: bool = False
) -> Float[Tensor, "*batch"]:
    """log p(y) of the Gumbel-softmax law inside the simplex, with α = exp(z):

        log (K−1)! + (K−1) log τ + Σ_k (z_k − (τ+1) log y_k) − K log Σ_k α_k y_k^{−τ}

    Maddison et al. 2016, definition 1. A density over y_1 … y_{K−1}, which needs every y_k > 0. At a low temperature most
    y_k are too small for their type: draw log y, `gumbel_softmax(…, log=True)`, and give that with log=True. Without, a y_k
    that was rounded to 0 counts as the smallest number of its type, and the result is near the truth only. Half precision is
    computed in float32 and comes back as float32. Raises ValueError for tau ≤ 0 or not finite, a y outside [0, 1], and
    unequal numbers of categories.
    """
    arguments.number("tau", tau, "positive and finite")
    _check_logits(y, -1, "y")
    _check_logits(logits, -1)
    lead = zip(y.shape[-2::-1], logits.shape[-2::-1], strict=False)
    if y.shape[-1] != logits.shape[-1] or any(b not in (1, a) for a, b in lead):
        raise ValueError(f"y has shape {tuple(y.shape)} and logits {tuple(logits.shape)}; logits must broadcast to y")
    if not arguments.holds((y <= 0).all() if log else ((y >= 0) & (y <= 1)).all()):
        rule = "not exceed 0, with log=True" if log else "lie in [0, 1]; for log y, say log=True"
        raise ValueError(f"y holds {float(y.min())} … {float(y.max())}; its entries must {rule}")
    k, limits = y.shape[-1], torch.finfo(y.dtype)
    y, z = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (y, logits))
    smallest = math.log(limits.tiny) + math.log(limits.eps)
    log_y = y if log else torch.where(y > 0, torch.where(y > 0, y, 1.0).log(), smallest)
    single = (z - (tau + 1) * log_y).sum(-1)
    return math.lgamma(k) + (k - 1) * math.log(tau) + single - k * torch.logsumexp(z - tau * log_y, -1)


def kl_uniform(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch"]:
    """KL(q ‖ uniform) = Σ_k q_k log(K q_k),   q = softmax(z), in nats, between 0 and log K; 0 log 0 = 0.

    The price of a categorical latent variable under a uniform prior. Raises as `gumbel_max`.
    """
    _check_logits(logits, -1)
    log_q = torch.log_softmax(logits, -1)
    finite = log_q.clamp_min(torch.finfo(log_q.dtype).min)
    return (log_q.exp() * finite).sum(-1) + math.log(logits.shape[-1])


Objective = Callable[[Tensor], Tensor]  # r: (*batch, classes) → (*batch), a value for each point of the simplex


def exact_gradient(objective: Objective, logits: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
    """∂/∂z Σ_k π_k r(e_k),   r = objective: the gradient of its mean over the categories, by looking at every one of them."""
    _check_logits(logits, -1)
    z = logits.detach().clone().requires_grad_()
    values = objective(torch.eye(len(z), dtype=z.dtype, device=z.device)).detach()
    return torch.autograd.grad((torch.softmax(z, -1) * values).sum(), z)[0]


def reinforce_gradients(
    objective: Objective,
    logits: Float[Tensor, " classes"],
    samples: int,
    *,
    baseline: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "samples classes"]:
    """(r(e_k) − r̄) ∂ log π_k/∂z = (r(e_k) − r̄)(e_k − π),   k ~ π: one row a draw, unbiased for any r̄ = baseline.

    Williams 1992. r = objective needs no gradient; it is called with one-hot rows. Raises ValueError for samples < 1.
    """
    arguments.number("baseline", baseline)
    rows = _rows(logits, samples)
    onehot = torch.nn.functional.one_hot(gumbel_max(rows, generator=generator), len(logits)).to(logits.dtype)
    return (objective(onehot).detach() - baseline)[:, None] * (onehot - torch.softmax(rows, -1))


def gumbel_softmax_gradients(
    objective: Objective,
    logits: Float[Tensor, " classes"],
    samples: int,
    *,
    tau: float = 1.0,
    hard: bool = False,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "samples classes"]:
    """∂/∂z r(gumbel_softmax(z, τ)),   r = objective: one row for each draw.

    Unbiased for E[r(y)], the relaxed objective; biased for Σ_k π_k r(e_k), unless r is constant. hard=True: r sees the
    one-hot vector and its gradient passes as if it were y. r must be differentiable inside the simplex, row by row.
    Raises ValueError for samples < 1 and as `gumbel_softmax`.
    """
    z = _rows(logits, samples).requires_grad_()
    return torch.autograd.grad(objective(gumbel_softmax(z, tau, hard, generator=generator)).sum(), z)[0]


def _rows(logits: Tensor, samples: int) -> Tensor:
    _check_logits(logits, -1)
    arguments.whole("samples", samples)
    return logits.detach().expand(samples, -1).clone()


def _perturbed(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """z + G in float64: rounded to half precision, two categories would tie often, and the first of them win."""
    wide = _widest(logits.device)
    return logits.to(wide) + sample_gumbel(logits.shape, generator=generator, dtype=wide, device=logits.device)


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def _check_tau(tau: Temperature, scores: Tensor) -> None:
    arguments.number("tau", tau, "positive and finite")
    limits = torch.finfo(torch.promote_types(scores.dtype, torch.float32))
    if isinstance(tau, Tensor):
        arguments.floating(tau=tau)
        if tau.dim() > scores.dim() or any(
            a not in (1, b) for a, b in zip(tau.shape[::-1], scores.shape[::-1], strict=False)
        ):
            raise ValueError(
                f"tau has shape {tuple(tau.shape)} and the scores {tuple(scores.shape)}; it must broadcast to them"
            )
        fine = arguments.holds(((tau >= limits.tiny) & (tau <= limits.max)).all())
    else:
        fine = limits.tiny <= tau <= limits.max
    if not fine:
        raise ValueError(
            f"tau is {tau}; the temperature must lie in {limits.tiny:.0e} … {limits.max:.0e}, or it cannot divide"
        )


def _check_logits(logits: Tensor, dim: int, name: str = "logits") -> None:
    arguments.floating(**{name: logits})
    if not -logits.dim() <= dim < logits.dim():
        raise ValueError(f"dim is {dim}; {name} has shape {tuple(logits.shape)}, and dim must name one of its axes")
    if logits.shape[dim] == 0:
        raise ValueError(f"{name} has shape {tuple(logits.shape)}; there must be at least one category along dim {dim}")
    if not arguments.holds(torch.isfinite(logits.detach().amax(dim)).all()):
        raise ValueError(
            f"{name} has a row with NaN, with +inf, or with nothing but -inf; its largest value must be finite"
        )
