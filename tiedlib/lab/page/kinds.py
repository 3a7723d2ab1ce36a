"""What a page can draw of what plotly knows: the kinds of trace in the bundle of plotly.js that every page carries.

plotly has some fifty kinds; a bundle with all of them is three times as heavy. The others, and frames, are refused where the
figure is made, so that an author reads it in the cell and a reader never meets an empty place.
"""

from typing import Any

__all__ = ["DRAWN", "refusal"]

DRAWN = (
    *("bar", "box", "contour", "heatmap", "histogram", "histogram2d", "histogram2dcontour"),
    *("image", "pie", "scatter", "scatterternary", "violin"),
)
_INSTEAD = {"scattergl": "scatter", "heatmapgl": "heatmap", "sunburst": "pie", "waterfall": "bar", "funnel": "bar"}


def refusal(figure: dict[str, Any]) -> str | None:
    """Why a page cannot draw this figure (plotly's dictionary of it), None where it can."""
    for trace in figure.get("data") or ():
        kind = str(trace.get("type", "scatter"))
        if kind not in DRAWN:
            instead = f" Draw it as {_INSTEAD[kind]!r}." if kind in _INSTEAD else ""
            return f"has a trace of type {kind!r}; a page without a kernel can draw {', '.join(DRAWN)}.{instead}"
    if figure.get("frames"):
        return "has frames, which a page does not play; explore(fn, grids, play=…) moves a figure in a page too"
    return None
