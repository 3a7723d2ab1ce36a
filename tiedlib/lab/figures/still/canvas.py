"""What the kinds of trace draw on: the axes of one figure, and the shapes, boxes and words that are there so far."""

import math
from typing import Any

import numpy as np

from tiedlib.lab.figures.states import Spec
from tiedlib.lab.figures.still.axes import NUMBER, Axis, as_list
from tiedlib.lab.figures.still.paint import plain


class Canvas:
    """One figure being drawn."""

    def __init__(self, figure: Spec):
        self.layout, self.traces = figure["layout"], figure["data"]
        self.colors: dict[int, str] = {}
        self.axes: dict[str, Axis] = {}
        self.previous: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.shapes: list[str] = []
        self.boxes: list[str] = []  # bars: HTML, whose hatching is not stretched
        self.words: list[str] = []
        # of each trace of bars: where they begin and end, and their left and right sides
        self.bars: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}

    def axis(self, trace: dict[str, Any], letter: str) -> Axis:
        name = str(trace.get(f"{letter}axis", letter))
        if name not in self.axes:
            layout = self.layout.get(f"{letter}axis{name[1:]}", {})
            values = [
                v for t in self.traces if str(t.get(f"{letter}axis", letter)) == name for v in as_list(t.get(letter))
            ]
            wordy = layout.get("type") == "category" or any(
                isinstance(v, str) and not NUMBER.fullmatch(v) for v in values
            )
            self.axes[name] = Axis(layout, list(dict.fromkeys(map(str, values))) if wordy else [])
        return self.axes[name]

    def data(self, trace: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        x, y = as_list(trace.get("x")), as_list(trace.get("y"))
        count = len(y or x)
        return x or list(range(count)), y or list(range(count))

    def word(self, x: float, y: float, text: str, classes: str = "tl-word") -> None:
        if math.isfinite(x) and math.isfinite(y) and text:
            self.words.append(span(classes, x, y, plain(text), True))


def span(kind: str, along: float, across: float, text: str, lying: bool) -> str:
    """Text at a place of a horizontal axis (`lying`) or of a vertical one."""
    left, top = (along, 1 - across) if lying else (across, 1 - along)
    return f'<span class="{kind}" style="left:{100 * left:.2f}%;top:{100 * top:.2f}%">{text}</span>'
