"""Checks of the homework `training_loop`. The mistakes are those of the notes (claims `total-nll-sums-means`,
`total-nll-keeps-graph`, `zero-grad`, `forward-returns-logits`, `dynet-pick-variants`, `save-state-dict`) and of the forums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import tiedlib.autograd
import tiedlib.linear_cross_entropy
import tiedlib.training_loop
from tiedlib._undocumented import all_undocumented
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import (
    Mistake,
    check_choice,
    check_function,
    check_number,
    check_returns,
    numbers,
)
from tiedlib.homework.loops import check_evaluate, check_update

__all__ = [
    "check_cause",
    "check_cross_entropy",
    "check_evaluate",
    "check_floor",
    "check_keep_best",
    "check_loss_gradient",
    "check_update",
]

_OURS = (tiedlib.autograd, tiedlib.linear_cross_entropy, tiedlib.training_loop)  # may not be called; nor these:
_LOSSES: tuple[Any, ...] = (
    functional.cross_entropy,
    functional.nll_loss,
    functional.log_softmax,
    torch.log_softmax,
    torch.logsumexp,
    torch.special.log_softmax,
    torch.special.logsumexp,
    torch.logcumsumexp,
    *all_undocumented("_C._nn.cross_entropy_loss"),
)
_DERIVATIVES: tuple[Any, ...] = (
    torch.autograd.grad,
    torch.autograd.backward,
    Tensor.backward,
    torch.autograd.forward_ad,
    torch.autograd.functional,
    torch.func.grad,
    torch.func.grad_and_value,
    torch.func.vjp,
    torch.func.jvp,
    torch.func.jacrev,
    torch.func.jacfwd,
    torch.func.linearize,
    torch.autograd.gradcheck,
)


def _scores(secret: str | None, what: str) -> list[tuple[Tensor, Tensor]]:
    """Scores and class ids: small, all shifted far up, rows on levels far apart, and gaps of ten thousand within a row."""
    source = numbers(secret, what)
    drawn = [torch.randn(6, 4, generator=source, dtype=torch.float64) for _ in range(4)]
    targets = [torch.cat([torch.randperm(4, generator=source), torch.tensor([0, 2])]) for _ in range(4)]
    levels = torch.linspace(-1e4, 1e4, 6, dtype=torch.float64)[:, None]
    return list(zip([drawn[0], drawn[1] + 1e4, drawn[2] + levels, 1e4 * drawn[3]], targets, strict=True))


def _pick(z: Tensor, y: Tensor) -> Tensor:
    return z[torch.arange(len(y)), y]


def _loss(z: Tensor, y: Tensor) -> Tensor:
    """The reference: torch's."""
    return functional.cross_entropy(z, y)


@calmly
def check_cross_entropy(cross_entropy: Any, secret: str | None = None) -> None:
    """The mean of log Σ exp z − z_y, for scores of any size."""
    overflow = (
        "right for small scores. The exponential of a large one is infinite: take each row's largest score out first"
    )
    check_function(
        "cross_entropy",
        cross_entropy,
        _loss,
        _scores(secret, "loss"),
        mistakes=[
            Mistake(lambda z, y: (z.exp().sum(1).log() - _pick(z, y)).mean(), overflow),
            Mistake(lambda z, y: -(_pick(z.exp(), y) / z.exp().sum(1)).log().mean(), overflow),
            Mistake(lambda z, y: (z.exp().sum(1).log() - _pick(z, y).exp().log()).mean(), overflow),
            Mistake(
                lambda z, y: -_pick(z.softmax(1), y).log().mean(),
                "right while the scores of a row are close. Far below the largest a probability is rounded to 0, and "
                "its logarithm is −∞: subtract logarithms, do not take that of a quotient",
            ),
            Mistake(
                lambda z, y: ((z - z.max()).exp().sum(1).log() + z.max() - _pick(z, y)).mean(),
                "you take out the largest score of the whole batch; in a row far below it all exponentials are 0. "
                "Each row has a largest score of its own",
            ),
            Mistake(
                lambda z, y: _loss(z.softmax(1), y),
                "there is a softmax before the loss, which contains one already: the loss is flat and can't come near 0",
            ),
            Mistake(lambda z, y: _loss(z, y) * len(y), "this is the sum over the batch; asked is the mean"),
            Mistake(
                lambda z, y: _loss(z, y) / z.shape[1], "you divide by the classes, too: the mean is over the rows alone"
            ),
            Mistake(
                lambda z, y: z.logsumexp(1).mean() - z[:, y].mean(),
                "z[:, y] takes all columns in y from every row, a square of numbers; you need one entry a row, its own",
            ),
            Mistake(lambda z, y: -_loss(z, y), "the sign is reversed: this falls where the model gets worse"),
            Mistake(lambda z, y: z.logsumexp(1).mean(), "the score of the right class is not subtracted"),
            Mistake(
                lambda z, y: _loss(z, y) - z.max(1).values.mean(),
                "what you took out of the sum has to come back: m is missing at the end",
            ),
        ],
        forbid=_OURS + _LOSSES,
        show=secret is None,
    )


@calmly
def check_loss_gradient(loss_gradient: Any, secret: str | None = None) -> None:
    """(softmax(z) − onehot(y)) / B."""

    def form(
        rows: Callable[[Tensor], float] = len, p: Callable[[Tensor], Tensor] = lambda z: z.softmax(1), one: float = 1.0
    ) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda z, y: (p(z) - one * functional.one_hot(y, z.shape[1])) / rows(z)

    def outer(z: Tensor, y: Tensor) -> Tensor:
        p = z.softmax(1)
        p[:, y] -= 1
        return p / len(z)

    check_function(
        "loss_gradient",
        loss_gradient,
        form(),
        _scores(secret, "gradient"),
        mistakes=[
            Mistake(form(lambda z: 1), "this is the gradient of the sum; the mean's is smaller by the number of rows"),
            Mistake(form(lambda z: z.numel()), "divide by the rows alone, not by rows times classes"),
            Mistake(form(lambda z: z.shape[1]), "you divide by the number of classes; the mean is over the rows"),
            Mistake(form(lambda z: -len(z)), "the sign is reversed: a step along −gradient would make the loss grow"),
            Mistake(form(one=0.0), "the term −z_y has a gradient, too: −1 at the right class"),
            Mistake(
                form(p=lambda z: z.softmax(0)),
                "the softmax is over the classes of a row (dim=1), yours is over the batch",
            ),
            Mistake(
                form(p=lambda z: z.log_softmax(1)), "the gradient of log Σ exp z is the softmax, not its logarithm"
            ),
            Mistake(
                form(p=lambda z: z),
                "that would be the gradient of a squared error; what is the gradient of log Σ exp z?",
            ),
            Mistake(outer, "p[:, y] changes the columns in y of every row; change one entry a row, its own"),
        ],
        forbid=_OURS + _LOSSES + _DERIVATIVES,
        show=secret is None,
    )


@calmly
def check_floor(floor: Any, secret: str | None = None) -> None:
    """log(1 + 9/e): scores of 1 for the right class and 0 for the nine others."""
    check_number(
        "floor",
        floor,
        math.log(1 + 9 / math.e),
        mistakes=[
            (
                0.0,
                "so it would be for scores; but a softmax gives at most 1 to the right class and at least 0 to the others",
            ),
            (math.log(10), "that is a guess among ten; the model can do better than that, but not much"),
            (math.log(9 + math.e), "the score of the right class, 1, is still to be subtracted"),
            (math.log(1 + 9 * math.e), "the right class has the larger score: 1, and the others 0"),
            (math.log(1 + 10 / math.e), "of ten classes nine are wrong"),
            (1 / (1 + 9 / math.e), "that is the probability which the loss sees; the loss is minus its logarithm"),
            (math.log2(1 + 9 / math.e), "that is in bits; asked are nats"),
        ],
        show=secret is None,
    )


@calmly
def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the run learns so little. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "C",
        {
            "A": "at no rate does the new layer move at all: compare its weights with before",
            "B": "its .grad is not None and not 0, look; a gradient alone moves nothing",
            "C": "right",
            "D": "zero_grad clears what the optimizer moves; what piles up in the new layer's .grad is of the new task, and unused",
        },
        show=secret is not None,
    )


@calmly
def check_keep_best(train_and_keep_best: Any, secret: str | None = None) -> None:
    """The number of the pass with the lowest loss, a copy of its state, and the model in that state."""
    drawn = torch.rand(7, generator=numbers(secret, "best"), dtype=torch.float64).tolist()
    cases = [
        ([0.9, 0.5, 0.7, 0.3, 0.3, 0.8],),
        ([math.nan, 0.6, 0.4, 0.45],),
        ([0.6, math.nan, 0.4, 0.7],),
        ([*drawn, 2.0],),
    ]

    def one_pass(model: nn.Module) -> None:
        for p in model.parameters():
            p.data.add_(1.0)  # after pass k every weight is k + 1

    def run(rule: Callable[..., Any], part: int) -> Callable[..., Any]:
        """Of the rule's number, its state, and the model afterwards, one."""

        def found(losses: list[float]) -> Any:
            model = nn.Linear(2, 1, dtype=torch.float64)
            model.load_state_dict({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)})
            result = rule(model, one_pass, lambda model: losses[int(model.bias.item()) - 1], len(losses))
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                return result
            return (*result, dict(model.state_dict()))[part]

        return found

    def form(
        pick: Callable[[list[float]], int], passes: Callable[[list[float], int], int] = lambda ls, k: k + 1
    ) -> Any:
        def rule(model: nn.Module, train: Any, loss: Callable[[nn.Module], float], count: int) -> Any:
            losses = []
            for _ in range(count):
                train(model)
                losses.append(loss(model))
            best = pick(losses)
            state = {name: torch.full_like(v, passes(losses, best)) for name, v in model.state_dict().items()}
            model.load_state_dict(state)
            return best, state

        return rule

    def finite(losses: list[float]) -> list[int]:
        return [k for k, loss in enumerate(losses) if not math.isnan(loss)]

    def lowest(losses: list[float]) -> int:
        return min(finite(losses), key=losses.__getitem__)

    def first_rise(losses: list[float]) -> int:
        best = -1
        while best + 1 < len(losses) and losses[best + 1] < (losses[best] if best >= 0 else math.inf):
            best += 1
        return best

    def number(pick: Callable[[list[float]], int], says: str) -> Mistake:
        return Mistake(run(form(pick), 0), says)

    def check(part: int, what: str, mistakes: list[Mistake]) -> None:
        check_function(
            f"train_and_keep_best{what}",
            run(train_and_keep_best, part),
            run(form(lowest), part),
            cases,
            mistakes=mistakes,
            forbid=_OURS,
            show=secret is None,
        )

    check_returns("train_and_keep_best", train_and_keep_best, (nn.Linear(1, 1), one_pass, lambda model: 1.0, 2), 2)
    nan = "NaN compares with nothing: a pass whose loss is NaN counts as the best in yours, or hides those after it"
    check(
        0,
        "",
        [
            number(lambda ls: len(ls) - 1, "you keep the last pass, whatever its loss"),
            number(lambda ls: max(finite(ls), key=ls.__getitem__), "you keep the highest loss; the best is the lowest"),
            number(
                lambda ls: len(ls) - 1 - lowest(ls[::-1]),
                "of equally good passes the first is asked: only a lower loss is better",
            ),
            number(lambda ls: min(range(len(ls)), key=ls.__getitem__), nan),
            number(lambda ls: int(torch.tensor(ls).argmin()), nan),
            number(lambda ls: lowest(ls) + 1, "passes are counted from 0"),
            number(
                first_rise,
                "you stop where the loss rises for the first time; it may fall again, and all passes are asked",
            ),
        ],
    )
    last = form(lowest, lambda ls, k: len(ls))
    check(
        1,
        ": the state",
        [
            Mistake(
                run(last, 1),
                "the number is right, but the state is that of the last pass: state_dict() hands out the model's own tensors, "
                "which go on being trained. Copy them",
            ),
            Mistake(run(form(lowest, lambda ls, k: k), 1), "the state is from before the best pass, not from after it"),
        ],
    )
    check(
        2,
        ": the model",
        [
            Mistake(run(last, 2), "the model is left as the last pass made it: load the best state into it"),
        ],
    )
