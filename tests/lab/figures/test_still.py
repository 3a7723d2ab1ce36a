"""The still picture of a figure: where its marks stand, from the figure's own numbers; what it refuses; what is safe."""

import base64
import re
import struct
import zlib

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from plotly.subplots import make_subplots

from tiedlib.lab.figures import plots
from tiedlib.lab.figures import still as package
from tiedlib.lab.figures.states import spec
from tiedlib.lab.figures.still.axes import Axis, number
from tiedlib.lab.figures.still.paint import SIDE, level_line, paint, scale


def drawn(figure, height=400):
    return package.still(spec(figure), height)


def lines_of(html):
    """The places of every data path, as 0…1 of the plotting area with y upwards."""
    found = re.findall(r'<path d="([^"]+)"', html.split('class="tl-area"')[1])
    return [[(int(x) / SIDE, 1 - int(y) / SIDE) for x, y in re.findall(r"[ML](-?\d+) (-?\d+)", d)] for d in found]


def boxes_of(html):
    found = re.findall(
        r'<i class="tl-bar[^"]*" style="left:([\d.]+)%;width:([\d.]+)%;bottom:([\d.]+)%;height:([\d.]+)%', html
    )
    return [tuple(float(v) / 100 for v in one) for one in found]


def ticks_of(html, letter):
    return re.findall(rf'<span class="tl-tick-{letter}[^"]*" style="[^"]*">(.*?)</span>', html)


def test_a_line_stands_where_its_numbers_say():
    x, y = np.array([0.0, 1.0, 4.0]), np.array([10.0, 30.0, 20.0])
    figure = plots.lines(x, {"a": y}, xaxis_range=[0, 4], yaxis_range=[0, 40])
    (points,) = lines_of(drawn(figure))
    np.testing.assert_allclose(points, np.stack([x / 4, y / 40], axis=1), atol=1 / SIDE)


def test_a_logarithmic_axis_counts_in_powers():
    figure = plots.lines(
        [1, 10, 1000], {"a": [1.0, 2.0, 3.0]}, xaxis_type="log", yaxis_range=[1, 3], xaxis_range=[0, 3]
    )
    (points,) = lines_of(drawn(figure))
    np.testing.assert_allclose([p[0] for p in points], [0, 1 / 3, 1], atol=1 / SIDE)
    assert ticks_of(drawn(figure), "x") == ["1", "10", "100", "1000"]


def test_a_gap_lifts_the_pen():
    html = drawn(plots.lines(range(4), {"a": [1.0, np.nan, 2.0, np.inf]}, yaxis_range=[0, 2]))
    assert re.findall(r'<path d="(M[^"]+)" style="stroke:var', html)[0].count("M") == 2


def test_bars_in_groups_heaps_and_lying():
    a, b = {"x": ["u", "v"], "y": [1.0, 3.0]}, {"x": ["u", "v"], "y": [2.0, 1.0]}
    group = boxes_of(drawn(go.Figure([go.Bar(**a), go.Bar(**b)]).update_layout(yaxis_range=[0, 4])))
    assert [round(h * 4, 6) for *_, h in group] == [1, 3, 2, 1]
    assert all(w == pytest.approx(0.2, abs=1e-3) for _, w, _, _ in group)
    heap = boxes_of(drawn(go.Figure([go.Bar(**a), go.Bar(**b)]).update_layout(yaxis_range=[0, 4], barmode="stack")))
    assert [(round(low * 4, 6), round(h * 4, 6)) for _, _, low, h in heap] == [(0, 1), (0, 3), (1, 2), (3, 1)]
    lying = go.Figure(go.Bar(x=[1.0, 3.0], y=["u", "v"], orientation="h")).update_layout(xaxis_range=[0, 4])
    assert [round(w * 4, 6) for _, w, _, _ in boxes_of(drawn(lying))] == [1, 3]


def test_a_bar_on_a_logarithmic_axis_stands_on_its_floor():
    figure = go.Figure(go.Bar(x=["u"], y=[0.01])).update_layout(yaxis_type="log", yaxis_range=[-4, 0])
    assert boxes_of(drawn(figure))[0][2:] == pytest.approx((0, 0.5), abs=1e-3)


def test_bars_are_told_apart_without_colour():
    kinds = ["", "/", ".", "x"]
    figure = go.Figure([go.Bar(x=["u"], y=[1.0], name=f"bar {k}", marker_pattern_shape=k) for k in kinds])
    assert len(set(re.findall(r'class="tl-bar ([\w-]+)"', drawn(figure)))) == 4


def test_two_panels_keep_to_their_own_halves():
    figure = make_subplots(1, 2)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", row=1, col=1)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", row=1, col=2)
    first, second = (p for p in lines_of(drawn(figure)) if p)
    assert max(x for x, _ in first) < 0.5 < min(x for x, _ in second)


def test_an_image_holds_the_colours_of_its_numbers():
    z = np.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, np.nan, 7.0]])
    html = drawn(go.Figure(go.Heatmap(z=z)))
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    width, height = struct.unpack(">II", data[16:24])
    size = struct.unpack(">I", data[33:37])[0]
    raw = zlib.decompress(data[41 : 41 + size])
    pixels = np.frombuffer(raw, np.uint8).reshape(height, 1 + 4 * width)[:, 1:].reshape(height, width, 4)[::-1]
    assert (width, height) == (4, 2)
    assert (pixels[..., 3] == 255 * np.isfinite(z)).all()
    np.testing.assert_array_equal(pixels[0, 0, :3], [0xF3, 0xF7, 0xFB])  # the lowest value has the scale's first colour
    np.testing.assert_array_equal(pixels[1, 3, :3], [0x0B, 0x3C, 0x66])


def test_a_contour_line_lies_on_its_level():
    x, y = np.linspace(0, 1, 7), np.linspace(0, 1, 5)
    d = level_line(np.broadcast_to(x, (5, 7)), x, y, 0.3)
    xs = [int(v) / SIDE for v in re.findall(r"[ML](\d+) ", d)]
    assert len(xs) == 8
    np.testing.assert_allclose(xs, 0.3, atol=1 / SIDE)


def test_colours_of_the_palette_follow_the_theme():
    assert paint(plots.LIGHT["blue"]) == ("var(--tl-025ba3)", 1.0)
    assert paint("rgba(2, 91, 163, 0.18)") == ("var(--tl-025ba3)", 0.18)
    assert paint("rgb(1,2,3)") == ("#010203", 1.0)
    for light, dark in zip(plots.LIGHT.values(), plots.DARK.values(), strict=True):
        assert f"--tl-{light[1:]}:{light};" in package.css() and f"--tl-{light[1:]}:{dark};" in package.css()


def test_a_scale_passes_through_its_stops():
    stops = [[0.0, "#000000"], [0.5, "rgb(10, 20, 30)"], [1.0, "#ffffff"]]
    np.testing.assert_allclose(
        scale(stops, np.array([0, 0.25, 0.5, 1.0])), [[0] * 3, [5, 10, 15], [10, 20, 30], [255] * 3]
    )


@pytest.mark.parametrize(
    "figure",
    [
        go.Figure(),
        go.Figure(go.Pie(values=[1, 2])),
        go.Figure(go.Scatter(x=["2024-01-01"], y=[1]), {"xaxis": {"type": "date"}}),
        go.Figure(go.Scatter(x=[1], y=[1]), {"template": {"layout": {"paper_bgcolor": "red"}}}),
    ],
    ids=["empty", "pie", "dates", "own template"],
)
def test_what_it_cannot_draw_has_no_still(figure):
    assert drawn(figure) == ""


def test_words_are_words_and_not_tags():
    figure = plots.lines([0, 1], {"<script>x</script>": [0, 1], "b<sub>1</sub>": [1, 0]}, xaxis_title="<img src=x>")
    figure.add_scatter(x=["<b onload=1>", "c"], y=[1, 2], xaxis="x2")
    html = drawn(figure)
    assert "<script" not in html and "<img" not in html and "<b onload" not in html and "b<sub>1</sub>" in html


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (-0.5, "−0.5"), (1500, "1500"), (20000, "20k"), (3e6, "3M"), (1e-6, "1.000e−06")]
)
def test_numbers_read_as_plotly_writes_them(value, text):
    assert number(value) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_even_and_inside(low, span, about):
    axis = Axis({}, [], low, low + span)
    places = [at for at, _ in axis.ticks(about)]
    assert 1 <= len(places) <= 2 * about + 1
    assert all(-1e-5 <= p <= 1 + 1e-5 for p in places)
    assert np.ptp(np.diff(places)) < 1e-5 if len(places) > 2 else True


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(arrays(float, st.tuples(st.just(2), st.integers(1, 12)), elements=numbers), st.sampled_from(["lines", "markers"]),
       st.sampled_from(["linear", "log"]), st.sampled_from(["scatter", "bar", "heatmap", "contour"]))  # fmt: skip
def test_no_number_stops_it(values, mode, axis, kind):
    if kind in {"heatmap", "contour"}:
        trace = {"type": kind, "z": np.resize(values, (3, 4))}
    else:
        trace = {"type": kind, "x": values[0], "y": values[1]} | ({"mode": mode} if kind == "scatter" else {})
    html = drawn(go.Figure([trace]).update_layout(xaxis_type=axis, yaxis_type=axis))
    assert "nan" not in html.split("base64")[0] and "inf" not in html.replace("info", "").split("base64")[0]
