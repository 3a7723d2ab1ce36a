"""Which figures a still picture draws as plotly will: those that use nothing but what is listed here.

plotly has some thousand attributes; a picture that left one out would show another figure than the page does a second later.
So whatever is not named here, or has a value of another kind, means that there is no still.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tiedlib.lab.figures.states import Spec
from tiedlib.lab.figures.still.axes import NUMBER

__all__ = ["drawable"]

Check = Callable[[Any], bool]
HEX = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
RGB = re.compile(r"rgba?\(\s*\d+(\.\d+)?(\s*,\s*\d+(\.\d+)?){2,3}\s*\)")
DATE_OR_NUMBER = re.compile(
    r"\s*[-+]?[\d.,]*\d[-\d:.,TZ+e ]*", re.IGNORECASE
)  # plotly reads such words as numbers or dates
LARGEST = 1e100


def _any(_: Any) -> bool:
    return True


def _number(v: Any) -> bool:
    return isinstance(v, (int, float, np.number)) and not isinstance(v, bool) and abs(float(v)) < LARGEST


def _word(v: Any) -> bool:
    return isinstance(v, str)


def _one_of(*values: Any) -> Check:
    return lambda v: isinstance(v, (str, bool, int)) and v in values


def _listed(v: Any) -> bool:
    return isinstance(v, (list, tuple, np.ndarray))


def _row(v: Any) -> bool:
    """One row of numbers and gaps, or of words and gaps."""
    if not _listed(v) or any(map(_listed, v)):
        return False
    there = [one for one in v if one is not None]
    return all(_number(one) or (isinstance(one, float) and math.isnan(one)) for one in there) or all(map(_word, there))


def _numbers(v: Any) -> bool:
    return _row(v) and not any(map(_word, v))


def _colour(v: Any) -> bool:
    return _word(v) and bool(HEX.fullmatch(v) or RGB.fullmatch(v.lower()) or v.isalpha())


def _scale(v: Any) -> bool:
    stops = list(v) if _listed(v) else []
    pairs = all(_listed(one) and len(one) == 2 and _number(one[0]) and _word(one[1]) for one in stops)
    return len(stops) > 1 and pairs and all(HEX.fullmatch(c) or RGB.fullmatch(c.lower()) for _, c in stops)


def _rows(v: Any) -> bool:
    """Rows of numbers, equally long, with at least one that is there."""
    if not _listed(v) or not len(v) or not all(_listed(row) and len(row) and _numbers(row) for row in v):
        return False
    return len({len(row) for row in v}) == 1 and any(
        one is not None and math.isfinite(float(one)) for row in v for one in row
    )


def _range(v: Any) -> bool:
    return _listed(v) and len(v) == 2 and all(map(_number, v)) and v[0] != v[1]


QUIET = dict.fromkeys(  # what is not seen before a pointer comes
    (
        "hoverinfo",
        "hovertemplate",
        "hovertext",
        "hoverlabel",
        "customdata",
        "ids",
        "meta",
        "uid",
        "uirevision",
        "xhoverformat",
        "yhoverformat",
        "zhoverformat",
        "legendgroup",
        "legendrank",
        "hoverongaps",
    ),
    _any,
)
COMMON = QUIET | {
    "type": _word,
    "name": _word,
    "visible": _one_of(True, False, "legendonly"),
    "opacity": _number,
    "showlegend": _one_of(True, False),
    "x": _row,
    "y": _row,
    "xaxis": _word,
    "yaxis": _word,
}
ERROR: dict[str, Any] = {"type": _one_of("data"), "array": _numbers, "visible": _one_of(True)}
TRACES: dict[str, dict[str, Any]] = {
    "scatter": COMMON
    | {
        "mode": _word,
        "cliponaxis": _any,
        "fill": _one_of("tonexty", "tozeroy", "toself", "none"),
        "fillcolor": _colour,
        "text": lambda v: _word(v) or _row(v),
        "textposition": _word,
        "textfont": _any,
        "line": {"color": _colour, "dash": _word, "width": _number, "shape": _one_of("linear")},
        "marker": {
            "color": lambda v: _colour(v) or _numbers(v) or (_row(v) and all(map(_colour, v))),
            "size": lambda v: _number(v) or _numbers(v),
            "opacity": _number,
            "symbol": _any,
            "line": _any,
            "colorscale": _scale,
            "cmin": _number,
            "cmax": _number,
            "showscale": _any,
            "colorbar": _any,
        },
    },
    "bar": COMMON
    | {
        "orientation": _one_of("v", "h"),
        "width": _number,
        "error_x": ERROR,
        "error_y": ERROR,
        "marker": {"color": _colour, "opacity": _number, "pattern": {"shape": lambda v: _word(v) or _listed(v)}},
    },
    "heatmap": COMMON
    | {
        "z": _rows,
        "colorscale": _scale,
        "zmin": _number,
        "zmax": _number,
        "zmid": _number,
        "showscale": _any,
        "colorbar": _any,
        "reversescale": _any,
        "xgap": _number,
        "ygap": _number,
        "texttemplate": _any,
        "textfont": _any,
    },
    "contour": COMMON
    | {
        "z": _rows,
        "colorscale": _scale,
        "zmin": _number,
        "zmax": _number,
        "showscale": _any,
        "colorbar": _any,
        "reversescale": _any,
        "ncontours": lambda v: _number(v) and v >= 1,
        "contours": {"coloring": _one_of("fill", "heatmap", "lines")},
        "line": {"width": _number, "color": _colour},
    },
}
AXIS: dict[str, Any] = dict.fromkeys(
    (
        "anchor",
        "title",
        "tickfont",
        "showgrid",
        "showline",
        "showticklabels",
        "ticks",
        "ticklen",
        "tickcolor",
        "linecolor",
        "gridcolor",
        "zeroline",
        "automargin",
        "fixedrange",
        "hoverformat",
        "nticks",
        "tickformat",
        "exponentformat",
        "scaleanchor",
        "scaleratio",
        "constrain",
        "title_standoff",
        "gridwidth",
        "linewidth",
        "minor",
    ),
    _any,
) | {
    "type": _one_of("linear", "log", "category", "-"),
    "range": _range,
    "autorange": _one_of(True, False, "reversed"),
    "domain": lambda v: _range(v) and v[0] < v[1],
    "visible": _one_of(True, False),
    "rangemode": _one_of("normal", "tozero"),
    "tickvals": _row,
    "ticktext": _listed,
    "tickmode": _one_of("array", "auto", "linear"),
    "side": _one_of("left", "bottom"),
    "dtick": lambda v: _number(v) and v > 0,
}
NOTE = dict.fromkeys(
    ("align", "ax", "ay", "font", "showarrow", "xanchor", "yanchor", "arrowhead", "arrowcolor"), _any
) | {
    "text": _word,
    "x": lambda v: _number(v) or _word(v),
    "y": lambda v: _number(v) or _word(v),
    "xref": _word,
    "yref": _word,
}
LAYOUT: dict[str, Any] = dict.fromkeys(
    ("title", "margin", "legend", "hovermode", "hoverlabel", "dragmode", "font", "uirevision", "autosize"), _any
) | {
    "template": _one_of("tiedlib"),
    "height": _number,
    "width": _number,
    "showlegend": _one_of(True, False),
    "barmode": _one_of("group", "stack", "overlay", "relative"),
    "annotations": lambda v: all(
        isinstance(one, dict) and {"x", "y", "text"} <= one.keys() and _only(one, NOTE) for one in v
    ),
}


def _values(v: Any) -> list[Any]:
    return [] if v is None else list(v)


def _only(found: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether all that is set is known, and of its kind."""
    for key, value in found.items():
        rule = known.get(key)
        if value is None:
            continue
        if isinstance(rule, dict):
            if not (isinstance(value, dict) and _only(value, rule)):
                return False
        elif rule is None or not rule(value):
            return False
    return True


def drawable(figure: Spec) -> bool:
    """Whether a still picture of this figure is the figure."""
    layout, traces = figure["layout"], figure["data"]
    axes = {k: v for k, v in layout.items() if re.fullmatch("[xy]axis[0-9]*", k)}
    return (
        any(trace.get(key) is not None and len(trace[key]) for trace in traces for key in "xyz")
        and layout.get("template") == "tiedlib"
        and _only({k: v for k, v in layout.items() if k not in axes}, LAYOUT)
        and all(isinstance(axis, dict) and _only(axis, AXIS) for axis in axes.values())
        and all(_only(trace, TRACES.get(trace.get("type", "scatter"), {})) for trace in traces)
        and all(map(_fits, traces))
        and not (layout.get("barmode") == "relative" and any(map(_below, traces)))
        and all(_one_kind(letter, layout, traces) for letter in "xy")
    )


def _below(trace: dict[str, Any]) -> bool:
    """Whether a trace has bars below zero, which stand on each other downwards."""
    measured = trace.get("x" if trace.get("orientation") == "h" else "y", ())
    return trace.get("type") == "bar" and any(v is not None and v < 0 for v in measured)


def _fits(trace: dict[str, Any]) -> bool:
    """Whether the arrays of a trace are as long as each other, and whatever is measured is a number."""
    kind, count = trace.get("type", "scatter"), {k: len(trace[k]) for k in ("x", "y") if trace.get(k) is not None}
    if kind in {"heatmap", "contour"}:
        z, both = trace.get("z"), {"zmin", "zmax"} <= trace.keys()
        sizes = {"x": len(z[0]), "y": len(z)} if z is not None else {}
        smooth = kind == "contour" and sizes and min(sizes.values()) < 2
        return (
            bool(sizes)
            and all(sizes[k] == n for k, n in count.items())
            and ("zmid" not in trace or both)
            and not smooth
        )
    if len(set(count.values())) != 1 or (kind == "bar" and 0 in count.values()):
        return False
    each = [trace.get("marker", {}).get(k) for k in ("color", "size")] + [
        trace.get(f"error_{k}", {}).get("array") for k in "xy"
    ]
    if any(_listed(one) and len(one) not in count.values() for one in each):
        return False
    if kind == "bar":
        measured = trace.get("x" if trace.get("orientation") == "h" else "y")
        return len(count) == 2 and measured is not None and _numbers(measured)
    colours = trace.get("marker", {}).get("color")
    return not _listed(colours) or not _numbers(colours) or any(v is not None and math.isfinite(v) for v in colours)


def _one_kind(letter: str, layout: dict[str, Any], traces: Iterable[dict[str, Any]]) -> bool:
    """Whether every axis of this letter has numbers alone, or names alone that plotly takes for names."""
    found: dict[str, list[Any]] = {}
    for trace in traces:
        rows = trace.get("z")
        counted = range(len(rows) if letter == "y" else len(rows[0])) if rows is not None else range(1)
        values = trace.get(letter)
        found.setdefault(str(trace.get(f"{letter}axis", letter)), []).extend(counted if values is None else values)
    notes = _values(layout.get("annotations"))
    for name, values in found.items():
        axis = layout.get(f"{letter}axis{name[1:]}", {})
        words = [v for v in values if isinstance(v, str)]
        if not words:
            if axis.get("type") == "category" or any(map(_word, _values(axis.get("tickvals")))):
                return False
            if any(
                _word(n["y" if letter == "y" else "x"]) for n in notes if str(n.get(f"{letter}ref", letter)) == name
            ):
                return False
            continue
        numeric = axis.get("type") != "category" and all(map(NUMBER.fullmatch, words))
        if numeric:
            continue
        if axis.get("type") in {"linear", "log"} or len(words) < sum(v is not None for v in values):
            return False
        if axis.get("type") != "category" and any(DATE_OR_NUMBER.fullmatch(w) for w in words):
            return False
    return True
