"""What a cell makes for the reader arrives: seen in the notebooks' code, and where a book is built or pytest runs a notebook."""

import ast
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.places import ROOT
from tiedlib.lab.notebook import arrivals
from tiedlib.lab.outputs import BUILD_VARIABLE

NOTEBOOKS = sorted([*ROOT.glob("book/**/*.ipynb"), *ROOT.glob("tests/sample_book/*.ipynb")])
MAKERS = {"show", "explore", "agree", "questions.choice", "questions.number"}  # what gives a thing to be displayed


def cells(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def made(node):
    """Whether an expression makes something for the reader."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) in MAKERS


def lost(source):
    """Lines of a cell that make something which nobody displays: an expression that is not the cell's last, or part of one that
    shows itself as text."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            for k, statement in enumerate(block if isinstance(block, list) else ()):
                last = node is tree and k == len(block) - 1 and not source.rstrip().endswith(";")
                value = statement.value if isinstance(statement, ast.Expr) else None
                inside = value.elts if isinstance(value, (ast.List, ast.Tuple, ast.Set)) else ()
                if (made(value) and not last) or any(map(made, inside)):
                    found.append(statement.lineno)
    return found


def kept(sources):
    """Names in a notebook's cells that hold something for the reader and are never read as a whole: an attribute shows nothing."""
    trees = [ast.parse(source) for source in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    parts = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and id(n) not in parts}
    names = set()
    for node in nodes:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) else None
        if value is None or isinstance(value, ast.Lambda) or not any(map(made, ast.walk(value))):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return sorted(names - read)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_figure_and_question_of_a_notebook_is_shown(path):
    code = [(k, s) for k, (kind, s) in enumerate(cells(path)) if kind == "code" and not s.startswith("%")]
    for k, source in code:
        assert not lost(source), f"cell {k}, lines {lost(source)}: made and not shown; display(…) it"
    assert not kept(source for _, source in code), "kept under a name and not shown; display(…) it"


def test_what_is_glued_is_pasted_somewhere():
    pages = [text for path in NOTEBOOKS for kind, text in cells(path) if kind == "markdown"]
    pages += [path.read_text(encoding="utf-8") for path in ROOT.glob("book/**/*.md")]
    pasted = set(re.findall(r"\{glue(?::\w+)?\}[` ]*([\w-]+)", "\n".join(pages)))
    for path in NOTEBOOKS:
        for kind, source in cells(path):
            for node in ast.walk(ast.parse(source)) if kind == "code" and not source.startswith("%") else ():
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "glue":
                    assert node.args[0].value in pasted, f"{path.name}: glued and never pasted"


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
        ("[show(f, alt='a'), 1]", [1]),
        ("agree(f, g)\nx = 1", [1]),
        ("questions.choice(q, a, b)\nquestions.number(q, 1, 'w', [])", [1]),
    ],
)
def test_what_counts_as_lost(source, lines):
    assert lost(source) == lines


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["a = show(f, alt='a')", "a"], []),
        (["a = show(f, alt='a')", "print(a.alt)"], ["a"]),
        (["a = [show(f, alt='a')]", "b = 1"], ["a"]),
        (["a, b = show(f, alt='a'), 1", "b"], ["a"]),
        (["(a := explore(f, g, alt='a'))\n1"], ["a"]),
    ],
)
def test_what_counts_as_kept_and_never_shown(sources, names):
    assert kept(sources) == names


# While notebooks run

SETUP = """
import plotly.graph_objects as go
from IPython.display import display
from myst_nb import glue
from tiedlib.lab.notebook import questions
from tiedlib.lab.notebook.agreement import agree
from tiedlib.lab.notebook.explorer import explore, show
from tiedlib.lab.outputs import FIGURE
import torch
figure, grid, draw = go.Figure(go.Scatter(y=[1, 2])), {"k": [1, 2]}, lambda k: figure
def one(alt="a"): return show(figure, alt=alt)
def ask(text): return questions.number(text, 1.0, "One.", [], absolute=0.1)
def equal(): return agree(torch.square, torch.square, torch.ones(2))
"""
CELLS = {  # whether the cell loses something
    "one()\nNone": True,
    "one()": False,
    "one();": True,
    "for _ in range(2): one()": True,
    "if True:\n    one()": True,
    "display(one())\nNone": False,
    "for text in 'ab': display(one(text))": False,
    "explore(draw, grid, alt='lost')\n1": True,
    "explore(draw, grid, alt='seen')": False,
    "ask('How many?')\n2": True,
    "ask('How many now?')": False,
    "equal()\n1": True,
    "equal()": False,
    "def inner():\n    one()\ninner()": True,
    "[one(), one()]": True,
    "{'a': ask('And now?')}": True,
    "print(one())": True,
    "later = one()": False,
    "later": False,
    "later = 1": False,
    "never = one()": False,
    "never = 1": True,
    "many = [one(), one()]": False,
    "for each in many: display(each)": False,
    "del many, each": False,
    "class Ring: pass\nring = Ring()\nring.me, ring.figure = ring, one()\ndel ring": True,
    "glue('a', one(), display=False)\nglue('b', explore(draw, grid, alt='a'), display=False)": False,
    "glue('c', ask('And glued?'), display=False)\nglue('d', equal(), display=False)": False,
}


def notebook(sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (SETUP, *sources)])


@pytest.mark.parametrize("variable", [BUILD_VARIABLE, "PYTEST_VERSION", ""])
def test_a_cell_that_loses_something_fails_in_a_build_and_in_a_test_and_not_with_a_reader(variable, monkeypatch):
    for name in arrivals.LOOKING:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    run = NotebookClient(notebook(CELLS), kernel_name="python3", allow_errors=True).execute()
    failed = [[o.ename for o in cell.outputs if o.output_type == "error"] for cell in run.cells[1:]]
    assert failed == [["LostError"] if loses and variable else [] for loses in CELLS.values()]
    assert run.cells[0].outputs == []


def test_a_notebook_that_loses_something_cannot_be_executed(monkeypatch):
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    with pytest.raises(CellExecutionError, match=r"made here and never shown: Figure \(a line\)\. Make it the cell"):
        NotebookClient(notebook(["one('a line')\n1"]), kernel_name="python3").execute()


def test_nbval_fails_at_the_cell(tmp_path):
    path = tmp_path / "lost.ipynb"
    nbformat.write(notebook(["one()", "one()\n2", "1"]), path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", path.name]
    environment = {k: v for k, v in os.environ.items() if k not in arrivals.LOOKING}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert "1 failed, 3 passed" in done.stdout, done.stdout[-3000:]
    assert "Cell 2" in done.stdout and "LostError" in done.stdout


def test_nothing_is_waited_for_where_no_notebook_runs():
    from plotly import graph_objects as go

    from tiedlib.lab.notebook.explorer import show

    figure = show(go.Figure(go.Scatter(y=[1, 2])), alt="A line.")
    assert arrivals.waiting() == [] and figure.alt


def test_glue_keeps_what_a_page_draws():
    program = """
import os
os.environ["TIEDLIB_PAGE"] = "1"
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
import plotly.graph_objects as go
from tiedlib.lab.notebook.explorer import explore, show
from tiedlib.lab.outputs import FIGURE
from tiedlib.lab.notebook import questions
f = go.Figure(go.Scatter(y=[1, 2]))
asked = questions.number("How many?", 1.0, "One.", [], absolute=0.1)
for thing in (show(f, alt="a", caption="c"), explore(lambda k: f, {"k": [1, 2]}, alt="a"), asked):
    bundle, _ = shell.display_formatter.format(thing)
    print(FIGURE in bundle or "text/html" in bundle)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["True"] * 3, done.stderr[-2000:]
