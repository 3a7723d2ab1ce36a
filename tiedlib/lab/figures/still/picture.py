"""One figure drawn as HTML and SVG."""

import math
import re
from typing import Any

import numpy as np

from tiedlib.lab.figures import plots
from tiedlib.lab.figures.states import Spec
from tiedlib.lab.figures.still.axes import Axis, as_list, numbers
from tiedlib.lab.figures.still.canvas import Canvas, span
from tiedlib.lab.figures.still.paint import SIDE, path, plain
from tiedlib.lab.figures.still.traces import DASHES, DRAW, color_of, hatch

MARGIN = {"l": 66, "r": 16, "b": 56}


class Picture(Canvas):
    """One figure being drawn. `html` is the result."""

    def __init__(self, figure: Spec):
        super().__init__(figure)
        for i, trace in enumerate(self.traces):
            self.colors[i] = plots.COLORS[i % len(plots.COLORS)]
            for letter in "xy":
                self.axis(trace, letter)
        self._bars()
        for trace in self.traces:
            self._range(trace)
        for axis in self.axes.values():
            axis.close()
        for i, trace in enumerate(self.traces):
            if trace.get("visible", True) is True:
                DRAW[trace.get("type", "scatter")](self, i, trace)

    # -- where things are
    def _bars(self) -> None:
        """The four sides of each bar, in units of the axes: (from, to, left, right)."""
        groups: dict[tuple[str, str], list[int]] = {}
        for i, t in enumerate(self.traces):
            if t.get("type") == "bar":
                groups.setdefault((str(t.get("xaxis", "x")), str(t.get("yaxis", "y"))), []).append(i)
        for members in groups.values():
            mode = self.layout.get("barmode", "group")
            heaps: dict[float, float] = {}
            spots_of = [self._spots(self.traces[i]) for i in members]
            if sum(map(len, spots_of)) == len(set().union(*spots_of)):
                mode = "overlay"  # no two stand in one place
            for k, i in enumerate(members):
                trace = self.traces[i]
                across, along = ("y", "x") if trace.get("orientation") == "h" else ("x", "y")
                place = dict(zip("xy", self.data(trace), strict=True))
                spots = self.axis(trace, across).units(place[across])
                values = numbers(place[along])
                gaps = np.diff(np.unique(spots[np.isfinite(spots)]))
                width = float(trace.get("width") or 0.8 * (float(gaps.min()) if gaps.size else 1.0))
                left = spots - width / 2
                if mode == "group":
                    width /= len(members)
                    left = left + k * width
                starts = np.zeros_like(values)
                if mode in {"stack", "relative"}:
                    starts = np.array([heaps.get(float(s), 0.0) for s in spots])
                    heaps |= {
                        float(s): float(a + np.nan_to_num(v)) for s, a, v in zip(spots, starts, values, strict=True)
                    }
                self.bars[i] = (starts, starts + values, left, left + width)

    def _spots(self, trace: dict[str, Any]) -> set[str]:
        """Where a trace's bars stand."""
        lying = trace.get("orientation") == "h"
        return set(map(str, self.data(trace)[lying]))

    def _range(self, trace: dict[str, Any]) -> None:
        xaxis, yaxis = self.axis(trace, "x"), self.axis(trace, "y")
        kind = trace.get("type", "scatter")
        if kind == "bar":
            starts, ends, left, right = self.bars[next(i for i, t in enumerate(self.traces) if t is trace)]
            across, along = (yaxis, xaxis) if trace.get("orientation") == "h" else (xaxis, yaxis)
            across.include(np.concatenate([left, right]), 0.0)
            tops = along.units(list(ends)) if along.logarithmic else np.concatenate([starts, ends])
            along.include(tops, 0.05)
            if not along.logarithmic and np.nanmin(tops) == 0:
                along.low = max(along.low, 0.0)
            return
        x, y = self.data(trace)
        if kind in {"heatmap", "contour"}:
            rows, columns = np.shape(np.array(trace["z"], dtype=object))[:2]
            x, y = as_list(trace.get("x")) or list(range(columns)), as_list(trace.get("y")) or list(range(rows))
            for axis, values, count in ((xaxis, x, columns), (yaxis, y, rows)):
                units = axis.units(values)
                half = 0.5 * (units[-1] - units[0]) / max(count - 1, 1) if kind == "heatmap" and len(units) > 1 else 0.0
                axis.include(np.array([units[0] - half, units[-1] + half]), 0.0)
            return
        dotted = "markers" in str(trace.get("mode", "markers"))
        xaxis.include(xaxis.units(x), 0.05 if dotted else 0.0)
        yaxis.include(yaxis.units(y), 0.055)
        if trace.get("fill") == "tozeroy" and not yaxis.logarithmic:
            yaxis.include(np.zeros(1), 0.0)

    # -- the words
    def _around(self, name: str, ticks: list[tuple[float, str]]) -> str:
        """Lines, ticks and title of one axis."""
        axis, lying = self.axes[name], name[0] == "x"
        if axis.layout.get("visible") is False:
            return ""
        other = self.axes.get(str(axis.layout.get("anchor", "")) or ("y" if lying else "x") + name[1:])
        low, high = other.domain if other else (0.0, 1.0)
        turned = " tl-turned" if lying and self._long(axis, ticks) else ""
        crowded = sum(_width(text) + 8 for _, text in ticks) > 240 * (axis.domain[1] - axis.domain[0])  # on a phone
        words = []
        for k, (at, text) in enumerate(ticks):
            here, line = np.array([at, at]), np.array([low, high])
            if not axis.names:
                self.grid.append(path(here, line) if lying else path(line, here))
            kind = f"tl-tick-{name[0]}{turned}" + (" tl-odd" if k % 2 and lying and crowded else "")
            words.append(span(kind, at, low, text, lying))
        line, here = np.array(axis.domain), np.array([low, low])
        self.frame.append(path(line, here) if lying else path(here, line))
        title = axis.layout.get("title", {})
        title = title.get("text") if isinstance(title, dict) else title
        if title:
            words.append(span(f"tl-name-{name[0]}", sum(axis.domain) / 2, low, plain(str(title)), lying))
        return "".join(words)

    @staticmethod
    def _long(axis: Axis, ticks: list[tuple[float, str]]) -> bool:
        """Whether the names under a horizontal axis would run into each other on a page of ordinary width."""
        widest = max((_width(text) for _, text in ticks), default=0)
        return bool(axis.names) and widest * len(ticks) > 640 * (axis.domain[1] - axis.domain[0])

    def _key(self) -> str:
        shown = [
            (i, t)
            for i, t in enumerate(self.traces)
            if t.get("showlegend") is not False and t.get("type") not in {"heatmap", "contour"}
        ]
        if self.layout.get("showlegend") is False or (len(shown) < 2 and self.layout.get("showlegend") is not True):
            return '<div class="tl-key"></div>'
        entries = []
        for i, t in shown[::-1] if self.layout.get("barmode") in {"stack", "relative"} else shown:
            kind, dash = t.get("type", "scatter"), DASHES.get(str(t.get("line", {}).get("dash")), "")
            color = color_of(self, i, t, "line" if kind == "scatter" else "marker")[0]
            if kind == "bar":
                swatch = f'<i class="{hatch(t)}" style="color:{color}"></i>'
            else:
                lined = "lines" in str(t.get("mode", "lines"))
                style = f"stroke:{color};" + (
                    f"stroke-width:2px;stroke-dasharray:{dash}" if lined else "stroke-width:10px;stroke-linecap:round"
                )
                swatch = (
                    f'<svg width="30" height="16"><path d="{"M0 8h30" if lined else "M15 8h0"}" style="{style}"/></svg>'
                )
            entries.append(f"<span>{swatch}{plain(str(t.get('name') or f'trace {i}'))}</span>")
        return f'<div class="tl-key">{"".join(entries)}</div>'

    def _notes(self) -> None:
        for note in self.layout.get("annotations") or ():
            at = []
            for letter in "xy":
                ref, value = str(note.get(f"{letter}ref", letter)), note.get(letter)
                axis = self.axes.get(ref)
                at.append(float(axis.place([value])[0]) if axis else float(value or 0) if ref == "paper" else math.nan)
            self.word(at[0], at[1], str(note.get("text", "")).replace("<br>", " "), "tl-word tl-note")

    def html(self, height: int) -> str:
        """The whole picture, `height` pixels high."""
        self.grid: list[str] = []
        self.frame: list[str] = []
        ticks = {}
        for name, axis in self.axes.items():
            about = (7 if name[0] == "x" else height / 45) * (axis.domain[1] - axis.domain[0])
            hidden = axis.layout.get("showticklabels") is False
            ticks[name] = [] if hidden else axis.ticks(max(2, round(about)))
        widest = max((_width(text) for name, many in ticks.items() if name[0] == "y" for _, text in many), default=0)
        deepest = max(
            (_width(t) for n, many in ticks.items() if n[0] == "x" and self._long(self.axes[n], many) for _, t in many),
            default=0,
        )
        margin = MARGIN | {"l": max(MARGIN["l"], 34 + widest), "b": MARGIN["b"] + round(0.6 * deepest)}
        words = "".join(self._around(name, many) for name, many in ticks.items())
        self._notes()
        grid, frame = (
            f'<path class="tl-{n}" d="{"".join(d)}"/>' for n, d in (("grid", self.grid), ("frame", self.frame))
        )
        svg = f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none">{grid}{"".join(self.shapes)}{frame}</svg>'
        sides = "".join(f"--tl-{side}:{margin[side[0]]}px;" for side in ("left", "bottom", "right"))
        return (
            f'<div class="tl-still" aria-hidden="true" style="{sides}">{self._key()}'
            f'<div class="tl-area">{svg}{"".join(self.boxes)}{words}{"".join(self.words)}</div></div>'
        )


def _width(text: str) -> int:
    """About how many pixels wide a tick's text is."""
    return round(7.6 * len(re.sub(r"<[^>]+>", "", text)))
