"""The directive `chapters`: on the first page of a part, its chapters with what each of them promises and holds.

```{chapters}
```

Everything is taken from the chapters: the first paragraph, how many figures move, and the verdicts on what the notes say.
"""

from collections import Counter
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from tiedlib.lab.page.cards import badge
from tiedlib.lab.page.figures import FigureNode


class ChaptersNode(nodes.General, nodes.Element):  # type: ignore[misc]
    """The place of the list. Attribute: `page`, the page that it was written in."""


class Chapters(SphinxDirective):
    """The chapters of the part that this page opens."""

    def run(self) -> list[nodes.Node]:
        self.env.tiedlib_claim_lists.add(self.env.docname)  # type: ignore[attr-defined]
        return [ChaptersNode(page=self.env.docname)]


def siblings(env: Any, docname: str, root: str) -> list[str]:
    """The pages that stand in one part with `docname`, without it, in the order of the table of contents."""
    for toctree in env.tocs[root].findall(addnodes.toctree):
        pages = [page for _, page in toctree["entries"] if page in env.all_docs]
        if docname in pages:
            return [page for page in pages if page != docname]
    return []


def _verdicts(cards: dict[str, Any]) -> list[nodes.Node]:
    counts = Counter(card["verdict"] for card in cards.values())
    found: list[nodes.Node] = []
    for verdict in ("holds", "caveat", "wrong", "undecided"):
        if counts[verdict]:
            one = badge(verdict)
            found += [nodes.Text(" "), nodes.inline("", f"{counts[verdict]} ", one, classes=["tl-count"])]
    return found


def _chapter(app: Any, docname: str, page: str) -> nodes.container:
    doctree = app.env.get_doctree(page)
    first = next(iter(doctree.findall(nodes.paragraph)), None)
    title = app.env.titles[page]
    link = nodes.reference("", "", *title.deepcopy().children, internal=True)
    link["refuri"] = app.builder.get_relative_uri(docname, page)
    entry = nodes.container("", nodes.paragraph("", "", link, classes=["tl-chapter-title"]), classes=["tl-chapter"])
    if first is not None:
        promise = first.deepcopy()
        for pending in list(promise.findall(addnodes.pending_xref)):  # references have been resolved by now
            pending.replace_self(pending.children)
        entry += nodes.paragraph("", "", *promise.children)
    moving = sum(bool(figure["payload"]["parameters"]) for figure in doctree.findall(FigureNode))
    cards = app.env.tiedlib_claims.get(page, {})
    said = f"{moving} figures that move"
    if cards:
        said += f". Of the notes, {len(cards)} statements:"
    entry += nodes.paragraph("", said, *_verdicts(cards), classes=["tl-chapter-holds"])
    return entry


def resolve(app: Any, doctree: nodes.document, docname: str) -> None:
    """Fill in the list, now that every chapter has been read."""
    for place in list(doctree.findall(ChaptersNode)):
        pages = siblings(app.env, place["page"], app.config.root_doc)  # the builder singlehtml has all pages in one
        place.replace_self([_chapter(app, docname, page) for page in pages])
