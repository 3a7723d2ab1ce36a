"""A tiny homework of three questions, made by otter assign, and notebooks that answer it, well, badly and maliciously."""

import copy
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell

from tiedlib.homework.grading.sandbox import Limits

__all__ = ["ANSWERS", "ATTACKS", "BROKEN", "SMALL", "Homework", "good", "write_attacks", "write_batch"]

SMALL = Limits(seconds=60.0, cell_seconds=4.0, memory=1000, disk=50)
ANSWERS = {
    "q1": "def double(x):\n    return 2 * x",
    "q2": "total = 10",
    "q3": "def mean(xs):\n    return sum(xs) / len(xs)",
}
TESTS = {
    "q1": (2, ["assert double(2) == 4, 'double(2) is not 4'", "# HIDDEN\nassert double(-3) == -6"]),
    "q2": (1, ["assert total == 10, f'total is {total}'"]),
    "q3": (3, ["import math\nassert math.isclose(mean([1, 2, 6]), 3), 'the mean of 1, 2, 6 is 3'"]),
}
LOOP = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
FORGED_RESULTS = """import glob, os, tempfile
for folder in {os.getcwd(), tempfile.gettempdir(), '/tmp', '.'}:
    for path in glob.glob(folder + '/**/*', recursive=True):
        try: open(path, 'wb').write(b'forged')
        except OSError: pass
"""
# In place of the answer to q3: the status it must get, and a word of the reason. What stands in q1 and q2 counts all the same.
ATTACKS = {
    "endless": ("while True: pass", "time", "cell 9 ran for more than"),
    "stubborn": (LOOP, "time", "could not be interrupted"),
    "sleeping": ("import time; time.sleep(10**6)", "time", "cell 9"),
    "forking": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "processes", "cell 9 started more than"),
    "tensor": ("import torch\nx = torch.zeros(10**11)", "memory", "cell 9 asked for more memory than"),
    "list": ("x = bytearray(2 * 10**9)", "memory", "cell 9 asked"),
    "growing": (("import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = bytearray(b'1') * 3 * 10**8\n"
                "        time.sleep(100)\ntime.sleep(100)"), "memory", "cell 9"),
    "network": ("import urllib.request\nurllib.request.urlopen('http://192.0.2.1/', timeout=5)",
                "graded", "cell 9 stopped with URLError"),
    "exiting": ("import sys; sys.exit(0)", "graded", "cell 9 stopped with SystemExit"),
    "quitting": ("exit()", "graded", ""),
    "dying": ("import os; os._exit(0)", "crashed", "cell 9 ended the whole Python process"),
    "crashing": ("import ctypes; ctypes.string_at(0)", "crashed", "cell 9"),
    "killing": (("import os, signal\nfor pid in (os.getppid(), -1):\n    try: os.kill(pid, signal.SIGKILL)\n"
                "    except OSError: pass"), "graded", ""),
    "printing": ("print('x' * 10**8)", "graded", ""),
    "writing": ("open('huge', 'wb').write(bytes(10**8))", "disk", "cell 9 wrote more than"),
    "filling": ("for k in range(100):\n    open(f'{k}', 'wb').write(bytes(10**7))\nimport time; time.sleep(30)",
                "disk", "cell 9 wrote"),
    "deleting": (("import json, os, shutil\nfor path in ('/etc', '/dev', os.path.dirname(json.__file__), os.getcwd()):\n"
                 "    shutil.rmtree(path, ignore_errors=True)"), "graded", ""),
    "daemon": (("import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'], "
               "start_new_session=True)"), "graded", ""),
    "thread": ("import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=False).start()", "graded", ""),
    "nested": ("import os\nfor _ in range(2000):\n    os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)", "disk", "hundred levels"),
    "asking": ("input('the answer? ')", "graded", "cell 9 stopped with StdinNotImplementedError"),
    "slow answer": ("def mean(xs):\n    while True: pass", "time", "the check of q3 ran for more than"),
    "deadly answer": ("import os\ndef mean(xs):\n    os._exit(0)", "crashed", "the check of q3 ended the whole"),
    "results": (FORGED_RESULTS, "graded", ""),
    "checker": (("from otter.execute import Checker\nfrom otter.test_files.abstract_test import TestFile\n"
                "Checker.check = lambda *_, **__: True\nTestFile.grade = TestFile.score = 3\n"
                "import otter\notter.Notebook.check = lambda *_: True"), "graded", "replaced and put back"),
    "patched": ("import math, builtins\nmath.isclose = lambda *_: True\nmean = lambda xs: 0\nbuiltins.sum = lambda xs: 0",
                "graded", "math.isclose"),
    "passing": (("import otter.test_files.ok_test as t\ndef fake(*_, **__): return (True, '')\n"
                "t.run_doctest.__code__ = fake.__code__"),
                "forged", "tampered"),
}  # fmt: skip
# The ways in which ten of thirty are broken: an endless loop, a fork bomb, a huge tensor, a network call, an edited check
# cell, deleted check cells, deleted metadata, a notebook that does not parse, a process that ends, another homework.
BROKEN = ["endless", "forking", "tensor", "network", "edited", "uncheck", "bare", "unparsable", "dying", "other"]


class Homework:
    """The master, built by otter assign in a folder."""

    def __init__(self, folder: Path) -> None:
        from otter.assign import main

        nbformat.write(_master("tiny"), folder / "tiny.ipynb")
        main(str(folder / "tiny.ipynb"), str(folder / "dist"), no_run_tests=True, no_pdfs=True)
        (self.autograder,) = (folder / "dist/autograder").glob("*.zip")
        self.student: dict[str, Any] = json.loads((folder / "dist/student/tiny.ipynb").read_text(encoding="utf-8"))

    def notebook(self, **answers: str) -> dict[str, Any]:
        """The student's notebook, filled with the good answers except for those given."""
        filled, left = copy.deepcopy(self.student), {**ANSWERS, **answers}
        for cell in filled["cells"]:
            if "otter_answer_cell" in cell["metadata"].get("tags", ()):
                cell["source"] = left.pop(next(iter(left)))
        assert not left
        return filled

    def checks(self, notebook: dict[str, Any]) -> list[dict[str, Any]]:
        return [cell for cell in notebook["cells"] if "grader.check" in "".join(cell["source"])]


def _master(name: str) -> Any:
    settings = f"# ASSIGNMENT CONFIG\nname: {name}\nexport_cell: false\ninit_cell: true\ngenerate: true\n"
    cells = [new_raw_cell(settings)]
    for question, (points, tests) in TESTS.items():
        cells += [new_raw_cell(f"# BEGIN QUESTION\nname: {question}\npoints: {points}"), new_markdown_cell(question)]
        cells += [new_raw_cell("# BEGIN SOLUTION"), new_code_cell(f"{ANSWERS[question]}  # SOLUTION")]
        cells += [new_raw_cell("# END SOLUTION"), new_raw_cell("# BEGIN TESTS"), *map(new_code_cell, tests)]
        cells += [new_raw_cell("# END TESTS"), new_raw_cell("# END QUESTION")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def good(homework: Homework) -> str:
    return json.dumps(homework.notebook())


def _edited(homework: Homework) -> dict[str, Any]:
    notebook = homework.notebook()
    for cell, source in zip(
        homework.checks(notebook), ["1 / 0", "grader = None", "import os; os.environ.clear()"], strict=True
    ):
        cell["source"] = source
    return notebook


def _uncheck(homework: Homework) -> dict[str, Any]:
    notebook = homework.notebook()
    left = homework.checks(notebook)
    return {**notebook, "cells": [cell for cell in notebook["cells"] if cell not in left]}


def _bare(homework: Homework) -> dict[str, Any]:
    notebook = {**homework.notebook(), "metadata": {}}
    for cell in notebook["cells"]:
        cell["metadata"] = {}
    return notebook


def _other(homework: Homework) -> dict[str, Any]:
    notebook = homework.notebook()
    notebook["metadata"]["otter"]["assignment_name"] = "dropout"
    return notebook


def write_batch(homework: Homework, folder: Path) -> None:
    """Thirty submissions: twenty sound ones (of three qualities, one of them a zip), ten of BROKEN."""
    folder.mkdir()
    wrong = {"q1": "def double(x):\n    return x * x", "q3": "def mean(xs): return 0"}
    for k in range(20):
        answers = {} if k % 3 else dict(list(wrong.items())[: 1 + k % 2])
        text = json.dumps(homework.notebook(**answers))
        if k == 7:
            (folder / "s07.zip").write_bytes(zipped({"tiny.ipynb": text, "__zip_filename__": "x", ".OTTER_LOG": "x"}))
        else:
            (folder / f"s{k:02}.ipynb").write_text(text, encoding="utf-8")
    special = {"edited": _edited, "uncheck": _uncheck, "bare": _bare, "other": _other}
    for k, name in enumerate(BROKEN):
        if name in special:
            text = json.dumps(special[name](homework))
        else:
            text = good(homework)[:-20] if name == "unparsable" else json.dumps(homework.notebook(q3=ATTACKS[name][0]))
        (folder / f"s{2 * k:02}-{name}.ipynb").write_text(text, encoding="utf-8")


def write_attacks(homework: Homework, folder: Path) -> None:
    """Every attack that is not in the batch, and files that are no notebook."""
    folder.mkdir()
    for name, (code, _, _) in ATTACKS.items():
        if name not in BROKEN:
            (folder / f"{name}.ipynb").write_text(json.dumps(homework.notebook(q3=code)), encoding="utf-8")
    early = json.dumps(homework.notebook(q1=ATTACKS["dying"][0]))
    (folder / "early.ipynb").write_text(early, encoding="utf-8")
    again = homework.notebook()
    again["cells"].append({**again["cells"][-1], "source": "total = double = 0"})
    (folder / "again.ipynb").write_text(json.dumps(again), encoding="utf-8")
    text = good(homework)
    files: dict[str, bytes] = {
        "=formula.ipynb": b"", "empty.ipynb": b"", "blank.ipynb": b" \n", "binary.ipynb": bytes(range(256)),
        "list.json.ipynb": b"[1, 2]",
        "deep.ipynb": b"[" * 100_000, "essay.docx": b"words", "cells.ipynb": b'{"cells": [1, {"cell_type": "code"}, null]}',
        "two.zip": zipped({"a.ipynb": text, "b.ipynb": text}), "none.zip": zipped({"a.txt": "x"}), "no.zip": b"PK\x03\x04broken",
        "slip.zip": zipped({"../../evil.ipynb": text}), "bomb.zip": zipped({"a.ipynb": text, "zeros": bytes(250 * 2**20)}),
        "shadow.zip": zipped({"a.ipynb": text,
                              **dict.fromkeys(["math.py", "otter.py", "torch/__init__.py", ".ipython/x"], "1 / 0")}),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "a folder").mkdir()


def zipped(files: dict[str, str | bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return raw.getvalue()
