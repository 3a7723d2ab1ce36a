"""What a cell makes for the reader must arrive: a figure or a question that nobody displays is an error of the book.

IPython shows the value of a cell's last line alone. While a book is built (and where TIEDLIB_ARRIVALS is set), each cell is
looked at when it has run: what it made, did not show and did not keep under a name is reported on the error stream, which
fails a strict build.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tiedlib.lab.page import BUILD_VARIABLE

__all__ = ["made", "shown", "waiting"]

_waiting: dict[int, Any] = {}  # by identity, and the object itself, so that no other takes its place
_watched: list[Any] = []  # the shells that are looked at


def made(thing: Any) -> None:
    """A reader is to see this."""
    _waiting[id(thing)] = thing
    _watch()


def shown(thing: Any) -> None:
    """It was displayed, or glued."""
    _waiting.pop(id(thing), None)


def waiting() -> list[Any]:
    """What was made and not shown so far."""
    return list(_waiting.values())


def _watch() -> None:
    """Look at every cell of this kernel from now on."""
    if "IPython" not in sys.modules or not (os.environ.get(BUILD_VARIABLE) or os.environ.get("TIEDLIB_ARRIVALS")):
        _waiting.clear()
        return
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None and shell not in _watched:
        _watched.append(shell)
        shell.events.register("post_run_cell", lambda result: _look(shell, result))


def _look(shell: Any, result: Any) -> None:
    kept = {id(value) for value in shell.user_ns.values()}
    lost = [thing for thing in waiting() if id(thing) not in kept]
    for thing in lost:
        shown(thing)
    if lost and result.success:
        kinds = ", ".join(type(thing).__name__ for thing in lost)
        said = [str(getattr(thing, "alt", "") or getattr(thing, "text", "")) for thing in lost]
        print(
            f"made in this cell and never shown: {kinds} ({'; '.join(said)}). Make it the cell's last line, or display(…) it",
            file=sys.stderr,
        )
