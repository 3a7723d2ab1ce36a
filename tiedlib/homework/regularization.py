"""Checks of the homework `regularization`. The mistakes are those of the notes (claims `l2-gradient`, `l1-update`,
`loss-sum-versus-mean`, `l1-objective`, `bias-not-regularized`, `l2-update`) and of the forums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import tiedlib.regularization
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_that, numbers
from tiedlib.regularization import max_norm, soft_threshold

__all__ = [
    "check_largest_strength",
    "check_limit_rows",
    "check_no_zeros",
    "check_penalized_loss",
    "check_penalized_step",
    "check_proximal_step",
    "check_torch_decay",
]

_OURS = (tiedlib.regularization, torch.optim)  # may not be called
_SHRINK = (nn.functional.softshrink, nn.functional.hardshrink, torch.hardshrink, nn.functional.tanhshrink)
_RENORM = (torch.renorm, torch.Tensor.renorm, torch.Tensor.renorm_, torch.embedding_renorm_, nn.functional.embedding)


def _check(
    name: str, answer: Any, right: Any, cases: list[Any], wrong: list[Any], secret: str | None, *forbid: Any
) -> None:
    mistakes = [Mistake(rule, says) for rule, says in wrong]
    check_function(name, answer, right, cases, mistakes=mistakes, forbid=(*_OURS, *forbid), show=secret is None)


@calmly
def check_penalized_step(penalized_step: Any, secret: str | None = None) -> None:
    """θ − η(g + 2λθ): plain gradient descent on loss + λ Σθ²; the gradient of the penalty is autograd's."""
    g = numbers(secret, "step")
    param, grad = (torch.randn(5, generator=g, dtype=torch.float64) for _ in range(2))
    rate = 0.05 + 0.1 * torch.rand((), generator=g).item()

    def right(param: Tensor, grad: Tensor, lr: float, strength: float) -> Tensor:
        leaf = param.clone().requires_grad_()
        (of_penalty,) = torch.autograd.grad(strength * leaf.square().sum(), leaf)
        return param - lr * (grad + of_penalty)

    wrong = [
        (
            lambda p, g, lr, s: p - lr * (g + s * p),
            "your penalty has the gradient λθ. That belongs to ½λΣθ², torch's weight_decay; the objective here has no ½",
        ),
        (
            lambda p, g, lr, s: p - lr * (g - 2 * s * p),
            "your weights are pushed away from 0: the penalty's gradient has +",
        ),
        (lambda p, g, lr, s: p + lr * (g + 2 * s * p), "the step goes up the gradient"),
        (lambda p, g, lr, s: p - lr * g - 2 * s * p, "the penalty's part lacks the rate η"),
        (lambda p, g, lr, s: p - lr * g, "the penalty does nothing: this is plain gradient descent"),
        (lambda p, g, lr, s: p - lr * (g + s * p.sign()), "λ sign(θ) is the gradient of the L1 penalty, λ Σ|θ|"),
        (
            lambda p, g, lr, s: p - lr * (g + s * p * p),
            "you add the penalty θ² itself; the step needs its gradient",
        ),
        (
            lambda p, g, lr, s: p - lr * (g + s * p / p.norm()),
            "that is the gradient of λ‖θ‖; the penalty is its square",
        ),
        (
            lambda p, g, lr, s: (p - lr * g) * (1 - 2 * lr * s),
            "you shrink after the step; take both gradients at one θ",
        ),
    ]
    cases = [(param, grad, rate, 0.3), (10 * param, -grad, 2 * rate, 1.7)]
    _check("penalized_step", penalized_step, right, cases, wrong, secret)


@calmly
def check_torch_decay(torch_decay: Any, secret: str | None = None) -> None:
    """2λ / N: torch's weight_decay for the mean loss that repeats Σ losses + λ Σθ²."""
    drawn = torch.rand(2, generator=numbers(secret, "decay"), dtype=torch.float64).tolist()
    wrong = [
        (lambda s, n: s / n, "a factor 2 is missing: weight_decay stands in the gradient, and that of λθ² is 2λθ"),
        (lambda s, n: s / (2 * n), "the 2 is on the wrong side: weight_decay = w means the penalty ½ w Σθ²"),
        (lambda s, n: 2 * s, "the sum has N times the gradient of the mean: the strength beside a mean is another"),
        (
            lambda s, n: s,
            "λ does not carry over: torch's loss is a mean, and its weight_decay stands in the gradient",
        ),
        (
            lambda s, n: 2 * s * n,
            "the wrong way round: the mean is N times smaller than the sum, so its strength is too",
        ),
        (lambda s, n: s * n, "the wrong way round for N, and a factor 2 is missing"),
    ]
    cases = [(drawn[0], 64), (1 + drawn[1], 1000), (0.5, 1)]
    _check("torch_decay", torch_decay, lambda s, n: 2 * s / n, cases, wrong, secret)


@calmly
def check_penalized_loss(penalized_loss: Any, secret: str | None = None) -> None:
    """loss + λ₁ Σ|θ| + λ₂ Σθ² over the matrices: the value, and its gradient for every parameter."""
    seed = int(torch.randint(10**6, (), generator=numbers(secret, "loss")))

    def run(rule: Callable[..., Any]) -> Callable[..., Any]:
        def value_and_gradients(l1: float, l2: float) -> Any:
            g = torch.Generator().manual_seed(seed)
            model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
            for parameter in model.parameters():
                parameter.data.copy_(torch.randn(parameter.shape, generator=g, dtype=torch.float64))
            loss = model(torch.randn(6, 4, generator=g, dtype=torch.float64)).square().mean()
            value = rule(loss, model, l1, l2)
            if not isinstance(value, Tensor) or value.dim():
                return value
            if not value.requires_grad:
                raise ValueError("no gradient flows from the result: add tensors, not numbers taken out of them")
            parts = list(model.parameters())
            grads = torch.autograd.grad(value, parts, allow_unused=True)
            return value.detach(), [p * 0 if g is None else g for p, g in zip(parts, grads, strict=True)]

        return value_and_gradients

    def form(one: Callable[[Tensor], Tensor], two: Callable[[Tensor], Tensor], biases: bool = False) -> Any:
        def rule(loss: Tensor, model: nn.Module, l1: float, l2: float) -> Tensor:
            for p in model.parameters():
                if biases or p.dim() > 1:
                    loss = loss + l1 * one(p) + l2 * two(p)
            return loss

        return run(rule)

    def square(p: Tensor) -> Tensor:
        return p.pow(2).sum()

    def size(p: Tensor) -> Tensor:
        return p.abs().sum()

    wrong = [
        (form(size, square, True), "the biases are penalized as well; they are left out"),
        (form(size, torch.norm), "Σθ² is the square of the Frobenius norm; you took the norm"),
        (form(size, lambda p: square(p) / 2), "there is no ½ in this objective"),
        (
            form(lambda p: p.abs().mean(), lambda p: p.square().mean()),
            "a penalty is a sum over the weights, not a mean",
        ),
        (
            form(lambda p: torch.linalg.norm(p, 1), square),
            "a matrix norm of order 1 is the largest column sum, not Σ|θ|",
        ),
        (
            form(size, lambda p: torch.linalg.svdvals(p)[0] ** 2),
            "a matrix norm of order 2 is the largest singular value; asked is Σθ²",
        ),
        (form(torch.sum, square), "signs cancel in yours: L1 sums |θ|, not θ"),
        (form(square, size), "the strengths have changed places: l1 goes with Σ|θ|, l2 with Σθ²"),
        (run(lambda loss, model, l1, l2: loss), "nothing is added to the loss"),
    ]
    cases = [(0.3, 0.07), (0.0, 0.5), (0.2, 0.0)]
    right = form(size, square)
    check_function("penalized_loss", penalized_loss, lambda: None, [])
    _check("penalized_loss", run(penalized_loss), right, cases, wrong, secret)


@calmly
def check_no_zeros(cause: Any, secret: str | None = None) -> None:
    """Why L1 leaves no weight at exactly 0. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "B",
        {
            "A": "try a larger λ: the weights become smaller, and still none is 0",
            "B": "right",
            "C": "try ten times as many steps: the weights near 0 go on hopping, and none stays there",
            "D": "some pixels are blank in every picture: their weights get no gradient from the data, and they are not 0 either",
        },
        show=secret is not None,
    )


@calmly
def check_proximal_step(proximal_step: Any, secret: str | None = None) -> None:
    """soft_threshold(θ − ηg, ηλ), with weights that end at exactly 0."""
    g = numbers(secret, "proximal")
    param, grad = (torch.randn(12, generator=g, dtype=torch.float64) for _ in range(2))
    grad[:2], param[0], param[1] = 0, 0, 0.01  # at 0 already; carried past 0 by a step of the gradient

    def shrink(u: Tensor, t: float) -> Tensor:
        return u.sign() * (u.abs() - t).clamp(min=0)

    def hard(u: Tensor, t: float) -> Tensor:
        return torch.where(u.abs() > t, u, 0.0)

    wrong = [
        (
            lambda p, g, lr, s: p - lr * (g + s * p.sign()),
            "this is the gradient step with λ sign(θ): a weight near 0 hops over it, and none becomes exactly 0",
        ),
        (
            lambda p, g, lr, s: p - lr * g - lr * s * (p - lr * g).sign(),
            "a weight nearer to 0 than ηλ is carried past it; it must stop at 0",
        ),
        (
            lambda p, g, lr, s: hard(p - lr * g, lr * s),
            "what is left must be shrunk by ηλ too; you only cut (hard threshold)",
        ),
        (lambda p, g, lr, s: shrink(p - lr * g, s), "your threshold is λ; one step of length η shrinks by ηλ"),
        (lambda p, g, lr, s: shrink(p - lr * g, 2 * lr * s), "your threshold is 2ηλ; the gradient of |θ| has no 2"),
        (lambda p, g, lr, s: shrink(p - lr * g, lr * s / 2), "your threshold is ½ηλ; there is no ½ before λΣ|θ|"),
        (lambda p, g, lr, s: shrink(p, lr * s) - lr * g, "you shrink before the gradient's step; shrink after it"),
        (
            lambda p, g, lr, s: (p - lr * g - lr * s).clamp(min=0),
            "negative weights are cut off: shrink |u|, and keep the sign",
        ),
        (
            lambda p, g, lr, s: ((p - lr * g).abs() - lr * s).clamp(min=0),
            "the sign is lost: a negative weight stays negative",
        ),
        (
            lambda p, g, lr, s: (p - lr * g) / (1 + 2 * lr * s),
            "that is the step for the L2 penalty: smaller, never 0",
        ),
        (lambda p, g, lr, s: shrink(p + lr * g, lr * s), "the step goes up the gradient"),
        (lambda p, g, lr, s: p - lr * g, "the penalty does nothing: this is plain gradient descent"),
    ]

    cases = [(param, grad, 0.5, 0.8), (3 * param, grad, 0.1, 2.0)]
    zeros: list[int] = []

    def run(*case: Any) -> Any:
        new = proximal_step(*case)
        zeros.append(int((new == 0).sum()) if isinstance(new, Tensor) else 0)
        return new

    def right(param: Tensor, grad: Tensor, lr: float, strength: float) -> Tensor:
        return soft_threshold(param - lr * grad, lr * strength)

    check_function("proximal_step", proximal_step, lambda: None, [])
    _check("proximal_step", run, right, cases, wrong, secret, *_SHRINK)
    exact = [int((right(*case) == 0).sum()) for case in cases]
    check_that(
        zeros == exact, "proximal_step: weights that belong at 0 are only near it; they must be 0 to the last bit"
    )


@calmly
def check_largest_strength(largest_strength: Any, secret: str | None = None) -> None:
    """1/η − c/2: below it gradient descent on ½cθ² + λθ² converges, above it diverges."""
    drawn = torch.rand(3, generator=numbers(secret, "largest"), dtype=torch.float64).tolist()
    cases = [(0.1 + 0.1 * drawn[0], 1 + drawn[1]), (0.01, 10 + 50 * drawn[2]), (0.5, 0.0)]
    wrong = [
        (lambda lr, c: 1 / lr, "the loss has a curvature too: at λ = 0 a rate of 2/c is all that it bears"),
        (lambda lr, c: 2 / lr - c, "that would be right for ½λθ²; here the penalty's curvature is 2λ"),
        (
            lambda lr, c: (1 / lr - c) / 2,
            "below that θ falls without changing its sign; it may overshoot 0 and still converge",
        ),
        (lambda lr, c: 1 / lr - c, "½cθ² has the gradient cθ, and λθ² has 2λθ: the two do not count alike"),
        (lambda lr, c: 1 / lr + c / 2, "the loss's curvature uses up a part of what the rate bears: take it off"),
        (lambda lr, c: 2 / lr, "the penalty's gradient is 2λθ, and the loss has a curvature as well"),
    ]

    _check("largest_strength", largest_strength, lambda lr, c: 1 / lr - c / 2, cases, wrong, secret)


@calmly
def check_limit_rows(limit_rows: Any, secret: str | None = None) -> None:
    """w_j min(1, c / ‖w_j‖) for every row, also for a row of zeros."""
    weight = torch.randn(6, 8, generator=numbers(secret, "rows"), dtype=torch.float64)
    weight = weight * torch.tensor([0.1, 3.0, 0.0, 1.0, 2.0, 0.3], dtype=torch.float64)[:, None]

    def scaled(dim: int | None, power: float = 1.0, always: bool = False) -> Callable[..., Tensor]:
        def rule(w: Tensor, c: float) -> Tensor:
            length = (w.square().sum() if dim is None else w.square().sum(dim, keepdim=True)).sqrt().pow(power)
            factor = torch.where(length > 0, c / length, torch.ones_like(length))
            return w * (factor if always else factor.clamp(max=1))

        return rule

    wrong = [
        (scaled(0), "you limit the columns; what goes into unit j is row j of W (out, in)"),
        (scaled(None), "you limit the whole matrix; every row has a limit of its own"),
        (scaled(1, always=True), "short rows are stretched to length c; a limit leaves them alone"),
        (scaled(1, power=2.0), "you divide by ‖w‖²; the length is its root"),
        (lambda w, c: w.clamp(-c, c), "you limit single weights; the limit is on the length of a row"),
        (lambda w, c: w * (c / w.abs().sum(1, keepdim=True)).clamp(max=1), "you limit Σ|w|; the length is √Σw²"),
        (
            lambda w, c: w * (w.norm(dim=1, keepdim=True) <= c),
            "rows that are too long must be shortened, not removed",
        ),
    ]
    cases = [(weight, 1.5), (weight, 4.0), (weight.float(), math.sqrt(2))]
    _check("limit_rows", limit_rows, max_norm, cases, wrong, secret, *_RENORM)
