"""Good calls of public functions, from which bad ones are made: each test file has those of its module, as `GOOD_CALLS`.

A `Call` gives good arguments anew each time ("*" holds those by position), and for a parameter that has a range some values outside
of it. `test_bad_input` tries bad values of every argument, `test_half_precision` the good call in float16 and bfloat16.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from tests.places import ROOT

X, LOGITS, TARGET = torch.ones(3, 4), torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1])

# Values outside of a range.
NOT_NEGATIVE = (-1.0,)
POSITIVE = (0.0, -1.0)
BELOW_ONE = (1.0, -0.1)
UP_TO_ONE = (1.1, -0.1)
BETAS = ((1.0, 0.9), (0.9, -0.1), (math.nan, 0.9))

# The modules whose public names must all have a good call, and the file of their tests.
FILES = {
    **{
        path.stem: f"tests.ideas.test_{path.stem}"
        for path in sorted((ROOT / "tiedlib").glob("*.py"))
        if not path.stem.startswith("_")
    },
    "lab.notebook.questions": "tests.lab.notebook.test_questions",  # chapters hand it numbers and texts of their own
}


class Call:
    """A good call: a function that gives its arguments, and by parameter what is out of its range."""

    def __init__(self, good: Callable[[], dict[str, Any]], **out_of_range: tuple[Any, ...]) -> None:
        self.good, self.out_of_range = good, out_of_range


@cache
def calls() -> dict[str, Call]:
    """All good calls, by "module.name"."""
    found = {}
    for module, file in FILES.items():
        for name, call in getattr(importlib.import_module(file), "GOOD_CALLS", {}).items():
            found[f"{module}.{name}"] = call
    return found


def call(name: str, arguments: dict[str, Any]) -> Any:
    """Call "module.name"; what it yields is walked."""
    module, own = name.rsplit(".", 1)
    options = dict(arguments)
    first = [options.pop(key) for key in ("model", "question") if "*" in options and key in options]
    function = getattr(importlib.import_module(f"tiedlib.{module}"), own)
    result = function(*first, *options.pop("*", ()), **options)
    return list(result) if inspect.isgenerator(result) else result
