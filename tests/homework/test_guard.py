"""What stands for `your own version` while it is checked: no way that we could think of leads to torch's or the library's."""

import contextlib
import ctypes
import functools
import importlib
import inspect
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiedlib.dropout as ours
from tiedlib.homework.guard import Forbidden, forbidden
from tiedlib.regularization import l2_penalty

THINGS = (
    F.dropout,
    F.alpha_dropout,
    torch.dropout,
    torch.dropout_,
    torch.native_dropout,
    torch.nn.modules.dropout,
    ours,
)
alias = F.dropout
renamed = types.FunctionType(
    F.dropout.__code__.replace(co_name="mine", co_filename="mine.py"), F.dropout.__globals__, "mine", (0.5, True, False)
)


def swallowed(x: Tensor) -> Tensor:
    try:
        return F.dropout(x)
    except BaseException:
        return F.dropout(x)


def swallowed_and_hidden(x: Tensor) -> Tensor:
    with contextlib.suppress(BaseException):
        F.dropout(x)
    return x * 2


def watch_off(x: Tensor) -> Tensor:
    sys.setprofile(None)
    return ours.dropout(x, 0.5)


def watch_off_from_c(x: Tensor) -> Tensor:
    list(map(sys.setprofile, [None]))
    return ours.dropout(x, 0.5)


def in_a_thread(x: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(F.dropout(x)))
    thread.start()
    thread.join()
    return found[0]


def in_a_pool(x: Tensor) -> Tensor:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(F.dropout, x).result()


def in_a_process(x: Tensor) -> Tensor:
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return x


def in_a_hook(x: Tensor) -> Tensor:
    found: list[Tensor] = []
    x = x.clone().requires_grad_()
    y = x * 1
    y.register_hook(lambda grad: found.append(F.dropout(grad)))
    y.sum().backward()
    return found[0]


def in_autograd(x: Tensor) -> Tensor:
    class Mine(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return F.dropout(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad

    return Mine.apply(x)


def by_ctypes(x: Tensor) -> Tensor:
    ctypes.pythonapi.PyEval_SetProfile(None, None)
    return F.dropout(x)


def reloaded(x: Tensor) -> Tensor:
    return importlib.import_module("tiedlib.dropout").dropout(x, 0.5)


WAYS: list[Callable[[Tensor], Any]] = [
    lambda x: alias(x, 0.5),
    lambda x: functools.partial(F.dropout, p=0.5)(x),
    lambda x: renamed(x),
    lambda x: getattr(torch.nn.functional, "drop" + "out")(x),
    lambda x: torch.dropout(x, 0.5, True),
    lambda x: functools.partial(torch.dropout, p=0.5, train=True)(x),
    lambda x: list(map(F.dropout, [x])),
    lambda x: list(map(torch.dropout, [x], [0.5], [True])),
    lambda x: torch.dropout_(x.clone(), 0.5, True),
    lambda x: torch.ops.aten.dropout(x, 0.5, True),
    lambda x: torch.ops.aten.dropout.default(x, 0.5, True),
    lambda x: torch.ops.aten.native_dropout(x, 0.5, True),
    lambda x: torch._VF.dropout(x, 0.5, True),
    lambda x: torch._C._VariableFunctions.dropout(x, 0.5, True),
    lambda x: torch.nn.Dropout(0.5)(x),
    lambda x: torch.nn.Dropout.forward(torch.nn.Dropout.__new__(torch.nn.Dropout), x),
    lambda x: torch.func.vmap(F.dropout, randomness="different")(x[None]),
    lambda x: ours.dropout(x, 0.5),
    lambda x: ours.Dropout(0.5)(x),
    lambda x: eval("__import__('tiedlib.dropout').dropout.dropout(x, 0.5)"),
    *(swallowed, swallowed_and_hidden, watch_off, watch_off_from_c, in_a_thread, in_a_pool, in_a_process),
    *(in_a_hook, in_autograd, by_ctypes, reloaded),
]


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_to_the_forbidden_functions(way: Callable[[Tensor], Any]) -> None:
    with pytest.raises(Forbidden, match=r"^your code (calls|took away)"), forbidden(*THINGS):
        way(torch.ones(3, 4))


def test_a_module_made_before_the_check_is_seen_when_it_is_called() -> None:
    theirs, mine = torch.nn.Dropout(0.5), ours.Dropout(0.5)
    for module in (theirs, mine):
        with pytest.raises(Forbidden), forbidden(*THINGS):
            module(torch.ones(2))


def test_a_compiled_function_in_reach_is_refused_before_it_is_called() -> None:
    compiled = torch.jit.trace(lambda x: torch.dropout(x, 0.5, True), torch.ones(2), check_trace=False)

    def mine(x: Tensor) -> Tensor:
        return compiled(x)

    with pytest.raises(Forbidden, match=r"torch\.jit"), forbidden(*THINGS, within=mine):
        mine(torch.ones(2))


def test_own_code_passes_and_the_watch_goes() -> None:
    before = sys.getprofile()
    torch.manual_seed(0)
    x = torch.ones(2000)
    with forbidden(*THINGS):
        kept = x * torch.empty_like(x).bernoulli_(0.5) / 0.5
        torch.nn.LSTM(3, 3)(torch.ones(1, 2, 3))[0].sum().backward()
        torch.optim.Adam([torch.nn.Parameter(x)]).step()
    assert set(kept.tolist()) == {0.0, 2.0} and sys.getprofile() is before
    assert F.dropout(x, 0.5).shape == x.shape, "outside the check all may be called"


def test_the_error_of_the_code_under_check_comes_through() -> None:
    with pytest.raises(ZeroDivisionError), forbidden(*THINGS):
        _ = 1 / 0


def test_a_copy_under_another_name_and_file_is_known() -> None:
    inner = inspect.unwrap(l2_penalty)
    code = inner.__code__.replace(co_name="mine", co_filename="mine.py", co_qualname="mine")
    copy = types.FunctionType(code, inner.__globals__, "mine")
    with pytest.raises(Forbidden), forbidden(l2_penalty):
        copy([torch.ones(3)])


def test_the_same_lines_in_another_place_are_no_copy() -> None:
    """A short function can be the library's word for word; only its place in a file tells them apart."""
    space = dict(vars(sys.modules[l2_penalty.__module__]))
    exec(compile("\n" * 3 + textwrap.dedent(inspect.getsource(inspect.unwrap(l2_penalty))), "<cell>", "exec"), space)
    with forbidden(l2_penalty):
        assert space["l2_penalty"]([torch.ones(3)]) == 3


def test_a_module_with_deprecated_classes_can_be_watched() -> None:
    with pytest.raises(Forbidden), forbidden(torch.nn.modules.loss):
        torch.nn.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]))


@pytest.mark.parametrize("thing", [3, "torch.dropout", None])
def test_what_cannot_be_watched_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="things has"), forbidden(thing):
        pass
    with pytest.raises(TypeError, match="has no file"), forbidden(sys):
        pass
