"""Checks of the homework `tying`, continued: projection regularization, the augmented loss, perplexity. The mistakes are those of
the notes (claims `projection-regularization`, `pr-lambda`, `same-hyperparameters`, `soft-target-from-embeddings`, `augmented-loss`,
`zh-perplexity-improves-wording`, `zh-word2vec-and-skipgram`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import tiedlib.linear_cross_entropy
import tiedlib.regularization
import tiedlib.tying
from tiedlib.homework.checks import Mistake, check_function, check_that, numbers

__all__ = ["check_augmented_loss", "check_penalties", "check_perplexity", "draw"]

# What may not be called.
_NORMS = (
    *(tiedlib.tying.projection_penalty, tiedlib.regularization, torch.norm, torch.Tensor.norm, torch.linalg.norm),
    *(torch.linalg.vector_norm, torch.linalg.matrix_norm, torch.frobenius_norm, torch.dist, torch.cdist),
)
_LOSSES = (
    *(tiedlib.tying.augmented_loss, tiedlib.linear_cross_entropy, F.cross_entropy, F.nll_loss, F.kl_div, torch.kl_div),
    *(torch._C._nn.cross_entropy_loss, torch._C._nn.nll_loss_nd, torch.distributions.kl),
    torch._C._nn.nll_loss,  # type: ignore[attr-defined]
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
    check_that(
        seen[-1].requires_grad, f"{name} is cut off from its arguments: no gradient can be taken of what it returns"
    )


def check_penalties(paper_penalty: Any, code_penalty: Any, secret: str | None = None) -> None:
    """0.15 ‖P‖_F, and ½‖P‖²_F / (6.5 B T), what the authors' code comes to beside a mean per token; with gradients."""

    def graded(penalty: Callable[..., Tensor]) -> Callable[..., Any]:
        def run(P: Tensor, *size: str) -> Any:
            P = P.clone().requires_grad_()
            value = penalty(P, *size)
            return value, torch.autograd.grad(value, P)[0]

        return run

    def code(half: float = 0.5, batch: bool = True, time: bool = True, factor: float = 6.5, power: int = 2) -> Any:
        def value(P: Tensor, size: str) -> Tensor:
            settings = tiedlib.tying.PRESETS[size]
            below = factor * (settings.batch if batch else 1) * (settings.unroll if time else 1)
            return half * torch.linalg.vector_norm(P) ** power / below

        return value

    def small(P: Tensor, size: str) -> Tensor:
        return code()(P, "small")

    def frobenius(P: Tensor) -> Tensor:
        return 0.15 * torch.linalg.vector_norm(P)

    P, Q = draw(secret, "penalties", (4, 4), (3, 3))
    _check_scalar("paper_penalty", paper_penalty, (P,), _NORMS)
    check_function(
        "paper_penalty",
        graded(paper_penalty),
        graded(frobenius),
        [(P,), (0.1 * Q,)],
        mistakes=[
            Mistake(
                graded(lambda P: 0.15 * torch.linalg.matrix_norm(P, ord=2)),
                "this is the spectral norm, the largest singular value: it pulls at one direction of P only. Asked is "
                "the norm "
                "of all entries together",
            ),
            Mistake(graded(lambda P: 0.15 * P.square().sum()), "the root is missing: the paper's text penalizes the "
                "norm, not its square"),
            Mistake(graded(lambda P: torch.linalg.vector_norm(P)), "λ is missing"),
            Mistake(graded(lambda P: torch.linalg.vector_norm(P) / 6.5), "1/6.5 is the code's factor; the paper's "
                "text has λ = 0.15"),
            Mistake(graded(lambda P: 0.15 * P.square().mean().sqrt()), "the norm takes the sum of the squares, not "
                "their mean"),
            Mistake(graded(lambda P: 0.15 * P.abs().sum()), "this is the sum of the absolute values: L1. Square, sum, "
                "root"),
        ],
        forbid=_NORMS,
        show=secret is None,
    )  # fmt: skip
    _check_scalar("code_penalty", code_penalty, (P, "small"), _NORMS)
    check_function(
        "code_penalty",
        graded(code_penalty),
        graded(code()),
        [(P, "small"), (Q, "large"), (0.1 * P, "medium")],
        mistakes=[
            Mistake(
                graded(small),
                "you use the small model's window for every size. The sizes do not share their hyper-parameters: the "
                "others "
                "unroll over more steps",
            ),
            Mistake(
                graded(code(time=False)),
                "that fits a loss that is summed over the window's T steps. Beside a mean per token it regularizes T "
                "times too much",
            ),
            Mistake(graded(code(batch=False)), "B is missing: the authors' code divides by the batch size"),
            Mistake(graded(code(batch=False, time=False)), "B and T are missing: the authors' code divides by the "
                "batch size, and your loss is a mean per token"),
            Mistake(graded(code(half=1.0)), "the ½ is missing: the code halves the square"),
            Mistake(graded(code(factor=1 / 6.5)), "you multiply by 6.5; the code divides by it: 1/6.5 is its λ"),
            Mistake(graded(code(factor=1 / 0.15)), "λ = 0.15 is the paper's, rounded; the code divides by 6.5, which "
                "is 0.154"),
            Mistake(graded(code(power=1)), "the code halves the square of the norm, not the norm"),
            Mistake(
                graded(lambda P, size: 0.15 * P.square().sum()),
                "this is 0.15 times the square, beside a mean per token: hundreds of times what the authors' code does",
            ),
        ],
        forbid=_NORMS,
        show=secret is None,
    )  # fmt: skip


def check_augmented_loss(augmented_loss: Any, secret: str | None = None) -> None:
    """J = CE + α KL(ỹ ‖ ŷ^τ), its mean over rows and its gradients; then the same where logits are huge."""

    def graded(loss: Callable[..., Any]) -> Callable[..., Any]:
        def run(z: Tensor, o: Tensor, L: Tensor, alpha: float, tau: float) -> Any:
            z, L = z.clone().requires_grad_(), L.clone().requires_grad_()
            J = loss(z, o, L, alpha, tau)
            return J, *torch.autograd.grad(J, (z, L), allow_unused=True, materialize_grads=True)

        return run

    def form(
        target_tau: bool = True, tempered: bool = True, constant: bool = True, entropy: bool = True, ce: bool = True,
        reverse: bool = False, weight: Callable[[float, float], float] = lambda alpha, tau: alpha, mean: bool = True,
        cosine: bool = False, safe: bool = True,
    ) -> Callable[..., Any]:  # fmt: skip
        log = (lambda x: x.log_softmax(-1)) if safe else (lambda x: x.softmax(-1).log())

        def loss(z: Tensor, o: Tensor, L: Tensor, alpha: float, tau: float) -> Tensor:
            L = L.detach() if constant else L
            L = F.normalize(L, dim=1) if cosine else L
            soft = log(L[o] @ L.T / (tau if target_tau else 1))
            hat = log(z / tau if tempered else z)
            a, b = (hat, soft) if reverse else (soft, hat)
            kl = (a.exp() * ((a if entropy else 0) - b)).sum(-1)
            J = (-log(z).gather(-1, o[:, None])[:, 0] if ce else 0) + weight(alpha, tau) * kl
            return J.mean() if mean else J.sum()

        return graded(loss)

    z, L = draw(secret, "augmented", (3, 6), (6, 4))
    o = torch.tensor([1, 5, 0])
    usual = [(z, o, L, 0.7, 2.0), (z[:2], o[:2], 0.6 * L, 3.0, 0.5), (z, o, L, 0.0, 1.5)]
    _check_scalar("augmented_loss", augmented_loss, usual[0], _LOSSES)
    check_function(
        "augmented_loss",
        graded(augmented_loss),
        form(),
        usual,
        mistakes=[
            Mistake(
                form(ce=False),
                "the divergence stands in the place of the cross-entropy. It is added to it: the true word still "
                "counts",
            ),
            Mistake(form(target_tau=False), "the target has no temperature: ỹ = softmax(L L_o / τ)"),
            Mistake(form(tempered=False), "your divergence compares with the plain prediction; in this term it is "
                "tempered by τ too"),
            Mistake(form(target_tau=False, tempered=False), "there is no temperature: both ỹ and the prediction in "
                "the divergence have τ"),
            Mistake(
                form(constant=False),
                "the loss is right, its gradient is not: it flows into L through the target, which then moves to meet "
                "the "
                "prediction. ỹ is a constant",
            ),
            Mistake(form(entropy=False), "this is the cross-entropy of ỹ and the prediction; the divergence subtracts "
                "the entropy of ỹ"),
            Mistake(form(reverse=True), "the divergence is the wrong way round: KL(ỹ ‖ ŷ) takes its mean under the "
                "target ỹ"),
            Mistake(form(weight=lambda alpha, tau: 1.0), "α is missing: the divergence has the weight α"),
            Mistake(form(weight=lambda alpha, tau: alpha * tau), "τ stands in the weight already, if one wants it: "
                "the paper chooses α = γτ. Use α"),
            Mistake(form(mean=False), "the rows are summed; asked is their mean"),
            Mistake(form(cosine=True), "you take cosines; the similarity is the inner product, in which longer "
                "vectors weigh more"),
        ],
        forbid=_LOSSES,
        show=secret is None,
    )  # fmt: skip
    check_function(
        "augmented_loss",
        graded(augmented_loss),
        form(),
        [(1e4 * z, o, 30 * L, 0.7, 2.0)],
        mistakes=[
            Mistake(
                form(safe=False),
                "with large logits this is not finite: softmax gives an exact 0, and its logarithm is −∞. There is a "
                "function "
                "that takes both at once",
            )
        ],
        forbid=_LOSSES,
        show=secret is None,
    )


def check_perplexity(perplexity: Any, secret: str | None = None) -> None:
    """exp of the mean nats over all pairs (word, neighbour) of a tied skip-gram."""

    def tables(S: Tensor, sentences: list[Tensor], width: int, both: bool = True, itself: bool = False) -> list[Tensor]:
        """For each sentence the nats of each pair."""
        nats = -(S @ S.T).log_softmax(1)
        pairs = [
            [
                (t, j)
                for t in range(len(s))
                for j in range(t - width if both else t, t + width + 1)
                if 0 <= j < len(s) and (itself or j != t)
            ]
            for s in sentences
        ]
        return [torch.stack([nats[s[t], s[j]] for t, j in p]) for s, p in zip(sentences, pairs, strict=True) if p]

    def form(end: Callable[[list[Tensor]], Tensor], **which: bool) -> Callable[..., float]:
        return lambda S, sentences, width: float(end(tables(S, sentences, width, **which)))

    def cbow(S: Tensor, sentences: list[Tensor], width: int, total: bool = False) -> float:
        nats = []
        for s in sentences:
            for t in range(len(s)):
                around = [s[j] for j in range(max(0, t - width), min(len(s), t + width + 1)) if j != t]
                if around:
                    h = S[torch.stack(around)].sum(0) / (1 if total else len(around))
                    nats.append(-(S @ h).log_softmax(0)[s[t]])
        return float(torch.stack(nats).mean().exp())

    def right(all_: list[Tensor]) -> Tensor:
        return torch.cat(all_).mean().exp()

    lift = "is not a perplexity: it must fall when the model gets better. Perplexity is exp of the mean of −log p"
    generator = numbers(secret, "perplexity")
    S = 0.6 * torch.randn(8, 3, generator=generator, dtype=torch.float64)
    some = [torch.randint(8, (n,), generator=generator) for n in (6, 1, 2, 9)]
    two_models = (
        "the neighbours together predict the word, which is CBOW. word2vec is the name of two models; asked is the "
        "skip-gram, in which the word predicts each neighbour"
    )
    check_function(
        "perplexity",
        perplexity,
        form(right),
        [(S, some, 2), (1.5 * S, some[::-1], 1), (0 * S, some[:3], 3), (S, some[1:], 20)],
        mistakes=[
            Mistake(cbow, two_models),
            Mistake(lambda S, sentences, width: cbow(S, sentences, width, total=True), two_models),
            Mistake(lambda *case: math.nan, "NaN: a sentence of one word has no pair, and its mean is 0/0. Add up "
                "over all sentences, then divide once"),
            Mistake(form(lambda all_: torch.stack([n.mean() for n in all_]).mean().exp()), "you take the mean of the "
                "sentences' means, so a pair in a short sentence weighs more. Every pair counts the same"),
            Mistake(form(lambda all_: torch.stack([n.mean().exp() for n in all_]).mean()), "you take the mean of the "
                "sentences' perplexities; first the mean of the nats over all pairs, then exp, once"),
            Mistake(form(lambda all_: torch.cat(all_).exp().mean()), "you take exp of each pair and then the mean: "
                "this is the mean of 1/p. First the mean, then exp"),
            Mistake(form(lambda all_: torch.cat(all_).mean()), "this is the loss in nats: its exp is the perplexity"),
            Mistake(form(lambda all_: 2 ** torch.cat(all_).mean()), "2 to the power belongs to bits; log is the "
                "natural logarithm here, and the loss in nats"),
            Mistake(form(lambda all_: (-torch.cat(all_).mean()).exp()), "this is the mean probability (geometric); it "
                "" + lift),
            Mistake(form(right, itself=True), "you count each word as its own neighbour"),
            Mistake(form(right, both=False), "neighbours stand on both sides; you take those that follow"),
        ],
        show=secret is None,
    )  # fmt: skip
