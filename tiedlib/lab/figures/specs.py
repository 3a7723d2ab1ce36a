"""A plotly figure as a tree that JSON and the page's script know: arrays of numbers, words, gaps; every coordinate explicit."""

import base64
import math
import numbers
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

__all__ = ["PLACED", "Spec", "points", "spec", "too_small"]

Spec = dict[str, Any]
SMALL = 8  # shorter lists stay lists
PLACED = {"scatter", "bar", "heatmap", "contour"}  # plotly computes nothing from their numbers that it prints


def _decoded(value: dict[str, Any]) -> np.ndarray:
    """plotly's {"dtype", "bdata", "shape"} as an array."""
    array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]).newbyteorder("<"))
    shape = value.get("shape")
    return array.reshape([int(n) for n in str(shape).split(",")]) if shape else array


def _numeric(value: Sequence[Any]) -> np.ndarray | None:
    """A long list of numbers and None (or of equally long rows) as a float array; None when it is something else."""
    rows = value if len(value) and all(isinstance(v, (list, tuple, np.ndarray)) for v in value) else [value]
    if len({len(row) for row in rows}) != 1:
        return None
    flat = [v for row in rows for v in row]
    if len(flat) < SMALL or not all(
        v is None or (isinstance(v, (numbers.Real, np.number)) and not isinstance(v, bool)) for v in flat
    ):
        return None
    array = np.array([math.nan if v is None else float(v) for v in flat])
    if any(
        isinstance(v, (int, np.integer)) and int(a) != int(v)
        for v, a in zip(flat, array, strict=True)
        if v is not None and math.isfinite(a)
    ):
        return None  # a whole number too large for a float
    array = np.where(np.isfinite(array), array, math.nan)
    return array.reshape(len(rows), -1) if rows is value else array


def _plain(value: Any, packed: bool = True) -> Any:
    """The same tree with numpy arrays for numbers, and nothing else that JSON does not know; NaN, infinities and what is
    not there are gaps. Inside of a list that is no array of numbers all is lists (`packed` is False)."""
    if isinstance(value, dict):
        return _plain(_decoded(value), packed) if "bdata" in value else {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "iuf" and value.size >= SMALL and packed:
            array = value.astype(float)
            return np.where(np.isfinite(array), array, math.nan)
        if value.dtype.kind == "M":
            days = np.datetime_as_string(value, unit="auto").tolist()
            return _plain(days, packed)
        return _plain(value.tolist(), packed)
    if isinstance(value, (list, tuple)):
        found = _numeric(value) if packed else None
        return [_plain(v, False) for v in value] if found is None else found
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, numbers.Real | Decimal) and not isinstance(value, int):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return None if text in {"NaT", "<NA>"} else text  # the gaps of NumPy's and pandas' columns


def _explicit(trace: Spec) -> Spec:
    """A trace with every coordinate where plotly would count it (x0 and dx), and its rows in the order in which they are drawn:
    the table below the figure prints what the trace holds."""
    rows: Any = trace.get("z")
    even = rows is not None and len({np.size(row) for row in rows}) == 1
    if even and trace.get("type") in {"heatmap", "contour"} and trace.pop("transpose", False):
        trace["z"] = np.transpose(rows) if isinstance(rows, np.ndarray) else list(map(list, zip(*rows, strict=True)))
    if trace.get("type", "scatter") not in PLACED:
        return trace
    z = trace.get("z")
    ends = {
        "x": len(z[0]) if z is not None and len(z) and hasattr(z[0], "__len__") else 0,
        "y": len(z) if z is not None else 0,
    }
    for letter, other in ("xy", "yx"):
        start, step = trace.get(f"{letter}0"), trace.get(f"d{letter}", 1)
        if letter in trace or (start is None and f"d{letter}" not in trace):
            continue
        count = ends[letter] or len(trace.get(other, ()))
        if isinstance(start, str):  # a day, and milliseconds
            try:
                start, step = np.datetime64(start.strip().replace("/", "-"), "ms"), np.timedelta64(round(step), "ms")
            except ValueError:
                continue
            trace[letter] = _plain(start + step * np.arange(count))
        else:
            trace[letter] = _plain([(start or 0) + step * k for k in range(count)])
        trace.pop(f"{letter}0", None)
        trace.pop(f"d{letter}", None)
    return trace


def spec(figure: Any) -> Spec:
    """A plotly figure (or its JSON dictionary) as {"data": […], "layout": {…}}; a stock template becomes the name
    "tiedlib"."""
    from tiedlib.lab.figures.themes import is_stock  # plotly is needed only here

    source = figure if isinstance(figure, dict) else figure.to_dict()
    layout = dict(source.get("layout", {}))
    if is_stock(layout.get("template")):
        layout["template"] = "tiedlib"
    return {"data": [_explicit(_plain(trace)) for trace in source.get("data", [])], "layout": _plain(layout)}


def points(figure: Spec) -> int:
    """How many points a figure draws: the longest array of each trace, added up."""
    return sum(
        max(
            (len(v) if isinstance(v, list) else v.size for v in trace.values() if isinstance(v, (list, np.ndarray))),
            default=0,
        )
        for trace in figure["data"]
    )


def too_small(figure: Spec) -> str | None:
    """The coordinate whose numbers are so small that plotly can scale no axis to them; None where there is none."""
    for trace in figure["data"]:
        for key in "xyz":
            value = trace.get(key)
            sizes = (
                np.abs(value)
                if isinstance(value, np.ndarray)
                else np.abs([v for v in value or () if isinstance(v, float)])
            )
            largest = np.nanmax(sizes, initial=0.0)
            if 0 < largest < 1e-300:
                return key
    return None
