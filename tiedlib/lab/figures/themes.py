"""The page's light and dark plotly templates, and which templates count as stock (so that the page's own may replace
them)."""

import json
from functools import cache
from typing import Any


@cache
def _stock() -> frozenset[str]:
    import plotly.io as pio

    import tiedlib.lab.figures.plots  # noqa: F401  (registers the template)

    names = ("plotly", "plotly_white", "plotly_dark", "tiedlib", "tiedlib-dark")
    return frozenset(_text(pio.templates[name].to_plotly_json()) for name in names)


def _text(template: Any) -> str:
    from plotly.utils import PlotlyJSONEncoder

    return json.dumps(json.loads(json.dumps(template, cls=PlotlyJSONEncoder)), sort_keys=True)


def is_stock(template: Any) -> bool:
    """Whether a figure's template is plotly's or tiedlib's own (or none): a reader's theme may then choose another."""
    return not template or template == "tiedlib" or _text(template) in _stock()


def swap() -> dict[str, str]:
    """Each colour of the light palette with its fellow of the dark one."""
    from tiedlib.lab.figures import plots

    return dict(zip(plots.LIGHT.values(), plots.DARK.values(), strict=True)) | {plots.QUIET[0]: plots.QUIET[1]}


def script() -> str:
    """The templates and the colours of both themes as one line of JavaScript for the page's script."""
    from tiedlib.lab.figures import plots

    themes = {name: plots.template(name).to_plotly_json() for name in plots.SURFACES}
    for theme in themes.values():
        theme["layout"] |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
    return f"window.tiedlibThemes = {json.dumps({'templates': themes, 'swap': swap()}, separators=(',', ':'))};\n"
