"""What a student leaves behind takes no point of a right answer, and a check leaves everything as the student had it."""

import gc
import io
import os
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tiedlib.homework.calm import calm, calmly

LEFT = {
    "no gradients": "torch.set_grad_enabled(False)",
    "float64": "torch.set_default_dtype(torch.float64)",
    "half": "torch.set_default_dtype(torch.float16)",
    "meta": "torch.set_default_device('meta')",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
    "no stdout": "sys.stdout = None",
    "no stderr": "sys.stderr = 3",
    "errors": "warnings.simplefilter('error')",
    "folder": "os.chdir('/')",
    "variables": "os.environ.clear()",
    "recursion": "sys.setrecursionlimit(120)",
    "no collection": "gc.disable()",
    "numpy": "np.seterr(all='raise')",
    "inference": "kept.append(torch.inference_mode()); kept[-1].__enter__()",
    "autocast": "kept.append(torch.autocast('cpu', dtype=torch.bfloat16)); kept[-1].__enter__()",
}
FEEL = {
    "gradients": lambda: torch.is_grad_enabled(),
    "dtype": lambda: torch.get_default_dtype(),
    "device": lambda: torch.empty(1).device.type,
    "deterministic": lambda: torch.are_deterministic_algorithms_enabled(),
    "anomaly": lambda: torch.is_anomaly_enabled(),
    "streams": lambda: (callable(getattr(sys.stdout, "write", None)), callable(getattr(sys.stderr, "write", None))),
    "filters": lambda: (len(warnings.filters), repr(warnings.filters[:1])),
    "folder": Path.cwd,
    "variables": lambda: "PATH" in os.environ,
    "recursion": lambda: sys.getrecursionlimit() >= 1000,
    "collection": gc.isenabled,
    "numpy": lambda: np.geterr()["divide"],
    "inference": lambda: torch.is_inference_mode_enabled(),
    "autocast": lambda: torch.is_autocast_enabled("cpu"),
}


def felt():
    return {name: ask() for name, ask in FEEL.items()}


@pytest.fixture(autouse=True)
def put_back():
    """Whatever a test leaves, the next one does not feel."""
    before = (
        dict(os.environ),
        Path.cwd(),
        sys.stdout,
        sys.stderr,
        sys.getrecursionlimit(),
        np.geterr(),
        list(warnings.filters),
    )
    kept = []
    yield kept
    for one in reversed(kept):
        one.__exit__(None, None, None)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.autograd.set_detect_anomaly(False)
    gc.enable()
    os.environ.clear()
    os.environ.update(before[0])
    os.chdir(before[1])
    sys.stdout, sys.stderr = before[2:4]
    sys.setrecursionlimit(before[4])
    np.seterr(**before[5])
    warnings.filters[:] = before[6]


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("what", LEFT)
def test_a_check_feels_nothing_of_what_is_left_and_leaves_it(what, put_back):
    with calm():
        fresh = felt()
    exec(LEFT[what], {**globals(), "kept": put_back})
    left = felt()
    assert left != fresh
    with calm():
        assert felt() == fresh
        assert torch.ones(2, requires_grad=True).sum().requires_grad
        assert (torch.ones(2) * 1.5).dtype is torch.float32
        print("", end="")
    assert felt() == left


def test_the_students_random_numbers_are_the_students():
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    expected = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    with calm():
        torch.rand(5), random.random(), np.random.rand(3)
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected


def test_an_error_of_a_check_goes_out_and_all_is_put_back():
    @calmly
    def check(answer):
        raise AssertionError(answer)

    torch.set_grad_enabled(False)
    with pytest.raises(AssertionError, match="wrong"):
        check("wrong")
    assert not torch.is_grad_enabled() and check.__name__ == "check"


def test_every_public_check_is_calm():
    """A check of any homework, with gradients off and stdout gone, says what it says otherwise."""
    import importlib

    for chapter in (
        "training_loop",
        "regularization",
        "dropout",
        "optimizers",
        "initialization",
        "tying",
        "gumbel_softmax",
        "vae",
    ):
        module = importlib.import_module(f"tiedlib.homework.{chapter}")
        for name in module.__all__:
            one = getattr(module, name)
            if name.startswith("check_"):
                assert hasattr(one, "__wrapped__"), f"{chapter}.{name}"


def test_streams_that_cannot_be_written_to_are_replaced():
    class Closed(io.StringIO):
        write = None

    before = sys.stdout
    sys.stdout = Closed()
    with calm():
        print("heard")
    sys.stdout = before
