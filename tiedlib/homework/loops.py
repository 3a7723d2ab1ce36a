"""Loops that students write, on a bench that sees what a loop does: part of the checks of the homework `training_loop`.

The mistakes are those of the notes (claims `total-nll-sums-means`, `total-nll-keeps-graph`, `zero-grad`, `training-loop`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import tiedlib.training_loop
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_function, check_that, numbers

__all__ = ["Bench", "check_evaluate", "check_update"]

_OURS = (tiedlib.training_loop,)  # may not be called
Part = tuple[Tensor, Tensor]


class Bench:
    """A small model, unequal batches, and a mean loss that notes what goes on around it."""

    def __init__(self, seed: int, sizes: Sequence[int], training: bool = True) -> None:
        g = torch.Generator().manual_seed(seed)
        self.model = nn.Linear(3, 2, dtype=torch.float64).train(training)
        self.model.load_state_dict(
            {k: torch.randn(v.shape, generator=g, dtype=v.dtype) for k, v in self.model.state_dict().items()}
        )
        for p in self.model.parameters():
            p.grad = torch.randn(p.shape, generator=g, dtype=p.dtype)  # left over from before
        drawn = [[torch.randn(n, k, generator=g, dtype=torch.float64) for k in (3, 2)] for n in sizes]
        self.parts: list[Part] = [(inputs, targets) for inputs, targets in drawn]
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
            value.grad_fn.metadata["mark"] = mark  # type: ignore[index]  # lives as long as the graph's node
            self.marks.append(weakref.ref(mark))
            value.grad_fn.register_hook(lambda *_: setattr(self, "back", self.back + 1))
        return value

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


@calmly
def check_update(update: Any, secret: str | None = None) -> None:
    """θ ← θ − η ∇L for the mean L over all rows, one graph at a time, and L."""
    seed = int(torch.randint(2**40, (1,), generator=numbers(secret, "update")))
    cases = [(seed, (4, 1, 3, 2)), (seed + 1, (2, 5, 1))]
    used: list[Bench] = []

    def run(rule: Callable[..., Any], weights: bool, keep: bool = False) -> Callable[..., Any]:
        def after(seed: int, sizes: tuple[int, ...]) -> Any:
            bench = Bench(seed, sizes)
            bench.result = rule(bench.model, bench.parts, bench.optimizer, bench.loss)
            used.extend([bench] if keep else [])
            return bench.result if not weights or bench.result in (None, ...) else bench.weights()

        return after

    def form(
        share: Callable[[int, int, int], float] = lambda n, rows, parts: n / rows,
        clear: bool = True,
        each: bool = False,
        step: bool = True,
        steps: bool = False,
    ) -> Callable[..., float]:
        def rule(
            model: nn.Module, parts: list[Part], optimizer: torch.optim.Optimizer, loss: Callable[..., Tensor]
        ) -> float:
            rows, total = sum(len(x) for x, _ in parts), 0.0
            if clear:
                optimizer.zero_grad()
            for part in parts:
                if each:
                    optimizer.zero_grad()
                value = loss(model, part) * share(len(part[0]), rows, len(parts))
                value.backward()
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
    run(form(), True)(*cases[0])  # a first use of torch's optimizers imports what starts threads: not under the watch
    check_function(
        "update",
        run(update, True, keep=True) if callable(update) else update,
        run(form(), True),
        cases,
        mistakes=[
            *both(
                "gradients from before are in your step: torch adds to .grad, so clear it before the first part",
                *(form(s, clear=False) for s in shares),
            ),
            *both(
                "the gradients of all parts but the last are cleared away: clear once, before the first part",
                *(form(s, each=True) for s in shares),
            ),
            *both(
                "you step after each part; asked is one update with the gradient of all",
                *(form(s, each=e, steps=True) for s in shares for e in (False, True)),
            ),
            *both(
                "the weights are as they were: is there a step, and are there gradients when it is made?",
                form(step=False),
            ),
            *both(
                "you add up the gradients of the parts' means: divide, or with k parts the step is about k times too long",
                form(one),
            ),
            *both(
                "each part's mean counts the same in yours, so a row of a short part counts more: weigh it by its rows",
                form(mean_of_means),
            ),
            *both("this is the gradient of the sum over all rows; asked is that of the mean", form(summed)),
        ],
        forbid=_OURS,
        show=secret is None,
    )
    bench = used[0]
    check_that(
        all(b.longest <= max(len(x) for x, _ in b.parts) for b in used),
        "update gives loss several parts at once: together they do not fit into memory",
    )
    check_that(
        bench.late == 0,
        "update: the loss of a part is computed before the one before it has gone backwards, so that "
        "all graphs are in memory at once",
    )
    check_that(
        bench.alive <= 1,
        f"update: at the last part {bench.alive} graphs of earlier parts are still alive. A total of "
        "tensors keeps the history of each: add numbers, with .item()",
    )
    check_that(all(b.steps == 1 for b in used), "update must call optimizer.step(), once")
    replies = iter([b.result for b in used])
    check_function(
        "update: the mean loss",
        lambda *_: next(replies),
        run(form(), False),
        cases,
        mistakes=[
            *both(
                "this is the sum of the parts' means, neither the total nor the mean: weigh each part by its rows",
                form(one),
                weights=False,
            ),
            *both(
                "this is the mean of the parts' means, in which a row of a short part counts more",
                form(mean_of_means),
                weights=False,
            ),
            *both("this is the sum over the rows; divide by their number", form(summed), weights=False),
        ],
        show=secret is None,
    )
    check_that(
        not isinstance(bench.result, Tensor),
        "update returns a tensor; a Python number is asked, which keeps nothing alive",
    )


@calmly
def check_evaluate(evaluate: Any, secret: str | None = None) -> None:
    """Σ n_b L_b / Σ n_b in evaluation mode, with nothing recorded, and the mode restored."""
    seed = int(torch.randint(2**40, (1,), generator=numbers(secret, "evaluate")))
    used: list[Bench] = []

    def run(rule: Callable[..., Any], keep: bool = False) -> Callable[..., Any]:
        def value(seed: int, sizes: tuple[int, ...], training: bool) -> Any:
            bench = Bench(seed, sizes, training)
            bench.result = rule(bench.model, bench.parts, bench.loss)
            used.extend([bench] if keep else [])
            return bench.result

        return value

    Bench(seed, (2,))  # once outside the watch, as above

    def form(total: Callable[[list[float], list[int]], float]) -> Callable[..., Any]:
        return run(lambda model, parts, loss: total([loss(model, p).item() for p in parts], [len(x) for x, _ in parts]))

    check_function(
        "evaluate",
        run(evaluate, keep=True) if callable(evaluate) else evaluate,
        form(lambda means, rows: _weighed(means, rows) / sum(rows)),
        [(seed, (4, 4, 1), True), (seed + 1, (3, 3, 3, 2), False)],
        mistakes=[
            Mistake(
                form(lambda means, rows: sum(means)),
                "this is the sum of the batches' means, as in the notes: neither the total nor the mean, and it grows "
                "with the number of batches",
            ),
            Mistake(
                form(lambda means, rows: sum(means) / len(means)),
                "this is the mean of the batches' means: a row of a short last batch counts more than the others",
            ),
            Mistake(form(_weighed), "this is the total over all rows; divide by their number"),
            Mistake(
                form(lambda means, rows: sum(means) / sum(rows)),
                "you add means and divide by rows: give each mean the weight of its rows first",
            ),
            Mistake(form(lambda means, rows: means[-1]), "this is the loss of the last batch alone"),
        ],
        forbid=_OURS,
        show=secret is None,
    )
    check_that(
        not any(graph for b in used for _, graph in b.modes),
        "evaluate records a graph for each batch, and a total of "
        "such losses keeps all of them alive: switch the recording off",
    )
    check_that(
        not any(mode for b in used for mode, _ in b.modes),
        "evaluate: the model is in training mode, where dropout is "
        "random and drops; your number would be that of a thinned network",
    )
    check_that(
        used[0].model.training,
        "evaluate leaves the model in evaluation mode: the next pass would train without dropout",
    )
    check_that(
        not used[1].model.training,
        "evaluate puts the model into training mode, though it was in evaluation mode before",
    )
    check_that(
        isinstance(used[0].result, float),
        "evaluate returns a tensor; a Python number is asked, which keeps nothing alive",
    )


def _weighed(means: list[float], rows: list[int]) -> float:
    return sum(m * n for m, n in zip(means, rows, strict=True))
