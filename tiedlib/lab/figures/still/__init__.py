"""A figure's starting state as a still picture: the page shows it before any script runs, and where no script runs.

The picture is HTML and SVG of a few kB, drawn from the same data as plotly's. What must keep its shape (ticks, titles,
names) is text placed in percent; what must fit (lines, bars, images) is SVG stretched over the plotting area, so that
one picture serves every width. Colours of the palette are variables that the theme sets. Of the kinds of trace it draws
scatter, bar, heatmap and contour, as far as `known` says; of any other figure there is no still, and the alternative text
stands alone.
"""

import logging

from tiedlib.lab.figures.states import Spec
from tiedlib.lab.figures.still.known import drawable
from tiedlib.lab.figures.still.paint import css
from tiedlib.lab.figures.still.picture import Picture

__all__ = ["css", "still"]
log = logging.getLogger(__name__)


def still(figure: Spec, height: int) -> str:
    """The HTML of a figure's still picture, or "" for a figure that it cannot draw (another kind of trace or of axis, a
    template of its own, anything that `known` does not name)."""
    if not drawable(figure):
        return ""
    try:
        return Picture(figure).html(height)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # a second's picture is not worth a build
        log.info("no still picture: %s: %s", type(error).__name__, error)
        return ""
