"""A figure's starting state as a still picture: it stands in the page before any script runs, and where none does.

The picture is HTML and SVG of a few kB, drawn from the same data as plotly's. What must keep its shape (ticks, titles,
names) is text placed in percent; what must fit (lines, bars, images) is SVG stretched over the plotting area, so that
one picture serves every width. Colours of the palette are variables that the theme sets. Of the kinds of trace it draws
scatter, bar, heatmap and contour; of any other figure there is no still, and the alternative text stands alone.
"""

from collections.abc import Sized
from typing import Any

import numpy as np

from tiedlib.lab.page.states import Spec
from tiedlib.lab.page.still.paint import css
from tiedlib.lab.page.still.picture import Picture

__all__ = ["css", "still"]
KINDS = {"scatter", "bar", "heatmap", "contour"}


def still(figure: Spec, height: int) -> str:
    """The HTML of a figure's still picture, or "" for a figure that it cannot draw (another kind of trace or of axis, a
    template of its own)."""
    kinds = {trace.get("type", "scatter") for trace in figure["data"]}
    if any("z" in trace and np.ndim(trace["z"]) != 2 for trace in figure["data"] if _even(trace.get("z"))):
        return ""  # heights in columns
    if not all(_even(trace.get("z")) for trace in figure["data"]):
        return ""
    axes = [v for k, v in figure["layout"].items() if k[1:5] == "axis" and isinstance(v, dict)]
    if not kinds or not kinds <= KINDS or figure["layout"].get("template") != "tiedlib":
        return ""
    if any(a.get("type") in {"date", "multicategory"} or a.get("overlaying") or a.get("matches") for a in axes):
        return ""
    return Picture(figure).html(height)


def _even(z: Any) -> bool:
    """Whether rows of heights, where there are any, are equally long."""
    return z is None or len({len(row) for row in z if isinstance(row, Sized)}) <= 1
