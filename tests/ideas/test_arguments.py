"""tiedlib._arguments: what is refused, with which words, and that a value at the edge of its range passes."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from tiedlib import _arguments as arguments

INSIDE = {
    "finite": [0, -1e308, 1e308],
    "at least 0": [0, 0.0, math.inf],
    "at least 0 and finite": [0, 1e308],
    "positive": [5e-324, math.inf],
    "positive and finite": [5e-324, 1e308],
    "in [0, 1)": [0, math.nextafter(1, 0)],
    "in [0, 1]": [0, 1, Fraction(1, 2), np.float32(0.5)],
}
OUTSIDE = {
    "finite": [math.inf, -math.inf],
    "at least 0": [-5e-324],
    "at least 0 and finite": [-5e-324, math.inf],
    "positive": [0, -0.0],
    "positive and finite": [0, math.inf],
    "in [0, 1)": [1, -5e-324],
    "in [0, 1]": [math.nextafter(1, 2), -5e-324],
}


def test_every_rule_is_tried():
    assert INSIDE.keys() == OUTSIDE.keys() == arguments._RULES.keys()


@pytest.mark.parametrize("rule", INSIDE)
def test_numbers(rule):
    for value in (*INSIDE[rule], torch.tensor(math.nan)):  # a tensor is not looked at
        arguments.number("x", value, rule)
    for value in (*OUTSIDE[rule], math.nan):
        with pytest.raises(ValueError) as caught:
            arguments.number("x", value, rule)
        assert str(caught.value) == f"x is {value}; it must be {rule}"
    for value in ("1", None, True, 1j, [1.0]):
        with pytest.raises(TypeError, match=r"^x is .* must be a number$"):
            arguments.number("x", value, rule)


def test_whole():
    arguments.whole("n", 1)
    arguments.whole("n", np.int64(0), 0)
    for value, least in [(0, 1), (-1, 0)]:
        with pytest.raises(ValueError, match=f"^n is {value}; it must be at least {least}$"):
            arguments.whole("n", value, least)
    for wrong in (1.0, True, "1", None):
        with pytest.raises(TypeError, match=r"^n is .* must be a whole number$"):
            arguments.whole("n", wrong)


def test_choice():
    arguments.choice("mode", "a", ("a", "b"))
    for value in ("c", "", None, 1):
        with pytest.raises(ValueError, match=r"^mode is .* must be one of 'a', 'b'$"):
            arguments.choice("mode", value, ("a", "b"))


def test_tensors():
    arguments.floating(x=torch.ones(1), y=torch.ones(1, dtype=torch.bfloat16))
    arguments.whole_numbers(x=torch.ones(1, dtype=torch.int16))
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"^y has dtype {dtype}"):
            arguments.floating(x=torch.ones(1), y=torch.ones(1, dtype=dtype))
    for dtype in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(TypeError, match=f"^y has dtype {dtype}"):
            arguments.whole_numbers(y=torch.ones(1, dtype=dtype))
    for check in (arguments.floating, arguments.whole_numbers):
        with pytest.raises(TypeError, match=r"^y is a list; it must be a tensor$"):
            check(y=[1.0])


def test_only_a_number_is_zero():
    assert arguments.is_zero(0) and arguments.is_zero(-0.0)
    assert not any(map(arguments.is_zero, (1e-300, math.nan, torch.tensor(0.0))))
