"""Checks of the homework `tying`: counts, the two roles of a matrix, the layer, the start. The mistakes are those of the
notes (claims `embedding-result-is-h2`, `model-units`, `tied-gradient-sum`, `all-output-rows-updated`, …) and those that
untie a model without a word. What is about losses stands in `tying_losses`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiedlib.recurrent
import tiedlib.tying
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_returns, numbers
from tiedlib.homework.tying_losses import check_augmented_loss, check_penalties, check_perplexity, draw
from tiedlib.undocumented import all_undocumented

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

# What may not be called. run_backward is what every way into autograd ends in.
_MODELS = (tiedlib.recurrent, torch.nn.modules.rnn, torch.nn.modules.sparse, torch.nn.modules.linear)
_AUTOGRAD = (
    *(torch.autograd.backward, torch.autograd.grad, torch.autograd.functional, torch.autograd.forward_ad),
    *(torch.Tensor.backward, *all_undocumented("autograd.Variable._execution_engine.run_backward")),
    *(torch.func.grad, torch.func.grad_and_value, torch.func.vjp, torch.func.jvp, torch.func.jacrev, torch.func.jacfwd),
)


def _count(
    vocab: int, width: int, layers: int, tied: bool, *, matrices: Callable[[bool], int] = lambda tied: 1 if tied else 2,
    stacks: int = 1, inside: int = 8, biases: int = 4, output: Callable[[bool], int] = lambda tied: 1,
) -> int:  # fmt: skip
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
    S: Tensor, W: Tensor, i: int, o: int, *, layer: bool = True, slope: bool = True, only: bool = False,
    target: bool = False, through: Callable[[Tensor], Tensor] = lambda W: W.T,
    error: Callable[[Tensor, Tensor], Tensor] = lambda p, y: p - y, row: Callable[[int, int], int] = lambda i, o: i,
    out: Callable[[Tensor, Tensor], Any] = lambda a, b: (a, b),
) -> Any:  # fmt: skip
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
