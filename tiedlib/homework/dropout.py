"""Checks of the homework `dropout`. The mistakes are those of the notes (claims `dropout-test-scaling-missing`,
`dropconnect-mask-on-parameters`, `dropout-keep-or-drop-convention`, `dropout`, `variational-lstm-dropout`,
`embedding-dropout`) and of the forums.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import tiedlib.dropout
from tiedlib.dropout import apply_mask, every_mask
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_that, numbers
from tiedlib.homework.masks import check_masked, rates, same

__all__ = [
    "check_dropout",
    "check_embedding_dropout",
    "check_logits_in_use",
    "check_noise_covariance",
    "check_ridge_strengths",
    "check_sequence_dropout",
    "check_worse_in_use",
]

_OURS = (
    tiedlib.dropout,
    torch.nn.modules.dropout,
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.dropout_,
    torch.native_dropout,
    torch.feature_dropout,
    torch.feature_dropout_,
    torch.alpha_dropout,
    torch.alpha_dropout_,
    torch.feature_alpha_dropout,
)  # may not be called


@calmly
def check_dropout(dropout: Any, secret: str | None = None) -> None:
    """m ⊙ x / (1 − p) in training, with independent entries of m; x in use."""
    g = numbers(secret, "dropout")
    x = torch.rand(300, 40, generator=g, dtype=torch.float64) + 0.5  # no zeros: a zero in the answer was dropped

    def structure(keep: Tensor) -> list[tuple[bool, str]]:
        in_row = keep.sum(1)
        return [
            (same(keep, 0) and same(keep, 1), "one coin for all: each entry needs its own"),
            (same(keep, 0), "all examples get the same mask: draw one for every row, with the shape of x"),
            (same(keep, 1), "whole examples vanish: every unit of every row has a coin of its own"),
            (
                bool((in_row == in_row[0]).all()),
                f"exactly {int(in_row[0])} of {keep.shape[1]} units are kept in every row; with independent coins it varies",
            ),
        ]

    for p in rates(g):
        made = check_masked("dropout", dropout, (x,), x, p, structure, lambda keep: keep, _OURS, secret is None)
        counts = {int((y != 0).sum()) for y in made}
        # Four counts of 12000 coins are equal with probability < 1e-6.
        check_that(len(counts) > 1, "dropout: every call drops exactly as many entries: toss independent coins")


@calmly
def check_sequence_dropout(sequence_dropout: Any, secret: str | None = None) -> None:
    """The same for x (batch, time, features), with one mask for all steps of a sequence."""
    g = numbers(secret, "sequence")
    x = torch.rand(120, 4, 30, generator=g, dtype=torch.float64) + 0.5

    def structure(keep: Tensor) -> list[tuple[bool, str]]:
        time = same(keep, 1)
        return [
            (time and same(keep, 0), "all sequences of the batch share one mask; each has a mask of its own"),
            (time and same(keep, 2), "whole sequences vanish: every feature has a coin of its own"),
            (same(keep, 2), "whole steps vanish: a mask is over features, and the same at every step"),
            (same(keep, 0), "your mask is shared along the batch; the axis it is shared along is time, the second one"),
            (
                not time,
                "there is a fresh mask at every step: this is plain dropout. One mask holds for the whole sequence",
            ),
        ]

    for p in rates(g):
        check_masked(
            "sequence_dropout", sequence_dropout, (x,), x, p, structure, lambda keep: keep[:, 0], _OURS, secret is None
        )


@calmly
def check_embedding_dropout(embedding_dropout: Any, secret: str | None = None) -> None:
    """Rows of the table, of which whole words are dropped: m has one entry for each row of the table."""
    g = numbers(secret, "embedding")
    weight = torch.rand(1000, 5, generator=g, dtype=torch.float64) + 0.5
    tokens = torch.randint(1000, (30, 200), generator=g)  # each word some six times; few of them not at all
    x = weight[tokens]

    in_sequence = tokens + len(weight) * torch.arange(len(tokens))[:, None]

    def two_fates(words: Tensor, kept: Tensor) -> bool:
        """Whether a word is kept in one place and dropped in another."""
        met = words.flatten().bincount()
        there = words[kept].bincount(minlength=len(met))
        return bool(((there > 0) & (there < met)).any())

    def structure(keep: Tensor) -> list[tuple[bool, str]]:
        kept = keep.any(-1)
        whole, split = torch.equal(kept, keep.all(-1)), two_fates(tokens, kept)
        return [
            (whole and same(kept, 0) and same(kept, 1), "one coin for all words: each needs its own"),
            (
                not whole and same(keep.flatten(0, 1), 0),
                "the same coordinates vanish from all words; a word vanishes whole",
            ),
            (
                not whole,
                "single coordinates vanish, as in plain dropout; here a word loses its whole vector or nothing",
            ),
            (
                split and not two_fates(in_sequence, kept),
                "each sequence has its own mask: a word is dropped here and kept there. Asked is one mask for the call",
            ),
            (
                split,
                "a word is dropped in one place and kept in another: toss one coin for each word, not for each position",
            ),
        ]

    def per_word(keep: Tensor) -> Tensor:
        words = torch.zeros(len(weight), dtype=torch.bool)
        words[tokens] = keep[..., 0]
        return words[tokens.unique()]

    for p in rates(g):
        given = (tokens, weight)
        check_masked("embedding_dropout", embedding_dropout, given, x, p, structure, per_word, _OURS, secret is None)


@calmly
def check_worse_in_use(cause: Any, secret: str | None = None) -> None:
    """Why the network's loss is so high in use. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "C",
        {
            "A": "learned by heart, the training digits would have a low loss at least; in use theirs is high as well",
            "B": "a pass in use draws no mask: run it twice, and the loss is the same",
            "C": "right",
            "D": "with a rate too large the loss with masks would not fall, and it does: with masks the network is good",
        },
        show=secret is not None,
    )


@calmly
def check_logits_in_use(logits_in_use: Any, secret: str | None = None) -> None:
    """The activations of every hidden layer times r, after a training with masks and without a division."""
    g = numbers(secret, "in use")
    widths = (5, 7, 6, 3)
    layers = [
        (torch.randn(o, i, generator=g, dtype=torch.float64), torch.randn(o, generator=g, dtype=torch.float64) + 0.5)
        for i, o in pairwise(widths)
    ]
    x = torch.randn(4, 5, generator=g, dtype=torch.float64)

    def form(by: Callable[[float], list[float]]) -> Callable[..., Tensor]:
        """Factors at the input, the two hidden layers and the output."""

        def logits(x: Tensor, layers: Any, r: float) -> Tensor:
            at_x, one, two, out = by(r)
            (a, b), (c, d), (e, f) = layers
            h = two * F.relu(F.linear(one * F.relu(F.linear(at_x * x, a, b)), c, d))
            return out * F.linear(h, e, f)

        return logits

    low, high = torch.rand(2, generator=g).tolist()
    check_function(
        "logits_in_use",
        logits_in_use,
        form(lambda r: [1, r, r, 1]),
        [(x, layers, 0.2 + 0.2 * low), (x, layers, 0.7 + 0.2 * high), (x, layers, 1.0)],
        mistakes=[
            Mistake(
                form(lambda r: [1, 1, 1, 1]),
                "the masks are gone and nothing stands in for them: every next layer reads 1 / r times what it was trained on",
            ),
            Mistake(
                form(lambda r: [1, 1 / r, 1 / r, 1]),
                "you divide by r: that belongs into training. In use all units speak, so each must speak more softly",
            ),
            Mistake(
                form(lambda r: [1, 1 - r, 1 - r, 1]),
                "you multiply by the share that is dropped; r is the probability that a unit is kept",
            ),
            Mistake(form(lambda r: [r, r, r, 1]), "the inputs are scaled too; they never had a mask"),
            Mistake(form(lambda r: [1, r, r, r]), "the logits are scaled too; they never had a mask"),
            Mistake(form(lambda r: [1, 1, r, 1]), "only the last hidden layer is scaled; the first had a mask as well"),
            Mistake(
                form(lambda r: [1, r, 1, 1]), "only the first hidden layer is scaled; the second had a mask as well"
            ),
            Mistake(
                form(lambda r: [1, 1, 1, r]),
                "scaling the logits is not the same: they hold a bias, and the layers in between must be right as well",
            ),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_noise_covariance(noise_covariance: Any, secret: str | None = None) -> None:
    """Cov[W (m ⊙ x) / (1 − p)] = p / (1 − p) · W diag(x²) Wᵀ; the reference counts all masks."""
    g = numbers(secret, "covariance")
    weight, x = torch.randn(3, 6, generator=g, dtype=torch.float64), torch.randn(6, generator=g, dtype=torch.float64)
    low, high = torch.rand(2, generator=g).tolist()

    def counted(weight: Tensor, x: Tensor, p: float) -> Tensor:
        masks, chance = every_mask(len(x), p)
        y = apply_mask(x.expand(masks.shape), masks, p) @ weight.T
        away = y - chance @ y
        return away.T @ (chance[:, None] * away)

    def form(by: Callable[[float], float], power: int = 2) -> Callable[..., Tensor]:
        return lambda w, x, p: by(p) * torch.einsum("aj,bj,j->ab", w, w, x.abs() ** power)

    right = form(lambda p: p / (1 - p))
    check_function(
        "noise_covariance",
        noise_covariance,
        counted,
        [(weight, x, 0.1 + 0.2 * low), (weight, 2 * x, 0.6 + 0.2 * high)],
        mistakes=[
            Mistake(
                lambda w, x, p: right(w, x, p).diag().diag(),
                "two outputs have no covariance in yours: that is so where every single weight has its own coin (DropConnect). "
                "Dropout drops a unit for all outputs at once, a whole column of W",
            ),
            Mistake(lambda w, x, p: right(w, x, p).diag(), "these are the variances alone; asked is the whole matrix"),
            Mistake(
                form(lambda p: p * (1 - p)), "that is the form without the division by 1 − p, squared for a variance"
            ),
            Mistake(form(lambda p: (1 - p) / p), "p and 1 − p have changed places: p is the probability of dropping"),
            Mistake(form(lambda p: p), "the variance of m is p(1 − p), and the division by 1 − p comes in squared"),
            Mistake(
                form(lambda p: 1 / (1 - p)),
                "this is 𝔼[m²]/(1 − p)², a second moment: the square of the mean of m is not taken off",
            ),
            Mistake(
                lambda w, x, p: right(w, x, p) + torch.outer(w @ x, w @ x),
                "this is 𝔼[yyᵀ]; the covariance is less by the mean times itself, Wx(Wx)ᵀ",
            ),
            Mistake(form(lambda p: p / (1 - p), 1), "x stands in the variance squared: it scales the noise"),
            Mistake(form(lambda p: p / (1 - p), 0), "x is missing: a unit that is 0 makes no noise"),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_ridge_strengths(ridge_strengths: Any, secret: str | None = None) -> None:
    """p / (1 − p) Σᵢ xᵢⱼ² for each j: what dropout on the inputs adds to a linear model's squared loss, over w_j²."""
    from sklearn.datasets import load_digits  # the bench's, not an idea's

    g = numbers(secret, "ridge")
    rows = torch.randperm(1797, generator=g)[:50]
    x = torch.tensor(load_digits().data, dtype=torch.float64)[rows] / 16
    low, high = torch.rand(2, generator=g).tolist()

    def counted(x: Tensor, p: float) -> Tensor:
        """From the loss itself: at w = e_j and y = 0, the mean over both masks of one input less the loss without masks."""
        masks, chance = every_mask(1, p)
        noisy = torch.stack([apply_mask(x, keep.expand_as(x), p).square().sum(0) for keep in masks])
        return chance @ noisy - x.square().sum(0)

    def form(by: Callable[[float], float], size: Callable[[Tensor], Tensor] = lambda x: x.square().sum(0)) -> Any:
        return lambda x, p: by(p) * size(x)

    def odds(p: float) -> float:
        return p / (1 - p)

    mistakes = (
        (form(odds, lambda x: x.square().mean(0)), "the loss is a sum over examples; yours is the mean"),
        (form(lambda p: p * (1 - p)), "that is for masks without the division by 1 − p"),
        (form(lambda p: (1 - p) / p), "p and 1 − p have changed places: p is the probability of dropping"),
        (
            form(lambda p: 1 / (1 - p)),
            "that is the whole second moment; the loss without masks has its part of it already",
        ),
        (form(lambda p: p), "the variance of m is p(1 − p), and the division by 1 − p comes in squared"),
        (form(lambda p: 1.0), "the rate is missing: without dropout the strength must be 0"),
        (form(odds, lambda x: x.sum(0).square()), "square before you sum: each example has its own masks"),
        (
            form(odds, lambda x: x.var(0) * (len(x) - 1)),
            "the mean of each pixel is taken off; a dropped pixel falls to 0, not to its mean",
        ),
        (form(odds, lambda x: x.square().sum()), "one strength for all: every pixel has its own, from its own column"),
        (form(odds, lambda x: x.square().sum(1)), "you sum over the pixels; sum over the examples"),
    )
    check_function(
        "ridge_strengths",
        ridge_strengths,
        counted,
        [(x, 0.1 + 0.2 * low), (2 * x, 0.6 + 0.2 * high)],
        mistakes=[Mistake(wrong, says) for wrong, says in mistakes],
        forbid=_OURS,
        show=secret is None,
    )
