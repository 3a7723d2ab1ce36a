"""Checks of the homework `tying`, continued: projection regularization, the augmented loss, perplexity. The mistakes are those of
the notes (claims `projection-regularization`, `pr-lambda`, `same-hyperparameters`, `soft-target-from-embeddings`, `augmented-loss`,
`zh-perplexity-improves-wording`, `zh-word2vec-and-skipgram`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import tiedlib.linear_cross_entropy
import tiedlib.regularization
import tiedlib.tying
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_function, check_that, numbers
from tiedlib.undocumented import all_undocumented

__all__ = ["check_augmented_loss", "check_penalties", "check_perplexity", "draw"]

# What may not be called.
_NORMS = (
    *(tiedlib.tying.projection_penalty, tiedlib.regularization, torch.norm, torch.Tensor.norm, torch.linalg.norm),
    *(torch.linalg.vector_norm, torch.linalg.matrix_norm, torch.frobenius_norm, torch.dist, torch.cdist),
)
_LOSSES = (
    *(tiedlib.tying.augmented_loss, tiedlib.linear_cross_entropy, F.cross_entropy, F.nll_loss, F.kl_div, torch.kl_div),
    *(torch.distributions.kl, *all_undocumented("_C._nn.cross_entropy_loss", "_C._nn.nll_loss_nd", "_C._nn.nll_loss")),
)


def draw(secret: str | None, what: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Normal numbers in float64, one tensor for each shape."""
    generator = numbers(secret, what)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def _check_scalar(name: str, answer: Any, case: tuple[Any, ...], forbid: Sequence[Any]) -> None:
    """answer(*case) is one number that a gradient can be taken of, before all else is tried."""
    seen: list[Any] = []

    def run(*given: Any) -> Any:
        live = [x.requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in given]
        seen.append(answer(*live))
        return seen[-1]

    check_function(name, run if callable(answer) else answer, lambda *_: seen[-1], [case], forbid=forbid)
    shape = f"shape {tuple(seen[-1].shape)}" if isinstance(seen[-1], Tensor) else f"a {type(seen[-1]).__name__}"
    check_that(shape == "shape ()", f"{name} returns {shape}; it must be one number, in a tensor of shape ()")
    check_that(seen[-1].requires_grad, f"{name} is cut off from its arguments: what it returns has no gradient")


def _code(
    P: Tensor,
    size: str,
    *,
    half: float = 0.5,
    batch: bool = True,
    time: bool = True,
    factor: float = 6.5,
    power: int = 2,
) -> Tensor:
    """½‖P‖²_F / (6.5 B T), or what a mistake makes of it."""
    settings = tiedlib.tying.PRESETS[size]
    below = factor * (settings.batch if batch else 1) * (settings.unroll if time else 1)
    return half * torch.linalg.vector_norm(P) ** power / below


def _graded_penalty(penalty: Callable[..., Tensor], P: Tensor, *size: str) -> tuple[Tensor, Tensor]:
    """The penalty and its gradient."""
    P = P.clone().requires_grad_()
    value = penalty(P, *size)
    return value, torch.autograd.grad(value, P)[0]


def _of_penalty(wrong: Callable[..., Tensor], says: str) -> Mistake:
    return Mistake(partial(_graded_penalty, wrong), says)


@calmly
def check_penalties(paper_penalty: Any, code_penalty: Any, secret: str | None = None) -> None:
    """0.15 ‖P‖_F, and what the authors' code comes to beside a mean per token; with gradients."""
    P, Q = draw(secret, "penalties", (4, 4), (3, 3))
    norm = torch.linalg.vector_norm
    _check_scalar("paper_penalty", paper_penalty, (P,), _NORMS)
    check_function(
        "paper_penalty",
        lambda P: _graded_penalty(paper_penalty, P),
        lambda P: _graded_penalty(lambda P: 0.15 * norm(P), P),
        [(P,), (0.1 * Q,)],
        mistakes=[
            _of_penalty(
                lambda P: 0.15 * torch.linalg.matrix_norm(P, ord=2),
                "this is the spectral norm, the largest singular value: it pulls at one direction of P only. Asked is the "
                "norm of all entries together",
            ),
            _of_penalty(lambda P: 0.15 * norm(P) ** 2, "the root is missing: the text penalizes the norm"),
            _of_penalty(lambda P: norm(P), "λ is missing"),
            _of_penalty(lambda P: norm(P) / 6.5, "1/6.5 is the code's factor; the paper's text has λ = 0.15"),
            _of_penalty(lambda P: 0.15 * P.square().mean().sqrt(), "the norm sums the squares; you took their mean"),
            _of_penalty(lambda P: 0.15 * P.abs().sum(), "this is L1, the sum of the absolute values"),
        ],
        forbid=_NORMS,
        show=secret is None,
    )
    _check_scalar("code_penalty", code_penalty, (P, "small"), _NORMS)
    check_function(
        "code_penalty",
        lambda P, size: _graded_penalty(code_penalty, P, size),
        partial(_graded_penalty, _code),
        [(P, "small"), (Q, "large"), (0.1 * P, "medium")],
        mistakes=[
            _of_penalty(
                lambda P, size: _code(P, "small"),
                "you use the small model's window for every size. The sizes do not share their hyper-parameters: the "
                "others unroll over more steps",
            ),
            _of_penalty(
                partial(_code, time=False),
                "that fits a loss summed over the T steps of a window; beside a mean per token it is T times too much",
            ),
            _of_penalty(partial(_code, batch=False), "B is missing: the authors' code divides by the batch size"),
            _of_penalty(
                partial(_code, batch=False, time=False),
                "B and T are missing: the code divides by the batch size, and your loss is a mean per token",
            ),
            _of_penalty(partial(_code, half=1.0), "the ½ is missing: the code halves the square"),
            _of_penalty(partial(_code, factor=1 / 6.5), "you multiply by 6.5; the code divides by it: 1/6.5 is its λ"),
            _of_penalty(
                partial(_code, factor=1 / 0.15),
                "λ = 0.15 is the paper's, rounded; the code divides by 6.5, which is 0.154",
            ),
            _of_penalty(partial(_code, power=1), "the code halves the square of the norm, not the norm"),
            _of_penalty(
                lambda P, size: 0.15 * norm(P) ** 2,
                "this is 0.15 times the square, beside a mean per token: hundreds of times what the authors' code does",
            ),
        ],
        forbid=_NORMS,
        show=secret is None,
    )


def _augmented(
    z: Tensor, o: Tensor, L: Tensor, alpha: float, tau: float, *, target_tau: bool = True, tempered: bool = True,
    constant: bool = True, entropy: bool = True, ce: bool = True, reverse: bool = False, mean: bool = True,
    cosine: bool = False, safe: bool = True, weight: Callable[[float, float], float] = lambda alpha, tau: alpha,
) -> Tensor:  # fmt: skip
    """J, or what a mistake makes of it."""
    log = (lambda x: x.log_softmax(-1)) if safe else (lambda x: x.softmax(-1).log())
    L = L.detach() if constant else L
    L = F.normalize(L, dim=1) if cosine else L
    soft = log(L[o] @ L.T / (tau if target_tau else 1))
    hat = log(z / tau if tempered else z)
    a, b = (hat, soft) if reverse else (soft, hat)
    kl = (a.exp() * ((a if entropy else 0) - b)).sum(-1)
    J = (-log(z).gather(-1, o[:, None])[:, 0] if ce else 0) + weight(alpha, tau) * kl
    return J.mean() if mean else J.sum()


def _graded_loss(loss: Any, z: Tensor, o: Tensor, L: Tensor, alpha: float, tau: float) -> tuple[Tensor, ...]:
    """The loss and its gradients in z and L."""
    z, L = z.clone().requires_grad_(), L.clone().requires_grad_()
    J = loss(z, o, L, alpha, tau)
    return J, *torch.autograd.grad(J, (z, L), allow_unused=True, materialize_grads=True)


def _of_loss(says: str, **how: Any) -> Mistake:
    return Mistake(partial(_graded_loss, partial(_augmented, **how)), says)


@calmly
def check_augmented_loss(augmented_loss: Any, secret: str | None = None) -> None:
    """J = CE + α KL(ỹ ‖ ŷ^τ), its mean over rows and its gradients; then the same where logits are huge."""
    z, L = draw(secret, "augmented", (3, 6), (6, 4))
    o = torch.tensor([1, 5, 0])
    usual = [(z, o, L, 0.7, 2.0), (z[:2], o[:2], 0.6 * L, 3.0, 0.5), (z, o, L, 0.0, 1.5)]
    misread = [
        _of_loss(
            "the divergence stands in the place of the cross-entropy. It is added to it: the true word still counts",
            ce=False,
        ),
        _of_loss("the target has no temperature: ỹ = softmax(L L_o / τ)", target_tau=False),
        _of_loss("your divergence compares with the plain prediction; here it is tempered by τ too", tempered=False),
        _of_loss(
            "there is no temperature: both ỹ and the prediction in the divergence have τ",
            target_tau=False,
            tempered=False,
        ),
        _of_loss(
            "the loss is right, its gradient is not: it flows into L through the target, which then moves to meet the "
            "prediction. ỹ is a constant",
            constant=False,
        ),
        _of_loss(
            "this is the cross-entropy of ỹ and the prediction; the divergence subtracts ỹ's entropy", entropy=False
        ),
        _of_loss("the divergence is the wrong way round: KL(ỹ ‖ ŷ) is a mean under the target ỹ", reverse=True),
        _of_loss("α is missing: the divergence has the weight α", weight=lambda alpha, tau: 1.0),
        _of_loss(
            "you multiply by ατ. That the paper chooses α = γτ is in α already", weight=lambda alpha, tau: alpha * tau
        ),
        _of_loss("the rows are summed; asked is their mean", mean=False),
        _of_loss("you take cosines; the similarity is the inner product: longer vectors weigh more", cosine=True),
    ]
    unsafe = _of_loss(
        "with large logits it is not finite: a softmax can be 0, its log −∞. Take both at once", safe=False
    )
    _check_scalar("augmented_loss", augmented_loss, usual[0], _LOSSES)
    for cases, mistakes in ((usual, misread), ([(1e4 * z, o, 30 * L, 0.7, 2.0)], [unsafe])):
        check_function(
            "augmented_loss",
            lambda *case: _graded_loss(augmented_loss, *case),
            partial(_graded_loss, _augmented),
            cases,
            mistakes=mistakes,
            forbid=_LOSSES,
            show=secret is None,
        )


def _nats(
    S: Tensor, sentences: Sequence[Tensor], width: int, *, both: bool = True, itself: bool = False
) -> list[Tensor]:
    """−log p(j | i) of each pair, in a tensor for each sentence that has pairs."""
    nats, found = -(S @ S.T).log_softmax(1), []
    for s in sentences:
        apart = torch.arange(len(s))[None] - torch.arange(len(s))[:, None]
        pairs = (apart.abs() <= width) & ((apart != 0) | itself) & ((apart > 0) | both)
        found.append(nats[s][:, s][pairs])
    return [some for some in found if len(some)]


def _cbow(S: Tensor, sentences: Sequence[Tensor], width: int, *, total: bool = False) -> float:
    """The other model of word2vec: the neighbours' mean, or sum, predicts the word."""
    nats = []
    for s in sentences:
        for t in range(len(s)):
            around = torch.cat([s[max(0, t - width) : t], s[t + 1 : t + 1 + width]])
            if len(around):
                h = S[around].sum(0) / (1 if total else len(around))
                nats.append(-(S @ h).log_softmax(0)[s[t]])
    return float(torch.stack(nats).mean().exp())


def _perplexity(nats: list[Tensor]) -> Tensor:
    return torch.cat(nats).mean().exp()


def _of_nats(says: str, end: Callable[[list[Tensor]], Tensor], nats: Any = _nats) -> Mistake:
    return Mistake(lambda *case: float(end(nats(*case))), says)


@calmly
def check_perplexity(perplexity: Any, secret: str | None = None) -> None:
    """exp of the mean nats over all pairs (word, neighbour) of a tied skip-gram."""
    generator = numbers(secret, "perplexity")
    S = 0.6 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    some = [torch.randint(8, (n,), generator=generator) for n in (6, 1, 2, 9)]
    cbow = (
        "the neighbours together predict the word, which is CBOW. word2vec is the name of two models; asked is the "
        "skip-gram, in which the word predicts each neighbour"
    )
    check_function(
        "perplexity",
        perplexity,
        lambda *case: float(_perplexity(_nats(*case))),
        [(S, some, 2), (1.5 * S, some[::-1], 1), (0 * S, some[:3], 3), (S, some[1:], 20)],
        mistakes=[
            Mistake(_cbow, cbow),
            Mistake(partial(_cbow, total=True), cbow),
            Mistake(lambda *case: math.nan, "NaN: a sentence of one word has no pair, and a mean of none is 0/0"),
            _of_nats(
                "you take the mean of the sentences' means; every pair counts the same",
                lambda nats: torch.stack([n.mean() for n in nats]).mean().exp(),
            ),
            _of_nats(
                "you take the mean of the sentences' perplexities; first the mean of all nats, then exp, once",
                lambda nats: torch.stack([n.mean().exp() for n in nats]).mean(),
            ),
            _of_nats(
                "you take exp of each pair and then the mean: this is the mean of 1/p. First the mean, then exp",
                lambda nats: torch.cat(nats).exp().mean(),
            ),
            _of_nats("this is the loss in nats: its exp is the perplexity", lambda nats: torch.cat(nats).mean()),
            _of_nats(
                "2 to the power belongs to bits; here log is natural, and the loss in nats",
                lambda nats: 2 ** torch.cat(nats).mean(),
            ),
            _of_nats(
                "this is a mean probability; a perplexity must fall when the model gets better: exp of −log p",
                lambda nats: torch.cat(nats).mean().neg().exp(),
            ),
            _of_nats("you count each word as its own neighbour", _perplexity, partial(_nats, itself=True)),
            _of_nats("neighbours stand on both sides; you take one side", _perplexity, partial(_nats, both=False)),
        ],
        show=secret is None,
    )
