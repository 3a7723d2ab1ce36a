"""Every public callable of the ideas has a good call beside its tests (`GOOD_CALLS`, see `tests/ideas/calls.py`). From it bad
calls are made, one argument at a time, and each must be refused with the argument's name, its value and the rule, before anything
is computed."""

import importlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ideas.calls import FILES, Call, call, calls

# What is only carried or shown (results, settings) has nothing to check; what checks has a file of its own.
NOTHING_TO_CHECK = {
    "Epoch",
    "Progress",
    "Step",
    "Preset",
    "PRESETS",
    "State",
    "Answer",
    "Question",
    "QuestionError",
}
TEXTS = {"question", "text", "why"}  # any words will do


def public() -> Iterator[str]:
    for module in FILES:
        here = importlib.import_module(f"tiedlib.{module}")
        for name in here.__all__:
            one = getattr(here, name)
            if (
                callable(one)
                and one.__module__ == f"tiedlib.{module}"
                and not {name, f"{module}.{name}"} & NOTHING_TO_CHECK
            ):
                yield f"{module}.{name}"


# What takes models, loops or rules as its arguments has a test of its own in its module's file, which the second test finds.
ELSEWHERE = {
    "autograd.backpropagate",
    "autograd.cross_entropy",
    "training_loop.fit",
    "training_loop.evaluate",
    "optimizers.RuleOptimizer",
}


def test_a_range_is_of_a_parameter_of_the_call():
    for name, one in calls().items():
        assert one.out_of_range.keys() <= one.good().keys(), name


def test_every_public_callable_has_a_good_call():
    assert calls().keys() | ELSEWHERE == set(public())


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_takes_programs_is_refused_in_its_own_file(name):
    module, callable_ = name.split(".")
    text = (Path(__file__).parent / f"test_{module}.py").read_text(encoding="utf-8")
    bad = [
        part for part in re.split(r"\n(?=def |@|[A-Z]+ = )", text) if "pytest.raises" in part or part.startswith("BAD")
    ]
    assert any(re.search(rf"\b{callable_}\(", part) for part in bad), f"no test refuses anything of {name}"


def bad_values(one: Call, key: str, good: Any) -> Iterator[tuple[Any, type | tuple[type, ...]]]:
    if isinstance(good, bool):
        return
    if isinstance(good, float) or key == "betas":
        yield from ((v, ValueError) for v in one.out_of_range.get(key, ()))
        yield "fast", TypeError
    if isinstance(good, float):
        yield math.nan, ValueError
        if key != "limit":  # no limit at all
            yield math.inf, ValueError
    elif isinstance(good, int) and key != "dim":
        yield from ((v, ValueError) for v in ((-1,) if key in ("layers", "n") else (0, -1)))
        yield 1.5, TypeError
    elif key in TEXTS:
        yield " ", ValueError
        yield 3, TypeError
    elif isinstance(good, str):
        yield "no such choice", ValueError
    elif isinstance(good, torch.Tensor):
        if good.dtype is torch.bool:
            return
        if good.is_floating_point():
            yield good.long(), TypeError
        else:
            yield good.float(), TypeError
        yield [1.0], TypeError


CASES = [
    pytest.param(name, key, value, error, id=f"{name}-{key}-{i}")
    for name, one in calls().items()
    for key, ok in one.good().items()
    for i, (value, error) in enumerate(bad_values(one, key, ok))
]


@pytest.mark.parametrize("name", calls())
def test_the_good_call_is_good(name):
    call(name, calls()[name].good())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "key", "value", "error"), CASES)
def test_a_bad_argument_is_refused_with_its_name_and_value(name, key, value, error):
    with pytest.raises(error) as caught:
        call(name, {**calls()[name].good(), key: value})
    said = str(caught.value)
    assert re.search(rf"\b{key}\b", said), said
    told = str(value.dtype) if isinstance(value, torch.Tensor) else repr(value)
    parts = map(repr, value) if isinstance(value, (list, tuple)) else ()
    assert any(text in said for text in (told, type(value).__name__, *parts)), said


FREE = {
    ("tying.word_similarity", "embedding"),
    ("dropout.embedding_dropout", "tokens"),
    ("dropout.embedding_dropout", "weight"),
}
# more words, or more numbers for each, are as good


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        pytest.param(name, key, id=f"{name}-{key}")
        for name, one in calls().items()
        for key, value in one.good().items()
        if isinstance(value, torch.Tensor) and sum(isinstance(v, torch.Tensor) for v in one.good().values()) > 1
        if (name, key) not in FREE and name != "regularization.penalized"  # a loss and weights of any shape
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_their_shapes(name, key):
    """Lengthened along its first or its last axis (more examples alone may be good), a tensor fits no more."""
    refused = 0
    for axis in (0, -1):
        arguments = calls()[name].good()
        arguments[key] = torch.cat([arguments[key]] * 7, dim=axis)
        try:
            call(name, arguments)
        except ValueError as error:
            refused += 1
            said = str(error)
            assert re.search(rf"\b{key}\b", said) and re.search(r"shape|rows|\(\d+", said), said
    assert refused, f"{name} took a {key} that does not fit"
