"""The live side of `explore`: ipywidgets that call the function again, with the labels and the start of the built
page."""

import html
import itertools
import math
from typing import Any, Protocol, runtime_checkable

import plotly.graph_objects as go

from tiedlib.lab.notebook.parameters import Parameter

PLAY_SECONDS = 4.0  # one round of the play button, as in the page's script


@runtime_checkable
class Explored(Protocol):
    """What is shown: an `Explorer`."""

    parameters: tuple[Parameter, ...]
    caption: str | None
    play: str | None

    @property
    def starting(self) -> dict[str, Any]:
        """The value of each parameter at the start."""

    def figure_at(self, **values: Any) -> go.Figure:
        """The figure for these values."""


def _colab() -> None:
    """Colab shows plotly's widget only when its custom widget manager is on; elsewhere this does nothing."""
    try:
        from google.colab import output
    except ImportError:
        return
    output.enable_custom_widget_manager()


def _geometric(values: tuple[float, ...]) -> bool:
    """Whether a grid is evenly spaced in its logarithm (and not evenly spaced itself)."""
    if len(values) < 3 or values[0] <= 0:
        return False
    ratios = [b / a for a, b in itertools.pairwise(values)]
    return max(ratios) / min(ratios) < 1.02 and max(ratios) > 1.02


def control(p: Parameter) -> Any:
    """The ipywidget of one parameter: continuous between the grid's ends for numbers."""
    import ipywidgets as w

    wide = {
        "description": p.label,
        "style": {"description_width": "initial"},
        "layout": w.Layout(width="min(100%, 32rem)"),
    }
    if p.kind == "switch":
        return w.Checkbox(value=p.starting, description=p.label, indent=False, disabled=len(p.values) < 2)
    if p.kind == "name":
        return w.Dropdown(options=list(p.values), value=p.starting, **wide)
    if all(isinstance(v, int) for v in p.values):
        return w.IntSlider(value=p.starting, min=p.values[0], max=p.values[-1], **wide)
    values = tuple(float(v) for v in p.values)
    if _geometric(values):
        low, high = math.log10(values[0]), math.log10(values[-1])
        return w.FloatLogSlider(
            value=p.starting, min=low, max=high, step=(high - low) / 200, readout_format=".4g", **wide
        )
    step = (values[-1] - values[0]) / 200 or 1.0
    return w.FloatSlider(value=p.starting, min=values[0], max=values[-1], step=step, readout_format=".4g", **wide)


def _player(p: Parameter, target: Any) -> Any:
    """A play button that walks `target` through the grid's values."""
    import ipywidgets as w

    last = len(p.values) - 1
    interval = int(1000 * min(0.6, max(0.08, PLAY_SECONDS / len(p.values))))
    player = w.Play(value=p.start, min=0, max=last, interval=interval, repeat=False, description=f"play {p.label}")
    player.observe(lambda change: setattr(target, "value", p.values[change["new"]]), names="value")
    return player


def _redraw(shown: Any, new: go.Figure) -> None:
    """Make the widget `shown` equal to `new`, in one message where the traces are of the same types."""
    new = go.Figure(new)
    if [t.type for t in shown.data] != [t.type for t in new.data]:
        with shown.batch_update():
            shown.data = ()
            shown.add_traces(list(new.data))
            shown.layout = new.layout
        return
    with shown.batch_update():
        for old, trace in zip(shown.data, new.data, strict=True):
            old.update(trace.to_plotly_json(), overwrite=True)
        shown.layout = new.layout


def widget(explorer: Explored) -> Any:
    """Controls above the figure, the caption below it. An error of the function is shown in the figure's place, in
    words."""
    import ipywidgets as w

    _colab()
    controls = {p.name: control(p) for p in explorer.parameters}
    shown = go.FigureWidget(explorer.figure_at(**explorer.starting))
    message = w.HTML()

    def redraw(_: Any) -> None:
        values = {name: c.value for name, c in controls.items()}
        try:
            _redraw(shown, explorer.figure_at(**values))
            message.value = ""
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", []))
            message.value = f"<pre>{html.escape(f'{type(error).__name__}: {error} {notes}')}</pre>"

    for c in controls.values():
        c.observe(redraw, names="value")
    rows: list[Any] = list(controls.values())
    if explorer.play is not None:
        chosen = next(p for p in explorer.parameters if p.name == explorer.play)
        rows.append(_player(chosen, controls[explorer.play]))
    caption = [w.HTML(f"<p><em>{html.escape(explorer.caption)}</em></p>")] if explorer.caption else []
    return w.VBox([*rows, message, shown, *caption])
