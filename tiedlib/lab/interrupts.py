"""Ctrl-C that loses nothing: work is told of it and ends at a point from which it can go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ctrl_c"]


@contextmanager
def ctrl_c(once: bool = False) -> Iterator[threading.Event]:
    """Set the event at the first Ctrl-C, so that the step can end; a second one interrupts at once. With once=True it may
    come twice and counts once: `torchrun` hands on a signal that its processes had from the terminal already."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread gets signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and not once:
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
