"""The chapters as notebooks: every claim has its proof in its chapter, and a chapter has the parts that readers rely on."""

import ast
import json
import re

import pytest

from tests.places import ROOT
from tiedlib.lab.notebook.claims import register
from tiedlib.lab.page import reference

CHAPTERS = sorted({claim.chapter for claim in register().values()})


def cells(chapter, kind=None):
    notebook = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if kind in (None, cell["cell_type"])]


def code(chapter):
    return "\n".join("".join(cell["source"]) for cell in cells(chapter, "code"))


def proofs(source):
    """claim id → the verdicts (and skips) called inside its `with`, by reading the code, not by running it."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.With):
            continue
        call = node.items[0].context_expr
        if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "claim"):
            continue
        inside = [n for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        verdicts = [n.args[0].value for n in inside if n.func.attr == "verdict"]
        asserts = sum(isinstance(n, ast.Assert) for n in ast.walk(node))
        found.setdefault(call.args[0].value, []).append((verdicts, asserts))
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_claim_that_does_not_wait_is_proven_once_in_its_chapter(chapter):
    claims = {c.id: c for c in register().values() if c.chapter == chapter}
    found = proofs(code(chapter))
    assert found.keys() == {name for name, c in claims.items() if not c.waits}
    for name, places in found.items():
        assert len(places) == 1, f"{name} is proven in {len(places)} places of the chapter"
        verdicts, asserts = places[0]
        assert verdicts == [claims[name].verdict], name
        assert asserts, f"{name}: nothing is asserted in its proof"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_waiting_claims_are_shown(chapter):
    if any(c.waits for c in register().values() if c.chapter == chapter):
        assert f'waiting("{chapter}")' in code(chapter)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_its_parts(chapter):
    source, text = code(chapter), "\n".join("".join(cell["source"]) for cell in cells(chapter, "markdown"))
    tags = [tag for cell in cells(chapter) for tag in cell["metadata"].get("tags", [])]
    assert "explore(" in source and "agree(" in source and "source(" in source
    assert "change-me" in tags
    for heading in (
        "Build it",
        "Prove it",
        "Try it",
        "What the notes say",
        "In practice",
        "Exercises",
        "Further reading",
    ):
        assert re.search(rf"^#+ {heading}$", text, re.MULTILINE), heading
    exercises = re.findall(r"exercise-start\}\n:label: ([\w-]+)", text)
    solutions = re.findall(r"solution-start\} ([\w-]+)", text)
    assert len(exercises) >= 4 and sorted(exercises) == sorted(solutions)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_figure_has_alternative_text_and_a_caption(chapter):
    calls = [
        node
        for node in ast.walk(ast.parse(code(chapter)))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("explore", "show")
    ]
    assert len(calls) >= 3
    for call in calls:
        names = {keyword.arg for keyword in call.keywords}
        assert {"alt", "caption"} <= names, ast.unparse(call)[:80]


def test_a_proof_that_says_another_verdict_would_be_seen():
    sample = 'with claim("a") as c:\n    assert x\n    c.verdict("wrong", "e")\nwith other("b") as d:\n    pass'
    assert proofs(sample) == {"a": [(["wrong"], 1)]}


def asked(chapter):
    """The questions of a chapter: what is called, choice or number, and the calls inside of right and wrong."""
    found = []
    for node in ast.walk(ast.parse(code(chapter))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("questions.choice", "questions.number"):
            answers = [
                n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func).startswith("questions.")
            ]
            found.append((node.func.attr, node, answers[1:]))
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_asks_where_it_teaches(chapter):
    found = asked(chapter)
    assert len(found) >= 3 and {kind for kind, *_ in found} == {"choice", "number"}
    order = [
        "questions." in "".join(cell["source"]) for cell in cells(chapter) if "Exercises" not in "".join(cell["source"])
    ]
    places = [k for k, asks in enumerate(order) if asks]
    assert places[-1] - places[1] > len(order) / 6, "the questions stand together in one place"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_is_right_is_computed(chapter):
    """No truth and no right number is a constant in the source: something of the notebook or of the library decides it."""
    for kind, call, answers in asked(chapter):
        decided = [a.args[1] for a in answers] if kind == "choice" else [call.args[1]]
        assert decided
        for one in decided:
            assert any(isinstance(n, ast.Name) for n in ast.walk(one)), ast.unparse(call)[:120]


def test_a_link_to_the_library_leads_to_a_name_of_its_reference() -> None:
    """Sphinx says nothing of a {func}`…` that it does not know, and prints it as code."""
    names = {m.__name__ for m in reference.modules()}
    names |= {f"{m.__name__}.{name}" for m in reference.modules() for name in reference.public(m)}
    pages = [*ROOT.glob("book/**/*.ipynb"), *ROOT.glob("book/**/*.md")]
    links = {
        (path.relative_to(ROOT).as_posix(), target)
        for path in pages
        for target in re.findall(r"\{(?:py:)?(?:func|class|obj|mod)\}`~?([\w.]+)`", path.read_text(encoding="utf-8"))
    }
    assert len(links) >= 10
    assert not sorted((page, target) for page, target in links if target not in names)
