"""Checks of answers that draw a mask: m ⊙ x / (1 − p) in training, x in use, whatever way m is drawn.

Such answers can't be compared number by number, so what must hold of every mask is tested. A share counted in n independent
entries may lie 6 standard deviations away: the false alarm is below 2e-8 for every n that is used, 3900 and more. What must
be exact, such as a mask that is equal at all steps, is tested exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tiedlib.homework.calm import calmly
from tiedlib.homework.checks import check_function, check_that

__all__ = ["check_masked", "rates", "same"]


def rates(g: torch.Generator) -> list[float]:
    """Two rates, far from one half and from each other's complement."""
    low, high = torch.rand(2, generator=g).tolist()
    return [0.15 + 0.1 * low, 0.6 + 0.1 * high]


def same(keep: Tensor, dim: int) -> bool:
    return bool((keep == keep.narrow(dim, 0, 1)).all())


@calmly
def check_masked(
    name: str,
    answer: Any,
    given: tuple[Tensor, ...],
    x: Tensor,
    p: float,
    structure: Callable[[Tensor], list[tuple[bool, str]]],
    coins: Callable[[Tensor], Tensor],
    forbid: Sequence[Any],
    show: bool,
) -> list[Tensor]:
    """Four outputs in training of answer(*given, p, training, generator), which holds m ⊙ x / (1 − p), or what it is instead.

    structure: what may be wrong with a mask m. coins: the independent entries of a mask.
    """
    check_function(name, answer, lambda: None, [])  # is it a function at all?
    made: list[Tensor] = []

    def run(*case: Any) -> Any:
        y = answer(*case[:-1], torch.Generator().manual_seed(case[-1]))
        if type(y) is not Tensor:
            return y
        made.append(y.detach().double())
        return y.detach() * 0  # shape, and numbers that are none

    cases = [(*given, p, False, 1), *((*given, p, True, seed) for seed in (1, 1, 2, 3, 4)), (*given, 0.0, True, 5)]
    check_function(name, run, lambda *_: torch.zeros_like(x), cases, forbid=forbid, show=show)
    in_use, first, again, *others, nothing = made

    def close(y: Tensor, factor: float) -> bool:
        return torch.allclose(y, factor * x, rtol=1e-5, atol=0)

    said = [
        (bool((in_use == 0).any()), "entries are dropped although training is False: in use no unit may vanish"),
        (
            close(in_use, 1 - p),
            "in use you multiply by 1 − p: survivors were divided in training already, so x stays as it is",
        ),
        (close(in_use, 1 / (1 - p)), "you divide in use too; the division belongs to the mask, in training"),
        (not close(in_use, 1.0), "in use, with training=False, the result must be x itself"),
        (bool((first != 0).all()), "nothing is dropped in training: entries must become 0"),
        (not torch.equal(first, again), "the same seed gives another mask: draw from the generator that you are given"),
        (any(torch.equal(first, y) for y in others), "every call has the same mask: draw anew, from the generator"),
    ]
    for y in (first, *others):
        said += structure(y != 0)
    tossed = torch.cat([coins(y != 0).flatten() for y in (first, *others)])
    share = 1 - tossed.double().mean().item()
    near = 6 * math.sqrt(p * (1 - p) / len(tossed))
    said += [
        (
            abs(share - 1 + p) < near,
            f"a share of {share:.2f} is dropped at p = {p:.2f}; p is the probability of dropping",
        ),
        (abs(share - p) > near, f"a share of {share:.3f} is dropped; p is {p:.3f}"),
    ]
    factor = torch.cat([(y / x)[y != 0] for y in (first, *others)])
    by = factor.mean().item() if len(factor) else math.nan
    one = len(factor) > 0 and bool((factor - by).abs().max() < 1e-5 * abs(by))
    wrong = {
        1.0: "survivors are not divided: 𝔼[y] is (1 − p)x, and in use the next layer would read 1 / (1 − p) times as much",
        1 / p: "survivors are divided by p; what is left is a share of 1 − p",
        1 - p: "survivors are multiplied by 1 − p; that makes them smaller still. Their mean must become x",
    }
    said += [(one and abs(by / c - 1) < 1e-5, text) for c, text in wrong.items()]
    said += [
        (
            not one or abs(by * (1 - p) - 1) > 1e-5,
            "survivors are not x times one right factor: the mean over masks must be x",
        ),
        (not close(nothing, 1.0), "at p = 0 nothing is dropped, and x stays as it is"),
    ]
    for holds, text in said:
        check_that(not holds, f"{name}: {text}")
    return [first, *others]
