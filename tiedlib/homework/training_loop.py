"""Checks of the homework `training_loop`. The mistakes are those of the notes (claims `total-nll-sums-means`,
`total-nll-keeps-graph`, `zero-grad`, `forward-returns-logits`, `dynet-pick-variants`, `save-state-dict`) and of the forums."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import tiedlib.autograd
import tiedlib.linear_cross_entropy
import tiedlib.training_loop
from tiedlib.homework.checks import (
    Mistake,
    check_choice,
    check_function,
    check_number,
    check_returns,
    check_that,
    numbers,
)

__all__ = [
    *("check_cause", "check_cross_entropy", "check_evaluate", "check_floor", "check_keep_best"),
    *("check_loss_gradient", "check_update"),
]

_OURS = (tiedlib.autograd, tiedlib.linear_cross_entropy, tiedlib.training_loop)  # may not be called; nor these:
_LOSSES: tuple[Any, ...] = (
    *(functional.cross_entropy, functional.nll_loss, functional.log_softmax, torch.log_softmax, torch.logsumexp),
    *(torch.special.log_softmax, torch.special.logsumexp, torch.logcumsumexp, torch._C._nn.cross_entropy_loss),
)
_DERIVATIVES: tuple[Any, ...] = (
    *(torch.autograd.grad, torch.autograd.backward, Tensor.backward, torch.autograd.forward_ad, torch.autograd.functional),
    *(torch.func.grad, torch.func.grad_and_value, torch.func.vjp, torch.func.jvp, torch.func.jacrev, torch.func.jacfwd),
    *(torch.func.linearize, torch.autograd.gradcheck),
)
Part = tuple[Tensor, Tensor]


def _scores(secret: str | None, what: str) -> list[Part]:
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


def check_cross_entropy(cross_entropy: Any, secret: str | None = None) -> None:
    """The mean of log Σ exp z − z_y, for scores of any size."""
    overflow = "right for small scores. The exponential of a large one is infinite: take each row's largest score out first"
    check_function(
        "cross_entropy",
        cross_entropy,
        _loss,
        _scores(secret, "loss"),
        mistakes=[
            Mistake(lambda z, y: (z.exp().sum(1).log() - _pick(z, y)).mean(), overflow),
            Mistake(lambda z, y: -(_pick(z.exp(), y) / z.exp().sum(1)).log().mean(), overflow),
            Mistake(lambda z, y: (z.exp().sum(1).log() - _pick(z, y).exp().log()).mean(), overflow),
            Mistake(lambda z, y: -_pick(z.softmax(1), y).log().mean(),
                    "right while the scores of a row are close. Far below the largest a probability is rounded to 0, and "
                    "its logarithm is −∞: subtract logarithms, do not take that of a quotient"),
            Mistake(lambda z, y: ((z - z.max()).exp().sum(1).log() + z.max() - _pick(z, y)).mean(),
                    "you take out the largest score of the whole batch; in a row far below it all exponentials are 0. "
                    "Each row has a largest score of its own"),
            Mistake(lambda z, y: _loss(z.softmax(1), y),
                    "there is a softmax before the loss, which contains one already: the loss is flat and can't come near 0"),
            Mistake(lambda z, y: _loss(z, y) * len(y), "this is the sum over the batch; asked is the mean"),
            Mistake(lambda z, y: _loss(z, y) / z.shape[1], "you divide by the classes, too: the mean is over the rows alone"),
            Mistake(lambda z, y: z.logsumexp(1).mean() - z[:, y].mean(),
                    "z[:, y] takes all columns in y from every row, a square of numbers; you need one entry a row, its own"),
            Mistake(lambda z, y: -_loss(z, y), "the sign is reversed: this falls where the model gets worse"),
            Mistake(lambda z, y: z.logsumexp(1).mean(), "the score of the right class is not subtracted"),
            Mistake(lambda z, y: _loss(z, y) - z.max(1).values.mean(),
                    "what you took out of the sum has to come back: m is missing at the end"),
        ],
        forbid=_OURS + _LOSSES,
        show=secret is None,
    )  # fmt: skip


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
            Mistake(form(p=lambda z: z.softmax(0)), "the softmax is over the classes of a row (dim=1), yours is over the batch"),
            Mistake(form(p=lambda z: z.log_softmax(1)), "the gradient of log Σ exp z is the softmax, not its logarithm"),
            Mistake(form(p=lambda z: z), "that would be the gradient of a squared error; what is the gradient of log Σ exp z?"),
            Mistake(outer, "p[:, y] changes the columns in y of every row; change one entry a row, its own"),
        ],
        forbid=_OURS + _LOSSES + _DERIVATIVES,
        show=secret is None,
    )  # fmt: skip


class _Bench:
    """A small model, unequal batches, and a mean loss that notes what goes on around it."""

    def __init__(self, seed: int, sizes: Sequence[int], training: bool = True) -> None:
        g = torch.Generator().manual_seed(seed)
        self.model = nn.Linear(3, 2, dtype=torch.float64).train(training)
        self.model.load_state_dict(
            {k: torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in self.model.state_dict().items()}
        )
        for p in self.model.parameters():
            p.grad = torch.randn(p.shape, generator=g, dtype=p.dtype)  # left over from before
        self.parts = [tuple(torch.randn(n, k, generator=g, dtype=torch.float64) for k in (3, 2)) for n in sizes]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.steps = self.back = self.alive = self.late = self.longest = 0
        self.marks: list[Any] = []
        self.modes: list[tuple[bool, bool]] = []
        self.result: Any = None
        self.optimizer.register_step_post_hook(lambda *_: setattr(self, "steps", self.steps + 1))

    def loss(self, model: nn.Module, part: Part) -> Tensor:
        self.alive = max(self.alive, sum(mark() is not None for mark in self.marks))
        self.late += self.back < len(self.marks)
        self.longest = max(self.longest, len(part[0]))
        self.modes.append((model.training, torch.is_grad_enabled()))
        value: Tensor = (model(part[0]) - part[1]).square().mean()
        if value.grad_fn is not None:
            mark = type("Mark", (), {})()
            value.grad_fn.metadata["mark"] = mark  # lives as long as the graph's node
            self.marks.append(weakref.ref(mark))
            value.grad_fn.register_hook(lambda *_: setattr(self, "back", self.back + 1))
        return value

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def check_update(update: Any, secret: str | None = None) -> None:
    """θ ← θ − η ∇L for the mean L over all rows, one graph at a time, and L."""
    seed = int(torch.randint(2**40, (1,), generator=numbers(secret, "update")))
    cases = [(seed, (4, 1, 3, 2)), (seed + 1, (2, 5, 1))]
    used: list[_Bench] = []

    def run(rule: Callable[..., Any], weights: bool, keep: bool = False) -> Callable[..., Any]:
        def after(seed: int, sizes: tuple[int, ...]) -> Any:
            bench = _Bench(seed, sizes)
            bench.result = rule(bench.model, bench.parts, bench.optimizer, bench.loss)
            used.extend([bench] if keep else [])
            return bench.result if not weights or bench.result in (None, ...) else bench.weights()

        return after

    def form(
        share: Callable[[int, int, int], float] = lambda n, rows, parts: n / rows,
        clear: bool = True, each: bool = False, step: bool = True, steps: bool = False,
    ) -> Callable[..., float]:  # fmt: skip
        def rule(model: nn.Module, parts: list[Part], optimizer: torch.optim.Optimizer, loss: Callable[..., Tensor]) -> float:
            rows, total = sum(len(x) for x, _ in parts), 0.0
            if clear:
                optimizer.zero_grad()
            for part in parts:
                if each:
                    optimizer.zero_grad()
                value = loss(model, part) * share(len(part[0]), rows, len(parts))
                value.backward()  # type: ignore[no-untyped-call]
                total += value.item()
                if steps:
                    optimizer.step()
            if step and not steps:
                optimizer.step()
            return total

        return rule

    def both(says: str, *rules: Callable[..., Any], weights: bool = True) -> list[Mistake]:
        return [Mistake(run(rule, weights), says) for rule in rules]

    one, mean_of_means, summed = (lambda n, r, k: 1.0), (lambda n, r, k: 1 / k), (lambda n, r, k: float(n))
    shares = ((lambda n, r, k: n / r), one, mean_of_means, summed)
    check_function(
        "update",
        run(update, True, keep=True) if callable(update) else update,
        run(form(), True),
        cases,
        mistakes=[
            *both("gradients from before are in your step: torch adds to .grad, so clear it before the first part",
                  *(form(s, clear=False) for s in shares)),
            *both("the gradients of all parts but the last are cleared away: clear once, before the first part",
                  *(form(s, each=True) for s in shares)),
            *both("you step after each part; asked is one update with the gradient of all",
                  *(form(s, each=e, steps=True) for s in shares for e in (False, True))),
            *both("the weights are as they were: is there a step, and are there gradients when it is made?", form(step=False)),
            *both("you add up the gradients of the parts' means: divide, or with k parts the step is about k times too long",
                  form(one)),
            *both("each part's mean counts the same in yours, and so a row of a short part counts more: weigh each part by its rows",
                  form(mean_of_means)),
            *both("this is the gradient of the sum over all rows; asked is that of the mean", form(summed)),
        ],
        forbid=_OURS,
        show=secret is None,
    )  # fmt: skip
    bench = used[0]
    check_that(all(b.longest <= max(len(x) for x, _ in b.parts) for b in used),
               "update gives loss several parts at once: together they do not fit into memory")  # fmt: skip
    check_that(bench.late == 0, "update: the loss of a part is computed before the one before it has gone backwards, so that "
               "all graphs are in memory at once")  # fmt: skip
    check_that(bench.alive <= 1, f"update: at the last part {bench.alive} graphs of earlier parts are still alive. A total of "
               "tensors keeps the history of each: add numbers, with .item()")  # fmt: skip
    check_that(all(b.steps == 1 for b in used), "update must call optimizer.step(), once")
    replies = iter([b.result for b in used])
    check_function("update: the mean loss", lambda *_: next(replies), run(form(), False), cases, mistakes=[
        *both("this is the sum of the parts' means, neither the total nor the mean: weigh each part by its rows", form(one), weights=False),
        *both("this is the mean of the parts' means, in which a row of a short part counts more", form(mean_of_means), weights=False),
        *both("this is the sum over the rows; divide by their number", form(summed), weights=False),
    ], show=secret is None)  # fmt: skip
    check_that(not isinstance(bench.result, Tensor), "update returns a tensor; a Python number is asked, which keeps nothing alive")


def check_evaluate(evaluate: Any, secret: str | None = None) -> None:
    """Σ n_b L_b / Σ n_b in evaluation mode, with nothing recorded, and the mode restored."""
    seed = int(torch.randint(2**40, (1,), generator=numbers(secret, "evaluate")))
    used: list[_Bench] = []

    def run(rule: Callable[..., Any], keep: bool = False) -> Callable[..., Any]:
        def value(seed: int, sizes: tuple[int, ...], training: bool) -> Any:
            bench = _Bench(seed, sizes, training)
            bench.result = rule(bench.model, bench.parts, bench.loss)
            used.extend([bench] if keep else [])
            return bench.result

        return value

    def form(total: Callable[[list[float], list[int]], float]) -> Callable[..., Any]:
        return run(lambda model, parts, loss: total([loss(model, p).item() for p in parts], [len(x) for x, _ in parts]))

    check_function(
        "evaluate",
        run(evaluate, keep=True) if callable(evaluate) else evaluate,
        form(lambda means, rows: _weighed(means, rows) / sum(rows)),
        [(seed, (4, 4, 1), True), (seed + 1, (3, 3, 3, 2), False)],
        mistakes=[
            Mistake(form(lambda means, rows: sum(means)),
                    "this is the sum of the batches' means, as in the notes: neither the total nor the mean, and it grows "
                    "with the number of batches"),
            Mistake(form(lambda means, rows: sum(means) / len(means)),
                    "this is the mean of the batches' means: a row of a short last batch counts more than the others"),
            Mistake(form(_weighed), "this is the total over all rows; divide by their number"),
            Mistake(form(lambda means, rows: sum(means) / sum(rows)),
                    "you add means and divide by rows: give each mean the weight of its rows first"),
            Mistake(form(lambda means, rows: means[-1]), "this is the loss of the last batch alone"),
        ],
        forbid=_OURS,
        show=secret is None,
    )  # fmt: skip
    check_that(not any(graph for b in used for _, graph in b.modes), "evaluate records a graph for each batch, and a total of "
               "such losses keeps all of them alive: switch the recording off")  # fmt: skip
    check_that(not any(mode for b in used for mode, _ in b.modes), "evaluate: the model is in training mode, where dropout is "
               "random and drops; your number would be that of a thinned network")  # fmt: skip
    check_that(used[0].model.training, "evaluate leaves the model in evaluation mode: the next pass would train without dropout")
    check_that(not used[1].model.training, "evaluate puts the model into training mode, though it was in evaluation mode before")
    check_that(isinstance(used[0].result, float), "evaluate returns a tensor; a Python number is asked, which keeps nothing alive")


def _weighed(means: list[float], rows: list[int]) -> float:
    return sum(m * n for m, n in zip(means, rows, strict=True))


def check_floor(floor: Any, secret: str | None = None) -> None:
    """log(1 + 9/e): scores of 1 for the right class and 0 for the nine others."""
    check_number("floor", floor, math.log(1 + 9 / math.e), mistakes=[
        (0.0, "so it would be for scores; but a softmax gives at most 1 to the right class and at least 0 to the others"),
        (math.log(10), "that is a guess among ten; the model can do better than that, but not much"),
        (math.log(9 + math.e), "the score of the right class, 1, is still to be subtracted"),
        (math.log(1 + 9 * math.e), "the right class has the larger score: 1, and the others 0"),
        (math.log(1 + 10 / math.e), "of ten classes nine are wrong"),
        (1 / (1 + 9 / math.e), "that is the probability which the loss sees; the loss is minus its logarithm"),
        (math.log2(1 + 9 / math.e), "that is in bits; asked are nats"),
    ], show=secret is None)  # fmt: skip


def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the run learns so little. The public check accepts every answer that is one."""
    check_choice("cause", cause, "C", {
        "A": "at no rate does the new layer move at all: compare its weights with before",
        "B": "its .grad is not None and not 0, look; a gradient alone moves nothing",
        "C": "right",
        "D": "zero_grad clears what the optimizer moves; what piles up in the new layer's .grad is of the new task, and nobody uses it",
    }, show=secret is not None)  # fmt: skip


def check_keep_best(train_and_keep_best: Any, secret: str | None = None) -> None:
    """The number of the pass with the lowest loss, a copy of its state, and the model in that state."""
    drawn = torch.rand(7, generator=numbers(secret, "best"), dtype=torch.float64).tolist()
    cases = [([0.9, 0.5, 0.7, 0.3, 0.3, 0.8],), ([math.nan, 0.6, 0.4, 0.45],), ([0.6, math.nan, 0.4, 0.7],), ([*drawn, 2.0],)]

    def one_pass(model: nn.Module) -> None:
        for p in model.parameters():
            p.data.add_(1.0)

    def run(rule: Callable[..., Any], what: Callable[..., Any]) -> Callable[..., Any]:
        def found(losses: list[float]) -> Any:
            model = nn.Linear(2, 1, dtype=torch.float64)
            model.load_state_dict({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)})
            result = rule(model, one_pass, lambda model: losses[int(model.bias.item()) - 1], len(losses))
            return result if not isinstance(result, (tuple, list)) or len(result) != 2 else what(*result, model)

        return found

    def form(pick: Callable[[list[float]], int], of: Callable[[list[float], int], int] = lambda ls, k: k + 1) -> Any:
        def rule(model: nn.Module, train: Any, loss: Callable[[nn.Module], float], passes: int) -> Any:
            losses = []
            for _ in range(passes):
                train(model)
                losses.append(loss(model))
            state = {k: torch.full_like(v, of(losses, pick(losses))) for k, v in model.state_dict().items()}
            model.load_state_dict(state)
            return pick(losses), state

        return rule

    def lowest(losses: list[float]) -> int:
        return min((k for k in range(len(losses)) if losses[k] == losses[k]), key=losses.__getitem__)

    def first_rise(losses: list[float]) -> int:
        return next((k for k in range(len(losses) - 1) if not losses[k + 1] < losses[k]), len(losses) - 1)

    def number(pick: Callable[[list[float]], int], says: str) -> Mistake:
        return Mistake(run(form(pick), lambda best, state, model: best), says)

    name, right, shown = "train_and_keep_best", form(lowest), secret is None
    nan = "NaN compares with nothing: a pass whose loss is NaN counts as the best in yours, or hides those after it"
    model = nn.Linear(1, 1)
    check_returns(name, train_and_keep_best, (model, one_pass, lambda model: 1.0, 2), 2)
    check_function(name, run(train_and_keep_best, lambda best, state, model: best), run(right, lambda best, state, model: best), cases, mistakes=[
        number(lambda ls: len(ls) - 1, "you keep the last pass, whatever its loss"),
        number(lambda ls: max((k for k in range(len(ls)) if ls[k] == ls[k]), key=ls.__getitem__), "you keep the highest loss; the best is the lowest"),
        number(lambda ls: len(ls) - 1 - lowest(ls[::-1]), "of equally good passes the first is asked: only a lower loss is better"),
        number(lambda ls: min(range(len(ls)), key=ls.__getitem__), nan),
        number(lambda ls: int(torch.tensor(ls).argmin()), nan),
        number(lambda ls: lowest(ls) + 1, "passes are counted from 0"),
        number(first_rise, "you stop where the loss rises for the first time; it may fall again, and all passes are asked"),
    ], forbid=_OURS, show=shown)  # fmt: skip
    last = "the number is right, but the state is that of the last pass: state_dict() hands out the model's own tensors, which go on " \
        "being trained. Copy them"  # fmt: skip
    check_function(f"{name}: the state", run(train_and_keep_best, lambda best, state, model: state), run(right, lambda best, state, model: state), cases, mistakes=[
        Mistake(run(form(lowest, lambda ls, k: len(ls)), lambda best, state, model: state), last),
        Mistake(run(form(lowest, lambda ls, k: k), lambda best, state, model: state), "the state is from before the best pass, not from after it"),
    ], forbid=_OURS, show=shown)  # fmt: skip
    check_function(f"{name}: the model", run(train_and_keep_best, lambda best, state, model: dict(model.state_dict())), run(right, lambda best, state, model: state), cases, mistakes=[
        Mistake(run(form(lowest, lambda ls, k: len(ls)), lambda best, state, model: state), "the model is left as the last pass made it: load the best state into it"),
    ], forbid=_OURS, show=shown)  # fmt: skip
