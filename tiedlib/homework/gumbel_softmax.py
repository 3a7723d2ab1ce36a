"""Checks of the homework `gumbel_softmax`. The mistakes are those of the notes (claims `gumbel-inverse-cdf`,
`gumbel-replaces-sampling`, `gumbel-softmax-high-temperature`, `gumbel-softmax-differentiable-sample`) and of the forums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import tiedlib.gumbel_softmax
from tiedlib.gumbel_softmax import relax, sample_gumbel
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_number, numbers

__all__ = [
    "check_bound",
    "check_cause",
    "check_draw",
    "check_noise",
    "check_probability",
    "check_reinforce",
    "check_relaxed",
]

_OURS = (tiedlib.gumbel_softmax, torch.nn.functional.gumbel_softmax, torch.distributions, torch.multinomial)
_OVERFLOW = "the exponential of a large logit overflows: take the largest logit off first, or use torch's softmax"
Rule = Callable[..., Any]


def _normal(secret: str | None, what: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=numbers(secret, what), dtype=torch.float64)


def _noise(secret: str | None, what: str, *shape: int) -> Tensor:
    return sample_gumbel(shape, generator=numbers(secret, f"noise of {what}"), dtype=torch.float64)


def _check(name: str, answer: Any, right: Rule, cases: list[Any], mistakes: list[Mistake], secret: str | None) -> None:
    check_function(name, answer, right, cases, mistakes=mistakes, forbid=_OURS, show=secret is None)


def _onehot(scores: Tensor, dim: int = -1) -> Tensor:
    return torch.zeros_like(scores).scatter(dim, scores.argmax(dim, keepdim=True), 1.0)


@calmly
def check_noise(gumbel_noise: Any, secret: str | None = None) -> None:
    """−log(−log max(u, 2⁻⁵⁴)), on numbers inside and on a row with an exact 0."""
    u = 0.001 + 0.998 * torch.rand(40, generator=numbers(secret, "uniform"), dtype=torch.float64)
    cases = [(u,), (torch.cat([torch.zeros(1, dtype=torch.float64), u[:5]]),)]
    half = 2.0**-54
    zero = (
        "the formula is right inside, but an entry of 0 gives −∞, and a generator does return 0: it must count as 2⁻⁵⁴"
    )
    small = "the small number that you chose decides where the noise ends; asked is that an entry of 0 counts as 2⁻⁵⁴"
    mistakes = [Mistake(lambda u: -torch.log(-torch.log(u)), zero)]
    for end in (1e-6, 1e-8, 1e-10, 1e-12, 1e-20, 1e-30, torch.finfo(torch.float64).tiny):
        mistakes.append(Mistake(lambda u, end=end: -torch.log(-torch.log(u + end)), small))
    wrong: list[tuple[Rule, str]] = [
        (
            lambda v: torch.log(-torch.log(v)),
            "a minus is missing: this is the law of −G, whose long tail is on the left",
        ),
        (lambda v: -torch.log(v), "this is exponential noise, one logarithm short: solve u = exp(−exp(−g)) for g"),
        (lambda v: v, "this is the uniform number itself; it is only what the Gumbel noise is made from"),
        (
            lambda v: -torch.log(-torch.log1p(-v)),
            "the law is right, but it is F⁻¹(1 − u); asked is F⁻¹(u), which rises with u",
        ),
        (lambda v: torch.exp(-torch.exp(-v)), "this is F(u); asked is its inverse"),
    ]
    for rule, says in wrong:  # each with and without care for u = 0
        mistakes += [Mistake(lambda u, f=rule, end=end: f(u.clamp_min(end)), says) for end in (half, 0.0)]
    _check("gumbel_noise", gumbel_noise, lambda u: -(-u.clamp_min(half).log()).log(), cases, mistakes, secret)


@calmly
def check_draw(draw: Any, secret: str | None = None) -> None:
    """argmax_k (log w_k + G_k), 80 rows: a rule that differs in two of five agrees on all with probability 1e-17."""
    weights = 3 * _normal(secret, "weights", 60, 5).exp()
    weights[:, 2] = 0.0
    noise = _noise(secret, "weights", 60, 5)

    def form(score: Rule, dim: int | None = -1) -> Rule:
        return lambda w, g: score(w, g).argmax(dim)

    mistakes = [
        Mistake(
            form(lambda w, g: w + g),
            "the noise belongs to the logarithm of the weights; to the weights themselves it is added in vain, and 0 can be drawn",
        ),
        Mistake(
            form(lambda w, g: w / w.sum(-1, keepdim=True) + g),
            "you add the noise to probabilities; it belongs to their logarithms, and then no sum is needed",
        ),
        Mistake(
            form(lambda w, g: torch.softmax(w, -1) + g),
            "the weights are no logits: their softmax is another law, and the noise belongs to log-probabilities",
        ),
        Mistake(form(lambda w, g: w), "the noise is missing: this is the most probable word, always the same one"),
        Mistake(form(lambda w, g: w.log() - g), "the noise is subtracted: −G has another law than G"),
        Mistake(form(lambda w, g: w * g), "the noise is added to log w, not multiplied with w"),
        Mistake(
            form(lambda w, g: w.log() + g, 0), "the argmax runs over the rows: one word is wanted for each row, dim=−1"
        ),
        Mistake(form(lambda w, g: w.log() + g, None), "one index for the whole table; one for each row is wanted"),
        Mistake(lambda w, g: _onehot(w.log() + g), "these are one-hot vectors; the index of the word is wanted"),
    ]
    cases = [(weights, noise), (1000 * weights[:20], noise[:20])]
    _check("draw", draw, form(lambda w, g: w.log() + g), cases, mistakes, secret)


@calmly
def check_probability(probability: Any, secret: str | None = None) -> None:
    """σ(1): with noise times two, the logits are divided by two."""

    def logistic(t: float) -> float:
        return 1 / (1 + math.exp(-t))

    check_number(
        "probability",
        probability,
        logistic(1.0),
        mistakes=[
            (logistic(2.0), "that is the softmax of z, right for noise of scale one. Louder noise flattens the law"),
            (logistic(4.0), "the wrong way round: louder noise makes the draw less certain, not more"),
            (logistic(-1.0), "that is the probability of category 2"),
            (0.5, "the noise is louder, but the scores still count"),
            (math.e, "those are the odds π₁/π₂; a probability lies between 0 and 1"),
        ],
        show=secret is None,
    )


@calmly
def check_relaxed(relaxed: Any, secret: str | None = None) -> None:
    """First the values, then huge logits, then the gradient that reaches the logits."""
    z, g = _normal(secret, "relaxed", 8, 5), _noise(secret, "relaxed", 8, 5)
    cases = [(z, g, 0.5, False), (2 * z, g, 3.0, False), (z, g, 0.5, True), (z, g, 2.0, True)]

    def form(score: Rule, dim: int = -1, straight: Rule = _onehot) -> Rule:
        def rule(z: Tensor, g: Tensor, tau: float, hard: bool) -> Tensor:
            soft = torch.softmax(score(z, g, tau), dim)
            return straight(soft) if hard else soft

        return rule

    def right(z: Tensor, g: Tensor, tau: float) -> Tensor:
        return (z + g) / tau

    def right_y(z: Tensor, g: Tensor, tau: float, hard: bool) -> Tensor:
        return relax(z + g, tau, hard)

    values = [
        Mistake(
            form(right, straight=lambda y: y), "hard=True returns y; its value must be the one-hot vector, exactly"
        ),
        Mistake(
            form(right, straight=lambda y: _onehot(y) + y),
            "with hard=True the value is the one-hot vector plus y: what is added for the gradient must be zero in value",
        ),
        Mistake(
            form(right, straight=lambda y: y.argmax(-1)), "with hard=True an index comes back, not a one-hot vector"
        ),
        Mistake(form(lambda z, g, tau: z + g), "the temperature is missing: your y is the same for every τ"),
        Mistake(form(lambda z, g, tau: (z + g) * tau), "the sums are multiplied by τ: a low τ must sharpen, so divide"),
        Mistake(
            form(lambda z, g, tau: z / tau + g),
            "only the logits are divided by τ. That changes the law of the category drawn; divide the noise too",
        ),
        Mistake(form(lambda z, g, tau: z + g / tau), "only the noise is divided by τ; divide the sum of both"),
        Mistake(
            form(lambda z, g, tau: z / tau), "the noise is missing: this is a softmax, always the same, not a draw"
        ),
        Mistake(
            form(lambda z, g, tau: (torch.softmax(z, -1) + g) / tau),
            "the noise is added to the probabilities; it belongs to the logits",
        ),
        Mistake(form(right, 0), "the softmax runs over the rows: dim=−1 is the axis of the categories"),
    ]
    _check("relaxed", relaxed, right_y, cases, values, secret)

    def naive(z: Tensor, g: Tensor, tau: float, hard: bool) -> Tensor:
        e = ((z + g) / tau).exp()
        return e / e.sum(-1, keepdim=True)

    huge = [(1e4 * z.sign(), g, 0.01, False)]
    _check("relaxed", relaxed, right_y, huge, [Mistake(naive, _OVERFLOW)], secret)
    target = _normal(secret, "target", 5)

    def gradient(rule: Rule) -> Rule:
        def run(z: Tensor, g: Tensor, tau: float, hard: bool) -> Any:
            z = z.clone().requires_grad_()
            y = rule(z, g.clone(), tau, hard)
            return torch.autograd.grad((y * target).sum(-1).square().sum(), z)[0] if y.requires_grad else "none"

        return run

    def cut(z: Tensor, g: Tensor, tau: float, hard: bool) -> Any:
        return "none" if hard else gradient(right_y)(z, g, tau, hard)

    slopes = [
        Mistake(
            cut, "with hard=True no gradient reaches the logits: an argmax has no slope, the gradient must come from y"
        ),
        Mistake(
            gradient(form(right, straight=lambda y: _onehot(y) + y - y)),
            "with hard=True the gradient is zero: of the two y that cancel, one must be without gradient",
        ),
        Mistake(
            gradient(form(right, straight=lambda y: _onehot(y) + y.detach() - y)),
            "with hard=True the gradient has the wrong sign: the y that keeps its gradient must be added",
        ),
        Mistake(lambda *case: "none", "no gradient reaches the logits: stay with torch's operations, without detach"),
    ]
    _check("relaxed", gradient(relaxed), gradient(right_y), cases, slopes, secret)


@calmly
def check_reinforce(reinforce: Any, secret: str | None = None) -> None:
    """(r − r̄)(e_k − π), one row for each draw."""
    z, rewards = _normal(secret, "reinforce", 4), 1 + _normal(secret, "rewards", 7)
    drawn = torch.cat([torch.arange(4), torch.randint(4, (3,), generator=numbers(secret, "drawn"))])
    eye = torch.eye(4, dtype=torch.float64)

    def form(rows: Rule = lambda e, pi: e - pi, weight: Rule = lambda r, b: r - b) -> Rule:
        return lambda z, k, r, b: weight(r, b)[:, None] * rows(eye[k], torch.softmax(z, -1))

    def naive(z: Tensor, k: Tensor, r: Tensor, b: float) -> Tensor:
        return (r - b)[:, None] * (eye[k] - z.exp() / z.exp().sum())

    mistakes = [
        Mistake(
            form(lambda e, pi: e + 0 * pi),
            "the normaliser is forgotten: log π_k = z_k − log Σ exp z, and the sum has a derivative too. Your rows do not sum to 0",
        ),
        Mistake(
            form(lambda e, pi: pi - e), "the sign is wrong: a draw with a reward above r̄ must become more probable"
        ),
        Mistake(
            form(lambda e, pi: (e * pi).sum(-1, keepdim=True) * (e - pi)),
            "this is the derivative of π_k, not of log π_k: the draw counts each k with π_k already",
        ),
        Mistake(form(weight=lambda r, b: r + 0 * b), "the baseline is not used; the mean stays, but the variance too"),
        Mistake(form(weight=lambda r, b: r + b), "the baseline is added; it is taken off the reward"),
        Mistake(
            lambda z, k, r, b: r[:, None] * (eye[k] - torch.softmax(z, -1)) - b,
            "the baseline is taken off the product; it belongs to the reward. Like this the mean is wrong by r̄",
        ),
        Mistake(lambda z, k, r, b: form()(z, k, r, b).mean(0), "this is the mean of the draws; one row each is wanted"),
        Mistake(form(lambda e, pi: e * (1 - pi)), "the other categories must fall when k rises: −π_j for each j ≠ k"),
    ]
    cases = [(z, drawn, rewards, 0.7), (3 * z, drawn.flip(0), rewards, -0.4)]
    _check("reinforce", reinforce, form(), cases, mistakes, secret)
    huge = [(1e4 * z.sign(), drawn, rewards, 0.5)]
    _check("reinforce", reinforce, form(), huge, [Mistake(naive, _OVERFLOW)], secret)


@calmly
def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the relaxed objective is no measure of the discrete model. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "C",
        {
            "A": "the vector y comes close to uniform, but its largest entry keeps the law softmax(z) at every temperature",
            "B": "a high temperature makes the gradient smaller, not zero: compare the encoder's weights before and after training",
            "C": "right",
            "D": "both numbers are measured on the same test digits, so that cannot be the difference",
        },
        show=secret is not None,
    )


@calmly
def check_bound(exact_bound: Any, secret: str | None = None) -> None:
    """Σ q_k log p(x|e_k) − KL(q ‖ uniform), and where entries of q are 0."""
    z, each = 2 * _normal(secret, "bound", 6, 5), 3 * _normal(secret, "each", 6, 5) - 20

    def form(price: Rule) -> Rule:
        def rule(z: Tensor, each: Tensor) -> Tensor:
            q = torch.softmax(z, -1)
            return (q * each).sum(-1) - price(q, torch.special.xlogy(q, q).sum(-1), math.log(z.shape[-1]))

        return rule

    def kl(q: Tensor, minus_h: Tensor, log_k: float) -> Tensor:
        return minus_h + log_k

    def naive(z: Tensor, each: Tensor) -> Tensor:
        q = torch.softmax(z, -1)
        return (q * (each - (q * z.shape[-1]).log())).sum(-1)

    mistakes = [
        Mistake(form(lambda q, minus_h, log_k: -minus_h - log_k), "the KL is added; it is a price, take it off"),
        Mistake(
            form(lambda q, minus_h, log_k: minus_h), "log K is missing: KL(q‖uniform) is log K minus the entropy of q"
        ),
        Mistake(form(lambda q, minus_h, log_k: 0.0), "the price is missing: this is the reconstruction alone"),
        Mistake(form(lambda q, minus_h, log_k: -minus_h), "this takes off the entropy; the price is log K − entropy"),
        Mistake(
            form(lambda q, minus_h, log_k: -q.log().mean(-1) - log_k),
            "the KL is the wrong way round: this is KL(uniform‖q), averaged under the uniform law; the bound has KL(q‖uniform)",
        ),
        Mistake(
            lambda z, each: torch.logsumexp(each, -1) - math.log(z.shape[-1]),
            "this is log p(x) itself under a uniform prior; asked is the bound for the encoder's q, which lies below",
        ),
        Mistake(
            lambda z, each: torch.logsumexp(torch.log_softmax(z, -1) + each, -1) + form(kl)(z, 0 * each),
            "the first term is the mean of log p, not the log of the mean: the logarithm stands inside",
        ),
        Mistake(
            lambda z, each: each.gather(-1, z.argmax(-1, keepdim=True))[..., 0] + form(kl)(z, 0 * each),
            "the first term looks at the most probable symbol only; it is the mean over all of them",
        ),
        Mistake(lambda z, each: form(kl)(z, each).mean(), "one number for each image is wanted"),
    ]
    zero = "where q is 0 your sum has 0 · log 0, which is NaN here and 0 in the formula"
    _check("exact_bound", exact_bound, form(kl), [(z, each)], mistakes, secret)
    _check("exact_bound", exact_bound, form(kl), [(1e4 * z, each)], [Mistake(naive, zero)], secret)
