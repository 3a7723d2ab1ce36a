"""The colours are told apart by every eye and stand out from the page; the helpers draw what their names say."""

import itertools

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.lab.figures import plots

# Protan and deutan: Viénot, Brettel & Mollon 1999, "Digital video colourmaps for checking the legibility of displays by
# dichromats", in linear RGB; tritan: the usual one-plane approximation of Brettel, Viénot & Mollon 1997.
DICHROMATS = {
    "normal": np.eye(3),
    "protan": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "deutan": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
    "tritan": np.array([[1.0, 0.14461, -0.14461], [0.0, 0.85924, 0.14076], [0.0, 0.85924, 0.14076]]),
}


def linear(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* (D65) of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    t = np.clip(xyz / np.array([0.9505, 1.0, 1.089]), 0, None)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, other):
    light, dark = sorted((float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eye", DICHROMATS)
@pytest.mark.parametrize("palette", [plots.LIGHT, plots.DARK], ids=["light", "dark"])
def test_every_eye_tells_the_colors_apart(palette, eye):
    seen = {name: lab(np.clip(DICHROMATS[eye] @ linear(value), 0, 1)) for name, value in palette.items()}
    distances = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert min(distances.values()) > 15, min(distances.items(), key=lambda item: item[1])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_and_text_stand_out_from_the_page(theme):
    surface = plots.SURFACES[theme]
    for value in (plots.LIGHT if theme == "light" else plots.DARK).values():
        assert contrast(value, surface["paper"]) >= 3
    assert contrast(surface["ink"], surface["paper"]) >= 7
    assert contrast(surface["muted"], surface["paper"]) >= 4.5


def test_the_contrast_formula_is_the_known_one():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_templates_are_registered_and_themes_correspond():
    assert pio.templates.default == "tiedlib"
    light, dark = pio.templates["tiedlib"], pio.templates["tiedlib-dark"]
    assert list(light.layout.colorway) == list(plots.COLORS)
    assert list(dark.layout.colorway) == list(plots.DARK.values())
    assert light.layout.paper_bgcolor != dark.layout.paper_bgcolor
    with pytest.raises(ValueError, match=r"theme is 'sepia'"):
        plots.template("sepia")


def test_color_repeats_and_takes_alpha():
    assert plots.color(0) == plots.color(len(plots.COLORS)) == plots.COLORS[0]
    assert plots.color(0, 0.5) == "rgba(2,91,163,0.5)"
    with pytest.raises(ValueError, match="alpha is 2"):
        plots.color(0, 2.0)


def test_lines_draw_each_series_with_its_own_color_and_dash():
    fig = plots.lines([1, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}, xaxis_title="epoch")
    assert [t.name for t in fig.data] == ["a", "b"]
    assert [t.line.color for t in fig.data] == list(plots.COLORS[:2])
    assert fig.data[0].line.dash != fig.data[1].line.dash
    assert fig.layout.xaxis.title.text == "epoch"
    np.testing.assert_array_equal(fig.data[1].y, [3, 2, 1])


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=2, max_size=6))
def test_band_is_mean_and_sample_deviation(runs):
    fig = plots.band([0, 1, 2], runs, "loss")
    lower, upper, mean = fig.data
    expected, sd = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1)
    np.testing.assert_allclose(mean.y, expected)
    np.testing.assert_allclose(upper.y, expected + sd)
    np.testing.assert_allclose(lower.y, expected - sd)
    assert upper.fill == "tonexty" and mean.name == "loss" and not lower.showlegend


def test_bands_take_one_color_each():
    runs = np.arange(10.0).reshape(2, 5)
    fig = plots.bands(range(5), {"a": runs, "b": runs + 1}, yaxis_title="loss")
    assert [t.line.color for t in fig.data if t.showlegend is not False] == list(plots.COLORS[:2])
    assert len(fig.data) == 6 and isinstance(fig, go.Figure)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.lines([1], {}), "series is empty"),
        (lambda: plots.bands([1], {}), "series is empty"),
        (lambda: plots.lines([1, 2], {"a": [1, 2, 3]}), r"'a' has shape \(3,\).*must be 2"),
        (lambda: plots.lines([], {"a": []}), "x has shape"),
        (lambda: plots.band([1, 2], [[1, 2]], "a"), r"runs has shape \(1, 2\).*at least 2 seeds"),
        (lambda: plots.band([1, 2], [1, 2], "a"), r"runs has shape \(2,\)"),
    ],
)
def test_wrong_shapes_are_refused_with_name_and_rule(call, words):
    with pytest.raises(ValueError, match=words):
        call()
