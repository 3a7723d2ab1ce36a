"""What the extension tells Sphinx: nodes, directive, assets, and (with `tiedlib_look`) the look and the light pages."""

import os
from pathlib import Path
from typing import Any

from sphinx.transforms.post_transforms import SphinxPostTransform

from tiedlib import __version__
from tiedlib.lab.figures import still, themes
from tiedlib.lab.outputs import BUILD_VARIABLE, static
from tiedlib.lab.page import assets, cards, claim_index, figures, formulas, look, parts, reference, single

OTHER_BUILDERS = ("text", "latex", "epub", "man", "texinfo")


class CollapseCards(SphinxPostTransform):
    """Close the cards that stand together, once myst-nb has chosen each output's form."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        cards.collapse(self.document)


def _begin_build(app: Any, config: Any) -> None:
    """Kernels inherit the variable; MathJax comes from the book itself."""
    os.environ[BUILD_VARIABLE] = "1"
    if assets.mathjax_folder() is not None:
        config.mathjax_path = "tiedlib/mathjax/tex-chtml.js"
        config.mathjax_options = {"defer": "defer"}
    look.configure(app, config)


def _write_assets(app: Any) -> None:
    """Everything the page's script needs, below `_static/tiedlib`, before pages are written (their links carry a
    hash)."""
    if app.builder.format != "html":
        return
    outdir = Path(app.outdir)
    assets.copy_all(outdir, scripts=not app.config.tiedlib_look)
    folder = outdir / "_static" / "tiedlib"
    (folder / "figures.js").write_text(themes.script() + static("figures.js"), encoding="utf-8")
    (folder / "figures.css").write_text(still.css() + static("figures.css") + static("questions.css"), encoding="utf-8")
    app.add_js_file("tiedlib/figures.js", defer="defer")
    app.add_css_file("tiedlib/figures.css")
    look.write(app, folder)


def _end_build(app: Any, error: Exception | None) -> None:
    os.environ.pop(BUILD_VARIABLE, None)


def connect(app: Any) -> dict[str, Any]:
    """Called by `tiedlib.lab.page.setup`."""
    app.add_config_value("tiedlib_address", "", "env", [str])
    app.add_config_value("tiedlib_look", False, "env", [bool])
    others = dict.fromkeys(OTHER_BUILDERS, (figures.visit_text, None))
    app.add_node(figures.FigureNode, html=(figures.visit_html, None), **others)
    passing = dict.fromkeys(OTHER_BUILDERS, (cards.pass_through, cards.pass_through))
    app.add_node(cards.CardNode, html=(cards.visit_card, cards.depart_card), **passing)
    app.add_node(cards.SummaryNode, html=(cards.visit_summary, cards.depart_summary), **passing)
    app.add_node(claim_index.ClaimsNode)
    app.add_node(parts.ChaptersNode)
    app.add_directive("chapters", parts.Chapters)
    app.add_directive("claims", claim_index.Claims)
    app.add_directive("library", reference.Library)
    app.add_post_transform(CollapseCards)
    app.connect("config-inited", _begin_build, priority=900)
    app.connect("builder-inited", _write_assets)
    app.connect("env-before-read-docs", claim_index.begin)
    app.connect("env-purge-doc", claim_index.purge)
    app.connect("env-merge-info", claim_index.merge)
    app.connect("env-updated", claim_index.outdated)
    app.connect("doctree-resolved", claim_index.resolve)
    app.connect("doctree-resolved", parts.resolve)
    app.connect("html-page-context", look.page, priority=900)
    single.connect(app)
    app.connect("build-finished", formulas.finish)
    app.connect("build-finished", _end_build)
    return {"version": __version__, "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
