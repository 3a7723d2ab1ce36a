"""What a page draws of what plotly knows: every legal figure is drawn, with its table, or refused in its own cell by name, and the
numbers that the page prints are the figure's."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.figures.legal_figures import DATA, FIGURES, KINDS, REFUSED
from tiedlib.lab.figures import kinds, printed, states
from tiedlib.lab.figures.still import Picture, known
from tiedlib.lab.notebook.explorer import explore, show
from tiedlib.lab.page import figures


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(kinds.DRAWN)))
def test_a_kind_that_a_page_does_not_draw_is_refused_by_name(kind):
    figure = go.Figure(KINDS[kind]())
    with pytest.raises(ValueError, match=rf"^the figure to show has a trace of type '{kind}'; a page .* scatter"):
        show(figure, alt="A figure.")
    with pytest.raises(ValueError, match=rf"in the state k=1 has a trace of type '{kind}'"):
        explore(lambda k: figure, {"k": [1, 2]}, alt="A figure.")


def test_all_that_a_page_draws_is_tried():
    assert set(DATA) == set(kinds.DRAWN) <= set(KINDS)


@pytest.mark.parametrize("name", FIGURES)
def test_every_legal_figure_has_its_place_in_a_page(name):
    payload = show(FIGURES[name](), alt="A figure.").payload
    json.dumps(payload, allow_nan=False)
    assert '<div class="tl-plot"' in figures.figure_html(payload, "one")
    figure = states.unpack(payload["packed"])
    for _, heads, rows in figures.tables(figure):
        assert all(len(row) == len(heads) and all(isinstance(cell, str) for cell in row) for row in rows)
        assert not [cell for row in rows for cell in row if re.search(r"nan|inf|None|NaT|\[|array", cell)]
    if known.drawable(figure):
        assert "tl-area" in Picture(figure).html(400)  # without the net that `still` is


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_dead_in_a_page_is_refused_where_it_is_made(name):
    make, why = REFUSED[name]
    with pytest.raises(ValueError, match=f"^the figure to show has .*{why}" if not why.startswith("has") else why):
        show(make(), alt="A figure.")


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("heights in columns", [["1", "1", "1"], ["2", "1", "2"], ["3", "2", "3"]]),
        ("contours of columns", [["0", "0", "0"], ["1", "1", "1"]]),
        ("ragged rows", [["0", "1", "2", "3"], ["1", "4", "–", "–"]]),
        ("edges of cells", [["0 … 1", "1", "2"], ["1 … 2", "3", "4"]]),
        ("infinite heights", [["0", "–", "1"], ["1", "2", "–"]]),
        ("kind scatterternary", [["1", "0.5", "1"], ["2", "0.25", "0"]]),
        ("kind box", [["0", "1"], ["1", "2"], ["2", "9"]]),
        ("kind histogram", [["1", "1"], ["2", "2"], ["3", "2"]]),
        ("a box of quartiles", [["1", "2", "3", "0", "4"]]),
        ("kind image", [["0", "0, 1, 2", "3, 4, 5", "6, 7, 8", "9, 10, 11"]]),
        ("names in two levels", [["a, x", "1"], ["a, y", "2"], ["b, x", "3"]]),
        ("nanoseconds", [["2020-01-01T05:00", "1"], ["–", "2"]]),
        ("steps", [["5", "1"], ["7", "2"]]),
        ("steps of days", [["2020-01-01", "1"], ["2020-01-02", "2"]]),
        ("counted places", [["3", "0.00000", "0.14286", "0.28571", "0.42857", "0.57143", "0.71429"]]),
        ("transposed", [["0", "0.00000", "0.85714", "1.71429", "2.57143", "3.42857"]]),
        ("decimals", [["0", "1.1"], ["1", "0.5"]]),
        ("true and false", [["0", "true"], ["1", "false"]]),
        ("infinite", [["0", "–"], ["1", "1"], ["2", "–"], ["3", "2"]]),
        ("large whole numbers", [["0", "1.153e+18"]]),
    ],
)
def test_a_table_says_what_the_figure_shows(name, cells):
    figure = states.unpack(show(FIGURES[name](), alt="A figure.").payload["packed"])
    ((_, _, rows),) = figures.tables(figure)
    assert rows[: len(cells)] == cells


def test_values_along_x_alone_stand_under_the_name_of_x():
    figure = go.Figure(go.Histogram(x=[0.5, 0.25]), layout_xaxis_title_text="loss")
    ((_, heads, rows),) = figures.tables(states.spec(figure))
    assert heads == ["number", "loss"] and rows == [["1", "0.5"], ["2", "0.25"]]


def test_the_grid_of_a_control_may_hold_any_real_number():
    from fractions import Fraction

    made = explore(
        lambda k: go.Figure(go.Scatter(y=[k, 1])), {"k": [Fraction(1, 3), np.float32(0.5), 12345.0]}, alt="A."
    )
    assert made.parameters[0].texts == ("0.3333", "0.5", "12345")
    json.dumps(made.parameters[0].values)


# Numbers in the table


def digits_after_the_point(printed):
    mantissa, _, power = printed.partition("e")
    return len(mantissa.partition(".")[2]) - int(power or 0)


def prints_of(values, **layout):
    """What the page's table prints for these values of y."""
    payload = {"data": [{"y": list(values)}], "layout": layout}
    figure = states.unpack(states.pack([states.spec(payload)]))
    ((_, _, rows),) = figures.tables(figure)
    return [row[1] for row in rows]


SIZES = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-9, 1e-3),
    st.floats(0.999, 1.001),
    st.integers(-(2**53), 2**53),
    st.sampled_from([0.00041, 3e-5, 0.0, -0.0, 1e300, -1e-300, 2**24 + 1, 123456.0, 12345.678, 0.123449]),
    st.none(),
)
SPREADS = st.builds(  # many numbers of one size, as figures have them
    lambda unit, start, power: [(start + u) * 10.0**power for u in unit],
    st.lists(st.floats(-1, 1), min_size=10, max_size=40),
    st.sampled_from([0.0, 1.0, -20.0, 12345.0]),
    st.integers(-12, 12),
)


@given(values=st.one_of(st.lists(SIZES, min_size=1, max_size=30), SPREADS), kind=st.sampled_from(["linear", "log"]))
def test_no_digit_that_is_printed_is_wrong(values, kind):
    """On both kinds of axis, and whatever stands beside a number: what is printed is the number rounded there."""
    for value, said in zip(values, prints_of(values, yaxis={"type": kind}), strict=True):
        if value is None:
            assert said == "–"
            continue
        last = 10.0 ** -digits_after_the_point(said)
        assert abs(float(said) - value) <= 0.5000002 * last, (value, said)


@given(values=SPREADS)
def test_what_is_kept_is_a_decimal_that_is_right_and_finer_than_the_eye(values):
    """plotly prints what is kept, under the pointer, with all its digits: they are those of the number."""
    figure = states.unpack(states.pack([states.spec({"data": [{"y": values}], "layout": {}})]))
    kept, spread = figure["data"][0]["y"], max(values) - min(values)
    shown = getattr(kept, "shown", None)
    for value, near in zip(values, np.asarray(kept).tolist(), strict=True):
        if shown is None:
            assert near == pytest.approx(value, rel=1e-6, abs=0)
        else:
            assert near == float(f"{value:.{shown}f}")
            assert abs(near - value) <= spread / 60_000 or shown == 0


@pytest.mark.parametrize(
    ("trace", "layout"),
    [
        ({"hovertemplate": "%{y:.9f}"}, {}),
        ({"texttemplate": "%{y:.9f}"}, {}),
        ({"yhoverformat": ".9f"}, {}),
        ({}, {"yaxis": {"hoverformat": ".9f"}}),
        ({}, {"yaxis": {"tickformat": ".5%"}}),
        ({"type": "histogram"}, {}),
        ({"type": "box"}, {}),
        ({"type": "violin"}, {}),
    ],
)
def test_what_is_printed_in_an_authors_format_or_computed_with_is_kept_whole(trace, layout):
    values = np.random.default_rng(0).standard_normal(50)
    figure = states.unpack(states.pack([states.spec({"data": [{"y": values} | trace], "layout": layout})]))
    assert (figure["data"][0]["y"] == values).all()


def test_small_numbers_beside_large_ones():
    values = [*np.linspace(0, 1, 200), 0.00041, 3e-5]
    assert prints_of(values)[-2:] == ["0.00041", "3e-05"]
    assert prints_of(values, yaxis={"type": "log"})[-2:] == ["0.00041", "3e-05"]
    assert prints_of([0.00041, 3e-5, 12345, 2**24 + 1])[:4] == ["0.00041", "3e-05", "12345", "16777217"]
    assert prints_of([k * 1.23456e-7 for k in range(9)])[:3] == ["0", "1.2346e-07", "2.4691e-07"]


# The page's script, in node

SCRIPT = (Path(figures.__file__).parent / "static" / "figures.js").read_text(encoding="utf-8")
NODE = Path(sys.executable).parent / "node"
ELEMENTS = """
class Element {
  constructor(tag) { this.tag = tag; this.children = []; }
  append(...more) { this.children.push(...more); }
  createCaption() { return this.caption = new Element("caption"); }
  createTHead() { return this.head = new Element("thead"); }
  createTBody() { return this.body = new Element("tbody"); }
  insertRow() { const row = new Element("tr"); this.append(row); return row; }
  said() { return this.children.map((cell) => cell.textContent); }
}
globalThis.document = { createElement: (tag) => new Element(tag) };
"""


def in_node(program, tmp_path):
    file = tmp_path / "program.mjs"
    file.write_text(program, encoding="utf-8")
    done = subprocess.run([str(NODE), str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def part(start, end):
    return SCRIPT[SCRIPT.index(start) : SCRIPT.index(end)]


def test_the_script_makes_the_same_tables(tmp_path):
    """Of every legal figure: unpacked and printed by both."""
    packed = {name: show(make(), alt="A.").payload["packed"] for name, make in FIGURES.items()}
    program = (
        f"{ELEMENTS}const GAP = 0xffffff, TABLE_ROWS = 2000;"
        f"{part('  const inflate', '  /* What differs between')}{part('  const number', '  // ---- one figure')}"
        f"for (const [name, text] of Object.entries({json.dumps(packed)})) {{"
        "  const found = tables(new States(await inflate(text)).figure(0));"
        "  console.log(JSON.stringify([name, found.map((t) => [t.caption?.textContent ?? '', t.head.children[0].said(),"
        "    t.body.children.map((row) => row.said())])])); }"
    )
    found = dict(map(json.loads, in_node(program, tmp_path).splitlines()))
    for name, text in packed.items():
        ours = [list(one) for one in figures.tables(states.unpack(text))]
        assert found[name] == ours, name


def test_the_script_prints_numbers_as_python_does(tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for v in rng.standard_normal(300) * 10.0 ** rng.integers(-8, 9, 300):
        cases += [(float(v), None)] + [(float(f"{v:.{shown}f}"), shown) for shown in (0, 3, 6, 11)]
    cases += [(0.0, None), (0.0, 3), (-0.0, None), (-0.0, 3), (0.0, 9), (math.nan, 2), (1e22, None), (12345.0, None)]
    lines = ",".join(f"[{'NaN' if v != v else repr(v)},{'undefined' if s is None else s}]" for v, s in cases)
    program = f"{part('  const number', '  const titleOf')}for (const [v, s] of [{lines}]) console.log(number(v, s));"
    said = in_node(program, tmp_path).splitlines()
    different = [
        (v, s, printed.text(v, s), got) for (v, s), got in zip(cases, said, strict=True) if printed.text(v, s) != got
    ]
    assert not different, different[:5]
