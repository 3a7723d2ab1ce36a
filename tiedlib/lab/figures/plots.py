"""One look for every figure: the plotly template `tiedlib`, colours that colour-blind readers can tell apart, small
helpers.

Importing this module registers the templates `tiedlib` (light) and `tiedlib-dark` and makes `tiedlib` plotly's
default. The built page draws each figure with the template of the reader's theme: a figure that keeps to `COLORS`
needs nothing else.

The colours start from Okabe and Ito, "Color Universal Design" (2008); the shades were then searched so that any two
stay apart for every kind of colour blindness (CIE76 distance at least 15 when simulated) and each colour has at
least 3:1 contrast with the page (WCAG 2.2, 1.4.11) in its theme. tests/lab/figures/test_plots.py measures both.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

LIGHT = {
    "blue": "#025ba3",
    "vermillion": "#dd5d12",
    "green": "#129c78",
    "purple": "#b8579a",
    "ochre": "#724800",
    "ink": "#2b2f36",
}
DARK = {
    "blue": "#79abe4",
    "vermillion": "#f5783c",
    "green": "#06dea8",
    "purple": "#d68eb7",
    "ochre": "#f5d355",
    "ink": "#d9dde3",
}
QUIET = ("#a5acb6", "#5d6673")
"""A grey for what is behind the data (contour lines, guides), in the light and in the dark theme. It is too weak for data."""

COLORS = tuple(LIGHT.values())
"""The colours of the light theme in their fixed order; the page exchanges each for its fellow of the dark theme."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
"""One dash a line, in the order of `COLORS`: no figure is told by colour alone."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif"
SEQUENTIAL = [[0.0, "#f3f7fb"], [0.25, "#b9d4ea"], [0.5, "#6ba6d0"], [0.75, "#2a72a8"], [1.0, "#0b3c66"]]
DIVERGING = [[0.0, "#a63d05"], [0.25, "#eda57b"], [0.5, "#f5f3f0"], [0.75, "#85b4d8"], [1.0, "#0b4f86"]]
SURFACES = {
    "light": {"paper": "#ffffff", "ink": "#2b2f36", "muted": "#5a616c", "grid": "#e4e7eb", "line": QUIET[0]},
    "dark": {"paper": "#15181d", "ink": "#d9dde3", "muted": "#a3abb7", "grid": "#2b3038", "line": QUIET[1]},
}


def template(theme: str = "light") -> go.layout.Template:
    """The plotly template of one theme, "light" or "dark"; its background is transparent in the page.

    Raises ValueError for another theme."""
    if theme not in SURFACES:
        raise ValueError(f"theme is {theme!r}; it must be one of {sorted(SURFACES)}")
    s = SURFACES[theme]
    colors = list((LIGHT if theme == "light" else DARK).values())
    axis = dict(gridcolor=s["grid"], linecolor=s["line"], zerolinecolor=s["line"], tickcolor=s["line"], automargin=True)
    axis |= dict(showline=True, zeroline=False, ticks="outside", ticklen=4, title_standoff=8)
    axis |= dict(title_font_color=s["ink"], tickfont_color=s["muted"])
    bar = dict(outlinewidth=0, thickness=12, tickcolor=s["line"], tickfont_color=s["muted"])
    layout = dict(
        colorway=colors,
        colorscale=dict(sequential=SEQUENTIAL, diverging=DIVERGING),
        coloraxis_colorbar=bar,
        font=dict(family=FONT, size=14, color=s["ink"]),
        title=dict(x=0, xanchor="left", y=1, yanchor="top", pad=dict(t=6), font_size=16),
        legend=dict(orientation="h", x=0, y=1.02, xanchor="left", yanchor="bottom", bgcolor="rgba(0,0,0,0)"),
        margin=dict(l=56, r=16, t=76, b=48),
        paper_bgcolor=s["paper"],
        plot_bgcolor=s["paper"],
        hovermode="closest",
        hoverlabel=dict(bgcolor=s["paper"], bordercolor=s["line"], font=dict(family=FONT, color=s["ink"])),
        annotationdefaults=dict(font_color=s["ink"], arrowcolor=s["line"]),
        xaxis=axis,
        yaxis=axis,
    )
    scaled = [dict(colorscale=SEQUENTIAL, colorbar=bar)]
    return go.layout.Template(layout=layout, data=dict(heatmap=scaled, contour=scaled))


def color(index: int, alpha: float = 1.0) -> str:
    """The colour of series `index` (they repeat after six), as "rgba(…)" where alpha < 1.

    Raises ValueError unless 0 ≤ alpha ≤ 1."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    value = COLORS[index % len(COLORS)]
    if alpha == 1:
        return value
    red, green, blue = (int(value[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def _lengths(x: np.ndarray, y: np.ndarray, name: str) -> None:
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"x has shape {x.shape}: it must be one-dimensional and not empty")
    if y.shape[-1:] != x.shape:
        raise ValueError(f"{name!r} has shape {y.shape}: its last dimension must be {x.size}, the length of x")


def lines(x: Any, series: Mapping[str, Any], *, fig: go.Figure | None = None, **layout: Any) -> go.Figure:
    """One line a series: `series` maps a name to values of x's length. Keyword arguments go to `update_layout`.

    Raises ValueError when there is no series or a length differs from x's."""
    if not series:
        raise ValueError("series is empty: give at least one name and its values")
    fig = go.Figure() if fig is None else fig
    xs = np.asarray(x)
    for name, values in series.items():
        y = np.asarray(values)
        _lengths(xs, y[None] if y.ndim == 0 else y, name)
        i = sum(trace.showlegend is not False for trace in fig.data)
        fig.add_scatter(x=xs, y=y, name=name, mode="lines", line=dict(color=color(i), dash=DASHES[i % len(DASHES)]))
    return fig.update_layout(**layout)


def band(
    x: Any, runs: Any, name: str, *, fig: go.Figure | None = None, index: int | None = None, **layout: Any
) -> go.Figure:
    """The mean over seeds as a line and mean ± one sample standard deviation as a band.

    `runs` has shape (seeds, points), at least two seeds; `index` picks the colour (default: the next one). Returns the
    figure, a new one when `fig` is None. Raises ValueError for another shape."""
    xs, ys = np.asarray(x), np.asarray(runs, dtype=float)
    if ys.ndim != 2 or ys.shape[0] < 2:
        raise ValueError(f"runs has shape {ys.shape}: it must be (seeds, points) with at least 2 seeds")
    _lengths(xs, ys, name)
    fig = go.Figure() if fig is None else fig
    i = sum(trace.showlegend is not False for trace in fig.data) if index is None else index
    mean, sd = ys.mean(axis=0), ys.std(axis=0, ddof=1)
    edge = dict(mode="lines", line_width=0, hoverinfo="skip", showlegend=False, legendgroup=name)
    fig.add_scatter(x=xs, y=mean - sd, name=f"{name}, mean − sd", **edge)
    fig.add_scatter(x=xs, y=mean + sd, name=f"{name}, mean + sd", fill="tonexty", fillcolor=color(i, 0.18), **edge)
    fig.add_scatter(
        x=xs, y=mean, name=name, mode="lines", legendgroup=name, line=dict(color=color(i), dash=DASHES[i % len(DASHES)])
    )
    return fig.update_layout(**layout)


def bands(x: Any, series: Mapping[str, Any], **layout: Any) -> go.Figure:
    """`band` for each name of `series` in one figure. Raises what `band` raises, and ValueError when series is
    empty."""
    if not series:
        raise ValueError("series is empty: give at least one name and its runs")
    fig = go.Figure()
    for name, runs in series.items():
        band(x, runs, name, fig=fig)
    return fig.update_layout(**layout)


pio.templates["tiedlib"] = template("light")
pio.templates["tiedlib-dark"] = template("dark")
pio.templates.default = "tiedlib"
