"""What every idea says of bad input: the parameter's name, its value and the rule. No chapter explains it.

A value is looked at, never changed. `ValueError` is for a value outside its range, `TypeError` for what is of no use there.
"""

import math
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

__all__ = ["choice", "floating", "holds", "is_zero", "number", "replayable", "whole", "whole_numbers"]

_RULES = {
    "finite": lambda v: math.isfinite(v),
    "at least 0": lambda v: v >= 0,
    "at least 0 and finite": lambda v: 0 <= v < math.inf,
    "positive": lambda v: v > 0,
    "positive and finite": lambda v: 0 < v < math.inf,
    "in [0, 1)": lambda v: 0 <= v < 1,
    "in [0, 1]": lambda v: 0 <= v <= 1,
}


def number(name: str, value: Any, rule: str = "finite") -> None:
    """Refuse what is no real number, and one that breaks the rule, a key of `_RULES`; NaN breaks each. A tensor passes: to
    look at it would stop a device, and inside `torch.func.vmap` it cannot be looked at."""
    if isinstance(value, Tensor):
        return
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    if not _RULES[rule](float(value)):
        raise ValueError(f"{name} is {value}; it must be {rule}")


def holds(condition: Tensor) -> bool:
    """Whether a condition, a tensor of one truth value, holds as far as it can be seen: on the meta device, inside
    `torch.func.vmap`, and while torch compiles or exports no value can be looked at, and it is taken to hold."""
    if condition.is_meta or torch.compiler.is_compiling():
        return True
    try:
        return bool(condition)
    except RuntimeError:
        return True


def replayable(generator: torch.Generator | None) -> None:
    """Refuse a generator of the caller's own inside `torch.utils.checkpoint`, which runs a function twice: it puts torch's own
    generators back in between, but no other, so that the second run would draw other numbers and the gradient be another's."""
    frame = sys._getframe(1) if generator is not None and not torch.compiler.is_compiling() else None
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            raise RuntimeError(
                f"generator is {generator}; inside torch.utils.checkpoint it must be None: what is computed again there would "
                "draw other numbers. torch's own generators are put back"
            )
        frame = frame.f_back


def is_zero(value: Any) -> bool:
    """Whether a number is 0. A tensor is not looked at, and counts as another value, as in `number`."""
    return not isinstance(value, Tensor) and value == 0


def whole(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number, and one below the least."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")


def choice(name: str, value: Any, options: Sequence[str]) -> None:
    """Refuse what is none of the options."""
    if value not in options:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, options))}")


def floating(**tensors: Any) -> None:
    """Refuse, by its keyword, what is no tensor of a floating type."""
    for name, value in tensors.items():
        _tensor(name, value)
        if not value.is_floating_point():
            raise TypeError(f"{name} has dtype {value.dtype}; it must be a floating-point tensor")


def whole_numbers(**tensors: Any) -> None:
    """Refuse, by its keyword, what is no tensor of whole numbers: classes, words, places."""
    for name, value in tensors.items():
        _tensor(name, value)
        if value.is_floating_point() or value.is_complex() or value.dtype is torch.bool:
            raise TypeError(f"{name} has dtype {value.dtype}; it must hold whole numbers")


def _tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}; it must be a tensor")
