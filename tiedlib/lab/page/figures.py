"""A figure in the page: its HTML with controls, alternative text and table; its states in a script file of its own.

The states are written when a page is written, to `_static/states/<key>.js` where key is a hash of what is in it. A
script loads from a folder as well as from a server, which a JSON request does not.
"""

import hashlib
import itertools
import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

from tiedlib.lab.figures import states
from tiedlib.lab.figures.still import still
from tiedlib.lab.figures.still.paint import plain

FOLDER = "_static/states"
TABLE_ROWS = 200


class FigureNode(nodes.General, nodes.Element):  # type: ignore[misc]
    """One figure. Attributes: `payload` (what `explore` sent), `autoplay`."""


def key(payload: dict[str, Any]) -> str:
    """The name of the states file: a hash of its content."""
    return hashlib.sha256(payload["packed"].encode()).hexdigest()[:16]


def start_state(parameters: list[dict[str, Any]]) -> int:
    """The index of the starting state; states are numbered as itertools.product orders them, the last parameter
    fastest."""
    index = 0
    for p in parameters:
        index = index * len(p["values"]) + int(p["start"])
    return index


def _title(figure: states.Spec, axis: str, default: str) -> str:
    title = figure["layout"].get(f"{axis[0]}axis{axis[1:]}", {}).get("title", {})
    text = title.get("text") if isinstance(title, dict) else title
    return str(text or default)


COLUMNS = ("x", "y", "z", "a", "b", "c", "q1", "median", "q3", "lowerfence", "upperfence", "mean", "sd")


def columned(trace: dict[str, Any]) -> list[str]:
    """The coordinates of a trace that gives a column for each: a ternary one, a box of given quartiles, and heights (z) that are
    not in rows. Empty for every other."""
    z = trace.get("z")
    flat = z is not None and len(z) > 0 and not any(hasattr(row, "__len__") for row in z)
    return [key for key in COLUMNS if key in trace] if flat or {"a", "b", "c", "q1"} & trace.keys() else []


def _places(values: Any, count: int) -> list[str]:
    """Where `count` rows or columns of cells stand: their middles, or from edge to edge."""
    said = states.column(values)
    if len(said) == count + 1:
        return [f"{a} … {b}" for a, b in itertools.pairwise(said)]
    return (said + ["–"] * count)[:count]


def tables(figure: states.Spec) -> list[tuple[str, list[str], list[list[str]]]]:
    """The figure's data as (caption, column heads, rows of text); curves over the same x share one table."""
    found: list[tuple[str, list[str], list[list[str]]]] = []
    columns: dict[tuple[str, ...], tuple[str, list[tuple[str, Any]]]] = {}
    for i, trace in enumerate(figure["data"]):
        name = str(trace.get("name") or _title(figure, str(trace.get("yaxis", "y")), f"series {i + 1}"))
        z = trace.get("z")
        if heads := columned(trace):
            lines = itertools.zip_longest(*(states.column(trace[key]) for key in heads), fillvalue="–")
            found.append((name, heads, list(map(list, lines))))
            continue
        if z is not None:
            grid = [row if hasattr(row, "__len__") else [row] for row in z]
            widest = max(map(len, grid), default=0)
            xs, ys = (_places(trace.get(key, range(n)), n) for key, n in (("x", widest), ("y", len(grid))))
            rows = [[y, *states.texts(row), *["–"] * (widest - len(row))] for y, row in zip(ys, grid, strict=True)]
            ways = (
                _title(figure, str(trace.get("yaxis", "y")), "row"),
                _title(figure, str(trace.get("xaxis", "x")), "column"),
            )
            found.append((name, [" \\ ".join(ways), *xs], rows))
            continue
        y = states.column(trace.get("y", trace.get("values", [])))
        x = states.column(trace.get("x", trace.get("labels", range(len(y)))))
        head = _title(figure, str(trace.get("xaxis", "x")), "x")
        if not y and x:  # values along x alone: their places are counted
            name, head = str(trace.get("name") or head), "number"
            x, y = [str(k + 1) for k in range(len(x))], x
        columns.setdefault((head, *x), (head, []))[1].append((name, y))
    for (_, *x), (head, series) in columns.items():
        rows = [list(row) for row in itertools.zip_longest(x, *(y for _, y in series), fillvalue="–")]
        found.append(("", [head, *(name for name, _ in series)], rows))
    return found


def _shares(lengths: list[int]) -> list[int]:
    """How many rows of each table are shown, at most 200 in all: the short tables whole, the others an equal part."""
    shares, left = [0] * len(lengths), TABLE_ROWS
    shortest_first = sorted(range(len(lengths)), key=lengths.__getitem__)
    for done, i in enumerate(shortest_first):
        shares[i] = min(lengths[i], left // (len(lengths) - done))
        left -= shares[i]
    return shares


def table_html(figure: states.Spec) -> str:
    """The tables as HTML, at most 200 rows in all; the page's script shows the rest."""
    found = tables(figure)
    parts = []
    for (caption, heads, rows), share in zip(found, _shares([len(rows) for *_, rows in found]), strict=True):
        shown = rows[:share]
        head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(c)}</td>" for c in row[1:]) + "</tr>"
            for row in shown
        )
        more = f"<p>The first {len(shown)} of {len(rows)} rows.</p>" if len(shown) < len(rows) else ""
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        parts.append(f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}")
    return "".join(parts)


def _control(p: dict[str, Any], identifier: str, playable: bool) -> str:
    label, start, texts = escape(p["label"]), p["start"], p["texts"]
    data = f'id="{identifier}" data-texts="{escape(json.dumps(texts))}"'
    if p["kind"] == "switch":
        checked = " checked" if p["values"][start] else ""
        held = " disabled" if len(texts) < 2 else ""
        box = f'<input type="checkbox" {data} data-values="{escape(json.dumps(p["values"]))}"{checked}{held}>'
        return f'<div class="tl-control tl-switch"><label>{box}<span>{label}</span></label></div>'
    if p["kind"] == "name":
        options = "".join(
            f"<option{' selected' if i == start else ''}>{escape(t)}</option>" for i, t in enumerate(texts)
        )
        entry, output = f"<select {data}>{options}</select>", ""
    else:
        range_ = f'min="0" max="{len(texts) - 1}" step="1" value="{start}" aria-valuetext="{escape(texts[start])}"'
        entry = f'<input type="range" {data} {range_} autocomplete="off">'
        output = f'<output for="{identifier}">{escape(texts[start])}</output>'
    play = f'<button type="button" class="tl-play" aria-label="Play {label}">Play</button>' if playable else ""
    return f'<div class="tl-control"><label for="{identifier}">{label}</label>{entry}{output}{play}</div>'


def figure_html(payload: dict[str, Any], identifier: str, autoplay: bool = False) -> str:
    """All of a figure but its caption and its states. `identifier` is unique in the page."""
    parameters = payload["parameters"]
    figure = states.unpack(payload["packed"], start_state(parameters))
    controls = "".join(_control(p, f"{identifier}-{i}", p["name"] == payload["play"]) for i, p in enumerate(parameters))
    if controls:
        controls = f'<div class="tl-controls" role="group" aria-label="Controls of the figure">{controls}</div>'
    title = figure["layout"].get("title", {})
    title = str((title.get("text") if isinstance(title, dict) else title) or "")
    if figure["layout"].get("template") == "tiedlib" and title:
        controls += f'<p class="tl-title">{plain(title)}</p>'
    height = int(figure["layout"].get("height") or 400)
    alt = escape(payload["alt"])
    return (
        f'<div class="tl-figure" id="{identifier}" data-states="{key(payload)}" data-height="{height}"'
        f"{' data-autoplay' if autoplay else ''}>{controls}"
        f'<div class="tl-plot" style="--tl-height:{height}px" data-alt="{alt}">{still(figure, height)}'
        f'<p class="tl-alt">{alt}</p></div>'
        f'<p class="tl-live" role="status" aria-live="polite"></p>'
        f'<button type="button" class="tl-table-button" aria-expanded="false" aria-controls="{identifier}-table">'
        "Data as a table</button>"
        f'<div class="tl-table" id="{identifier}-table" role="group" aria-label="Data of the figure" tabindex="0">'
        f"{table_html(figure)}</div></div>"
    )


def write_states(payload: dict[str, Any], outdir: Path) -> Path:
    """Write the states file of one figure (once) and return its path."""
    path = outdir / FOLDER / f"{key(payload)}.js"
    text = f'tiedlibStates("{key(payload)}","{payload["packed"]}");\n'
    if not path.exists() or path.stat().st_size != len(text):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text, encoding="ascii")
        part.replace(path)
    return path


def visit_html(self: Any, node: FigureNode) -> None:
    """Write the figure into the page, and its states beside it."""
    write_states(node["payload"], Path(self.builder.outdir))
    count = self.document.attributes.setdefault("tiedlib_figures", 0) + 1
    self.document.attributes["tiedlib_figures"] = count
    self.body.append(figure_html(node["payload"], f"figure-{count}", node["autoplay"]))
    raise nodes.SkipNode


def visit_text(self: Any, node: FigureNode) -> None:
    """In a builder that cannot move: the alternative text."""
    alt = nodes.paragraph(text=f"Figure: {node['payload']['alt']}")
    alt.walkabout(self)
    raise nodes.SkipNode
