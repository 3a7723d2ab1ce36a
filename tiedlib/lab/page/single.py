"""The whole book as one page (Sphinx's builder `singlehtml`), from which the PDF is printed: gaps of the tools are
closed.

Nodes of other extensions are written as in a book of many pages; a link says which chapter it leads to, for two
chapters may hold the same id, and the one page has both; the parts keep their names; and the page stands in the root
of its folder, where the paths in it lead to style sheets and pictures.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import start_of_file, toctree

LEADS = "tl-leads-to-"


def slug(docname: str) -> str:
    """A page's name as part of a class: "book/tying" becomes "book-tying"."""
    return re.sub(r"\W+", "-", docname)


def complete(app: Any) -> None:
    """Give `singlehtml` every node that `html` can write.

    Sphinx falls back to the handlers of `html` only while no extension names `singlehtml`, and sphinx-exercise does.
    """
    handlers = app.registry.translation_handlers
    if "singlehtml" in handlers:
        handlers["singlehtml"] = {**handlers.get("html", {}), **handlers["singlehtml"]}


def mark(app: Any, doctree: nodes.document, docname: str) -> None:
    """Write the target's page into a link's class, before Sphinx shortens `#document-PAGE#ID` to `ROOT.html#ID`, and
    the name of a part above its first page."""
    if app.builder.name != "singlehtml":
        return
    for link in doctree.findall(nodes.reference):
        page, hash_, _ = str(link.get("refuri", "")).removeprefix("#document-").partition("#")
        if hash_ and page in app.env.all_docs:
            link["classes"].append(LEADS + slug(page))
    pages = {start["docname"]: start for start in doctree.findall(start_of_file)}
    for tree in app.env.get_doctree(docname).findall(toctree):
        first = next((pages[page] for _, page in tree["entries"] if page in pages), None)
        if first is not None and tree.get("caption"):
            first.parent.insert(first.parent.index(first), nodes.paragraph("", tree["caption"], classes=["tl-part"]))


def move(app: Any, error: Exception | None) -> None:
    """Make the one page `index.html`: Sphinx writes paths as if the page had this name, whatever the root document is."""
    if error or app.builder.name != "singlehtml":
        return
    name = app.config.root_doc + app.builder.out_suffix
    written, page = Path(app.outdir, name), Path(app.outdir, "index.html")
    text = written.read_text(encoding="utf-8").replace(f'href="{name}#', 'href="#')
    written.unlink()
    page.write_text(text, encoding="utf-8")


def connect(app: Any) -> None:
    """Called while the extension is set up."""
    app.connect("builder-inited", complete)
    app.connect("doctree-resolved", mark, priority=900)
    app.connect("build-finished", move, priority=100)  # before formulas are set, and before others point to the page
