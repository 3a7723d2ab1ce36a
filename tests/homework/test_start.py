"""A student's notebook works where it is opened: in Colab as otter sees it, downloaded twice, renamed, without a name at all."""

import json
import os
import subprocess
import sys

import pytest

from tiedlib.homework.start import begin, packed

TEST = """from otter.test_files import test_case

OK_FORMAT = False
name = "q1"
points = 1


@test_case(points=1, hidden=False)
def test_public(env):
    assert env["double"](2) == 4, "double(2) is not 4"
"""
PROGRAM = """
import json, os, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
if {colab}:
    class Colab(type(shell)):
        pass
    Colab.__module__ = "google.colab._shell"
    shell.__class__ = Colab
    import IPython, otter.check.utils
    assert "google.colab" in str(IPython.get_ipython())
shell.run_cell("from tiedlib.homework.start import begin")
for cell in ("grader = begin('tiny', tests={tests!r})", "double = lambda x: 2 * x", "print('RIGHT', grader.check('q1'))",
             "double = lambda x: x", "print('WRONG', grader.check('q1'))", {export!r}):
    done = shell.run_cell(cell)
    if not done.success:
        print("FAILED", done.error_in_exec)
print("NOTEBOOK", grader._notebook if (grader := shell.user_ns.get("grader")) is not None else None)
"""


def run(folder, colab=False, export="None", **environment):
    program = PROGRAM.format(colab=colab, tests=packed({"q1.py": TEST}), export=export)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "JPY_SESSION_NAME"} | environment,
    )  # fmt: skip


def notebook(path):
    path.write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "told", "found"),
    [
        (["tiny.ipynb"], None, "tiny.ipynb"),
        (["tiny (1).ipynb"], None, "tiny (1).ipynb"),
        (["tiny-2.ipynb", "other.ipynb"], None, "tiny-2.ipynb"),
        (["meine Lösung.ipynb"], None, "meine Lösung.ipynb"),
        ([], None, "None"),
        (["tiny.ipynb", "tiny (1).ipynb"], "tiny (1).ipynb", "tiny (1).ipynb"),
    ],
)
def test_checks_run_whatever_the_notebook_is_called(tmp_path, files, told, found):
    for name in files:
        notebook(tmp_path / name)
    done = run(tmp_path, **({"JPY_SESSION_NAME": str(tmp_path / told)} if told else {}))
    assert "FAILED" not in done.stdout, done.stdout + done.stderr[-2000:]
    assert "RIGHT q1 results: All test cases passed!" in done.stdout and "double(2) is not 4" in done.stdout
    assert done.stdout.strip().endswith(found)


def test_in_colab_checks_run_and_export_says_what_to_do(tmp_path):
    """Colab's kernel has no notebook in its folder; otter knows it by the shell's name."""
    done = run(tmp_path, colab=True, export="grader.export(pdf=False, run_tests=True)")
    assert "FAILED" not in done.stdout, done.stdout + done.stderr[-2000:]
    assert "RIGHT q1 results: All test cases passed!" in done.stdout and "double(2) is not 4" in done.stdout
    assert "File → Download → Download .ipynb" in done.stdout


def test_otters_own_cell_fails_in_colab(tmp_path):
    """Why `begin` is needed: what the cell was before."""
    notebook(tmp_path / "tiny.ipynb")
    program = PROGRAM.format(colab=True, tests="", export="import otter; otter.Notebook('tiny.ipynb')")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "Tests directory ./tests does not exist" in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "no tests", packed({"q1.py": TEST})[:-9]])
def test_a_damaged_cell_says_so(text):
    with pytest.raises(ValueError, match=r"^tests is"):
        begin("tiny", text)


def test_a_students_side_needs_nothing_that_windows_lacks():
    """The modules of POSIX alone are taken away; what a student's notebook imports comes up all the same."""
    program = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None
import importlib
for name in ("start", "calm", "checks", "guard", "training_loop", "regularization", "dropout", "optimizers", "initialization",
             "tying", "gumbel_softmax", "vae"):
    importlib.import_module(f"tiedlib.homework.{name}")
from tiedlib.homework.optimizers import check_rmsprop_first_step
check_rmsprop_first_step(10 ** 0.5)
print("checked")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["checked"], done.stderr[-2000:]
