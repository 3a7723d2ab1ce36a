"""Numbers, words and gaps as a page prints them: no digit that is wrong. The page's script (static/figures.js) prints alike."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["Kept", "column", "text", "texts"]


class Kept(np.ndarray):
    """Numbers that are kept as decimals: all are rounded to `shown` digits after the point."""

    shown: int | None = None

    def __array_finalize__(self, of: Any) -> None:
        self.shown = getattr(of, "shown", None)


def text(value: float, shown: int | None = None) -> str:
    """A number as a page prints it: one that is kept to `shown` digits after the point with these; another whole one in full, and
    all others with four digits, or with all before the point."""
    size = abs(value)
    if math.isnan(value):
        return "–"
    if not value:
        return f"{0:.{shown}f}" if shown and shown <= 6 else "0"
    if shown is None:
        return f"{value:.0f}" if size < 1e15 and (value == round(value) or size >= 1000) else f"{value:.4g}"
    if size >= 1e-4:
        said = f"{value:.{shown}f}"
        return said.rstrip("0").rstrip(".") if shown else said
    mantissa, _, power = f"{value:.{len(str(round(size * 10.0**shown))) - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{power}"


def texts(values: Iterable[Any]) -> list[str]:
    """Numbers, words and gaps as a page prints them."""
    shown = getattr(values, "shown", None)
    return [_said(v, shown) for v in values]


def column(values: Iterable[Any]) -> list[str]:
    """The texts of a coordinate; of names in several levels (a list a level) with all their levels."""
    rows = list(values)
    if rows and all(isinstance(v, (list, np.ndarray)) for v in rows):
        return [", ".join(one) for one in itertools.zip_longest(*map(texts, rows), fillvalue="–")]
    return texts(values)


def _said(value: Any, shown: int | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (list, np.ndarray)):
        return ", ".join(texts(value))
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else text(float(value))
    return text(float(value), shown) if isinstance(value, (float, np.number)) else str(value)
