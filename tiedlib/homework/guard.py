"""While a student's own version is checked, the library's and torch's versions raise, under whatever name they are called.

Python tells a profile function of every call, and what is called there is the function itself, not its name: an alias, a
`functools.partial`, a method fetched with getattr, a copy in another module are one and the same. Calls of Python code are known
by their file and code, calls of compiled functions by the object behind them. A call is remembered as well as
refused, so that `except:` does not hide it; what would take the watch away (another profile function, a thread or
process without one, ctypes) counts as forbidden too. Compiled functions called by compiled ones, as in map(torch.dropout, …),
reach no profile function; torch's own mode, which every operator of torch goes through, sees them.

What is not seen: text. Who copies the library's source into the notebook has a copy, and only a reader can tell. Nor is a
thread that an earlier cell has started and that waits for work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any, no_type_check

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Forbidden", "forbidden"]

# Names of compiled functions that start what is not watched, or take the watch away.
_ESCAPES = {
    "setprofile",
    "getprofile",
    "_set_trace",
    "set_local_events",
    "use_tool_id",
    "register_callback",
    "start_new_thread",
    "start_joinable_thread",
    "system",
    "fork",
    "forkpty",
    "fork_exec",
    "posix_spawn",
    "posix_spawnp",
    "execv",
    "execve",
    "CreateProcess",
}
_COMPILED = ("_TorchDynamoContext.__call__.<locals>", "OptimizeContext.__call__.<locals>")  # around what was compiled


class Forbidden(AssertionError):  # noqa: N818 - it is a verdict, not an error of the program
    """Raised where checked code calls what it was asked to write. str() is a sentence for the student."""


@contextmanager
def forbidden(*things: Any, within: Callable[..., Any] | None = None) -> Iterator[None]:
    """Inside the `with`, a call of one of things raises `Forbidden`; so does leaving it after such a call was swallowed.

    things: functions, classes (with their methods) and modules (all their functions and classes) of torch or tiedlib.
    within: the function under check; compiled torch.jit functions among what it can reach are refused at once, since no
    call inside them is seen. Raises TypeError for a thing that can't be watched.
    """
    watch = _Watch(things)
    if within is not None:
        watch.refuse_compiled(within)
    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        with watch.mode:
            yield
    finally:
        watch.leave()
        sys.setprofile(before)
        if watch.seen:  # also where the exception was caught, or another came of it
            raise Forbidden(watch.seen)


class _Watched:
    """What may not be called: files of modules, code of functions, names of compiled functions, each with what to call it."""

    def __init__(self, things: Iterable[Any]) -> None:
        self.files: dict[str, str] = {}
        self.codes: dict[tuple[Any, ...], str] = {}
        self.compiled: dict[str, str] = {}
        for thing in things:
            self._add(thing)

    def _add(self, thing: Any) -> None:
        name = f"{getattr(thing, '__module__', None) or ''}.{getattr(thing, '__qualname__', '')}".strip(".")
        if isinstance(thing, ModuleType):
            if getattr(thing, "__file__", None) is None:
                raise TypeError(f"things has the module {thing.__name__}, which has no file; name its functions")
            path = Path(str(thing.__file__))
            self.files[str(path.parent) + os.sep if path.name == "__init__.py" else str(path)] = thing.__name__
            for value in vars(thing).values():  # their code is known wherever it is copied to
                if isinstance(value, (FunctionType, type)) and value.__module__ == thing.__name__:
                    self._add(value)
        elif isinstance(thing, type):
            for method in vars(thing).values():
                if isinstance(inner := getattr(method, "__func__", method), FunctionType):
                    self._add_code(inner, name)
        elif isinstance(thing, FunctionType):
            self._add_code(thing, name)
        elif callable(thing) and hasattr(thing, "__name__"):
            self.compiled[thing.__name__] = f"torch.{thing.__name__}"
        else:
            raise TypeError(f"things has {thing!r}; it must be functions, classes or modules")

    def _add_code(self, function: FunctionType, name: str) -> None:
        while hasattr(function, "__wrapped__"):  # a decorator's own code serves many functions: what is below it counts
            function = function.__wrapped__
        if isinstance(function, FunctionType):  # a deprecated class may wrap object.__new__
            self.codes[_key(function.__code__)] = name


_watched = lru_cache(maxsize=64)(_Watched)


class _Watch:
    """The profile function: `seen` is the sentence about the first forbidden call.

    It runs at every call of the code under check, so the checks of shapes that the tests add are kept away from it.
    """

    def __init__(self, things: tuple[Any, ...]) -> None:
        self.seen, self.over = "", False
        self.mode = _Mode(self)
        self.judged: dict[int, tuple[CodeType, str]] = {}  # a loop calls one function a thousand times
        watched = _watched(things)
        self.files, self.codes, self.compiled = watched.files, watched.codes, watched.compiled

    def refuse_compiled(self, function: Callable[..., Any]) -> None:
        """torch.jit's functions among the globals and the closure of the function under check."""
        inner = getattr(function, "__func__", function)
        cells = [cell.cell_contents for cell in getattr(inner, "__closure__", None) or () if _filled(cell)]
        reach = [inner, *cells]
        for part in (inner, *cells):  # the check's own function holds the student's in its closure
            reach += getattr(part, "__globals__", {}).values()
        if any(isinstance(value, (torch.jit.ScriptFunction, torch.jit.ScriptModule)) for value in reach):
            raise Forbidden("a function compiled by torch.jit can't be checked; write it in plain Python")

    def leave(self) -> None:
        """No more is watched. Python takes a profile function away when it has raised; else it must still be there."""
        self.over = True
        if not self.seen and sys.getprofile() is not self:
            self.seen = "your code took away what watches it, which a checked function may not do"

    @no_type_check
    def refuse(self, found: str) -> None:
        self.seen = self.seen or found
        raise Forbidden(self.seen)

    @no_type_check
    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if self.over:
            return
        if event == "call":
            found = self._python(frame)
        elif event == "c_call":
            found = self._builtin(arg)
        else:
            return
        if found:
            self.refuse(found)

    @no_type_check
    def _python(self, frame: FrameType) -> str:
        code = frame.f_code
        if code.co_filename.endswith(("torch/_ops.py", "torch\\_ops.py")) and code.co_name == "__call__":
            operator = str(frame.f_locals.get("self", "")).split(".")
            if any(part.rstrip("_") in self.compiled for part in operator):
                return f"your code calls torch.ops.{'.'.join(operator)}, which is what you are asked to write"
        if id(code) not in self.judged:
            self.judged[id(code)] = (code, self._judge(code))
        return self.judged[id(code)][1]

    def _judge(self, code: CodeType) -> str:
        if code.co_filename == __file__:
            return ""
        name = self.codes.get(_key(code)) or next((n for f, n in self.files.items() if _below(code.co_filename, f)), "")
        if name:
            return f"your code calls {name} ({code.co_qualname}), which is what you are asked to write"
        if code.co_flags & CO_OPTIMIZED and any(part in code.co_qualname for part in _COMPILED):  # no class body
            return f"your code calls {code.co_qualname}, which a checked function may not do"
        return ""

    @no_type_check
    def called(self, function: Any) -> str:
        """Of a function that torch's mode has seen: the sentence, or nothing."""
        code = getattr(function, "__code__", None)
        name = self.codes.get(_key(code), "") if code is not None else ""
        asked = f"your code calls {name}, which is what you are asked to write"
        return asked if name else self._builtin(function)

    @no_type_check
    def _builtin(self, function: Any) -> str:
        name = getattr(function, "__name__", "")
        if name in self.compiled and _of_torch(function):
            return f"your code calls {self.compiled[name]}, which is what you are asked to write"
        if name in _ESCAPES and isinstance(function, BuiltinFunctionType):
            return f"your code calls {name}, which a checked function may not do"
        return ""


class _Mode(TorchFunctionMode):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    @no_type_check
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if found := self.watch.called(func):
            self.watch.refuse(found)
        return func(*args, **(kwargs or {}))


def _below(filename: str, watched: str) -> bool:
    return filename.startswith(watched) if watched.endswith(os.sep) else filename == watched


@no_type_check
def _key(code: CodeType) -> tuple[Any, ...]:
    """The same for a copy under another name or file; another line or column of source makes it another."""
    return (code.co_code, code.co_linetable, code.co_firstlineno)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


@no_type_check
def _of_torch(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    kind = owner if isinstance(owner, type) else type(owner)
    where = getattr(owner, "__name__", "") if isinstance(owner, ModuleType) else kind.__module__
    return (
        isinstance(owner, torch.Tensor) or where.startswith("torch") or (function.__module__ or "").startswith("torch")
    )
