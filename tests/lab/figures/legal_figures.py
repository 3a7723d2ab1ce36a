"""Figures that plotly accepts, as authors make them: every kind of trace, and what else a page may meet in them."""

import datetime
import fractions
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import plotly.figure_factory as ff
import plotly.graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

Make = Callable[[], go.Figure]
GRID = np.arange(30.0).reshape(5, 6) / 7
TEN = np.arange(10.0)
DAYS = ["2020-01-01", "2020-01-02"]
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

KINDS = {  # all of plotly's, from plotly
    one().type: one
    for name in go.__all__
    if name[0].isupper() and isinstance(one := getattr(go, name), type) and issubclass(one, BaseTraceType)
}
DATA: dict[str, dict[str, Any]] = {  # for the kinds that a page draws; of the others the bare trace is enough
    "bar": {"x": ["a", "b"], "y": [1, 2]},
    "box": {"y": [1.0, 2.0, 9.0]},
    "contour": {"z": GRID},
    "heatmap": {"z": GRID, "x": list("abcdef")},
    "histogram": {"x": [1.0, 2.0, 2.0]},
    "histogram2d": {"x": [1.0, 2.0], "y": [2.0, 2.0]},
    "histogram2dcontour": {"x": [1.0, 2.0, 1.5], "y": [2.0, 2.0, 1.0]},
    "image": {"z": np.arange(48, dtype="u1").reshape(4, 4, 3)},
    "pie": {"labels": ["a", "b"], "values": [1, 3]},
    "scatter": {"x": [1, 2], "y": [3.0, 1.0]},
    "scatterternary": {"a": [1.0, 2.0], "b": [0.5, 0.25], "c": [1.0, 0.0]},
    "violin": {"y": [1.0, 2.0, 9.0]},
}


def heatmap(**options: Any) -> Make:
    return lambda: go.Figure(go.Heatmap(options if "z" in options else {"z": GRID} | options))


def contour(**options: Any) -> Make:
    return lambda: go.Figure(go.Contour(options if "z" in options else {"z": GRID} | options))


def scatter(layout: dict[str, Any] | None = None, **options: Any) -> Make:
    given = options if {"x", "y"} & options.keys() else {"y": [1, 2]} | options
    return lambda: go.Figure(go.Scatter(given), layout=layout)


def bar(layout: dict[str, Any] | None = None, **options: Any) -> Make:
    given = {"x": ["a", "b"], "y": [1, 2]} | options
    return lambda: go.Figure(go.Bar(given), layout=layout)


def pair(kind: Any, layout: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> Make:
    return lambda: go.Figure([kind(first), kind(second)], layout=layout)


FIGURES: dict[str, Make] = {
    **{f"kind {kind}": (lambda one=KINDS[kind], data=data: go.Figure(one(data))) for kind, data in DATA.items()},
    # heights
    "no heights": lambda: go.Figure(go.Heatmap()),
    "heights of nothing": heatmap(z=[]),
    "an empty row": heatmap(z=[[]]),
    "gaps alone": heatmap(z=[[None, None], [None, None]]),
    "infinite heights": heatmap(z=[[np.inf, 1.0], [2.0, -np.inf]]),
    "words as heights": heatmap(z=[["a", "b"], ["c", "d"]]),
    "true and false as heights": heatmap(z=np.eye(9, dtype=bool)),
    "heights in columns": heatmap(x=[1, 2, 3], y=[1, 1, 2], z=[1.0, 2.0, 3.0]),
    "contours of columns": contour(x=TEN, y=TEN, z=TEN),
    "ragged rows": heatmap(z=[[1.0, 2.0, 3.0], [4.0]]),
    "long ragged rows": heatmap(z=[list(range(20)), list(range(10))]),
    "one row": heatmap(z=[[1, 2, 3]]),
    "edges of cells": heatmap(x=[0, 1, 2], y=[0, 1, 2], z=[[1, 2], [3, 4]]),
    "transposed": heatmap(transpose=True),
    "counted places": heatmap(x0=5, dx=2, y0=3, dy=0.5),
    "days across": heatmap(x=np.array(DAYS, "M8[D]"), z=[[1, 2], [3, 4.0]]),
    "colours by name": heatmap(colorscale=["red", "blue"]),
    "colours in hsl": heatmap(colorscale=[[0, "hsl(10,50%,50%)"], [1, "white"]]),
    "short colours": heatmap(colorscale=[[0, "#fff"], [1, "#000"]]),
    "a scale by name": heatmap(colorscale="Viridis"),
    "a middle": heatmap(zmid=3),
    "numbers beside each cell": heatmap(z=GRID[:2, :2], customdata=np.ones((2, 2, 2)), hovertemplate="%{customdata[0]}"),
    "flat contours": contour(z=np.ones((5, 5)), contours_coloring="lines"),
    "contours of gaps": contour(z=np.full((5, 5), np.nan), contours_coloring="lines"),
    "contours of one row": contour(z=[[1, 2, 3]], contours_coloring="lines"),
    "a bound": contour(contours={"type": "constraint", "operation": "<", "value": 0.5}),
    "levels": contour(contours={"start": 0.1, "end": 0.9, "size": 0.1}),
    # bars
    "names in two levels": bar(x=[["a", "a", "b"], ["x", "y", "x"]], y=[1, 2, 3]),
    "days": bar(x=[datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)]),
    "words as lengths": bar(y=["a", "b"]),
    "more names than bars": bar(x=["a", "b", "c"]),
    "more bars than names": bar(y=[1, 2, 3]),
    "bars of different lengths": pair(go.Bar, {"barmode": "stack"}, {"x": list("abc"), "y": [1, 2]}, {"x": ["a"], "y": [1, 2]}),
    "widths": bar(x=[1, 2], width=[0.3, 0.5], offset=[0, 0.1]),
    "bases": bar(base=[3, 4]),
    "a colour each": bar(marker_color=["red", "blue"]),
    "a number each": bar(marker_color=[1.0, 2.0], marker_colorscale="Viridis"),
    "no names": lambda: go.Figure(go.Bar(x=[1, 2, 3], orientation="h")),
    "negative on a log axis": bar({"yaxis_type": "log"}, y=[-1, 100]),
    "below each other": pair(go.Bar, {"barmode": "relative"}, {"x": ["a"], "y": [-1]}, {"x": ["a"], "y": [-2]}),
    "errors in percent": bar(error_y={"type": "percent", "value": 10}),
    # lines and dots
    "nothing": lambda: go.Figure(),
    "an empty line": lambda: go.Figure(go.Scatter()),
    "rgb in percent": scatter(line_color="rgb(10%,20%,30%)"),
    "too few colours": scatter(y=[1, 2, 3], mode="markers", marker_color=[1.0, 2.0]),
    "colours of gaps": scatter(mode="markers", marker_color=[np.nan, np.nan]),
    "a size each": scatter(y=TEN, mode="markers", marker={"size": TEN, "opacity": TEN / 10, "line_width": TEN}),
    "an opacity each": scatter(mode="markers", marker_opacity=[0.1, 0.2]),
    "days without an axis type": scatter({"xaxis_range": DAYS}, x=DAYS, y=[1, 2]),
    "days of NumPy": scatter(x=np.arange("2020-01-01", "2020-02-01", dtype="M8[D]"), y=np.arange(31.0)),
    "nanoseconds": scatter(x=np.array(["2020-01-01T05", "NaT"], "M8[ns]"), y=[1, 2]),
    "years as words": scatter(x=["2020", "2021"], y=[1, 2]),
    "numbers and words": scatter(x=[1, "a", None, 2.5], y=[1, 2, 3, 4]),
    "numbers as words": scatter(x=["1", "2"], y=["3", "4"]),
    "decimals": scatter(y=[Decimal("1.1"), fractions.Fraction(1, 2)]),
    "large whole numbers": scatter(y=[2**60 + k for k in range(20)]),
    "larger ones": scatter(y=[10**30, 2**70]),
    "unsigned": scatter(y=np.array([2**64 - 1 - k for k in range(20)], "u8")),
    "half precision": scatter(y=np.arange(20, dtype="f2")),
    "true and false": scatter(y=np.array([True, False] * 5)),
    "the largest floats": scatter(y=np.array([-1.7e308, 1.7e308] * 10)),
    "infinite": scatter(y=[np.inf, 1, -np.inf, 2]),
    "only gaps": scatter(y=[np.nan] * 10),
    "objects": scatter(y=np.array([1, None, 2.5] * 5, dtype=object)),
    "two dimensions": scatter(y=np.ones((5, 5))),
    "different lengths": scatter(y=list(range(5)), x=list(range(10))),
    "steps": scatter(y=[1, 2], x0=5, dx=2),
    "steps of days": scatter(y=[1, 2], x0="2020-01-01", dx=86_400_000),
    "one letter words": scatter(mode="text", text=["a", None]),
    "a template of words": scatter(mode="markers+text", texttemplate="%{y:.9f}"),
    "stacked": pair(go.Scatter, {}, {"y": [1, 2], "stackgroup": "a", "groupnorm": "percent"}, {"y": [1, 2], "stackgroup": "a"}),
    "every fill": lambda: go.Figure(
        [go.Scatter(y=[1, 2], fill=f) for f in ("tonexty", "tozeroy", "tozerox", "tonextx", "toself", "tonext")]
    ),
    "tags in a name": pair(go.Scatter, {}, {"y": [1, 2], "name": "<script>alert(1)</script>"}, {"y": [1], "name": "a<b"}),
    "data of objects": scatter(customdata=[{"a": 1}, {"b": 2}], meta={"x": 1}, ids=["a", "b"]),
    # other kinds
    "a box of quartiles": lambda: go.Figure(go.Box(q1=[1], median=[2], q3=[3], lowerfence=[0], upperfence=[4])),
    "boxes beside each other": lambda: go.Figure(go.Box(x=["a", "a", "b"], y=[1, 2, 3])),
    "counts of words": lambda: go.Figure(go.Histogram(x=list("aab"))),
    "sums": lambda: go.Figure(go.Histogram(x=list("aab"), y=[1, 2, 3], histfunc="sum")),
    "heights in two dimensions": lambda: go.Figure(go.Histogram2d(x=[1, 2], y=[1, 2], z=[1, 2], histfunc="sum")),
    "a pie of values": lambda: go.Figure(go.Pie(values=[1, 2, 3])),
    "a pie of labels": lambda: go.Figure(go.Pie(labels=["a", "b", "a"])),
    "an image in lists": lambda: go.Figure(go.Image(z=np.zeros((9, 9, 3)).tolist())),
    "an image in base64": lambda: go.Figure(go.Image(source=DOT)),
    "a ternary of two": lambda: go.Figure(go.Scatterternary(a=[1, 2], b=[1, 2], sum=10)),
    # layouts
    "panels": lambda: make_subplots(2, 2, shared_xaxes=True).add_scatter(y=[1, 2], row=2, col=2),
    "a second axis": lambda: make_subplots(specs=[[{"secondary_y": True}]]).add_trace(go.Scatter(y=[1, 2]), secondary_y=True),
    "a polar panel without a trace": lambda: make_subplots(1, 2, specs=[[{"type": "polar"}, {"type": "xy"}]]),
    "a globe's layout": scatter({"geo_scope": "world", "polar_sector": [0, 90], "scene": {"aspectmode": "cube"}}),
    "a range of nothing": scatter({"xaxis_range": [2, 2]}),
    "half a range": scatter({"xaxis_range": [None, 2]}),
    "a step of nothing": scatter({"xaxis_dtick": 0}),
    "a tiny step": scatter({"xaxis_dtick": 1e-9}),
    "months": scatter({"xaxis_dtick": "M1"}, x=DAYS, y=[1, 2]),
    "ticks of words": scatter({"xaxis_tickvals": DAYS}),
    "many ticks": scatter({"xaxis_tickvals": np.arange(20)}),
    "shapes": scatter({"shapes": [{"type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}),
    "a line across": lambda: scatter()().add_hline(y=1.5, annotation_text="h"),
    "notes": scatter({"annotations": [{"x": 1, "y": 1, "text": "a"}, {"text": "c", "xref": "x domain", "x": 0.1, "y": 0.1}]}),
    "a note without words": scatter({"annotations": [{"x": 1, "y": 1}]}),
    "a note at a name": bar({"annotations": [{"x": "a", "y": 1, "text": "a"}]}),
    "a small picture": scatter({"images": [{"source": DOT, "x": 0, "y": 1, "sizex": 1, "sizey": 1}]}),
    "buttons": scatter({"updatemenus": [{"buttons": [{"label": "a", "method": "restyle", "args": [{"visible": True}]}]}]}),
    "a slider of plotly's": scatter({"sliders": [{"steps": [{"label": "a", "method": "restyle", "args": ["y", [[1, 3]]]}]}]}),
    "templates": scatter({"template": "seaborn+presentation"}),
    "no template": scatter({"template": None}),
    "a shared colour axis": lambda: heatmap(coloraxis="coloraxis")().update_layout(coloraxis_colorscale="Viridis"),
    "a low figure": scatter({"height": 10}),
    "no room": scatter({"xaxis_domain": [0.2, 0.2]}),
    "axes elsewhere": scatter({"xaxis_side": "top", "yaxis": {"anchor": "free", "position": 0.5}}),
    "a slider below": scatter({"xaxis_rangeslider_visible": True}),
    "breaks": scatter({"xaxis_rangebreaks": [{"bounds": ["sat", "mon"]}]}, x=DAYS, y=[1, 2]),
    "arrows": lambda: ff.create_quiver([1, 2], [1, 2], [1, 1], [1, 1]),
    "a widget": lambda: go.FigureWidget(go.Scatter(y=[1, 2])),
}  # fmt: skip

REFUSED: dict[str, tuple[Make, str]] = {
    "frames": (lambda: go.Figure(go.Scatter(y=[1]), frames=[go.Frame(data=[go.Scatter(y=[2])])]), "has frames"),
    "a button that plays": (scatter({"updatemenus": [{"buttons": [{"method": "animate"}]}]}), "a button or a slider that plays"),
    "a slider that plays": (scatter({"sliders": [{"steps": [{"method": "animate"}]}]}), "a button or a slider that plays"),
    "a picture elsewhere": (scatter({"images": [{"source": "https://example.org/a.png"}]}), r"the image 'https://example\.org/a\.png'"),
    "the smallest floats": (scatter(y=np.linspace(0, 1e-320, 20)), "no y of size 1e-300"),
    "a file": (lambda: go.Figure(go.Image(source="a.png")), "the image 'a.png', which is not in the page"),
}  # fmt: skip

try:
    import pandas as pd
except ImportError:
    pass
else:
    TABLE = pd.DataFrame({"a": [1, 2, 3], "b": [1.5, None, 2], "d": pd.date_range("2020", periods=3), "c": list("xyx")})
    FIGURES |= {
        "pandas": lambda: go.Figure(go.Scatter(x=TABLE.a, y=TABLE.b)),
        "pandas, days": lambda: go.Figure(go.Scatter(x=TABLE.d.dt.tz_localize("UTC"), y=TABLE.b)),
        "pandas, categories": lambda: go.Figure(go.Bar(x=pd.Categorical(TABLE.c), y=TABLE.a)),
        "pandas, gaps": lambda: go.Figure(go.Scatter(x=[pd.NaT, pd.Timestamp("2020")], y=pd.array([1, None], "Int64"))),
        "pandas, a table": lambda: go.Figure(go.Heatmap(z=TABLE[["a", "b"]])),
    }
