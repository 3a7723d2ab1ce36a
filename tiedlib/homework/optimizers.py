"""Checks of the homework `optimizers`. The mistakes are those of the notes (claims `adam-bias-correction`,
`adam-eps-inside-root`, `momentum-ema`, `rmsprop-accumulator`) and of the forums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import tiedlib.optimizers
from tiedlib.homework.calm import calmly
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
    "check_adagrad_rates",
    "check_adam_step",
    "check_cause",
    "check_largest_rate",
    "check_momentum_step",
    "check_rmsprop_first_step",
    "check_torch_rate",
]

_OURS = (tiedlib.optimizers, torch.optim)  # may not be called
Step = Callable[..., Any]


def _gradients(secret: str | None, what: str, n: int = 3) -> list[Tensor]:
    generator = numbers(secret, what)
    return [torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(n)]


@calmly
def check_momentum_step(momentum_step: Any, secret: str | None = None) -> None:
    """m ← μm + g, θ ← θ − ηm: (θ, m) after each of three steps from m = 0."""

    def run(rule: Step) -> Callable[..., list[Any]]:
        def steps(lr: float, mu: float) -> list[Any]:
            param, m, path = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64), []
            for g in _gradients(secret, "momentum"):
                param, m = rule(param.clone(), g.clone(), m.clone(), lr, mu)
                path.append((param, m))
            return path

        return steps

    def form(keep: float = 1.0, add: Callable[[float], float] = lambda mu: 1.0, sign: float = -1.0) -> Step:
        return lambda p, g, m, lr, mu: (p + sign * lr * (keep * mu * m + add(mu) * g), keep * mu * m + add(mu) * g)

    g = torch.ones(4, dtype=torch.float64)
    check_returns("momentum_step", momentum_step, (g, g, g, 0.1, 0.9), 2)
    check_function(
        "momentum_step",
        run(momentum_step),
        run(form()),
        [(0.1, 0.9), (0.5, 0.5)],
        mistakes=[
            Mistake(
                run(form(add=lambda mu: 1 - mu)),
                "this is the running average, (1 − μ)g: the heavy ball adds the whole gradient. Your steps are (1 − μ) "
                "times as long, a tenth at μ = 0.9",
            ),
            Mistake(run(form(keep=0.0)), "the old velocity is forgotten: this is plain SGD"),
            Mistake(run(form(sign=1.0)), "the step goes up the gradient; the loss falls along −g"),
            Mistake(
                run(lambda p, g, m, lr, mu: (p - lr * m, mu * m + g)),
                "the step uses the old velocity: first m, then θ with the new m. Your first step is zero",
            ),
            Mistake(
                run(lambda p, g, m, lr, mu: (p - lr * (g + mu * (mu * m + g)), mu * m + g)),
                "this is Nesterov's form, which looks one step ahead; asked is the heavy ball",
            ),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_adam_step(adam_step: Any, secret: str | None = None) -> None:
    """The parameter after each of three steps of Adam, and its moments."""

    def run(rule: Step) -> Callable[..., list[Any]]:
        def steps(lr: float, betas: tuple[float, float], eps: float, scale: float) -> list[Any]:
            param, path = torch.zeros(4, dtype=torch.float64), []
            m = v = torch.zeros(4, dtype=torch.float64)
            for t, g in enumerate(_gradients(secret, "adam"), start=1):
                param, m, v = rule(param.clone(), g * scale, m.clone(), v.clone(), t, lr, betas, eps)
                path.append((param, m, v))
            return path

        return steps

    def form(
        correct: Callable[[float, int], float] = lambda beta, t: 1 - beta**t,
        inside: bool = False,
        sign: float = -1.0,
        root: bool = True,
        swapped: bool = False,
        square: bool = True,
    ) -> Step:
        def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, betas: Any, eps: float) -> Any:
            b1, b2 = reversed(betas) if swapped else betas
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (g * g if square else g.abs())
            m_hat, v_hat = m / correct(b1, t), v / correct(b2, t)
            below = (v_hat + eps).sqrt() if inside else (v_hat.sqrt() if root else v_hat) + eps
            return p + sign * lr * m_hat / below, m, v

        return rule

    says_eps = (
        "ε stands under your root; Kingma & Ba add it after: √v̂ + ε. Under the root 1e-8 acts like 1e-4 outside, "
        "and small gradients are hardly followed"
    )
    g = torch.ones(4, dtype=torch.float64)
    check_returns("adam_step", adam_step, (g, g, g, g, 1, 0.1, (0.9, 0.999), 1e-8), 3)
    check_function(
        "adam_step",
        run(adam_step),
        run(form()),
        [(0.1, (0.9, 0.999), 1e-8, 1.0), (0.01, (0.8, 0.95), 1e-3, 0.01)],
        mistakes=[
            Mistake(
                run(form(lambda beta, t: 1.0)),
                lambda got, right: (
                    "this is Adam without bias correction: your first step is "
                    f"{(got[0][0][0] / right[0][0][0]).item():.2f} of the right one. The averages start at 0; divide by 1 − βᵗ"
                ),
            ),
            Mistake(
                run(form(lambda beta, t: beta**t)),
                lambda got, right: (
                    "you divide by βᵗ; the correction is 1 − βᵗ. Your first step is "
                    f"{(got[0][0][0] / right[0][0][0]).item():.2f} times the right one, and later ones grow without end"
                ),
            ),
            Mistake(run(form(inside=True)), says_eps),
            Mistake(run(form(sign=1.0)), "the step goes up the gradient; the loss falls along −m̂"),
            Mistake(run(form(swapped=True)), "β₁ and β₂ have changed places: betas = (β₁, β₂), β₁ is the gradient's"),
            Mistake(
                run(form(lambda beta, t: 1 - beta ** (t + 1))),
                "your correction is one step ahead: t is 1 in the first step already",
            ),
            Mistake(
                run(form(root=False)), "the root of v̂ is missing: the step must not depend on the gradient's scale"
            ),
            Mistake(run(form(square=False)), "v is the average of g², yours is that of |g|"),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_rmsprop_first_step(ratio: Any, secret: str | None = None) -> None:
    """|Δθ₁| / η of RMSProp from v₀ = 0 at β = 0.9, g ≫ ε: 1 / √(1 − β)."""
    check_number(
        "first_step_over_lr",
        ratio,
        1 / math.sqrt(1 - 0.9),
        mistakes=[
            (1.0, "that is Adam's, which corrects the zero start, or AdaGrad's; RMSProp corrects nothing"),
            (math.sqrt(1 - 0.9), "that is √(1 − β), upside down: v₁ = (1 − β)g² stands below the fraction"),
            (1 / (1 - 0.9), "the root is missing: the step divides by √v₁, not by v₁"),
            (1 / math.sqrt(0.9), "that weighs g² with β; the new square has the weight 1 − β"),
        ],
        show=secret is None,
    )


@calmly
def check_torch_rate(torch_rate: Any, secret: str | None = None) -> None:
    """η(1 − β): the rate of torch.optim.SGD(momentum=β) that walks the path of the averaged form at η."""
    drawn = torch.rand(3, generator=numbers(secret, "rate"), dtype=torch.float64).tolist()
    check_function(
        "torch_rate",
        torch_rate,
        lambda lr, beta: lr * (1 - beta),
        [(0.1 + drawn[0], 0.9), (drawn[1], 0.5), (1.0, drawn[2])],
        mistakes=[
            Mistake(
                lambda lr, beta: lr / (1 - beta),
                "that is the wrong way round: torch's velocity is already 1 / (1 − β) times longer, so its rate must be shorter",
            ),
            Mistake(lambda lr, beta: lr, "the rate does not carry over: torch's velocity is 1 / (1 − β) times longer"),
            Mistake(lambda lr, beta: lr * beta, "β is the share that is kept; the share of the new gradient is 1 − β"),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_adagrad_rates(effective_rates: Any, secret: str | None = None) -> None:
    """η / (√Σg² + ε) for each coordinate, after the gradients in the rows."""
    grads = torch.stack(_gradients(secret, "adagrad", 5))
    grads[:, 1] = torch.tensor([0, 0, 0, 0, 1.0])  # a rare word: one gradient in five

    def right(grads: Tensor, lr: float, eps: float) -> Tensor:
        return lr / (grads.square().sum(0).sqrt() + eps)

    check_function(
        "effective_rates",
        effective_rates,
        right,
        [(grads, 0.1, 1e-10), (100 * grads, 1.0, 1e-3)],
        mistakes=[
            Mistake(
                lambda grads, lr, eps: lr / (grads.square().mean(0).sqrt() + eps),
                "AdaGrad divides by the root of the sum of the squares; you took their mean, so your rates never fall",
            ),
            Mistake(lambda grads, lr, eps: lr / (grads.square().sum(0) + eps), "the root of the sum is missing"),
            Mistake(lambda grads, lr, eps: lr / (grads.sum(0).abs() + eps), "square before you sum: signs cancel"),
            Mistake(
                lambda grads, lr, eps: lr / (grads.square().sum().sqrt() + eps),
                "one rate for all: every coordinate has a sum of its own (dim=0)",
            ),
            Mistake(lambda grads, lr, eps: lr / (grads[-1].abs() + eps), "the past counts too: sum over all steps"),
            Mistake(lambda grads, lr, eps: lr / (grads.square().sum(0) + eps).sqrt(), "ε stands outside the root"),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the run diverges. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "B",
        {
            "A": "the gradients are exact here, there is no noise",
            "B": "right",
            "C": "a larger μ makes the velocity longer, 1 / (1 − μ) times the gradient",
            "D": "a quadratic bowl has one minimum, and its gradient is zero only there",
        },
        show=secret is not None,
    )


@calmly
def check_largest_rate(largest_rate: Any, secret: str | None = None) -> None:
    """2(1 + μ)/λ: below it the heavy ball converges on ½λθ², above it diverges; tried by running both sides."""
    drawn = torch.rand(3, generator=numbers(secret, "largest"), dtype=torch.float64).tolist()
    cases = [(1.0 + 20 * drawn[0], 0.9), (1.0 + 5 * drawn[1], 0.5), (0.1 + drawn[2], 0.0)]
    check_function(
        "largest_rate",
        largest_rate,
        lambda curvature, mu: 2 * (1 + mu) / curvature,
        cases,
        mistakes=[
            Mistake(lambda lam, mu: 2 / lam, "that is the limit of plain SGD; with momentum it is another"),
            Mistake(
                lambda lam, mu: 2 * (1 - mu) / lam,
                "that would be right if only the length 1 / (1 − μ) of the velocity counted; but the velocity turns round "
                "with the gradient and brakes, so that the heavy ball bears more than SGD, not less",
            ),
            Mistake(lambda lam, mu: 2 * (1 + mu) * lam, "a steeper bowl needs a smaller rate: divide by the curvature"),
            Mistake(
                lambda lam, mu: (1 + mu) / lam,
                "a factor 2 is missing: SGD's limit is 2/λ, and yours must meet it at μ = 0",
            ),
        ],
        forbid=_OURS,
        rtol=1e-3,  # what a bisection with some thousand steps reaches
        show=secret is None,
    )
    for curvature, mu in cases:  # the formula itself, by experiment
        for factor, ends in ((0.98, True), (1.02, False)):
            theta, m, lr = 1.0, 0.0, factor * float(largest_rate(curvature, mu))
            for _ in range(2000):
                m = mu * m + curvature * theta
                theta -= lr * m
                if abs(theta) > 1e9:
                    break
            check_that((abs(theta) < 1e-6) == ends, f"at {factor} of your rate the run does not behave as it should")
