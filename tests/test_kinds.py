"""What a page draws of what plotly knows: every kind of trace is drawn, with its table, or refused in its own cell by name."""

import re
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.basedatatypes import BaseTraceType

from tiedlib.lab.explore import explore, show
from tiedlib.lab.page import figures, kinds, states
from tiedlib.lab.page.still import still

KINDS = {
    name: one
    for name in go.__all__
    if name[0].isupper() and isinstance(one := getattr(go, name), type) and issubclass(one, BaseTraceType)
}
GRID = [[1.0, 2.0, 0.00041], [3.0, 4.0, 5.0]]
# Data for the kinds that a page draws; of the others the bare trace is enough.
DATA = {
    "Bar": {"x": ["a", "b"], "y": [1, 2]},
    "Box": {"y": [1.0, 2.0, 9.0]},
    "Contour": {"z": GRID},
    "Heatmap": {"z": GRID, "x": ["a", "b", "c"]},
    "Histogram": {"x": [1.0, 2.0, 2.0]},
    "Histogram2d": {"x": [1.0, 2.0], "y": [2.0, 2.0]},
    "Histogram2dContour": {"x": [1.0, 2.0], "y": [2.0, 2.0]},
    "Image": {"z": [[[255, 0, 0], [0, 255, 0]]]},
    "Pie": {"labels": ["a", "b"], "values": [1, 3]},
    "Scatter": {"x": [1, 2], "y": [3.0, None]},
    "Scatterternary": {"a": [1.0, 2.0], "b": [0.5, 0.25], "c": [1.0, 0.0]},
    "Violin": {"y": [1.0, 2.0, 9.0]},
}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_that_plotly_validates_is_drawn_or_refused_by_name(name):
    trace = KINDS[name](**DATA.get(name, {}))
    figure = go.Figure(trace)
    if trace.type in kinds.DRAWN:
        payload = show(figure, alt="A figure.").payload
        assert '<div class="tl-plot"' in figures.figure_html(payload, "one")
        assert figures.tables(states.unpack(payload["packed"]))
        return
    with pytest.raises(ValueError, match=rf"^the figure to show has a trace of type '{trace.type}'; a page .* scatter"):
        show(figure, alt="A figure.")
    with pytest.raises(ValueError, match=rf"in the state k=1 has a trace of type '{trace.type}'"):
        explore(lambda k: figure, {"k": [1, 2]}, alt="A figure.")


def test_all_that_a_page_draws_is_tried_above():
    assert {KINDS[name]().type for name in DATA} == set(kinds.DRAWN)


@pytest.mark.parametrize(
    ("trace", "cells"),
    [
        (
            go.Heatmap(x=[1, 2, 3], y=[1, 1, 2], z=[0.5, 0.25, 0.125]),
            [["1", "1", "0.5"], ["2", "1", "0.25"], ["3", "2", "0.125"]],
        ),
        (
            go.Contour(x=np.arange(9.0), y=np.arange(9.0), z=np.arange(9.0) / 4),
            [["0", "0", "0.000"], ["1", "1", "0.25"]],
        ),
        (go.Heatmap(z=[[1.0, 2.0, 3.0], [4.5]]), [["0", "1", "2", "3"], ["1", "4.5", "–", "–"]]),
        (go.Heatmap(z=[[None, 2.5], [1.0, None]]), [["0", "–", "2.5"], ["1", "1", "–"]]),
        (go.Scatterternary(a=[1], b=[0.5], c=[0]), [["1", "0.5", "0"]]),
        (go.Box(y=[1.5, 2.5]), [["0", "1.5"], ["1", "2.5"]]),
    ],
)
def test_columns_and_ragged_rows_have_their_table(trace, cells):
    payload = show(go.Figure(trace), alt="A figure.").payload
    figure = states.unpack(payload["packed"])
    ((_, heads, rows),) = figures.tables(figure)
    assert rows[: len(cells)] == cells and all(len(row) == len(heads) for row in rows)
    assert isinstance(still(figure, 400), str)


def test_frames_are_refused_where_they_are_made():
    moving = go.Figure(go.Scatter(y=[1, 2]), frames=[go.Frame(data=[go.Scatter(y=[2, 1])])])
    with pytest.raises(ValueError, match=r"has frames, which a page does not play; explore\(fn, grids, play"):
        show(moving, alt="A line.")
    assert kinds.refusal({"data": []}) is None


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


@given(values=st.lists(SIZES, min_size=1, max_size=30), kind=st.sampled_from(["linear", "log"]))
def test_no_digit_that_is_printed_is_wrong(values, kind):
    """On both kinds of axis, and whatever stands beside a number: what is printed is the number rounded there."""
    for value, printed in zip(values, prints_of(values, yaxis={"type": kind}), strict=True):
        if value is None:
            assert printed == "–"
            continue
        last = 10.0 ** -digits_after_the_point(printed)
        assert abs(float(printed) - value) <= 0.5000002 * last, (value, printed)


def test_small_numbers_beside_large_ones():
    values = [*np.linspace(0, 1, 200), 0.00041, 3e-5]
    assert prints_of(values)[-2:] == ["0.0004", "0.0000"]
    assert prints_of(values, yaxis={"type": "log"})[-2:] == ["0.00041", "3e-05"]
    assert prints_of([0.00041, 3e-5, 12345, 2**24 + 1])[:4] == ["0.00041", "3e-05", "12345", "16777217"]


def test_the_script_prints_as_python_does(tmp_path):
    """The two functions on the same numbers, in node."""
    script = (figures.Path(figures.__file__).parent / "static" / "figures.js").read_text(encoding="utf-8")
    number = re.search(r"const number = \(v, shown\) => \{.*?\n  \};", script, re.DOTALL)[0]
    rng = np.random.default_rng(0)
    cases = [
        (float(v), shown)
        for v in (rng.standard_normal(300) * 10.0 ** rng.integers(-8, 9, 300))
        for shown in (None, 0, 3)
    ]
    cases += [(0.0, None), (0.0, 3), (-0.0, None), (float("nan"), 2), (1e22, None), (12345.0, None)]
    lines = ",".join(f"[{'NaN' if v != v else repr(v)},{'undefined' if s is None else s}]" for v, s in cases)
    program = tmp_path / "number.js"
    program.write_text(f"{number}\nfor (const [v, s] of [{lines}]) console.log(number(v, s));\n")
    node = figures.Path(sys.executable).parent / "node"
    said = subprocess.run([str(node), str(program)], capture_output=True, text=True, check=True).stdout.split("\n")
    different = [
        (v, s, states.text(v, s), got)
        for (v, s), got in zip(cases, said, strict=False)
        if states.text(v, s).replace("e+", "e") != got.replace("e+", "e")
    ]
    assert not different, different[:5]
