"""What a cell makes for the reader arrives: seen in the notebooks' code, and while a book is built."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("book/**/*.ipynb"))
MAKERS = {"show", "explore", "choice", "number"}  # what gives a thing to be displayed


def made(node):
    """Whether an expression makes something for the reader."""
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr in {"choice", "number"} and getattr(function.value, "id", "") == "questions"
    return getattr(function, "id", "") in MAKERS - {"choice", "number"}


def lost(source):
    """Lines of a cell that make something which nobody displays: an expression that is not the cell's last, or a name that is
    never read again."""
    tree = ast.parse(source)
    found = []
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if not isinstance(block, list):
                continue
            for k, statement in enumerate(block):
                last = node is tree and k == len(block) - 1 and not source.rstrip().endswith(";")
                if isinstance(statement, ast.Expr) and made(statement.value) and not last:
                    found.append(statement.lineno)
                if isinstance(statement, ast.Assign) and made(statement.value):
                    names = {t.id for t in statement.targets if isinstance(t, ast.Name)}
                    found += [] if names & read else [statement.lineno]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_figure_and_question_of_a_notebook_is_shown(path):
    for k, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.lstrip().startswith("%"):
            assert not lost(source), f"cell {k}, lines {lost(source)}: made and not shown; display(…) it"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("show(f, alt='a')", []),
        ("show(f, alt='a')\nx = 1", [1]),
        ("show(f, alt='a');", [1]),
        ("for f in g:\n    show(f, alt='a')", [2]),
        ("if x:\n    explore(f, g, alt='a')\nelse:\n    pass", [2]),
        ("display(show(f, alt='a'))\nx = 1", []),
        ("glue('x', show(f, alt='a'), display=False)\nx = 1", []),
        ("figure = show(f, alt='a')\nfigure", []),
        ("figure = show(f, alt='a')", [1]),
        ("questions.choice(q, a, b)\nquestions.number(q, 1, 'w', [])", [1]),
    ],
)
def test_what_counts_as_lost(source, lines):
    assert lost(source) == lines


PROGRAM = """
import io, contextlib
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("import plotly.graph_objects as go")
shell.run_cell("from tiedlib.lab.explore import explore, show")
shell.run_cell("from tiedlib.lab import questions")
shell.run_cell("f = go.Figure(go.Scatter(y=[1, 2]))")
for cell in {cells!r}:
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        shell.run_cell(cell)
    print(int("never shown" in error.getvalue()))
"""
CELLS = {
    "show(f, alt='lost')\nNone": 1,
    "show(f, alt='seen')": 0,
    "for _ in range(2): show(f, alt='lost')": 1,
    "display(show(f, alt='seen'))\nNone": 0,
    "explore(lambda k: f, {'k': [1, 2]}, alt='lost')\n1": 1,
    "explore(lambda k: f, {'k': [1, 2]}, alt='seen')": 0,
    "kept = show(f, alt='later')": 0,
    "questions.number('How many?', 1.0, 'One.', [], absolute=0.1)\n2": 1,
    "questions.number('How many now?', 1.0, 'One.', [], absolute=0.1)": 0,
}


@pytest.mark.parametrize("building", [True, False])
def test_a_cell_that_loses_something_says_so_while_a_book_is_built(building):
    environment = {k: v for k, v in os.environ.items() if k not in ("TIEDLIB_PAGE", "TIEDLIB_ARRIVALS")}
    if building:
        environment["TIEDLIB_PAGE"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(cells=list(CELLS))],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    said = [int(line) for line in done.stdout.split() if line in "01"]
    assert said == [bool(lost) and building for lost in CELLS.values()], (done.stdout, done.stderr[-2000:])


def test_glue_keeps_what_a_page_draws():
    program = """
import os
os.environ["TIEDLIB_PAGE"] = "1"
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import plotly.graph_objects as go
from tiedlib.lab.explore import MIME, explore, show
from tiedlib.lab import questions
f = go.Figure(go.Scatter(y=[1, 2]))
asked = questions.number("How many?", 1.0, "One.", [], absolute=0.1)
for thing in (show(f, alt="a", caption="c"), explore(lambda k: f, {"k": [1, 2]}, alt="a"), asked):
    bundle, _ = shell.display_formatter.format(thing)
    print(MIME in bundle or "text/html" in bundle)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["True"] * 3, done.stderr[-2000:]
