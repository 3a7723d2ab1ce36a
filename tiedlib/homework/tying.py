"""Checks of the homework `tying`: counts, the two roles of a matrix, the layer, the start. The mistakes are those of the
notes (claims `embedding-result-is-h2`, `model-units`, `tied-gradient-sum`, `all-output-rows-updated`, …) and those that
untie a model without a word. What is about losses stands in `tying_losses`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tiedlib.recurrent
import tiedlib.tying
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_returns, numbers
from tiedlib.homework.tying_losses import check_augmented_loss, check_penalties, check_perplexity, draw

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
    *(torch.autograd.Variable._execution_engine.run_backward, torch.Tensor.backward),
    *(torch.func.grad, torch.func.grad_and_value, torch.func.vjp, torch.func.jvp, torch.func.jacrev, torch.func.jacfwd),
)


def check_parameters(parameters: Any, secret: str | None = None) -> None:
    """C·H once or twice, layers of 8H² + 4H, C biases of the output."""

    def form(
        embeddings: Callable[[bool], int] = lambda tied: 1 if tied else 2, stacks: int = 1, matrices: int = 8,
        biases: int = 4, output: Callable[[bool], int] = lambda tied: 1,
    ) -> Callable[..., int]:  # fmt: skip
        def count(vocab: int, width: int, layers: int, tied: bool) -> int:
            lstm = stacks * layers * (matrices * width * width + biases * width)
            return embeddings(tied) * vocab * width + lstm + output(tied) * vocab

        return count

    vocab, width, layers = (int(x) for x in torch.randint(3, 400, (3,), generator=numbers(secret, "count")))
    check_function(
        "parameters",
        parameters,
        form(),
        [(10_000, 200, 2, False), (10_000, 200, 2, True), (9 * vocab, width, layers % 3 + 1, True), (33, 8, 1, False)],
        mistakes=[
            Mistake(
                form(stacks=2),
                "you count the LSTM twice, for an encoder and a decoder. A language model has neither: each of its "
                "layers "
                "stands once between the two embeddings",
            ),
            Mistake(form(stacks=0), "the LSTM is missing: something stands between the two embeddings"),
            Mistake(form(lambda tied: 2), "tied, the matrix is one Parameter in two places: it counts once"),
            Mistake(form(output=lambda tied: 0), "the output bias is missing: one number for each word"),
            Mistake(
                form(output=lambda tied: int(not tied)),
                "tying shares the matrix and nothing else: the output bias stays, since the input has none",
            ),
            Mistake(form(lambda tied: 0 if tied else 2), "tied, one of the two matrices is left: you removed both"),
            Mistake(form(matrices=2, biases=1), "an LSTM layer has four gates, each with weights and a bias of its "
                "own"),
            Mistake(
                form(matrices=4),
                "a gate has two matrices, one for the layer's input and one for its own state; you count one of them",
            ),
            Mistake(
                form(biases=8),
                "you count two biases a gate, as torch.nn.LSTM has them; they only act as a sum, and here there is one",
            ),
            Mistake(form(biases=0), "the LSTM's biases are missing: one for each unit of each gate"),
        ],
        forbid=_MODELS,
        rtol=1e-12,
        show=secret is None,
    )  # fmt: skip


def check_two_parts(two_parts: Any, secret: str | None = None) -> None:
    """∂ℒ/∂U and ∂ℒ/∂V at U = V = S, for h = tanh(W S_i) and z = S h."""

    def form(
        layer: bool = True, slope: bool = True, through: Callable[[Tensor], Tensor] = lambda W: W.T,
        error: Callable[[Tensor, Tensor], Tensor] = lambda p, y: p - y, row: Callable[[int, int], int] = lambda i, o: i,
        only: bool = False, target: bool = False, out: Callable[[Tensor, Tensor], Any] = lambda a, b: (a, b),
    ) -> Callable[..., Any]:  # fmt: skip
        def parts(S: Tensor, W: Tensor, i: int, o: int) -> Any:
            h = (W @ S[i]).tanh() if layer else S[i]
            y = F.one_hot(torch.tensor(o), len(S)).double()
            e = error((S @ h).softmax(0), y)
            back = S.T @ (e * y if target else e)
            if layer:
                back = through(W) @ ((1 - h * h) * back if slope else back)
            read = torch.zeros_like(S)
            read[row(i, o)] = back
            return out(read, torch.outer(e * y if only else e, h))

        return parts

    S, W, more = draw(secret, "two parts", (7, 4), (4, 4), (5, 4))
    check_returns("two_parts", two_parts, (S, W, 2, 5), 2)
    check_function(
        "two_parts",
        two_parts,
        form(),
        [(S, W, 2, 5), (S, W, 6, 0), (more, W.T.contiguous(), 1, 3), (S, W, 4, 4)],
        mistakes=[
            Mistake(
                form(layer=False),
                "you took the embedding Sᵢ itself for h. h is the output of the layer above it; the two are one only "
                "where "
                "nothing stands between, as in word2vec",
            ),
            Mistake(form(error=lambda p, y: p), "the target is missing: ∂ℒ/∂z is p − y, not p"),
            Mistake(form(error=lambda p, y: y - p), "this is the step, −gradient; asked are the gradients"),
            Mistake(form(out=lambda a, b: (b, a)), "the parts have changed places: first the input's, then the "
                "output's"),
            Mistake(
                form(out=lambda a, b: (a + b, a + b)),
                "both are the sum already: keep the roles apart, as if they were two matrices",
            ),
            Mistake(
                form(out=lambda a, b: (a / 2, b / 2)),
                "you halved the parts; the gradient of the tied matrix is the sum of the roles, not their mean",
            ),
            Mistake(
                form(only=True),
                "only the target's row of the output part is filled. The softmax scores every word, so every row has a "
                "gradient, pₖ h where k is not the target",
            ),
            Mistake(
                form(target=True),
                "the input part knows the target's row alone: every score pulls at h, each with its own error pₖ − yₖ",
            ),
            Mistake(form(row=lambda i, o: o), "your input part stands in the row of the target; read was word i"),
            Mistake(form(slope=False), "the slope of tanh, 1 − h², is missing on the way back to the embedding"),
            Mistake(form(through=lambda W: W), "on the way back W is transposed"),
            Mistake(
                form(through=lambda W: torch.eye(len(W), dtype=W.dtype)),
                "the way back to the embedding leads through W too",
            ),
        ],
        forbid=_AUTOGRAD,
        show=secret is None,
    )  # fmt: skip


def _tie(make: Any) -> Callable[..., str]:
    """What stands in the layer that was made for an embedding, in one word; `one` is what is wanted."""

    def seen(S: Tensor) -> str:
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

    return seen


_UNTIED = {
    "no module": "TiedOutput(embedding) must be an nn.Module, so that a model can hold it",
    "moved": "you changed the embedding: what it has learned is lost, or an optimizer made before moves a matrix that "
    "nobody "
    "uses. The layer takes the embedding's Parameter, not the other way round",
    "alias": "your matrix lies in the same memory but is a second Parameter (.data and detach() do that). It has a "
    "gradient and "
    "optimizer state of its own, it is counted and stepped twice, and copying the model unties it",
    "copy": "your matrix is a copy: equal today, another one after the first step. Tying means one Parameter in two "
    "places",
    "own": "the layer has a matrix of its own; it must use the very Parameter of the embedding",
    "none": "the embedding's matrix is not among the layer's parameters: assign the Parameter itself to an attribute, "
    "not a tensor "
    "made from it",
    "no bias": "b is missing, or a plain tensor that no optimizer sees: it is a Parameter, one number for each word",
    "drawn bias": "b must start at 0; nn.Linear, for one, draws it",
}


def check_tied_output(tied_output: Any, secret: str | None = None) -> None:
    """z = S h + b with the embedding's own Parameter: what the layer holds, then three steps with a deepcopy among "
    "them."""

    def trained(make: Any) -> Callable[..., Any]:
        def logits(S: Tensor, words: Tensor, targets: Tensor) -> Any:
            embedding = nn.Embedding.from_pretrained(S.clone(), freeze=False)
            model, seen = nn.ModuleList([embedding, make(embedding)]), []
            for _ in range(3):
                z = model[1](model[0](words).tanh())
                if not isinstance(z, Tensor):
                    return z
                seen.append(z.detach().clone())
                model.zero_grad()
                F.cross_entropy(z, targets).backward()
                with torch.no_grad():
                    for p in model.parameters():
                        p.sub_(p.grad if p.grad is not None else torch.zeros_like(p), alpha=0.5)
                model = copy.deepcopy(model)
            return seen

        return logits

    class Right(nn.Module):
        def __init__(self, embedding: nn.Embedding, learns: bool = True, reads: bool = True) -> None:
            super().__init__()
            self.S, self.learns, self.reads = embedding.weight, learns, reads
            self.b = nn.Parameter(self.S.detach().new_zeros(len(self.S)))

        def forward(self, h: Tensor) -> Tensor:
            return F.linear(h if self.reads else h.detach(), self.S if self.learns else self.S.detach(), self.b)

    if not callable(tied_output):
        check_function("TiedOutput", tied_output, lambda: None, [])
    forbid = (tiedlib.tying.TiedSoftmax, tiedlib.recurrent)
    S, T = draw(secret, "tie", (9, 4), (6, 3))
    untied = [Mistake(lambda S, what=what: what, says) for what, says in _UNTIED.items()]
    check_function("TiedOutput", _tie(tied_output), lambda S: "one", [(S,), (T,)], mistakes=untied, forbid=forbid)
    check_function(
        "TiedOutput",
        trained(tied_output),
        trained(Right),
        [(S, torch.tensor([1, 2, 3]), torch.tensor([2, 8, 0])), (T, torch.tensor([5, 5]), torch.tensor([0, 1]))],
        mistakes=[
            Mistake(
                trained(lambda embedding: Right(embedding, learns=False)),
                "the first scores are right, but no gradient reaches the matrix from them: your forward uses a "
                "detached tensor, "
                "so only the input role learns",
            ),
            Mistake(trained(lambda embedding: Right(embedding, reads=False)), "your forward cuts h off: no gradient "
                "leaves it"),
        ],
        forbid=forbid,
        show=secret is None,
    )  # fmt: skip


def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the tied run starts so high. The public check accepts every answer that is one."""
    says = {
        "A": "the loss is that high before the first step; a smaller rate only stays there longer",
        "B": "right",
        "C": "no gradient has been taken when the first loss is printed",
        "D": "the tied run with the smaller start has the same one matrix",
    }
    check_choice("cause", cause, "B", says, show=secret is not None)


def check_scores_at_start(scores_at_start: Any, secret: str | None = None) -> None:
    """(dσ², √d σ²): the mean of ⟨Sᵢ, Sᵢ⟩, and the standard deviation of ⟨Sᵢ, Sₖ⟩, for entries N(0, σ²)."""
    a, b = (0.1 + torch.rand(2, generator=numbers(secret, "scores"), dtype=torch.float64)).tolist()
    check_returns("scores_at_start", scores_at_start, (64, 1.0), 2)
    check_function(
        "scores_at_start",
        scores_at_start,
        lambda d, sd: (d * sd**2, math.sqrt(d) * sd**2),
        [(64, 1.0), (100, a), (37, b)],
        mistakes=[
            Mistake(lambda d, sd: (math.sqrt(d) * sd**2, d * sd**2), "the two have changed places"),
            Mistake(lambda d, sd: (d * sd, math.sqrt(d) * sd), "each term is a product of two entries: σ comes in "
                "twice"),
            Mistake(lambda d, sd: (d * sd**2, d * sd**2), "in the spread, variances add up, not standard deviations: "
                "take the root of their sum"),
            Mistake(lambda d, sd: (d * sd**2, d * sd**4), "that is the variance of the second score; asked is the "
                "standard deviation"),
            Mistake(lambda d, sd: (math.sqrt(d) * sd, math.sqrt(d) * sd**2), "the first is the length of the row; the "
                "score is its square"),
            Mistake(lambda d, sd: (0.0, math.sqrt(d) * sd**2), "the mean is 0 for two different words; with itself "
                "every term is a square"),
        ],
        show=secret is None,
    )  # fmt: skip
