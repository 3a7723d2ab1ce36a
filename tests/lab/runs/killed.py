"""A process that ends in the middle of a run, for tests of going on."""

from collections.abc import Callable
from typing import Any

from tiedlib.training_loop import Step


class Killed(BaseException):
    """Stands for the end of a process: nothing of ours may catch it."""


def until(step: int) -> Callable[[Any], None]:
    """An on_event that ends the run at its step number `step` (counted over calls), before anything is saved for it."""
    seen: list[bool] = []

    def on_event(event: Any) -> None:
        seen.append(isinstance(event, Step))
        if sum(seen) == step:
            raise Killed

    return on_event
