"""Axes of a still picture: where values stand and what the ticks say, close to what plotly chooses."""

import math
import re
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)  # words that plotly takes for numbers


def as_list(value: Any) -> list[Any]:
    return [] if value is None else [v.item() if hasattr(v, "item") else v for v in value]


def numbers(values: list[Any]) -> np.ndarray:
    return np.array([math.nan if v is None else float(v) for v in values], dtype=float)


def number(value: float | int) -> str:
    """A tick's number as plotly writes it: a true minus sign, k, M and G for thousands, millions and thousand millions."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            value, suffix = value / (1e3 if letter == "k" else unit), letter
            break
    else:
        suffix = ""
    text = f"{value:.3e}" if 0 < size < 1e-5 else f"{value:.6f}".rstrip("0").rstrip(".") or "0"
    return text.replace("-", "−") + suffix


@dataclass
class Axis:
    """One axis: `place` maps its values to 0…1 of the whole plotting area, `ticks` are places and texts."""

    layout: dict[str, Any]
    names: list[str] = field(default_factory=list)  # the categories, where it has any
    low: float = math.nan  # in the axis' own units: log10 of the value on a logarithmic axis
    high: float = math.nan

    @property
    def logarithmic(self) -> bool:
        return self.layout.get("type") == "log"

    @property
    def domain(self) -> tuple[float, float]:
        low, high = self.layout.get("domain") or (0.0, 1.0)
        return float(low), float(high)

    def units(self, values: list[Any]) -> np.ndarray:
        """Values as numbers on this axis; what it cannot show is NaN."""
        if self.names:
            return np.array(
                [self.names.index(str(v)) if str(v) in self.names else math.nan for v in values], dtype=float
            )
        found = numbers(values)
        if not self.logarithmic:
            return found
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(found)
        return np.where(np.isfinite(logs), logs, math.nan)

    def at(self, units: np.ndarray) -> np.ndarray:
        """0…1 of the whole plotting area."""
        start, end = self.domain
        return start + (end - start) * (units - self.low) / (self.high - self.low)

    def place(self, values: list[Any]) -> np.ndarray:
        return self.at(self.units(values))

    def include(self, units: np.ndarray, pad: float) -> None:
        """Widen an automatic range so that these units, and a share `pad` beyond them, lie on the axis."""
        finite = units[np.isfinite(units)]
        if finite.size:
            low, high = float(finite.min()), float(finite.max())
            more = pad * (high - low)
            self.low, self.high = float(np.nanmin([self.low, low - more])), float(np.nanmax([self.high, high + more]))

    def close(self) -> None:
        """The range that the figure fixes, or the automatic one made good."""
        fixed = as_list(self.layout.get("range"))
        if len(fixed) == 2 and None not in fixed:
            self.low, self.high = map(float, fixed)
        elif self.names:
            self.low, self.high = -0.5, len(self.names) - 0.5
        elif not math.isfinite(self.low):
            self.low, self.high = 0.0, 1.0
        elif self.low == self.high:
            some = max(1.0, 0.1 * abs(self.low))
            self.low, self.high = self.low - some, self.high + some
        if not fixed and self.layout.get("rangemode") == "tozero" and not self.logarithmic:
            self.low, self.high = min(self.low, 0.0), max(self.high, 0.0)
        if self.layout.get("autorange") == "reversed":
            self.low, self.high = self.high, self.low

    def ticks(self, about: int) -> list[tuple[float, str]]:
        """Places and texts, about as many as asked for; the texts are HTML."""
        chosen = as_list(self.layout.get("tickvals"))
        if chosen:
            texts = [str(t) for t in as_list(self.layout.get("ticktext"))] or list(map(_tick, chosen))
            return self._on(self.units(chosen), [escape(t) for t in texts])
        if self.names:
            every = max(1, math.ceil(len(self.names) / 24))
            return self._on(np.arange(0.0, len(self.names), every), [escape(n) for n in self.names[::every]])
        low, high = sorted((self.low, self.high))
        if self.logarithmic:
            return self._decades(low, high)
        given = self.layout.get("dtick")
        step = float(given) if isinstance(given, (int, float)) else nice((high - low) / about)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        values = [round(i * step, 12) for i in range(first, min(last, first + 60) + 1)]
        return self._on(np.array(values), [number(v) for v in values])

    def _decades(self, low: float, high: float) -> list[tuple[float, str]]:
        whole = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
        if len(whole) >= 2:
            powers = list(whole)[:: max(1, math.ceil(len(whole) / 9))]
            power = self.layout.get("exponentformat") == "power"
            texts = [f"10<sup>{number(e)}</sup>" if power and e not in {0, 1} else number(10.0**e) for e in powers]
            return self._on(np.array(powers, dtype=float), texts)
        if high - low < 0.6:  # so short a stretch is nearly even
            gap = nice((10.0**high - 10.0**low) / 8)
            even = [i * gap for i in range(math.ceil(10.0**low / gap), math.floor(10.0**high / gap) + 1)]
            return self._on(np.log10(np.array(even)), [number(v) for v in even])
        exponents = range(math.floor(low) - 1, math.ceil(high) + 1)
        values = [m * 10.0**e for e in exponents for m in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
        shown = [v for v in values if low - 1e-9 <= math.log10(v) <= high + 1e-9]
        every = max(1, math.ceil(len(shown) / 8))
        return self._on(np.log10(shown[::every]), [number(v) for v in shown[::every]])

    def _on(self, units: np.ndarray, texts: list[str]) -> list[tuple[float, str]]:
        low, high = sorted((self.low, self.high))
        margin = 1e-6 * (high - low)
        return [
            (float(place), text)
            for unit, place, text in zip(units, self.at(units), texts, strict=False)
            if low - margin <= unit <= high + margin
        ]


def _tick(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) else str(value)


def nice(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))
