"""`explore` with a kernel and in a build: same labels, same start, same picture; bad input is refused by name."""

import json
import os

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.lab.figures.states import pack, points, spec, unpack, weight
from tiedlib.lab.notebook import explorer as module
from tiedlib.lab.notebook.explorer import Explorer, explore, show
from tiedlib.lab.notebook.widgets import widget
from tiedlib.lab.outputs import BUILD_VARIABLE, FIGURE
from tiedlib.lab.page.figures import start_state

X = np.linspace(0, 6, 50)


def wave(frequency, shape="sine", noisy=False):
    y = (np.sin if shape == "sine" else np.cos)(frequency * X)
    return go.Figure(go.Scatter(x=X, y=y + noisy, name=shape), layout_title_text=f"frequency {frequency}")


GRIDS = {"frequency": np.array([0.5, 1.0, 2.5]), "shape": ["sine", "cosine"], "noisy": [False, True]}


@pytest.fixture
def building(monkeypatch):
    monkeypatch.setenv(BUILD_VARIABLE, "1")


@pytest.fixture(autouse=True)
def _as_a_reader_sees_it(unchecked):
    """Our own messages, not those of the annotations' checks."""


def test_the_build_packs_every_state_in_the_order_of_the_controls(building):
    explorer = explore(
        wave, GRIDS, alt="A wave.", caption="Waves", start={"frequency": 1.0, "noisy": True}, play="frequency"
    )
    payload = json.loads(json.dumps(explorer.payload))
    assert [p["kind"] for p in payload["parameters"]] == ["number", "name", "switch"]
    assert payload["play"] == "frequency" and payload["alt"] == "A wave." and payload["caption"] == "Waves"
    state = 0
    for frequency in GRIDS["frequency"]:
        for shape in GRIDS["shape"]:
            for noisy in GRIDS["noisy"]:
                figure, true = unpack(payload["packed"], state), wave(frequency, shape, noisy)
                np.testing.assert_allclose(figure["data"][0]["y"], true.data[0].y, atol=2e-5)
                assert figure["layout"]["title"]["text"] == true.layout.title.text
                assert figure["data"][0]["name"] == shape
                state += 1
    start = unpack(payload["packed"], start_state(payload["parameters"]))
    np.testing.assert_allclose(start["data"][0]["y"], wave(1.0, "sine", True).data[0].y, atol=2e-5)


def test_widgets_have_the_labels_and_the_start_of_the_page():
    box = widget(explore(wave, GRIDS, alt="A wave.", caption="Waves", start={"frequency": 1.0}, play="frequency"))
    slider, names, switch, player = box.children[:4]
    assert (slider.description, slider.value, slider.min, slider.max) == ("frequency", 1.0, 0.5, 2.5)
    assert (names.value, names.options, switch.value) == ("sine", ("sine", "cosine"), False)
    shown = next(c for c in box.children if isinstance(c, go.FigureWidget))
    np.testing.assert_array_equal(shown.data[0].y, wave(1.0).data[0].y)
    slider.value = 1.25  # between the grid's points: only a kernel can do this
    np.testing.assert_array_equal(shown.data[0].y, wave(slider.value).data[0].y)
    assert shown.layout.title.text == f"frequency {slider.value}"
    names.value = "cosine"
    assert shown.data[0].name == "cosine"
    player.value = 2
    assert slider.value == 2.5


def test_a_widget_follows_a_figure_whose_traces_change():
    def grow(n):
        fig = go.Figure([go.Scatter(x=[0, 1], y=[0, i]) for i in range(n)])
        return fig.add_heatmap(z=[[n]]) if n == 3 else fig

    box = widget(explore(grow, {"n": [1, 2, 3]}, alt="Lines."))
    shown = next(c for c in box.children if isinstance(c, go.FigureWidget))
    box.children[0].value = 3
    assert [t.type for t in shown.data] == ["scatter", "scatter", "scatter", "heatmap"]
    box.children[0].value = 1
    assert len(shown.data) == 1


def test_a_widget_says_what_its_function_raised():
    def fragile(n):
        if n > 1:
            raise RuntimeError("no <b> here")
        return go.Figure()

    box = widget(explore(fragile, {"n": [1, 2]}, alt="Nothing."))
    box.children[0].value = 2
    message = box.children[1].value
    assert "RuntimeError: no &lt;b&gt; here" in message and "n=2" in message


def test_a_geometric_grid_gets_a_logarithmic_slider():
    box = widget(explore(lambda lr: go.Figure(), {"lr": [1e-3, 1e-2, 1e-1, 1.0]}, alt="x"))
    assert type(box.children[0]).__name__ == "FloatLogSlider" and box.children[0].value == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("grids", "more", "error", "words"),
    [
        ({}, {}, ValueError, "grids is empty"),
        ([1], {}, TypeError, "grids is .*must be a mapping"),
        ({"a": []}, {}, ValueError, r"grids\['a'\] is empty"),
        ({"a": 3}, {}, TypeError, r"grids\['a'\] is 3"),
        ({"a": "abc"}, {}, TypeError, r"grids\['a'\] is 'abc'"),
        ({"a": [1, "b"]}, {}, TypeError, "all numbers|must be numbers"),
        ({"a": [1, True]}, {}, TypeError, "must be numbers"),
        ({"a": [2, 1]}, {}, ValueError, "numbers must increase"),
        ({"a": [1.0, float("nan")]}, {}, ValueError, "must be finite"),
        ({"a": ["b", "b"]}, {}, ValueError, "stands in it twice"),
        ({"a": [1, 2]}, {"start": {"a": 3}}, ValueError, r"start\['a'\] is 3; it must be one of \[1, 2\]"),
        ({"a": [1, 2]}, {"start": {"b": 3}}, ValueError, r"start names \['b'\]"),
        ({"a": [1, 2]}, {"play": "b"}, ValueError, "play is 'b'"),
        ({"a": [1, 2]}, {"alt": " "}, ValueError, "alt is ' '"),
        ({"a": [1, 2]}, {"alt": 3}, TypeError, "alt is 3"),
        ({"a": [1, 2]}, {"caption": 3}, TypeError, "caption is 3"),
        ({"a": range(60), "b": range(50)}, {}, ValueError, r"3,000 states.*Thin grids\['a'\], which has 60 values"),
    ],
)
def test_bad_input_is_refused_with_name_value_and_rule(grids, more, error, words):
    with pytest.raises(error, match=words):
        explore(lambda **_: go.Figure(), grids, **{"alt": "A figure.", **more})


def test_what_is_no_function_or_no_figure_is_refused():
    with pytest.raises(TypeError, match="fn is 3"):
        explore(3, {"a": [1]}, alt="A figure.")
    with pytest.raises(TypeError, match=r"state a=1 is a str"):
        explore(lambda a: "no figure", {"a": [1]}, alt="A figure.")
    with pytest.raises(TypeError, match="to show is a int"):
        show(3, alt="A figure.")
    with pytest.raises(ValueError, match="alt is ''"):
        show(go.Figure(), alt="")


def test_an_error_names_its_state(building):
    def fragile(a, b):
        return go.Figure(go.Scatter(y=[1 / (a - b)]))

    with pytest.raises(ZeroDivisionError) as caught:
        explore(fragile, {"a": [1, 2], "b": [2, 3]}, alt="A figure.")
    assert any("fragile raised this in the state a=2, b=2" in note for note in caught.value.__notes__)


def test_a_million_points_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"1,000,000 points.*Thin them"):
        explore(lambda a: go.Figure(go.Scatter(y=np.zeros(10**6))), {"a": [1]}, alt="A figure.")
    with pytest.raises(ValueError, match="1,000,000 points"):
        show(go.Figure(go.Heatmap(z=np.zeros((1000, 1000)))), alt="A figure.")


def test_too_many_bytes_name_the_grid_to_thin(building):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"weighs \d+ kB.*Thin grids\['a'\] \(60 values\)"):
        explore(lambda a, b: go.Figure(go.Scatter(y=rng.random(2000))), {"a": range(60), "b": [1]}, alt="Noise.")

    with pytest.raises(ValueError, match=r"weighs \d+ kB.*Draw fewer points"):
        show(go.Figure(go.Scatter(y=rng.random(90_000), marker_size=rng.random(90_000))), alt="Noise.")


def test_gaps_travel_as_gaps():
    y = np.array([1.0, np.nan, np.inf, -np.inf, 5.0, 6.0, 7.0, 8.0])
    figure = unpack(pack([spec(go.Figure(go.Scatter(y=y, x=list(range(8)))))]))
    np.testing.assert_array_equal(figure["data"][0]["y"], [1, np.nan, np.nan, np.nan, 5, 6, 7, 8])
    short = spec(go.Figure(go.Scatter(y=[1.0, float("inf"), None])))
    assert short["data"][0]["y"] == [1.0, None, None]
    empty = unpack(pack([spec(go.Figure(go.Scatter(y=[np.nan] * 9)))]))
    assert np.isnan(empty["data"][0]["y"]).all()


@given(
    st.lists(
        st.lists(st.one_of(st.floats(-1e9, 1e9), st.just(float("nan"))), min_size=8, max_size=30),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["linear", "log"]),
)
def test_packing_keeps_what_an_eye_can_see(curves, kind):
    figures = [{"data": [{"type": "scatter", "y": np.array(c)}], "layout": {"yaxis": {"type": kind}}} for c in curves]
    packed = pack(figures)
    for state, curve in enumerate(curves):
        back, true = unpack(packed, state)["data"][0]["y"], np.array(curve)
        np.testing.assert_array_equal(np.isnan(back), np.isnan(true))
        span = np.nanmax(true, initial=-np.inf) - np.nanmin(true, initial=np.inf)
        if kind == "linear":
            assert np.nan_to_num(np.abs(back - true)).max() <= max(span, 0) / 60_000
        else:
            np.testing.assert_allclose(back, true, rtol=1e-6, atol=0)


@given(st.lists(st.integers(-10_000, 10_000), min_size=8, max_size=40))
def test_whole_numbers_are_exact(values):
    back = unpack(pack([{"data": [{"y": np.array(values, dtype=float)}], "layout": {}}]))["data"][0]["y"]
    np.testing.assert_array_equal(back, values)


def test_an_axis_that_zooms_in_gets_full_precision():
    y = np.concatenate([np.linspace(0, 1e-6, 50), [1e3]])
    wide = {"data": [{"y": y}], "layout": {}}
    narrow = {"data": [{"y": y}], "layout": {"yaxis": {"range": [0, 1e-6]}}}
    assert unpack(pack([wide]))["data"][0]["y"][25] == 0
    assert unpack(pack([narrow]))["data"][0]["y"][25] == pytest.approx(y[25], rel=1e-6)


def test_states_may_change_shapes_traces_text_and_axes():
    def free(n):
        fig = go.Figure([go.Scatter(y=np.arange(10.0 * n) ** 0.5, name=f"{i} of {n}") for i in range(n)])
        fig.add_annotation(text=f"n is {n}")
        return fig.update_yaxes(type="log" if n == 2 else "linear") if n > 1 else fig

    packed = pack([spec(free(n)) for n in (1, 2, 3)])
    for i, n in enumerate((1, 2, 3)):
        figure = unpack(packed, i)
        assert [t["name"] for t in figure["data"]] == [f"{k} of {n}" for k in range(n)]
        assert all(len(t["y"]) == 10 * n for t in figure["data"])
        assert figure["layout"]["annotations"][0]["text"] == f"n is {n}"
        assert figure["layout"].get("yaxis", {}).get("type") == {1: None, 2: "log", 3: "linear"}[n]
    with pytest.raises(IndexError, match="state is 3"):
        unpack(packed, 3)
    with pytest.raises(ValueError, match="figures is empty"):
        pack([])


def test_equal_arrays_are_stored_once_and_smooth_states_stay_small():
    still = spec(go.Figure(go.Scatter(x=X, y=X)))
    assert weight(pack([still] * 200)) < 1.2 * weight(pack([still]))
    t = np.linspace(0, 1, 200)
    states = [spec(go.Figure([go.Scatter(x=t, y=np.sin(a * t + b)) for b in (0, 1)])) for a in np.linspace(1, 9, 392)]
    assert weight(pack(states)) < 200_000


def test_stock_templates_travel_as_a_name_and_others_as_they_are():
    assert spec(go.Figure(layout_template="plotly"))["layout"]["template"] == "tiedlib"
    assert spec(go.Figure())["layout"]["template"] == "tiedlib"
    custom = spec(go.Figure(layout_template=go.layout.Template(layout_font_size=33)))
    assert custom["layout"]["template"]["layout"]["font"]["size"] == 33


def test_points_counts_the_longest_array_of_each_trace():
    assert points(spec(go.Figure([go.Scatter(x=X, y=X), go.Heatmap(z=np.zeros((4, 5)))]))) == 70


def test_show_draws_a_page_payload_or_a_plain_figure(monkeypatch):
    monkeypatch.setattr(pio.renderers, "default", "plotly_mimetype")  # what plotly chooses in a kernel
    shown = show(wave(1.0), alt="A wave.", caption="Waves")
    assert "application/vnd.plotly.v1+json" in shown._repr_mimebundle_() and FIGURE not in shown._repr_mimebundle_()
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    bundle = shown._repr_mimebundle_()
    assert bundle[FIGURE]["parameters"] == [] and bundle["text/plain"] == "A wave."
    np.testing.assert_allclose(unpack(bundle[FIGURE]["packed"])["data"][0]["y"], np.sin(X), atol=2e-5)


def test_without_a_build_nothing_but_the_start_is_computed():
    seen = []

    def count(a):
        seen.append(a)
        return go.Figure()

    explorer = explore(count, {"a": [1, 2, 3]}, alt="A figure.", start={"a": 2})
    assert seen == [2] and explorer.payload is None and isinstance(explorer, Explorer)
    assert BUILD_VARIABLE not in os.environ and module.MAX_STATES == 2000
