"""A check sees the student's answer, and nothing else that the student has left behind.

A cell may turn gradients off, move torch's defaults to another device or dtype, take `sys.stdout` away, make warnings errors or
go to another folder, for itself or by accident. An answer that is right stays right: inside `calm()` all of this is as in a new
process, and afterwards it is as the student left it, random numbers included.
"""

from __future__ import annotations

import functools
import gc
import io
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

__all__ = ["calm", "calmly"]

F = TypeVar("F", bound=Callable[..., Any])
_HOME = Path.cwd()
_FILTERS = list(warnings.filters)
_LIMIT = sys.getrecursionlimit()
_VARIABLES = dict(os.environ)
# How torch is asked for a setting, how it is set, and what it is in a new process.
_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = [
    (torch.is_grad_enabled, torch.set_grad_enabled, True),
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, False),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    (sys.getrecursionlimit, sys.setrecursionlimit, _LIMIT),
    (gc.isenabled, lambda on: gc.enable() if on else gc.disable(), True),
]


@contextmanager
def calm() -> Iterator[None]:
    """Inside, the process is as it was when this module was imported, in what a check can feel; afterwards as it was before."""
    with ExitStack() as after:
        for ask, put, value in _SETTINGS:
            before = ask()
            if before != value:
                after.callback(put, before)
                put(value)
        _streams(after)
        _places(after)
        _random(after)
        after.enter_context(torch.inference_mode(False))
        after.enter_context(torch.enable_grad())
        after.enter_context(torch.device("cpu"))  # above a default device of the student's
        for kind in ("cpu", "cuda"):
            after.enter_context(torch.autocast(kind, enabled=False)) if torch.is_autocast_enabled(kind) else None
        after.enter_context(warnings.catch_warnings())
        warnings.filters = _FILTERS[:]
        yield


def calmly(check: F) -> F:
    """A check that runs inside `calm()`."""

    @functools.wraps(check)
    def run(*args: Any, **options: Any) -> Any:
        with calm():
            return check(*args, **options)

    return run  # type: ignore[return-value]


def _streams(after: ExitStack) -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        if not callable(getattr(stream, "write", None)) or not callable(getattr(stream, "flush", None)):
            after.callback(setattr, sys, name, stream)
            setattr(sys, name, getattr(sys, f"__{name}__", None) or io.StringIO())


def _places(after: ExitStack) -> None:
    """The folder and the environment's variables."""
    here = None
    with suppress(OSError):
        here = Path.cwd()
    if here != _HOME and _HOME.is_dir():
        os.chdir(_HOME)
        if here is not None:
            after.callback(os.chdir, here)
    theirs = dict(os.environ)
    if theirs != _VARIABLES:
        secret = "TIEDLIB_HOMEWORK_SECRET"
        os.environ.clear()
        os.environ.update(_VARIABLES | ({secret: theirs[secret]} if secret in theirs else {}))

        def back() -> None:
            os.environ.clear()
            os.environ.update(theirs)

        after.callback(back)


def _random(after: ExitStack) -> None:
    """A check draws as it likes, and takes nothing from the student's generators."""
    after.callback(random.setstate, random.getstate())
    after.callback(torch.set_rng_state, torch.get_rng_state())
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"]
        after.callback(numpy.random.set_state, numpy.random.get_state())
        after.callback(functools.partial(numpy.seterr, **numpy.geterr()))
        numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
