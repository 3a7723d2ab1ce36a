"""The kinds of trace that a still picture draws: each adds its shapes to the picture."""

import itertools
import math
from typing import Any

import numpy as np

from tiedlib.lab.figures import plots
from tiedlib.lab.figures.still.axes import Axis, as_list, nice, numbers
from tiedlib.lab.figures.still.canvas import Canvas
from tiedlib.lab.figures.still.paint import SIDE, level_line, paint, path, png, scale

DASHES = {"dash": "9 7", "dot": "2 4", "dashdot": "9 5 2 5", "longdash": "14 8", "longdashdot": "14 6 2 6"}
PIXELS = 160  # images are thinned to this many cells a side
LEVELS = 12


def color_of(p: Canvas, i: int, trace: dict[str, Any], part: str = "line") -> tuple[str, float]:
    found = trace.get(part, {}).get("color")
    if not isinstance(found, str):
        found = trace.get("line", {}).get("color") or trace.get("marker", {}).get("color")
    return paint(found if isinstance(found, str) else None, p.colors[i])


def stroke(p: Canvas, d: str, color: str, width: float, more: str = "") -> None:
    if d and width:
        p.shapes.append(f'<path d="{d}" style="stroke:{color};stroke-width:{width:g}px{more}"/>')


def scatter(p: Canvas, i: int, trace: dict[str, Any]) -> None:
    xs, ys = p.data(trace)
    yaxis = p.axis(trace, "y")
    x, y = p.axis(trace, "x").place(xs), yaxis.place(ys)
    color, alpha = color_of(p, i, trace)
    fade = float(trace.get("opacity", 1)) * alpha
    subplot = f"{trace.get('xaxis', 'x')}{trace.get('yaxis', 'y')}"
    fill(p, trace, x, y, yaxis, subplot, color)
    p.previous[subplot] = (x, y)
    mode = str(trace.get("mode") or ("lines+markers" if len(xs) < 20 else "lines"))
    line = trace.get("line", {})
    if "lines" in mode:
        dash = DASHES.get(str(line.get("dash", "solid")))
        more = (f";stroke-dasharray:{dash}" if dash else "") + (f";stroke-opacity:{fade:g}" if fade < 1 else "")
        stroke(p, path(x, y), color, float(line.get("width", 2)), more)
    if "markers" in mode:
        dots(p, i, trace, x, y)
    if "text" in mode:
        for a, b, word in zip(x, y, itertools.cycle(as_list(trace.get("text")) or [""]), strict=False):
            p.word(a, b, str(word))


def fill(p: Canvas, trace: dict[str, Any], x: Any, y: Any, yaxis: Axis, subplot: str, color: str) -> None:
    kind = trace.get("fill")
    if kind not in {"tonexty", "tozeroy", "toself"} or not len(x):
        return
    tint, alpha = paint(trace.get("fillcolor"), "#000") if trace.get("fillcolor") else (color, 0.3)
    if kind == "tonexty" and subplot in p.previous:
        before = p.previous[subplot]
        x, y = np.concatenate([x, before[0][::-1]]), np.concatenate([y, before[1][::-1]])
    elif kind == "tozeroy":
        ground = yaxis.domain[0] if yaxis.logarithmic else float(yaxis.at(np.zeros(1))[0])
        x, y = np.concatenate([x, x[-1:], x[:1]]), np.concatenate([y, [ground, ground]])
    p.shapes.append(f'<path d="{path(x, y, True)}" style="fill:{tint};fill-opacity:{alpha:g}"/>')


def dots(p: Canvas, i: int, trace: dict[str, Any], x: np.ndarray, y: np.ndarray) -> None:
    """Dots are lines of no length with round ends, so that stretching leaves them round."""
    marker = trace.get("marker", {})
    size = marker.get("size", 6)
    size = float(np.nanmean(numbers(as_list(size)))) if hasattr(size, "__len__") else float(size)
    each = marker.get("color")
    if isinstance(each, str) or not hasattr(each, "__len__"):
        groups = {color_of(p, i, trace, "marker"): np.ones(len(x), dtype=bool)}
    elif all(isinstance(c, str) for c in each):
        paints = [paint(c) for c in each]
        groups = {p: np.array([q == p for q in paints]) for p in dict.fromkeys(paints)}
    else:
        values = numbers(as_list(each))
        low, high = marker.get("cmin", np.nanmin(values)), marker.get("cmax", np.nanmax(values))
        bins = np.clip(np.rint(7 * (values - low) / ((high - low) or 1)), 0, 7)
        tints = scale(marker.get("colorscale"), np.arange(8) / 7).astype(int)
        groups = {(f"rgb({r},{g},{b})", 1.0): bins == k for k, (r, g, b) in enumerate(tints)}
    fade = float(marker.get("opacity", trace.get("opacity", 1)))
    for (color, alpha), mine in groups.items():
        good = mine & np.isfinite(x) & np.isfinite(y)
        d = "".join(f"M{a * SIDE:.0f} {(1 - b) * SIDE:.0f}h0" for a, b in zip(x[good], y[good], strict=True))
        more = ";stroke-linecap:round" + (f";stroke-opacity:{alpha * fade:g}" if alpha * fade < 1 else "")
        stroke(p, d, color, size, more)


def bar(p: Canvas, i: int, trace: dict[str, Any]) -> None:
    starts, ends, left, right = p.bars[i]
    lying = trace.get("orientation") == "h"
    across, along = (p.axis(trace, "y"), p.axis(trace, "x"))[:: 1 if lying else -1]
    floor = min(along.low, along.high)
    base = np.full(len(starts), floor) if along.logarithmic else starts
    top = along.units(list(ends))
    a, b, c, d = along.at(base), along.at(top), across.at(left), across.at(right)
    color, alpha = color_of(p, i, trace, "marker")
    faint = alpha * float(trace.get("opacity", 1))
    kind = f"tl-bar {hatch(trace)}"
    for one, two, three, four in zip(a, b, c, d, strict=True):
        if all(map(math.isfinite, (one, two, three, four))):
            xs, ys = ((one, two), (three, four)) if lying else ((three, four), (one, two))
            p.boxes.append(_box(kind, xs, ys, color + (f";opacity:{faint:g}" if faint < 1 else "")))
    errors = numbers(as_list(trace.get("error_y", {}).get("array")))
    if len(errors) == len(ends) and not lying:
        middle = across.at((left + right) / 2)
        for m, low, high in zip(
            middle, along.units(list(ends - errors)), along.units(list(ends + errors)), strict=True
        ):
            stroke(p, path(np.array([m, m]), along.at(np.array([low, high]))), paint(None)[0], 1.5)


HATCHES = {
    "": "tl-full",
    "/": "tl-slash",
    ".": "tl-dots",
    "x": "tl-cross",
    "\\": "tl-slash",
    "-": "tl-rows",
    "|": "tl-columns",
    "+": "tl-cross",
}


def hatch(trace: dict[str, Any]) -> str:
    """The class of a bar's hatching."""
    return HATCHES.get(str(trace.get("marker", {}).get("pattern", {}).get("shape") or ""), "tl-full")


def _box(kind: str, xs: tuple[float, float], ys: tuple[float, float], color: str) -> str:
    """A box between two places each way, cut off at the edges of the plotting area."""
    (left, right), (low, high) = (sorted(min(max(float(v), 0.0), 1.0) for v in pair) for pair in (xs, ys))
    place = f"left:{100 * left:.2f}%;width:{100 * (right - left):.2f}%;bottom:{100 * low:.2f}%;height:{100 * (high - low):.2f}%"
    return f'<i class="{kind}" style="{place};color:{color}"></i>'


def image(p: Canvas, trace: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z (rows, columns) with the places of its columns and rows."""
    z = np.array([[math.nan if v is None else float(v) for v in row] for row in trace["z"]], dtype=float)
    x = p.axis(trace, "x").place(as_list(trace.get("x")) or list(range(z.shape[1])))
    y = p.axis(trace, "y").place(as_list(trace.get("y")) or list(range(z.shape[0])))
    return z, x, y


def _even(z: np.ndarray, at: np.ndarray, way: int, smooth: bool) -> tuple[np.ndarray, float, float]:
    """z in cells of equal width along one way (0 rows, 1 columns), in increasing places, and where these begin and end."""
    order = np.argsort(at)[: np.isfinite(at).sum()]  # NaN sorts last
    z, at = np.take(z, order, axis=way), at[order]
    if len(at) < 2:
        return z, 0.0, 1.0
    middles = (at[1:] + at[:-1]) / 2
    ends = (at[0], at[-1]) if smooth else (2 * at[0] - middles[0], 2 * at[-1] - middles[-1])
    gaps = np.diff(at)
    if gaps.max() - gaps.min() <= 1e-6 * (at[-1] - at[0]) and len(at) <= PIXELS:
        return z, *ends
    share = (np.arange(PIXELS) + 0.5) / PIXELS
    return np.take(z, np.searchsorted(middles, ends[0] + share * (ends[1] - ends[0])), axis=way), *ends


def heatmap(p: Canvas, i: int, trace: dict[str, Any], smooth: bool = False) -> None:
    z, x, y = image(p, trace)
    z, left, right = _even(z, x, 1, smooth)
    z, low, high = _even(z, y, 0, smooth)
    finite = z[np.isfinite(z)]
    if not finite.size or not all(map(math.isfinite, (left, right, low, high))):
        return
    start, end = (float(trace.get(name, value)) for name, value in (("zmin", finite.min()), ("zmax", finite.max())))
    unit = np.clip((np.nan_to_num(z, nan=start) - start) / ((end - start) or 1.0), 0, 1)
    unit = 1 - unit if trace.get("reversescale") else unit
    pixels = np.concatenate([scale(trace.get("colorscale"), unit), 255.0 * np.isfinite(z)[..., None]], axis=-1)
    data = png(np.ascontiguousarray(np.rint(pixels[::-1]).astype(np.uint8)))
    box = [left, 1 - high, right - left, high - low]
    box_text = " ".join(f'{n}="{SIDE * v:.1f}"' for n, v in zip(("x", "y", "width", "height"), box, strict=True))
    style = "" if smooth else ' style="image-rendering:pixelated"'
    p.shapes.append(f'<image {box_text} preserveAspectRatio="none" href="{data}"{style}/>')


def contour(p: Canvas, i: int, trace: dict[str, Any]) -> None:
    if trace.get("contours", {}).get("coloring") != "lines":
        heatmap(p, i, trace, smooth=True)
        return
    z, x, y = image(p, trace)
    skip = [max(1, math.ceil(n / 40)) for n in z.shape]
    z, x, y = z[:: skip[0], :: skip[1]], x[:: skip[1]], y[:: skip[0]]
    spread = as_list(trace.get("colorscale"))
    color = paint(spread[0][1] if spread else None, plots.QUIET[0])[0]
    low, high, many = float(np.nanmin(z)), float(np.nanmax(z)), int(trace.get("ncontours", LEVELS))
    step = nice((high - low) / many) if high > low else 1.0
    levels = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    d = "".join(level_line(z, x, y, float(level)) for level in levels)
    stroke(p, d, color, 1.0)


DRAW = {"scatter": scatter, "bar": bar, "heatmap": heatmap, "contour": contour}
