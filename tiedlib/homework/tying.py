"""Checks of the homework `tying`: counts, the two roles of a matrix, the layer, the start. The mistakes are those of the
notes (claims `embedding-result-is-h2`, `model-units`, `tied-gradient-sum`, `all-output-rows-updated`, …) and those that
untie a model without a word. Then projection regularization, the augmented loss, perplexity (claims `projection-regularization`,
`pr-lambda`, `same-hyperparameters`, `soft-target-from-embeddings`, `augmented-loss`, `zh-perplexity-improves-wording`,
`zh-word2vec-and-skipgram`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiedlib.linear_cross_entropy
import tiedlib.recurrent
import tiedlib.regularization
import tiedlib.tying
from tiedlib._undocumented import all_undocumented
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_returns, check_that, numbers

__all__ = [
    "check_augmented_loss",
    "check_cause",
    "check_parameters",
    "check_penalties",
    "check_perplexity",
    "check_scores_at_start",
    "check_tied_output",
    "check_two_parts",
]


def draw(secret: str | None, what: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Normal numbers in float64, one tensor for each shape."""
    generator = numbers(secret, what)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


# What may not be called. run_backward is what every way into autograd ends in.
_MODELS = (tiedlib.recurrent, torch.nn.modules.rnn, torch.nn.modules.sparse, torch.nn.modules.linear)
_AUTOGRAD = (
    torch.autograd.backward,
    torch.autograd.grad,
    torch.autograd.functional,
    torch.autograd.forward_ad,
    torch.Tensor.backward,
    *all_undocumented("autograd.Variable._execution_engine.run_backward"),
    torch.func.grad,
    torch.func.grad_and_value,
    torch.func.vjp,
    torch.func.jvp,
    torch.func.jacrev,
    torch.func.jacfwd,
)


def _count(
    vocab: int,
    width: int,
    layers: int,
    tied: bool,
    *,
    matrices: Callable[[bool], int] = lambda tied: 1 if tied else 2,
    stacks: int = 1,
    inside: int = 8,
    biases: int = 4,
    output: Callable[[bool], int] = lambda tied: 1,
) -> int:
    """Parameters of a language model, or what a mistake makes of them."""
    lstm = stacks * layers * (inside * width * width + biases * width)
    return matrices(tied) * vocab * width + lstm + output(tied) * vocab


@calmly
def check_parameters(parameters: Any, secret: str | None = None) -> None:
    """C·H once or twice, layers of 8H² + 4H, C biases of the output."""
    vocab, width, layers = (int(x) for x in torch.randint(3, 400, (3,), generator=numbers(secret, "count")))
    check_function(
        "parameters",
        parameters,
        _count,
        [(10_000, 200, 2, False), (10_000, 200, 2, True), (9 * vocab, width, layers % 3 + 1, True), (33, 8, 1, False)],
        mistakes=[
            Mistake(
                partial(_count, stacks=2),
                "you count the LSTM twice, for an encoder and a decoder. A language model has neither: each of its layers "
                "stands once between the two embeddings",
            ),
            Mistake(partial(_count, stacks=0), "the LSTM is missing: something stands between the two embeddings"),
            Mistake(partial(_count, matrices=lambda tied: 2), "tied, the matrix is one Parameter: it counts once"),
            Mistake(partial(_count, output=lambda tied: 0), "the output bias is missing: one number for each word"),
            Mistake(
                partial(_count, output=lambda tied: int(not tied)),
                "tying shares the matrix and nothing else: the output bias stays, since the input has none",
            ),
            Mistake(
                partial(_count, matrices=lambda tied: 0 if tied else 2),
                "tied, one matrix is left: you removed both",
            ),
            Mistake(partial(_count, inside=2, biases=1), "a layer has four gates, each with a bias and weights"),
            Mistake(
                partial(_count, inside=4),
                "a gate has two matrices, one for the layer's input and one for its own state; you count one of them",
            ),
            Mistake(
                partial(_count, biases=8),
                "you count two biases a gate, as torch.nn.LSTM has them; they only act as a sum, and here there is one",
            ),
            Mistake(partial(_count, biases=0), "the LSTM's biases are missing: one for each unit of each gate"),
        ],
        forbid=_MODELS,
        rtol=1e-12,
        show=secret is None,
    )


def _parts(
    S: Tensor,
    W: Tensor,
    i: int,
    o: int,
    *,
    layer: bool = True,
    slope: bool = True,
    only: bool = False,
    target: bool = False,
    through: Callable[[Tensor], Tensor] = lambda W: W.T,
    error: Callable[[Tensor, Tensor], Tensor] = lambda p, y: p - y,
    row: Callable[[int, int], int] = lambda i, o: i,
    out: Callable[[Tensor, Tensor], Any] = lambda a, b: (a, b),
) -> Any:
    """The gradients of the two roles, or what a mistake makes of them."""
    h = (W @ S[i]).tanh() if layer else S[i]
    y = F.one_hot(torch.tensor(o), len(S)).double()
    e = error((S @ h).softmax(0), y)
    back = S.T @ (e * y if target else e)
    if layer:
        back = through(W) @ ((1 - h * h) * back if slope else back)
    read = torch.zeros_like(S)
    read[row(i, o)] = back
    return out(read, torch.outer(e * y if only else e, h))


@calmly
def check_two_parts(two_parts: Any, secret: str | None = None) -> None:
    """∂ℒ/∂U and ∂ℒ/∂V at U = V = S, for h = tanh(W S_i) and z = S h."""
    S, W, more = draw(secret, "two parts", (7, 4), (4, 4), (5, 4))
    check_returns("two_parts", two_parts, (S, W, 2, 5), 2)
    check_function(
        "two_parts",
        two_parts,
        _parts,
        [(S, W, 2, 5), (S, W, 6, 0), (more, W.T.contiguous(), 1, 3), (S, W, 4, 4)],
        mistakes=[
            Mistake(
                partial(_parts, layer=False),
                "you took the embedding Sᵢ itself for h. h is the output of the layer above it; the two are one only "
                "where nothing stands between, as in word2vec",
            ),
            Mistake(partial(_parts, error=lambda p, y: p), "the target is missing: ∂ℒ/∂z is p − y, not p"),
            Mistake(partial(_parts, error=lambda p, y: y - p), "this is the step, −gradient; asked are the gradients"),
            Mistake(partial(_parts, out=lambda a, b: (b, a)), "the parts have changed places: the input's is first"),
            Mistake(
                partial(_parts, out=lambda a, b: (a + b, a + b)),
                "both are the sum already: keep the roles apart, as if they were two matrices",
            ),
            Mistake(
                partial(_parts, out=lambda a, b: (a / 2, b / 2)),
                "you halved the parts; the gradient of the tied matrix is the sum of the roles, not their mean",
            ),
            Mistake(
                partial(_parts, only=True),
                "only the target's row of the output part is filled. The softmax scores every word, so every row has a "
                "gradient, pₖ h where k is not the target",
            ),
            Mistake(
                partial(_parts, target=True),
                "the input part knows the target's row alone: every score pulls at h, each with its own error pₖ − yₖ",
            ),
            Mistake(
                partial(_parts, row=lambda i, o: o), "your input part stands in the row of the target; read was word i"
            ),
            Mistake(
                partial(_parts, slope=False), "the slope of tanh, 1 − h², is missing on the way back to the embedding"
            ),
            Mistake(partial(_parts, through=lambda W: W), "on the way back W is transposed"),
            Mistake(
                partial(_parts, through=lambda W: torch.eye(len(W), dtype=W.dtype)),
                "the way back leads through W too",
            ),
        ],
        forbid=_AUTOGRAD,
        show=secret is None,
    )


def _seen(make: Any, S: Tensor) -> str:
    """What stands in the layer that `make` makes for an embedding, in a word; `one` is what is wanted."""
    embedding = nn.Embedding.from_pretrained(S.clone(), freeze=False)
    weight, layer = embedding.weight, make(embedding)
    if not isinstance(layer, nn.Module):
        return "no module"
    if embedding.weight is not weight or not torch.equal(weight, S):
        return "moved"
    inside = list(layer.parameters())
    if any(p is weight for p in inside):
        biases = [p for p in inside if p.shape == S.shape[:1]]
        return "no bias" if not biases else "drawn bias" if any(bool(b.any()) for b in biases) else "one"
    if any(p.data_ptr() == weight.data_ptr() for p in inside):
        return "alias"
    alike = [p for p in inside if sorted(p.shape) == sorted(S.shape)]
    if any(torch.equal(p if p.shape == S.shape else p.T, S) for p in alike):
        return "copy"
    return "own" if alike else "none"


_UNTIED = {
    "no module": "TiedOutput(embedding) must be an nn.Module, so that a model can hold it",
    "moved": "you changed the embedding: what it has learned is lost, or an optimizer made before moves a matrix that "
    "nobody uses. The layer takes the embedding's Parameter, not the other way round",
    "alias": "your matrix lies in the same memory but is a second Parameter (.data and detach() do that). It has a gradient "
    "and an optimizer's state of its own, it is counted and stepped twice, and copying the model unties it",
    "copy": "your matrix is a copy: equal today, another one after the first step. Tying means one Parameter in two places",
    "own": "the layer has a matrix of its own; it must use the very Parameter of the embedding",
    "none": "the embedding's matrix is not among the layer's parameters: assign the Parameter itself to an attribute, not a "
    "tensor made from it",
    "no bias": "b is missing, or a plain tensor that no optimizer sees: it is a Parameter, one number for each word",
    "drawn bias": "b must start at 0; nn.Linear, for one, draws it",
}


class _Tied(nn.Module):
    """The layer that is asked for; without `learns` its matrix is detached, without `passes` its input is."""

    def __init__(self, embedding: nn.Embedding, learns: bool = True, passes: bool = True) -> None:
        super().__init__()
        self.S, self.learns, self.passes = embedding.weight, learns, passes
        self.b = nn.Parameter(self.S.detach().new_zeros(len(self.S)))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h if self.passes else h.detach(), self.S if self.learns else self.S.detach(), self.b)


def _trained(make: Any, S: Tensor, words: Tensor, targets: Tensor) -> Any:
    """The scores before each of three steps of gradient descent, the model copied after each."""
    embedding = nn.Embedding.from_pretrained(S.clone(), freeze=False)
    model, scores = nn.ModuleList([embedding, make(embedding)]), []
    for _ in range(3):
        z = model[1](model[0](words).tanh())
        if not isinstance(z, Tensor):
            return z
        scores.append(z.detach().clone())
        model.zero_grad()
        F.cross_entropy(z, targets).backward()
        with torch.no_grad():
            for p in model.parameters():
                p.sub_(p.grad if p.grad is not None else torch.zeros_like(p), alpha=0.5)
        model = copy.deepcopy(model)
    return scores


@calmly
def check_tied_output(tied_output: Any, secret: str | None = None) -> None:
    """z = S h + b with the embedding's own Parameter: what the layer holds, then three steps with a copy after each."""
    if not callable(tied_output):
        check_function("TiedOutput", tied_output, lambda: None, [])
    forbid = (tiedlib.tying.TiedSoftmax, tiedlib.recurrent)
    S, T = draw(secret, "tie", (9, 4), (6, 3))
    untied = [Mistake(lambda S, what=what: what, says) for what, says in _UNTIED.items()]
    # lambdas, so that what the answer can reach is seen by the guard
    check_function(
        "TiedOutput", lambda S: _seen(tied_output, S), lambda S: "one", [(S,), (T,)], mistakes=untied, forbid=forbid
    )
    check_function(
        "TiedOutput",
        lambda *case: _trained(tied_output, *case),
        partial(_trained, _Tied),
        [(S, torch.tensor([1, 2, 3]), torch.tensor([2, 8, 0])), (T, torch.tensor([5, 5]), torch.tensor([0, 1]))],
        mistakes=[
            Mistake(
                partial(_trained, partial(_Tied, learns=False)),
                "the first scores are right, but no gradient reaches the matrix from them: your forward uses a detached "
                "tensor, so only the input role learns",
            ),
            Mistake(partial(_trained, partial(_Tied, passes=False)), "your forward cuts h off: no gradient leaves it"),
        ],
        forbid=forbid,
        show=secret is None,
    )


@calmly
def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the tied run starts so high. The public check accepts every answer that is one."""
    says = {
        "A": "the loss is that high before the first step; a smaller rate only stays there longer",
        "B": "right",
        "C": "no gradient has been taken when the first loss is printed",
        "D": "the tied run with the smaller start has the same one matrix",
    }
    check_choice("cause", cause, "B", says, show=secret is not None)


@calmly
def check_scores_at_start(scores_at_start: Any, secret: str | None = None) -> None:
    """(dσ², √d σ²): the mean of ⟨Sᵢ, Sᵢ⟩, and the standard deviation of ⟨Sᵢ, Sₖ⟩, for entries N(0, σ²)."""
    a, b = (0.1 + torch.rand(2, generator=numbers(secret, "scores"), dtype=torch.float64)).tolist()
    check_returns("scores_at_start", scores_at_start, (64, 1.0), 2)
    root = math.sqrt
    check_function(
        "scores_at_start",
        scores_at_start,
        lambda d, sd: (d * sd**2, root(d) * sd**2),
        [(64, 1.0), (100, a), (37, b)],
        mistakes=[
            Mistake(lambda d, sd: (root(d) * sd**2, d * sd**2), "the two have changed places"),
            Mistake(lambda d, sd: (d * sd, root(d) * sd), "each term is a product of two entries: σ comes in twice"),
            Mistake(
                lambda d, sd: (d * sd**2, d * sd**2),
                "in the spread, variances add up: take the root of their sum",
            ),
            Mistake(lambda d, sd: (d * sd**2, d * sd**4), "the second is the variance; asked is its root"),
            Mistake(
                lambda d, sd: (root(d) * sd, root(d) * sd**2),
                "the first is the row's length; asked is its square",
            ),
            Mistake(lambda d, sd: (0.0, root(d) * sd**2), "with itself, every term is a square: the mean is not 0"),
        ],
        show=secret is None,
    )


# What may not be called where a loss is asked for.
_NORMS = (
    tiedlib.tying.projection_penalty,
    tiedlib.regularization,
    torch.norm,
    torch.Tensor.norm,
    torch.linalg.norm,
    torch.linalg.vector_norm,
    torch.linalg.matrix_norm,
    torch.frobenius_norm,
    torch.dist,
    torch.cdist,
)
_LOSSES = (
    tiedlib.tying.augmented_loss,
    tiedlib.linear_cross_entropy,
    F.cross_entropy,
    F.nll_loss,
    F.kl_div,
    torch.kl_div,
    torch.distributions.kl,
    *all_undocumented("_C._nn.cross_entropy_loss", "_C._nn.nll_loss_nd", "_C._nn.nll_loss"),
)


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
    z: Tensor,
    o: Tensor,
    L: Tensor,
    alpha: float,
    tau: float,
    *,
    target_tau: bool = True,
    tempered: bool = True,
    constant: bool = True,
    entropy: bool = True,
    ce: bool = True,
    reverse: bool = False,
    mean: bool = True,
    cosine: bool = False,
    safe: bool = True,
    weight: Callable[[float, float], float] = lambda alpha, tau: alpha,
) -> Tensor:
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
