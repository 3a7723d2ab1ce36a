"""What a page can draw of what plotly knows: the kinds of trace in the bundle of plotly.js that every page carries.

plotly has some fifty kinds; a bundle with all of them is three times as heavy. The others, frames with what would play them, and
images from elsewhere are refused where the figure is made, so that an author reads it in the cell and a reader never meets an
empty place or a dead button.
"""

from collections.abc import Iterable
from typing import Any

__all__ = ["DRAWN", "refusal"]

DRAWN = (
    "bar",
    "box",
    "contour",
    "heatmap",
    "histogram",
    "histogram2d",
    "histogram2dcontour",
    "image",
    "pie",
    "scatter",
    "scatterternary",
    "violin",
)
_INSTEAD = {"scattergl": "scatter", "heatmapgl": "heatmap", "sunburst": "pie", "waterfall": "bar", "funnel": "bar"}


def refusal(figure: dict[str, Any]) -> str | None:
    """Why a page cannot draw this figure (plotly's dictionary of it), None where it can."""
    layout = figure.get("layout") or {}
    for trace in figure.get("data") or ():
        kind = str(trace.get("type", "scatter"))
        if kind not in DRAWN:
            instead = f" Draw it as {_INSTEAD[kind]!r}." if kind in _INSTEAD else ""
            return f"has a trace of type {kind!r}; a page without a kernel can draw {', '.join(DRAWN)}.{instead}"
    if figure.get("frames"):
        return "has frames, which a page does not play; explore(fn, grids, play=…) moves a figure in a page too"
    if any(one.get("method") == "animate" for one in _steps(layout)):
        return "has a button or a slider that plays frames; explore(fn, grids, play=…) moves a figure in a page too"
    pictures = [*(layout.get("images") or ()), *(t for t in figure.get("data") or () if t.get("type") == "image")]
    for one in pictures:
        if not str(one.get("source") or "data:").startswith("data:"):
            return f"has the image {str(one['source'])!r:.80}, which is not in the page; give it as data:image/png;base64,…"
    return None


def _steps(layout: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """What the buttons and sliders do that plotly itself draws."""
    for menu in layout.get("updatemenus") or ():
        yield from menu.get("buttons") or ()
    for slider in layout.get("sliders") or ():
        yield from ({"method": "restyle"} | step for step in slider.get("steps") or ())
