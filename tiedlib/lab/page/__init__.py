"""The Sphinx side of the bench: figures that move with no kernel and no network, and cards for claims and proofs.

Add `tiedlib.lab.page` to a Jupyter Book's `sphinx: extra_extensions:` (or to Sphinx's `extensions`). Without that the
renderer, which myst-nb finds by itself, does nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: "Sphinx") -> dict[str, Any]:
    """What Sphinx calls; the work is in `extension`, so that a kernel can import this package without Sphinx."""
    from tiedlib.lab.page.extension import connect

    return connect(app)
