"""Cards: a claim of the notes with its verdict, and the comparison of two programs. Built as docutils nodes, so that
math is typeset."""

import itertools
import re
from html import escape
from typing import Any

from docutils import nodes

from tiedlib.lab.outputs import CORRECTIONS, VERDICTS

_INLINE = re.compile(r"\$([^$]+)\$|`([^`]+)`|\*\*([^*]+)\*\*|(?<![\w*])\*([^*\s][^*]*)\*(?!\w)")


class CardNode(nodes.General, nodes.Element):  # type: ignore[misc]
    """One claim card: a <details> element. Attributes: `claim` (the claim's fields), `open`."""


class SummaryNode(nodes.General, nodes.Element):  # type: ignore[misc]
    """The line of a card that stays when it is closed."""


def inline(text: str) -> list[nodes.Node]:
    """Text with $math$, `code`, **strong** and *emphasis* as docutils nodes."""
    found: list[nodes.Node] = []
    at = 0
    for match in _INLINE.finditer(text):
        if match.start() > at:
            found.append(nodes.Text(text[at : match.start()]))
        math, code, strong, emphasis = match.groups()
        if math is not None:
            found.append(nodes.math(math, math))
        elif code is not None:
            found.append(nodes.literal(code, code))
        elif strong is not None:
            found.append(nodes.strong(strong, "", *inline(strong)))
        else:
            found.append(nodes.emphasis(emphasis, "", *inline(emphasis)))
        at = match.end()
    if at < len(text):
        found.append(nodes.Text(text[at:]))
    return found


def badge(verdict: str) -> nodes.inline:
    """The verdict in a word, coloured (and with its own sign, for readers who do not see the colour)."""
    return nodes.inline("", VERDICTS.get(verdict, verdict), classes=["tl-badge", f"tl-badge-{verdict}"])


def fact(name: str, content: list[nodes.Node]) -> nodes.container:
    """One labelled line of a card."""
    label = nodes.paragraph("", name, classes=["tl-label"])
    return nodes.container("", label, nodes.paragraph("", "", *content), classes=["tl-fact"])


def card(claim: dict[str, Any]) -> CardNode:
    """What the notes say, the verdict, the correction, the evidence."""
    node = CardNode(claim=claim, open=True, ids=[f"claim-{claim['id']}"])
    statement = nodes.inline("", "", *inline(claim["statement"]), classes=["tl-statement"])
    node += SummaryNode("", badge(claim["verdict"]), statement)
    source = claim.get("source") or "the notes"
    node += fact("Said in", [nodes.Text(source), nodes.Text(" · "), nodes.literal(claim["id"], claim["id"])])
    corrected = CORRECTIONS[claim["verdict"]]
    for name, field in ((corrected, "correction"), ("Evidence", "evidence"), ("Waits for", "waits")):
        if claim.get(field):
            node += fact(name, inline(str(claim[field])))
    return node


def agreement(data: dict[str, Any]) -> nodes.container:
    """The box "proven equal". For each thing that was compared, it gives the largest difference and what rounding allows."""
    columns = (
        ("compared", "what"),
        ("largest difference", "difference"),
        ("allowed", "tolerance"),
        ("largest value", "scale"),
    )
    head = "".join(f'<th scope="col">{name}</th>' for name, _ in columns)
    rows = ""
    for row in data["rows"]:
        cells = "".join(f"<td>{float(row[field]):.2g}</td>" for _, field in columns[1:])
        rows += f'<tr><th scope="row">{escape(str(row["what"]))}</th>{cells}</tr>'
    scroll = 'class="tl-scroll" role="group" aria-label="Comparison" tabindex="0"'
    table = f"<div {scroll}><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    ok = bool(data["ok"])
    sign = nodes.inline(
        "", "proven equal" if ok else "not equal", classes=["tl-badge", f"tl-badge-{'holds' if ok else 'wrong'}"]
    )
    title = nodes.paragraph("", "", sign, nodes.inline("", "", *inline(data["title"])), classes=["tl-proof-title"])
    return nodes.container(
        "", title, nodes.raw("", table, format="html"), classes=["tl-proof", "tl-ok" if ok else "tl-bad"]
    )


def visit_card(self: Any, node: CardNode) -> None:
    verdict = escape(node["claim"]["verdict"])
    opened = " open" if node["open"] else ""
    self.body.append(f'<details class="tl-card tl-{verdict}" id="{escape(node["ids"][0])}"{opened}>')


def depart_card(self: Any, node: CardNode) -> None:
    self.body.append("</div></details>\n")


def visit_summary(self: Any, node: SummaryNode) -> None:
    self.body.append("<summary>")


def depart_summary(self: Any, node: SummaryNode) -> None:
    self.body.append('</summary><div class="tl-card-body">')


def pass_through(self: Any, node: nodes.Node) -> None:
    """Other builders print a card's paragraphs as they are."""


def _cell(node: nodes.Node) -> nodes.Node | None:
    """The notebook cell that shows a card."""
    at: Any = node
    while at is not None and not (isinstance(at, nodes.container) and at.get("nb_element") == "cell_code"):
        at = at.parent
    return at


def collapse(document: nodes.document) -> None:
    """Close the cards that stand together: two or more in one cell, or in cells that follow each other."""
    found = list(document.findall(CardNode))
    for one, other in itertools.pairwise(found):
        a, b = _cell(one), _cell(other)
        if a is None or b is None:
            together = one.parent is other.parent
        else:
            together = a is b or (a.parent is b.parent and b.parent.index(b) - a.parent.index(a) == 1)
        if together:
            one["open"] = other["open"] = False
