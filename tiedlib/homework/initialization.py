"""Checks of the homework `initialization`. The mistakes are those of the notes (claims `he-init`,
`he-reason-undefined-derivative`, `xavier-assumptions`, `uniform-variance`) and of the forums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import tiedlib.initialization
from tiedlib._undocumented import all_undocumented
from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import Mistake, check_choice, check_function, check_number, check_that, numbers

__all__ = [
    "check_alternating",
    "check_cause",
    "check_he_normal",
    "check_keeping_factor",
    "check_reason",
    "check_unit_start",
    "check_xavier_uniform",
]

Function = Callable[[Tensor], Tensor]
_init: Any = nn.init  # torch declares no types for two of the names
_OURS = (
    tiedlib.initialization,
    _init.xavier_uniform_,
    _init.xavier_normal_,
    _init.kaiming_uniform_,
    _init.kaiming_normal_,
    _init.orthogonal_,
    _init.calculate_gain,
    *all_undocumented("nn.init._calculate_fan_in_and_fan_out", "nn.init._calculate_correct_fan"),
)  # may not be called


def _fans(shape: Sequence[int], kernel: bool = True) -> tuple[int, int]:
    field = math.prod(shape[2:]) if kernel else 1
    return shape[1] * field, shape[0] * field


@calmly
def check_xavier_uniform(xavier_uniform: Any, secret: str | None = None) -> None:
    """W = a(2u − 1), a = g √(6 / (n_in + n_out)), for weights of linear layers and of convolutions."""

    def form(
        limit: Callable[[int, int, float], float], kernel: bool = True, low: float = -1.0, high: float = 1.0
    ) -> Callable[..., Tensor]:
        return lambda u, gain: limit(*_fans(u.shape, kernel), gain) * (low + (high - low) * u)

    def xavier(n_in: int, n_out: int, gain: float) -> float:
        return gain * math.sqrt(6 / (n_in + n_out))

    source = numbers(secret, "xavier")
    cases = [(torch.rand(shape, generator=source), gain) for shape, gain in (((5, 3), 1.0), ((4, 6, 3, 2), 5 / 3))]
    check_function(
        "xavier_uniform",
        xavier_uniform,
        form(xavier),
        cases,
        mistakes=[
            Mistake(
                form(lambda i, o, g: g * math.sqrt(2 / (i + o))),
                "that is the standard deviation of the weights, used as their limit. On [−a, a] the variance is a²/3, so "
                "yours is a third of what it should be",
            ),
            Mistake(
                form(lambda i, o, g: g * math.sqrt(12 / (i + o))),
                "this has twice Xavier's variance; the equation above has a 6, and ReLU is not asked for here",
            ),
            Mistake(form(lambda i, o, g: 6 * g / (i + o)), "the root is missing: a is not a² here"),
            Mistake(
                form(lambda i, o, g: g * math.sqrt(3 / i)),
                "only the fan-in counts in yours; Xavier's rule is a compromise between both passes and has n_in + n_out",
            ),
            Mistake(
                form(lambda i, o, g: g * math.sqrt(6 / i)), "n_out is missing below the fraction: this is He's limit"
            ),
            Mistake(
                form(xavier, kernel=False),
                "right for a linear layer. In a convolution an output is summed over the kernel too: both fans are "
                "multiplied by its size",
            ),
            Mistake(
                form(xavier, low=0.0),
                "your weights lie between 0 and a. Their mean must be 0, or signals add up instead of cancelling",
            ),
            Mistake(
                form(xavier, low=-0.5, high=0.5), "your interval is half as wide as [−a, a]: a quarter of the variance"
            ),
            Mistake(form(xavier, low=1.0, high=-1.0), "u = 0 must become −a and u = 1 become a; yours is reversed"),
            Mistake(form(lambda i, o, g: xavier(i, o, 1.0)), "the gain is forgotten"),
            Mistake(form(lambda i, o, g: xavier(i, o, g**0.5)), "the gain stands before the root, not under it"),
            Mistake(
                form(lambda i, o, g: xavier(i, o, g * g)), "the gain multiplies a once; its square is in the variance"
            ),
        ],
        forbid=_OURS,
        show=secret is None,
    )


@calmly
def check_he_normal(he_normal_: Any, secret: str | None = None) -> None:
    """n_in E[W²] = 2, E[W⁴]/E[W²]² = 3 and E[W] = 0, in place, from the generator.

    From 160,000 draws or more they have standard deviations of 0.007, 0.012 and 0.004; a check allows 0.15, twelve or more of them.
    """
    draws: list[tuple[Tensor, bool]] = []

    def run(fill: Callable[..., Any], keep: bool = False) -> Callable[..., Any]:
        def moments(seed: int, shape: tuple[int, ...]) -> Any:
            weight = nn.Parameter(torch.ones(shape))
            result = fill(weight, torch.Generator().manual_seed(seed))
            if not isinstance(result, Tensor):
                return result
            if keep:
                draws.append((weight.detach(), result is weight))
            w, n = weight.detach().double(), _fans(shape)[0]
            square = w.square().mean()
            return torch.stack([n * square, w.pow(4).mean() / square**2, n**0.5 * w.mean()])  # one tensor, one scale

        return moments

    def normal(variance: Callable[[int, int], float], kernel: bool = True) -> Callable[..., Any]:
        return run(lambda w, g: w.data.normal_(0, variance(*_fans(w.shape, kernel)) ** 0.5, generator=g))

    def uniform(limit: Callable[[int], float]) -> Callable[..., Any]:
        return run(lambda w, g: w.data.uniform_(-limit(_fans(w.shape)[0]), limit(_fans(w.shape)[0]), generator=g))

    seeds = torch.randint(2**40, (2,), generator=numbers(secret, "he")).tolist()
    cases = [(seeds[0], (160, 1000)), (seeds[0], (160, 1000)), (seeds[1], (160, 1000)), (seeds[1], (192, 96, 3, 3))]
    check_function(
        "he_normal_",
        run(he_normal_, keep=True) if callable(he_normal_) else he_normal_,
        lambda seed, shape: torch.tensor([2.0, 3.0, 0.0]),
        cases,
        mistakes=[
            Mistake(
                normal(lambda i, o: 4 / (i + o)),
                "this is Xavier's variance doubled, as the notes have it. He's is 2 / n_in: the two agree only where "
                "n_in = n_out",
            ),
            Mistake(normal(lambda i, o: 2 / (i + o)), "this is Xavier's variance; it takes no account of ReLU's half"),
            Mistake(
                normal(lambda i, o: 2 / o),
                "you divide by the fan-out, which keeps the gradient going back; asked is the signal going forward",
            ),
            Mistake(
                normal(lambda i, o: 1 / i), "right for a linear layer, but ReLU halves the second moment each time"
            ),
            Mistake(
                normal(lambda i, o: (2 / i) ** 2),
                "normal_ wants the standard deviation, and 2 / n_in is the variance: the root is missing",
            ),
            Mistake(
                normal(lambda i, o: 2 / i, kernel=False),
                "right for a linear layer. In a convolution the kernel's size counts in the fan-in",
            ),
            Mistake(uniform(lambda i: (2 / i) ** 0.5), "uniform, and too narrow: asked is a normal distribution"),
            Mistake(uniform(lambda i: (6 / i) ** 0.5), "the variance is right, but asked is a normal distribution"),
            Mistake(
                run(lambda w, g: w), "the parameter is as it was before: fill it in place, a new tensor is not seen"
            ),
            Mistake(
                run(lambda w, g: w.data.fill_((2 / _fans(w.shape)[0]) ** 0.5)),
                "all weights are equal, so all units of a layer would stay equal for ever",
            ),
        ],
        forbid=_OURS,
        rtol=0.05,  # of the largest, 3
        show=secret is None,
    )
    check_that(all(same for _, same in draws), "he_normal_ must return the parameter that it was given, no other")
    (first, _), (again, _), (other, _), _ = draws[:4]
    check_that(torch.equal(first, again), "he_normal_ does not draw from the generator: one seed gave two sets of them")
    check_that(not torch.equal(first, other), "he_normal_ draws the same weights for every generator: do not seed it")


def _expectation(g: Function) -> float:
    """E[g(z)], z ~ N(0, 1), from 200,000 quantiles in the middle of equal shares."""
    z = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    return g(z).mean().item()


def _slope(f: Function) -> Function:
    return lambda z: (f(z + 1e-6) - f(z - 1e-6)) / 2e-6


def _kinked(f: Function) -> bool:
    near = torch.tensor([-1e-4, 0.0, 1e-4], dtype=torch.float64)
    left, middle, right = f(near).tolist()
    return abs(right - 2 * middle + left) > 1e-6


@calmly
def check_keeping_factor(keeping_factor: Any, secret: str | None = None) -> None:
    """1 / E[f(z)²] to 2 %. The mean over 10⁶ draws has a standard deviation of an eighth of that or less."""
    drawn = torch.rand(2, generator=numbers(secret, "factor")).tolist()

    def leaky(z: Tensor) -> Tensor:
        return torch.where(z > 0, z, (0.2 + 0.4 * drawn[0]) * z)

    def bent(z: Tensor) -> Tensor:
        return torch.nn.functional.softplus((2 + 2 * drawn[1]) * z)

    right = "the factor is 1 / E[f(z)²]"
    check_function(
        "keeping_factor",
        keeping_factor,
        lambda f: 1 / _expectation(lambda z: f(z).square()),
        [(torch.relu,), (torch.abs,), (leaky,), (torch.tanh,), (bent,)],
        mistakes=[
            Mistake(
                lambda f: 1 / (_expectation(lambda z: f(z).square()) - _expectation(f) ** 2),
                "you took the variance of f(z). A sum with weights of mean 0 depends on the second moment of its inputs: "
                "their mean counts too, and after ReLU it is not 0",
            ),
            Mistake(
                lambda f: 2.0 if _kinked(f) else 1.0,
                "the kink plays no part, it is met with probability 0: |y| has one and needs no factor, tanh has none "
                "and needs more than 2",
            ),
            Mistake(lambda f: 2.0, "2 is ReLU's; another f passes on another share of E[z²]"),
            Mistake(lambda f: _expectation(lambda z: f(z).square()), f"upside down: {right}, which undoes what f does"),
            Mistake(
                lambda f: _expectation(lambda z: f(z).square()) ** -0.5,
                "this is the factor on the standard deviation, its square is asked",
            ),
            Mistake(
                lambda f: 1 / _expectation(lambda z: _slope(f)(z).square()),
                "this is with f′ instead of f: it keeps the gradient going back, not the signal going forward",
            ),
            Mistake(lambda f: 1 / _expectation(lambda z: f(z).abs()), f"the square is missing: {right}"),
            Mistake(
                lambda f: _expectation(f) ** -2 if abs(_expectation(f)) > 1e-9 else math.inf,
                "square before you take the mean: E[f]² is not E[f²]",
            ),
        ],
        forbid=_OURS,
        rtol=0.02,
        show=secret is None,
    )


@calmly
def check_reason(reason: Any, secret: str | None = None) -> None:
    """Why He's rule has a 2. The public check accepts every answer that is one."""
    check_choice(
        "reason",
        reason,
        "C",
        {
            "A": "the kink is met with probability 0. |y| has one too and its factor is 1; GELU has none and needs more "
            "than 2. So the notes' reason can't be the reason",
            "B": "|y| is not bounded either, and its factor is 1",
            "C": "right",
            "D": "|y| has a mean above 0 as well, and its factor is 1; weights of mean 0 do not see their inputs' mean "
            "but their second moment",
        },
        show=secret is not None,
    )


@calmly
def check_alternating(factor: Any, secret: str | None = None) -> None:
    """(½ · 100 · 4/1100 · ½ · 1000 · 4/1100)¹⁰."""
    up, down = 0.5 * 100 * 4 / 1100, 0.5 * 1000 * 4 / 1100
    check_number(
        "factor",
        factor,
        (up * down) ** 10,
        mistakes=[
            (1.0, "so it would be under He's 2 / n_in. Twice Xavier's variance is another where n_in and n_out differ"),
            (up * down, "that is one pair of layers, from 100 to 1000 and back; there are ten"),
            ((4 * up * down) ** 10, "ReLU halves the second moment in each layer, which is forgotten here"),
            ((up * down / 4) ** 10, "that is Xavier's variance itself; here it is doubled"),
            (up**20, "only the layers from 100 to 1000 shrink so much; every second layer goes from 1000 to 100"),
            (down**20, "every second layer goes from 100 to 1000, and there n_in is 100"),
            ((up * down) ** 20, "the ten pairs are twenty layers; you counted forty"),
            ((up * down) ** 5, "that is the factor on the size of y; asked is that on its mean square"),
        ],
        show=secret is None,
    )


@calmly
def check_cause(cause: Any, secret: str | None = None) -> None:
    """Why the deep network does not learn. The public check accepts every answer that is one."""
    check_choice(
        "cause",
        cause,
        "B",
        {
            "A": "a larger rate does not help, the cell tries three; the first layers' gradients are smaller by many powers of ten",
            "B": "right",
            "C": "the weights are drawn, so no two units are alike; equal weights would be a fault of another kind",
            "D": "pre-activations that are small are still not 0, and their sign alone decides what ReLU does",
        },
        show=secret is not None,
    )


@calmly
def check_unit_start(unit_start: Any, secret: str | None = None) -> None:
    """Each matrix divided by √E[y_l²], measured in the network whose earlier layers have been divided already."""

    def form(
        size: Function = lambda y: y.square().mean().sqrt(), renew: bool = True, bend: bool = True, first: bool = False
    ) -> Callable[..., list[Tensor]]:
        def scale(weights: list[Tensor], x: Tensor, f: Function) -> list[Tensor]:
            scaled, h = [], f(x) if first else x
            for w in weights:
                y = h @ w.T
                scaled.append((w.T / size(y)).T)
                y = y / size(y) if renew else y
                h = f(y) if bend else y
            return scaled

        return scale

    source = numbers(secret, "unit")

    def case(f: Function, widths: Sequence[int]) -> tuple[list[Tensor], Tensor, Function]:
        shapes = zip(widths[1:], widths[:-1], strict=True)
        weights = [0.3 * torch.randn(*shape, generator=source, dtype=torch.float64) for shape in shapes]
        # grey values with a sign on some: after f they are other numbers, and their mean is not 0
        return weights, 0.7 + torch.randn(12, widths[0], generator=source, dtype=torch.float64), f

    check_function(
        "unit_start",
        unit_start,
        form(),
        [case(torch.relu, (5, 8, 4, 6)), case(torch.tanh, (4, 7, 9, 3))],
        mistakes=[
            Mistake(
                form(lambda y: y.std()),
                "you divide by the standard deviation. The mean counts too: y² is to have the mean 1",
            ),
            Mistake(
                form(lambda y: y.std(correction=0)), "you divide by the standard deviation; y² is to have the mean 1"
            ),
            Mistake(form(lambda y: y.square().mean()), "divide by the root of the mean square, not by the mean square"),
            Mistake(
                form(renew=False),
                "each layer is measured behind the old matrices. A layer's input changes when those before it change: "
                "go on with the new y",
            ),
            Mistake(form(bend=False), "the nonlinearity is missing between the layers"),
            Mistake(form(first=True), "the first matrix gets x itself, f comes after it"),
            Mistake(
                form(lambda y: y.square().mean(0).sqrt()),
                "you give each row a factor of its own; asked is one factor a matrix",
            ),
            Mistake(form(lambda y: y.square().sum().sqrt()), "take the mean over batch and units; yours is the sum"),
            Mistake(
                lambda weights, x, f: [w / (x.shape[1] ** 0.5 * w.std()) for w in weights],
                "this looks at the weights only; measure y on the batch",
            ),
        ],
        forbid=_OURS,
        show=secret is None,
    )
