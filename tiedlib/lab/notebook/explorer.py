"""One cell, two lives: `explore` shows a figure with controls, with a kernel and in the built page without one.

With a kernel (JupyterLab, notebook, Colab, VS Code) the controls are ipywidgets and every change calls the function
again. While a book is built with the extension `tiedlib.lab.page`, all states are computed once, and the page's own
script draws them. `show` gives a figure that does not move the same caption, alternative text and table.
"""

import html
import itertools
import math
import numbers
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from tiedlib.lab.figures import (
    plots,  # noqa: F401  (the template is registered on import)
    printed,
)
from tiedlib.lab.figures.kinds import refusal
from tiedlib.lab.figures.states import Spec, pack, points, spec, too_small, weight
from tiedlib.lab.notebook import arrivals
from tiedlib.lab.notebook.parameters import Parameter, Value
from tiedlib.lab.outputs import BUILD_VARIABLE, FIGURE

MAX_STATES = 2000
MAX_POINTS = 100_000
MAX_BYTES = 200_000  # gzipped, all states of one figure


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return printed.text(value) if isinstance(value, float) else str(value)


def _values(name: str, grid: Any) -> tuple[str, tuple[Value, ...]]:
    """The kind and the plain Python values of one grid; raises for anything a control cannot show."""
    if isinstance(grid, (str, bytes, Mapping)) or not hasattr(grid, "__iter__"):
        raise TypeError(f"grids[{name!r}] is {grid!r}; it must be a sequence of numbers, of names or of booleans")
    values = tuple(v.item() if hasattr(v, "item") else v for v in grid)
    if not values:
        raise ValueError(f"grids[{name!r}] is empty: it must have at least one value")
    if all(isinstance(v, bool) for v in values):
        kind = "switch"
    elif all(isinstance(v, str) for v in values):
        kind = "name"
    elif all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values):
        kind = "number"
        if not all(math.isfinite(v) for v in values):
            raise ValueError(f"grids[{name!r}] is {list(values)}; every number must be finite")
        values = tuple(v if isinstance(v, (int, float)) else float(v) for v in values)  # what JSON knows
        if any(a >= b for a, b in itertools.pairwise(values)):
            raise ValueError(f"grids[{name!r}] is {list(values)}; numbers must increase")
    else:
        raise TypeError(f"grids[{name!r}] is {list(values)}; all values must be numbers, or all names, or all booleans")
    if len(set(values)) != len(values):
        raise ValueError(f"grids[{name!r}] is {list(values)}; a value stands in it twice")
    return kind, values


def _parameters(grids: Mapping[str, Any], start: Mapping[str, Any] | None) -> tuple[Parameter, ...]:
    if not isinstance(grids, Mapping):
        raise TypeError(f"grids is {grids!r}; it must be a mapping from a parameter's name to its values")
    if not grids:
        raise ValueError("grids is empty: it must name at least one parameter")
    start = dict(start or {})
    if unknown := set(start) - set(grids):
        raise ValueError(f"start names {sorted(unknown)}: it may only name the parameters {list(grids)}")
    found = []
    for name, grid in grids.items():
        kind, values = _values(name, grid)
        first = start.get(name, values[0])
        if first not in values:
            raise ValueError(f"start[{name!r}] is {first!r}; it must be one of {list(values)}")
        texts = tuple(map(_text, values))
        if len(set(texts)) < len(texts):
            texts = tuple(map(repr, values))
        found.append(Parameter(name, name.replace("_", " "), kind, values, texts, values.index(first)))
    return tuple(found)


def _described(alt: str, caption: str | None) -> None:
    for name, text in (("alt", alt), ("caption", caption)):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} is {text!r}; it must be a string")
    if not alt.strip():
        raise ValueError(f"alt is {alt!r}; it must say in words what the figure shows")


def _checked(figure: Any, where: str) -> Spec:
    """A figure's data; raises unless it is a plotly figure that a browser can draw smoothly."""
    if not isinstance(figure, BaseFigure):
        raise TypeError(f"the figure {where} is a {type(figure).__name__}: it must be a plotly figure")
    if why := refusal(figure.to_dict()):
        raise ValueError(f"the figure {where} {why}")
    found = spec(figure)
    if key := too_small(found):
        raise ValueError(
            f"the figure {where} has no {key} of size 1e-300 or more: no axis can be scaled to such numbers"
        )
    if (count := points(found)) > MAX_POINTS:
        raise ValueError(
            f"the figure {where} has {count:,} points: at most {MAX_POINTS:,} can be drawn smoothly. "
            "Thin them (x[::k]), or draw a histogram or a heat map of them"
        )
    return found


def _payload(figures: list[Spec], parameters: tuple[Parameter, ...], advice: str, **text: str | None) -> dict[str, Any]:
    """What travels to the page; raises ValueError with `advice` when it is too heavy for a reader."""
    packed = pack(figures)
    if (size := weight(packed)) > MAX_BYTES:
        raise ValueError(
            f"this figure weighs {size / 1000:.0f} kB compressed: at most {MAX_BYTES / 1000:.0f} kB may travel "
            f"to a reader. {advice}"
        )
    return {"packed": packed, "parameters": [asdict(p) for p in parameters], **text}


class Figure:
    """What `show` returns: a figure with alternative text and caption; in a page, with a table behind it."""

    def __init__(self, figure: BaseFigure, alt: str, caption: str | None):
        self.figure, self.alt, self.caption = figure, alt, caption
        text = {"alt": alt, "caption": caption, "play": None}
        self.payload = _payload([_checked(figure, "to show")], (), "Draw fewer points", **text)
        arrivals.made(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        arrivals.shown(self)
        if os.environ.get(BUILD_VARIABLE):
            return {FIGURE: self.payload, "text/plain": self.alt}
        bundle: dict[str, Any] = self.figure._repr_mimebundle_() or {}
        return bundle | {"text/plain": self.alt}

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if os.environ.get(BUILD_VARIABLE) or not self.caption:
            raise NotImplementedError  # so that IPython takes the bundle, and `glue` has something to keep
        display(self._repr_mimebundle_(), raw=True)
        display(HTML(f"<p><em>{html.escape(self.caption)}</em></p>"))


class Explorer:
    """What `explore` returns. `figure_at(**values)` is the figure that the controls show at these values."""

    def __init__(
        self, fn: Callable[..., Any], parameters: tuple[Parameter, ...], alt: str, caption: str | None, play: str | None
    ):
        self.fn, self.parameters, self.alt, self.caption, self.play = fn, parameters, alt, caption, play
        self.payload: dict[str, Any] | None = None
        if os.environ.get(BUILD_VARIABLE):
            self.payload = self._built()
        else:
            self.figure_at(**self.starting)  # a broken function must fail in its own cell
        arrivals.made(self)

    @property
    def starting(self) -> dict[str, Value]:
        """The values the controls start with."""
        return {p.name: p.starting for p in self.parameters}

    def figure_at(self, **values: Value) -> go.Figure:
        """`fn` at one state, checked. Raises TypeError for another result, ValueError for too many points, and
        whatever fn raises, with the state named in a note."""
        return self._state(values)[0]

    def _state(self, values: Mapping[str, Value]) -> tuple[go.Figure, Spec]:
        state = ", ".join(f"{name}={value!r}" for name, value in values.items())
        try:
            figure = self.fn(**values)
        except Exception as error:
            error.add_note(f"explore: {getattr(self.fn, '__name__', 'fn')} raised this in the state {state}")
            raise
        return figure, _checked(figure, f"in the state {state}")

    def _built(self) -> dict[str, Any]:
        names = [p.name for p in self.parameters]
        states = itertools.product(*(p.values for p in self.parameters))
        figures = [self._state(dict(zip(names, state, strict=True)))[1] for state in states]
        longest = max(self.parameters, key=lambda p: len(p.values))
        advice = f"Thin grids[{longest.name!r}] ({len(longest.values)} values), or draw fewer points"
        return _payload(figures, self.parameters, advice, alt=self.alt, caption=self.caption, play=self.play)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """In a page, all states; elsewhere, where nothing can move (what `glue` keeps), the figure that it starts with."""
        arrivals.shown(self)
        if self.payload is not None:
            return {FIGURE: self.payload, "text/plain": self.alt}
        bundle: dict[str, Any] = self.figure_at(**self.starting)._repr_mimebundle_() or {}
        return bundle | {"text/plain": self.alt}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self.payload is not None:
            raise NotImplementedError  # so that IPython takes the bundle, and `glue` has something to keep
        arrivals.shown(self)
        from tiedlib.lab.notebook.widgets import widget

        display(widget(self))


def explore(
    fn: Callable[..., Any],
    grids: Mapping[str, Any],
    *,
    alt: str,
    caption: str | None = None,
    start: Mapping[str, Any] | None = None,
    play: str | None = None,
) -> Explorer:
    """A figure with one control for each parameter of `fn`: a slider for numbers, a list for names, a check box for
    booleans.

    `fn(**values)` returns a plotly figure; `grids` maps each parameter to its values (numbers increase). `alt` says
    in words what the figure shows, `caption` is printed below it, `start` holds the values to start with (default: each
    grid's first), and the parameter `play` gets a play button. With a kernel, a slider also takes numbers between the
    grid's.

    Raises ValueError or TypeError for an empty grid, mixed or repeated values, a start that is not on its grid, an
    empty `alt`, a kind of trace that a page cannot draw, frames, more than 2000 states, 100 000 points or 200 kB (it says
    which grid to thin), and whatever `fn` raises, with its state."""
    if not callable(fn):
        raise TypeError(f"fn is {fn!r}; it must be a function that returns a plotly figure")
    _described(alt, caption)
    parameters = _parameters(grids, start)
    if play is not None and play not in grids:
        raise ValueError(f"play is {play!r}; it must be one of the parameters {list(grids)}")
    if (count := math.prod(len(p.values) for p in parameters)) > MAX_STATES:
        longest = max(parameters, key=lambda p: len(p.values))
        raise ValueError(
            f"grids have {count:,} states in all: at most {MAX_STATES:,}. "
            f"Thin grids[{longest.name!r}], which has {len(longest.values)} values"
        )
    return Explorer(fn, parameters, alt, caption, play)


def show(figure: BaseFigure, *, alt: str, caption: str | None = None) -> Figure:
    """A plotly figure with alternative text, a caption and, in the built page, its data as a table one click away.

    Raises TypeError for anything but a plotly figure, ValueError for an empty `alt`, a kind of trace that a page cannot draw,
    frames, or more than 100 000 points."""
    _described(alt, caption)
    return Figure(figure, alt, caption)
