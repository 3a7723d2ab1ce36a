"""What a still picture is drawn with: the palette's colours as variables of the theme, colour scales, paths, images."""

import base64
import math
import re
import struct
import zlib
from html import escape
from typing import Any

import numpy as np

from tiedlib.lab.figures import plots
from tiedlib.lab.figures.themes import swap

_TAGS = re.compile(r"&lt;(/?(?:b|i|em|strong|sub|sup)|br/?)&gt;")
SIDE = 1000  # the plotting area, in the SVG's own units
_TRIPLES = {tuple(int(h[i : i + 2], 16) for i in (1, 3, 5)): h for h in (*plots.LIGHT.values(), plots.QUIET[0])}


def paint(color: Any, otherwise: str = "#2b2f36") -> tuple[str, float]:
    """A CSS colour and its opacity; a colour of the palette is a variable that each theme sets."""
    text = str(color or otherwise).strip().lower()
    alpha = 1.0
    if text.startswith("rgb"):
        parts = [float(p) for p in text[text.index("(") + 1 : -1].split(",")]
        alpha = parts[3] if len(parts) > 3 else 1.0
        triple = tuple(int(p) for p in parts[:3])
        text = _TRIPLES.get(triple, "#{:02x}{:02x}{:02x}".format(*triple))
    return (f"var(--tl-{text[1:]})" if text in _TRIPLES.values() else escape(text)), alpha


def css() -> str:
    """The palette's variables for both themes."""
    pairs = swap()
    light = "".join(f"--tl-{a[1:]}:{a};" for a in pairs)
    dark = "".join(f"--tl-{a[1:]}:{b};" for a, b in pairs.items())
    return f':root{{{light}}}html[data-theme="dark"]{{{dark}}}\n'


def scale(stops: Any, unit: np.ndarray) -> np.ndarray:
    """Colours (…, 3) of 0…1 on a plotly colour scale."""
    given: list[Any] = stops if isinstance(stops, list) else plots.SEQUENTIAL
    table = [(float(a), c) for a, c in given]
    rgb = []
    for _, c in table:
        text = str(c)
        rgb.append(
            [int(text[i : i + 2], 16) for i in (1, 3, 5)]
            if text.startswith("#")
            else [float(p) for p in text[text.index("(") + 1 : -1].split(",")[:3]]
        )
    at = [a for a, _ in table]
    return np.stack([np.interp(unit, at, [c[k] for c in rgb]) for k in range(3)], axis=-1)


def png(pixels: np.ndarray) -> str:
    """RGBA bytes (rows, columns, 4) as a data address."""
    rows, columns, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 6, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def path(x: np.ndarray, y: np.ndarray, close: bool = False) -> str:
    """An SVG path through places 0…1; a NaN lifts the pen."""
    parts, down = [], False
    for a, b in zip(x, y, strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            down = False
            continue
        a, b = min(max(a, -1.0), 2.0), min(max(b, -1.0), 2.0)
        parts.append(f"{'L' if down else 'M'}{a * SIDE:.0f} {(1 - b) * SIDE:.0f}")
        down = True
    return "".join(parts) + ("Z" if close and parts else "")


def level_line(z: np.ndarray, x: np.ndarray, y: np.ndarray, level: float) -> str:
    """One contour line as an SVG path: in each cell, the segment between the edges it crosses."""
    above = z > level
    parts = []
    busy = above[:-1, :-1].astype(int) + above[1:, :-1] + above[:-1, 1:] + above[1:, 1:]
    for r, c in zip(*np.nonzero((busy > 0) & (busy < 4)), strict=True):
        corners = ((r, c), (r, c + 1), (r + 1, c + 1), (r + 1, c))
        found = []
        for (r0, c0), (r1, c1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if above[r0, c0] != above[r1, c1]:
                t = (level - z[r0, c0]) / (z[r1, c1] - z[r0, c0])
                found.append((x[c0] + t * (x[c1] - x[c0]), y[r0] + t * (y[r1] - y[r0])))
        for a, b in zip(found[::2], found[1::2], strict=False):
            parts.append(path(np.array([a[0], b[0]]), np.array([a[1], b[1]])))
    return "".join(parts)


def plain(text: str) -> str:
    """plotly's few tags, and nothing else, are tags."""
    return _TAGS.sub(r"<\1>", escape(text, quote=False))
