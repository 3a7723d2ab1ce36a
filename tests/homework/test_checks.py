"""Checks of answers: right ones pass in every form, wrong ones are named, and nothing that a student returns breaks them."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tiedlib.homework.checks import (
    Mistake,
    Wrong,
    check_choice,
    check_function,
    check_number,
    check_returns,
    check_that,
    numbers,
)

X = torch.tensor([1.0, -2.0, 3.0])
MISTAKES = [
    Mistake(lambda x: x.abs(), "you took the magnitude"),
    Mistake(lambda x: 3 * x * x, lambda got, right: f"{(got[0] / right[0]).item():.2f} times too large"),
    Mistake(lambda x: x / 0, "never"),
]


def said(answer: Any, **more: Any) -> str:
    with pytest.raises(Wrong) as error:
        check_function("square", answer, lambda x: x * x, [(X,), (2 * X,)], mistakes=MISTAKES, **more)
    return str(error.value)


@pytest.mark.parametrize(
    "right", [lambda x: x**2, torch.square, lambda x: torch.stack([v * v for v in x]), lambda x: x.double() ** 2]
)
def test_a_right_answer_passes_in_any_form(right: Any) -> None:
    check_function("square", right, lambda x: x * x, [(X,)], mistakes=MISTAKES)


def test_a_wrong_answer_is_named_and_another_is_shown() -> None:
    assert said(lambda x: x.abs()) == "square: you took the magnitude"
    assert said(lambda x: 3 * x**2) == "square: 3.00 times too large"
    assert "For ([1.0, -2.0, 3.0]) it gives [2.0, -4.0, 6.0]; right is [1.0, 4.0, 9.0]" in said(lambda x: 2 * x)
    assert "hidden" in said(lambda x: 2 * x, show=False) and "4.0" not in said(lambda x: 2 * x, show=False)


def test_a_mistake_must_explain_all_cases() -> None:
    assert "not right yet" in said(lambda x: x.abs() if x[0] == 1 else 2 * x)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "is not defined yet"),
        (..., "is not defined yet"),
        (3, "is 3, not a function"),
        (lambda x: None, "returns nothing yet"),
        (lambda x: ..., "returns nothing yet"),
        (lambda x: 3.0, "must be a tensor of shape (3,)"),
        (lambda x: "nine", "must be a tensor"),
        (lambda x: x[:2], "returns shape (2,)"),
        (lambda x: x * math.nan, "returns NaN"),
        (lambda x: x.missing, "raised AttributeError"),
        (lambda x: 1 / 0, "raised ZeroDivisionError"),
        (lambda: 3, "raised TypeError"),
        (lambda x: x.square_(), "changes its arguments in place"),
    ],
)
def test_whatever_comes_back_gets_a_sentence(answer: Any, says: str) -> None:
    assert says in said(answer)


def test_a_change_in_place_counts_however_small() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(Wrong, match="in place"):
        check_function("square", lambda x: x.clamp_min_(1e-17) ** 2, lambda x: x * x, [(zero,)])
    check_function("square", lambda x: x**2, lambda x: x * x, [(zero * math.nan, zero)[1:]])


def test_a_tensor_that_calls_itself_equal_is_no_answer() -> None:
    class Equal(Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return torch.tensor(True)

    with pytest.raises(Wrong, match="class of its own"):
        check_function("square", lambda x: torch.ones(3).as_subclass(Equal), lambda x: x * x, [(X,)])


def test_the_forbidden_is_refused_while_it_is_checked() -> None:
    assert "which is what you are asked to write" in said(torch.square, forbid=(torch.square,))
    assert "which is what you are asked to write" in said(lambda x: torch.square(x), forbid=(torch.square,))


def test_structures_are_compared_through() -> None:
    def both(x: Tensor) -> Any:
        return {"sum": x.sum(), "parts": [x, (x, 2.0)], "kind": "a"}

    check_function("both", both, both, [(X,)])
    for wrong in (
        lambda x: {**both(x), "kind": "b"},
        lambda x: {"sum": x.sum()},
        lambda x: [x],
        lambda x: {**both(x), "parts": [x]},
    ):
        with pytest.raises(Wrong):
            check_function("both", wrong, both, [(X,)])


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e6])
def test_tensors_are_compared_relative_to_their_size(size: float) -> None:
    def right(x: Tensor) -> Tensor:
        return size * x * x

    check_function("square", lambda x: right(x) * (1 + 3e-6), right, [(X,)])
    with pytest.raises(Wrong):
        check_function("square", lambda x: right(x) * 1.0001, right, [(X,)])


def test_nan_and_infinity_are_equal_to_themselves_alone() -> None:
    ends = torch.tensor([math.nan, math.inf, -math.inf, 1.0])
    check_function("ends", lambda x: ends.clone(), lambda x: ends, [(X,)])
    for place, value in ((0, 1.0), (1, -math.inf), (2, 0.0), (3, math.nan), (3, math.inf)):
        other = ends.clone()
        other[place] = value
        with pytest.raises(Wrong):
            check_function("ends", lambda x, other=other: other.clone(), lambda x: ends, [(X,)])


@given(st.floats(-1e3, 1e3).filter(lambda v: abs(v) > 1e-3), st.sampled_from([float, torch.tensor]))
def test_a_number_within_its_tolerance_passes_and_beyond_it_does_not(value: float, kind: Any) -> None:
    check_number("n", kind(value * 1.0005), value, rtol=1e-3)
    with pytest.raises(Wrong):
        check_number("n", kind(value * 1.002), value, rtol=1e-3)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (..., "no value yet"), (None, "no value yet"), ("2", "must be a number"), (True, "must be a number"), (math.inf, "finite"), (math.nan, "finite"),
        (torch.ones(2), "must be a number"), (1.0, "n: forgot the 2"), (-2.0, "sign"), (4.0, "2 times"), (0.0, "zero"),
    ],
)  # fmt: skip
def test_a_wrong_number_is_told_why(value: Any, says: str) -> None:
    with pytest.raises(Wrong, match=says):
        check_number("n", value, 2.0, mistakes=[(1.0, "forgot the 2")])


def test_a_choice_is_checked_for_its_form_and_where_it_may_show_for_its_truth() -> None:
    says = {"A": "no", "B": "right"}
    check_choice("c", " B ", "B", says)
    check_choice("c", "A", "B", says, show=False)
    for answer, words in ((..., "no answer yet"), ("C", "one of A, B"), (2, "one of A, B"), ("A", "c: no")):
        with pytest.raises(Wrong, match=words):
            check_choice("c", answer, "B", says)


def test_what_is_fed_back_must_be_whole() -> None:
    check_returns("f", lambda x: (x, x), (1,), 2)
    for answer, words in (
        (lambda x: (x, None), "2 values"),
        (lambda x: x, "2 values"),
        (lambda x: None, "nothing yet"),
        (4, "not a function"),
    ):
        with pytest.raises(Wrong, match=words):
            check_returns("f", answer, (1,), 2)


def test_that() -> None:
    check_that(True, "never said")
    with pytest.raises(Wrong, match="said"):
        check_that(False, "said")


def test_numbers_hang_on_the_secret_and_on_what_they_are_for() -> None:
    def drawn(secret: str | None, what: str) -> float:
        return torch.rand(1, generator=numbers(secret, what)).item()

    assert drawn("a", "x") == drawn("a", "x")
    assert len({drawn(s, w) for s in (None, "a", "b") for w in ("x", "y")}) == 6
