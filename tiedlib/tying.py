"""Weight tying: one matrix as input and output embedding, and what was proposed around it.

Explained in the chapter `tying`. Sources: Press & Wolf 2016, arXiv:1608.05859 (tying, projection regularization, the
similarity of embeddings); their published code (sizes, schedules, the regularizer's exact form); Inan, Khosravi & Socher
2016, arXiv:1611.01462 (augmented loss). `LanguageModel` and `linear_cross_entropy` are re-exported for the chapter's readers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from tiedlib import _arguments as arguments
from tiedlib._ties import ReadsEmbedding
from tiedlib.linear_cross_entropy import linear_cross_entropy
from tiedlib.recurrent import LanguageModel

__all__ = [
    "PRESETS",
    "LanguageModel",
    "Preset",
    "TiedSoftmax",
    "augmented_loss",
    "embedding_similarity",
    "linear_cross_entropy",
    "projection_penalty",
    "rank_correlation",
    "word_similarity",
]


class TiedSoftmax(ReadsEmbedding):
    """logits = h Eᵀ + b, with E the input embedding.   Press & Wolf 2016, arXiv:1608.05859.

    h: (*batch, dim) → (*batch, vocab), in nats. b starts at 0 and stays untied; bias=False leaves it out (Inan et al. 2016).
    The embedding itself is shared, so that `weight` is its Parameter also after that has been exchanged.
    Raises TypeError where `embedding` is not an nn.Embedding, ValueError if dim(h) != dim(E).
    """

    def __init__(self, embedding: nn.Embedding, bias: bool = True) -> None:
        super().__init__()
        if not isinstance(embedding, nn.Embedding):
            raise TypeError(f"embedding is a {type(embedding).__name__}; it must be the nn.Embedding to share")
        self.read(embedding)
        self.bias = nn.Parameter(self.weight.new_zeros(len(self.weight))) if bias else None

    def forward(self, h: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of every word for hidden states h."""
        self._check_sizes(h, self.bias)
        return F.linear(h, self.weight, self.bias)


def projection_penalty(
    weight: Float[Tensor, "out in"], *, strength: float = 0.15, form: str = "frobenius", batch_size: int | None = None
) -> Float[Tensor, ""]:
    """Projection regularization: what is added to the loss for the matrix P before the output embedding.

        "frobenius"  λ ‖P‖_F = λ √(Σ P_ij²)         the paper's λ‖P‖₂ read as the norm of P's entries
        "spectral"   λ σ_max(P)                     the paper's λ‖P‖₂ read as the operator norm
        "squared"    λ ‖P‖_F²                       the usual L2 penalty
        "code"       ½ ‖P‖_F² / (6.5 B)             the authors' code, beside a loss summed over the window's time steps
                                                    and averaged over a batch of B;  1/6.5 = 0.154 stands for λ = 0.15

    λ = strength (not used by "code", whose factor is fixed), B = batch_size (only used by "code"). A scalar, in nats. Beside
    a loss that is a mean per token over windows of T steps, "code" becomes ½‖P‖_F²/(6.5 B T): divide by T as well.
    float16 and bfloat16 give a float32 result. The gradient of "frobenius" at P = 0 is taken as 0. Raises ValueError for an
    unknown form, strength < 0, or "code" without a batch_size ≥ 1.
    """
    arguments.floating(weight=weight)
    arguments.number("strength", strength, "at least 0 and finite")
    kept, weight = torch.promote_types(weight.dtype, torch.float32), _wide(weight)
    if form == "frobenius":
        return (strength * torch.linalg.vector_norm(weight)).to(kept)
    if form == "spectral":
        return (strength * torch.linalg.matrix_norm(weight, ord=2)).to(kept)
    if form == "squared":
        return (strength * weight.square().sum()).to(kept)
    if form == "code":
        if batch_size is None or batch_size < 1:
            raise ValueError(
                f"batch_size is {batch_size}; form='code' divides by the number of sequences in a batch, at least 1"
            )
        return (0.5 * weight.square().sum() / (6.5 * batch_size)).to(kept)
    raise ValueError(f"form is {form!r}; it must be 'frobenius', 'spectral', 'squared' or 'code'")


def augmented_loss(
    logits: Float[Tensor, "*batch vocab"],
    target: Int[Tensor, "*batch"],
    embedding: Float[Tensor, "vocab dim"],
    *,
    alpha: float,
    tau: float,
    reduction: str = "mean",
) -> Float[Tensor, "*loss"]:
    """J = CE(y*, ŷ) + α KL(ỹ ‖ ŷ^τ).   Inan, Khosravi & Socher 2016, arXiv:1611.01462, in nats.

        u = L_o  (the embedding of the target word o),    ỹ = softmax(L u / τ),    ŷ^τ = softmax(logits / τ)

    The second term rewards probability on words whose embeddings resemble the target's; ỹ is a constant (no gradient
    flows into the embedding through it). τ = tau is the temperature, α = alpha the weight; the paper sets α = γτ, because
    the KL term's gradient shrinks as 1/τ. Shapes: logits z (*batch, vocab), target (*batch), embedding L (vocab, dim).
    Raises ValueError for tau ≤ 0, alpha < 0, an unknown reduction, or sizes that do not fit.
    """
    arguments.number("tau", tau, "positive and finite")
    arguments.number("alpha", alpha, "at least 0 and finite")
    arguments.floating(logits=logits, embedding=embedding)
    arguments.whole_numbers(target=target)
    if logits.shape[:-1] != target.shape:
        raise ValueError(
            f"logits has shape {tuple(logits.shape)} and target {tuple(target.shape)}; target has a class for each row"
        )
    if embedding.shape[0] != logits.shape[-1]:
        raise ValueError(
            f"embedding has {embedding.shape[0]} rows and logits {logits.shape[-1]} classes; they must be equal"
        )
    arguments.choice("reduction", reduction, ("mean", "sum", "none"))
    z, o = _wide(logits).reshape(target.numel(), logits.shape[-1]), target.reshape(-1)
    fixed = _wide(embedding.detach())
    soft = torch.softmax(fixed[o] @ fixed.T / tau, dim=-1)
    divergence = F.kl_div(torch.log_softmax(z / tau, dim=-1), soft, reduction="none").sum(-1)
    loss = F.cross_entropy(z, o, reduction="none") + alpha * divergence
    loss = loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss.reshape(target.shape)
    return loss.to(logits.dtype)


def rank_correlation(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Spearman's ρ: the linear correlation of the ranks of a and b; equal values share the mean of their ranks.

    NaN where one of them is constant. Raises ValueError for fewer than two values or unequal lengths.
    """
    arguments.floating(a=a, b=b)
    if a.shape != b.shape or a.dim() != 1 or len(a) < 2:
        raise ValueError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}; give equally many values, at least 2")
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x.square().sum() * y.square().sum()).sqrt())


def _ranks(x: Tensor) -> Tensor:
    _, place, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()  # the highest rank in each group of equal values
    return (last - (counts.double() - 1) / 2)[place]


def embedding_similarity(a: Float[Tensor, "words dim_a"], b: Float[Tensor, "words dim_b"]) -> float:
    """How alike two embeddings of the same words are: Spearman's ρ between their cosines, over all pairs of words.

    Comparing cosines needs no alignment of the two spaces, whose axes mean nothing (Press & Wolf 2016). Row k
    of a and of b must be the same word. n words give n(n−1)/2 pairs: choose the 1,000–2,000 most frequent.
    Raises ValueError for unequal numbers of rows or fewer than 3.
    """
    arguments.floating(a=a, b=b)
    if len(a) != len(b) or len(a) < 3:
        raise ValueError(f"a has {len(a)} rows and b {len(b)}; give the same words to both, at least 3")
    i, j = torch.triu_indices(len(a), len(a), offset=1)
    return rank_correlation(_cosines(a)[i, j], _cosines(b)[i, j])


def word_similarity(
    embedding: Float[Tensor, "words dim"], pairs: Int[Tensor, "pairs 2"], ratings: Float[Tensor, " pairs"]
) -> float:
    """Spearman's ρ between the cosine of each pair of rows and people's ratings of that pair of words.

    Leave pairs with an unknown word out beforehand and say how many they were. Raises ValueError as `rank_correlation`.
    """
    arguments.floating(embedding=embedding, ratings=ratings)
    arguments.whole_numbers(pairs=pairs)
    if pairs.shape != (len(ratings), 2):
        raise ValueError(
            f"pairs has shape {tuple(pairs.shape)} and ratings {tuple(ratings.shape)}; give a rating to each pair"
        )
    if pairs.numel() and not 0 <= int(pairs.min()) <= int(pairs.max()) < len(embedding):
        raise ValueError(
            f"pairs holds {int(pairs.min())} … {int(pairs.max())}; embedding has {len(embedding)} rows, from 0"
        )
    left, right = embedding[pairs[:, 0]], embedding[pairs[:, 1]]
    return rank_correlation(F.cosine_similarity(_sized(left), _sized(right)), ratings.double())


def _wide(x: Tensor) -> Tensor:
    """Half precision has neither the range of a sum of squares nor every kernel, and bfloat16 has all of float32's range."""
    return x.double() if x.dtype in (torch.float16, torch.bfloat16) else x


def _sized(x: Tensor) -> Tensor:
    """Rows with their largest entry between ½ and 1, by a power of 2, which changes no digit and no cosine."""
    x = x.double()
    return torch.ldexp(x, -torch.frexp(x.abs().amax(-1, keepdim=True)).exponent)


def _cosines(x: Tensor) -> Tensor:
    unit = F.normalize(_sized(x), dim=-1)
    return unit @ unit.T


@dataclass(frozen=True)
class Preset:
    """Sizes and schedule of a published model: the authors' code of Press & Wolf, after Zaremba et al. 2014."""

    dim: int  # embedding width
    hidden: int  # LSTM width; two layers
    init_range: float  # parameters start in U(−init_range, init_range)
    unroll: int  # time steps of a window
    clip: float  # norm of the gradient of the loss summed over the window, averaged over the batch
    constant_epochs: int  # the last pass at full lr, counted from 0: pass i has lr · decay^max(i − constant_epochs, 0)
    decay: float  # factor on lr, once a pass from then on
    epochs: int
    dropout: float = 0.0  # probability of dropping
    layers: int = 2
    batch: int = 20  # sequences side by side
    lr: float = 1.0  # of plain SGD


PRESETS = {
    "small": Preset(200, 200, 0.1, unroll=20, clip=5.0, constant_epochs=4, decay=0.5, epochs=13),
    "medium": Preset(650, 650, 0.05, unroll=35, clip=5.0, constant_epochs=6, decay=0.8, epochs=39, dropout=0.5),
    "large": Preset(
        1500, 1500, 0.04, unroll=35, clip=10.0, constant_epochs=14, decay=1 / 1.15, epochs=55, dropout=0.65
    ),
}
