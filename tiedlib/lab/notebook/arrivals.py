"""What a cell makes for the reader must arrive: a figure or a question that nobody displays is an error of its cell.

IPython shows the value of a cell's last line alone. While a book is built, and where pytest runs a notebook, whatever is made for
the reader is waited for: what has gone without having been displayed (or kept by `glue`), and what is in a list that the
cell's last line shows as a list, raises LostError in the cell that lost it. What a name still holds may be displayed later. In a
reader's own notebook nothing is looked at.
"""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Iterator
from typing import Any

from tiedlib.lab.outputs import BUILD_VARIABLE

__all__ = ["LostError", "made", "shown", "waiting"]

LOOKING = (BUILD_VARIABLE, "PYTEST_VERSION", "PYTEST_CURRENT_TEST")  # kernels inherit these
_waiting: dict[int, weakref.ref[Any]] = {}
_lost: list[str] = []  # what has gone unseen since the last cell
_watched: list[Any] = []  # the shells that are looked at


class LostError(Exception):
    """Something was made for the reader, and nobody displayed it."""


def made(thing: Any) -> None:
    """A reader is to see this."""
    if not _watch():
        return
    key, name = id(thing), _name(thing)

    def gone(reference: weakref.ref[Any]) -> None:
        if _waiting.get(key) is reference:
            del _waiting[key]
            _lost.append(name)

    _waiting[key] = weakref.ref(thing, gone)


def shown(thing: Any) -> None:
    """It was displayed, or glued."""
    _waiting.pop(id(thing), None)


def waiting() -> list[Any]:
    """What was made, is still there and was not shown so far."""
    return [thing for reference in list(_waiting.values()) if (thing := reference()) is not None]


def _name(thing: Any) -> str:
    said = next((str(v) for k in ("alt", "text", "title") if (v := getattr(thing, k, ""))), "")
    return f"{type(thing).__name__} ({said:.80})"


def _watch() -> bool:
    """Whether this kernel's cells are looked at; from the first thing made on they are."""
    if "IPython" not in sys.modules or not any(map(os.environ.get, LOOKING)):
        return False
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None and shell not in _watched:
        _watched.append(shell)
        shell.events.register("post_run_cell", lambda result: _look(shell, result))
    return shell is not None


def _inside(value: Any, depth: int = 3) -> Iterator[Any]:
    """What is in lists, tuples, sets and dictionaries, which are displayed as text."""
    each = (
        value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set, frozenset)) else ()
    )
    for one in each if depth else ():
        yield one
        yield from _inside(one, depth - 1)


def _look(shell: Any, result: Any) -> None:
    for one in _inside(result.result):
        if id(one) in _waiting:
            shown(one)
            _lost.append(_name(one))
    if _waiting:
        gc.collect()  # what only a circle of references still holds
    lost = _lost[:]
    _lost.clear()
    if lost and result.success:
        try:
            raise LostError(
                f"made here and never shown: {'; '.join(lost)}. Make it the cell's last line, without a semicolon, or display(…) it"
            )
        except LostError as error:
            shell.showtraceback()
            result.error_in_exec = error  # what the kernel answers to whoever runs the notebook
