"""The appendix "What the notes said": the directive `claims`, filled in when every chapter has been read.

```{claims}
:chapter: tying
```
"""

import ast
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from tiedlib.lab.outputs import CORRECTIONS, VERDICTS
from tiedlib.lab.page.cards import badge, fact, inline


class ClaimsNode(nodes.General, nodes.Element):  # type: ignore[misc]
    """The place of the table. Attribute: `chapter`, or "" for all."""


class Claims(SphinxDirective):
    """All claims of the register, or one chapter's."""

    option_spec = {"chapter": directives.unchanged}  # noqa: RUF012  (docutils' own protocol)

    def run(self) -> list[nodes.Node]:
        from tiedlib.lab.resources import resource

        try:
            for path in resource("claims").glob("*.yml"):
                self.env.note_dependency(str(path))
        except FileNotFoundError as error:
            raise self.error(str(error)) from error
        self.env.tiedlib_claim_lists.add(self.env.docname)  # type: ignore[attr-defined]
        return [ClaimsNode(chapter=self.options.get("chapter", ""))]


def tests_of_claims(folder: Path) -> dict[str, list[str]]:
    """The tests marked `@pytest.mark.claim("id")` in a folder, by id, as "test_file.py::test_name"."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.claim"):
                    for argument in mark.args:
                        if isinstance(argument, ast.Constant):
                            found.setdefault(str(argument.value), []).append(f"{path.name}::{node.name}")
    return found


def _place(app: Any, docname: str, claim: Any, tests: list[str]) -> list[nodes.Node]:
    """Where a claim is proven: a link to its card, the names of its tests, or the run it waits for."""
    places: list[list[nodes.Node]] = []
    for chapter, cards in sorted(app.env.tiedlib_claims.items()):
        if claim.id in cards and not cards[claim.id].get("waits"):
            title = app.env.titles[chapter].astext()
            uri = f"{app.builder.get_relative_uri(docname, chapter)}#claim-{claim.id}"
            places.append([nodes.reference("", f"chapter “{title}”", refuri=uri, internal=True)])
    places += [[nodes.literal(name, name)] for name in tests]
    if claim.waits:
        places.append([nodes.Text("waits for "), *inline(claim.waits)])
    if not places:
        return [nodes.Text("no proof yet")]
    joined = places[0]
    for place in places[1:]:
        joined = [*joined, nodes.Text("; "), *place]
    return joined


def _entry(app: Any, docname: str, claim: Any, evidence: str, tests: list[str]) -> nodes.container:
    """One claim of the table."""
    statement = nodes.paragraph("", "", badge(claim.verdict), nodes.inline("", "", *inline(claim.statement)))
    entry = nodes.container("", statement, classes=["tl-claim", f"tl-{claim.verdict}"])
    entry["ids"].append(f"said-{claim.id}")
    entry["classes"] += [f"tl-chapter-{claim.chapter}", f"tl-verdict-{claim.verdict}"]
    for name, text in ((CORRECTIONS[claim.verdict], claim.correction), ("Evidence", evidence)):
        if text:
            entry += fact(name, inline(text))
    entry += fact("Proof", _place(app, docname, claim, tests))
    return entry


def _filters(claims: list[Any]) -> str:
    """The two lists that filter the table, and the line that says how many are shown. Without scripts all are shown."""
    chapters, verdicts = Counter(c.chapter for c in claims), Counter(c.verdict for c in claims)

    def choice(name: str, options: list[tuple[str, str]]) -> str:
        entries = "".join(f'<option value="{escape(v)}">{escape(t)}</option>' for v, t in [("", "all"), *options])
        return f'<label>{name} <select data-filter="{name}">{entries}</select></label>'

    by_chapter = choice(
        "chapter", [(c, f"{c.replace('_', ' ').replace('-', ' ')} ({n})") for c, n in sorted(chapters.items())]
    )
    by_verdict = choice("verdict", [(v, f"{t} ({verdicts[v]})") for v, t in VERDICTS.items() if v in verdicts])
    count = f'<p role="status" class="tl-claims-count">{len(claims)} statements</p>'
    group = 'class="tl-claims-filter" role="group" aria-label="Filter the statements"'
    return f"<div {group}>{by_chapter}{by_verdict}{count}</div>"


def resolve(app: Any, doctree: nodes.document, docname: str) -> None:
    """Fill in the tables of one page, now that every chapter has been read."""
    places = list(doctree.findall(ClaimsNode))
    if not places:
        return
    from tiedlib.lab.register import register

    register.cache_clear()
    tests = tests_of_claims(Path(app.srcdir) / "tests")
    cards = {name: card for page in app.env.tiedlib_claims.values() for name, card in page.items()}
    for place in places:
        claims = [c for c in register().values() if place["chapter"] in ("", c.chapter)]
        table = nodes.container("", nodes.raw("", _filters(claims), format="html"), classes=["tl-claims"])
        for claim in claims:
            evidence = str(cards.get(claim.id, {}).get("evidence", ""))
            table += _entry(app, docname, claim, evidence, tests.get(claim.id, []))
        place.replace_self(table)
    app.env.get_domain("math").data["has_equations"][docname] = True


def begin(app: Any, env: Any, docnames: list[str]) -> None:
    """Give the environment its record of the cards each chapter shows."""
    for name, empty in (("tiedlib_claims", {}), ("tiedlib_claim_lists", set())):
        if not hasattr(env, name):
            setattr(env, name, empty)


def purge(app: Any, env: Any, docname: str) -> None:
    """Forget a page that is read again."""
    getattr(env, "tiedlib_claims", {}).pop(docname, None)
    getattr(env, "tiedlib_claim_lists", set()).discard(docname)


def merge(app: Any, env: Any, docnames: list[str], other: Any) -> None:
    """Take over what another process has read."""
    for name in docnames:
        if name in getattr(other, "tiedlib_claims", {}):
            env.tiedlib_claims[name] = other.tiedlib_claims[name]
    env.tiedlib_claim_lists |= getattr(other, "tiedlib_claim_lists", set()) & set(docnames)


def outdated(app: Any, env: Any) -> list[str]:
    """Pages with a table are written again whenever a chapter was read."""
    return sorted(env.tiedlib_claim_lists)
