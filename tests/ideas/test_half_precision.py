"""float16 and bfloat16 through every public function: no NaN, no ±∞ and no raw error where float64 gives a number that the
result's type can hold. The calls are those of `tests/ideas/calls.py`, so a new public function is tried as well."""

import copy
import math

import pytest
import torch
from torch import nn

from tests.ideas.calls import call, calls
from tiedlib._trees import leaves, mapped

NAMES = [name for name in calls() if not name.startswith("lab.")]  # the bench takes texts and programs
# Probabilities and classes have a range of their own: these arguments stay at the size that the good call gives them.
KEPT = {"y", "keep"}
SIZES = [1.0, 1e-7, 1e-3, 300.0, 6e4]


def converted(name, dtype, size):
    """The good call with every float tensor of another size and dtype; the numbers are those that dtype can hold."""
    torch.manual_seed(0)
    arguments = calls()[name].good()

    def one(key, value):
        if isinstance(value, nn.Module):
            return copy.deepcopy(value).to(dtype)
        factor = 1.0 if key in KEPT or (name.startswith("vae.") and key == "x") else size

        def to(t):
            return (t.double() * factor).to(torch.float16).to(dtype) if t.is_floating_point() else t

        return mapped(to, value)

    return {key: one(key, value) for key, value in arguments.items()}


def tensors(result):
    if isinstance(result, nn.Module):
        return []
    return [torch.as_tensor(leaf) for leaf in leaves(result) if isinstance(leaf, (torch.Tensor, float))]


def run(name, arguments):
    torch.manual_seed(1)
    try:
        return tensors(call(name, arguments))
    except (ValueError, TypeError) as error:
        return type(error)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gives_what_float64_gives_where_it_can(name, dtype, size):
    half, exact = run(name, converted(name, dtype, size)), run(name, converted(name, torch.float64, size))
    if isinstance(exact, type):
        assert half is exact  # refused for its value, whatever its type
        return
    assert not isinstance(half, type), f"refused in {dtype}"
    assert len(half) == len(exact)
    for a, b in zip(half, exact, strict=True):
        if not b.is_floating_point():
            continue
        largest = torch.finfo(a.dtype).max if a.is_floating_point() else math.inf
        fits = b.isfinite() & (b.abs() < 0.99 * largest)
        assert torch.isfinite(a[fits]).all(), (a, b)
